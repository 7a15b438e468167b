# Shared by every script: paths, pins, messages, downloads. Sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${LIBERTUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/libertum}
# shellcheck source=scripts/versions.env
source "$ROOT/scripts/versions.env"

say() { printf '%s\n' "$*" >&2; }
die() {
  say "${0##*/}: $*"
  exit 1
}

# Prints the comment block at the head of the running script (its --help).
usage() { awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$0"; }

# Prints the real interpreter: a version manager's shim costs more than the work we give it.
python() {
  if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$(python3 -c 'import sys; print(sys.executable)') || die "python3 is missing: run scripts/doctor"
    export PYTHON
  fi
  "$PYTHON" "$@"
}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# version_at_least HAVE WANT
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# cached KEY FUNCTION WHAT: makes "$CACHE/KEY" once by calling FUNCTION with an empty folder.
# The folder appears under its name only when complete; clones that start together wait for one download.
cached() {
  local key=$1 fill=$2 what=$3
  [[ -d $CACHE/$key ]] && return
  mkdir -p "$CACHE/logs"
  (
    flock -w 900 9 || die "waited 15 minutes for another download of $what: is $CACHE/.$key.lock held by a process that hangs?"
    [[ -d $CACHE/$key ]] && exit 0
    say "  $what: downloading"
    partial=$CACHE/.$key.partial
    rm -rf "$partial"
    mkdir -p "$partial"
    if ! (set -e; "$fill" "$partial") >"$CACHE/logs/$key.log" 2>&1; then
      tail -n 20 "$CACHE/logs/$key.log" >&2
      die "$what could not be downloaded (all of the output: $CACHE/logs/$key.log); check the network and run this again"
    fi
    mv "$partial" "$CACHE/$key"
  ) 9>"$CACHE/.$key.lock"
}

# The npm packages of the stack, installed from the lock (every file checked against its hash).
npm_key() { printf 'npm-%s' "$(sha256sum "$ROOT/scripts/lib/npm/package-lock.json" | cut -c1-16)"; }
npm_manifest() {
  printf '{"name":"libertum-stack","private":true,"license":"MIT OR Apache-2.0","dependencies":{"@foundry-rs/anvil-linux-amd64":"%s","@scure/bip39":"%s","azurite":"%s"}}\n' \
    "$ANVIL_VERSION" "$BIP39_VERSION" "$AZURITE_VERSION"
}
npm_fill() {
  npm_manifest >"$1/package.json"
  cp "$ROOT/scripts/lib/npm/package-lock.json" "$1/"
  npm ci --prefix "$1" --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error
  chmod 755 "$1/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
}
npm_fetch() { cached "$(npm_key)" npm_fill "azurite $AZURITE_VERSION and anvil $ANVIL_VERSION"; }
npm_modules() { printf '%s/%s/node_modules' "$CACHE" "$(npm_key)"; }
