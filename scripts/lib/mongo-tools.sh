# mongodump and mongorestore: those of MONGO_TOOLS_DIR or on PATH, else built once with Go into the cache.
# shellcheck shell=bash
# Wants common.sh.

MONGO_TOOLS=(mongodump mongorestore)

mongo_tools_key() { printf 'mongo-tools-%s' "$MONGO_TOOLS_VERSION"; }

# Prints the folder of the tools when they are there; fails when they are not.
mongo_tools_dir() {
  if [[ -n ${MONGO_TOOLS_DIR:-} ]]; then
    printf '%s' "$MONGO_TOOLS_DIR"
  elif command -v mongodump >/dev/null && command -v mongorestore >/dev/null; then
    dirname "$(command -v mongodump)"
  elif [[ -d $CACHE/$(mongo_tools_key) ]]; then
    printf '%s/%s' "$CACHE" "$(mongo_tools_key)"
  else
    return 1
  fi
}

# Prints the version of a Go that can build them.
mongo_tools_go() {
  local version
  command -v go >/dev/null || return 1
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null)
  version_at_least "${version#go}" "$MONGO_TOOLS_GO_VERSION" && printf '%s' "${version#go}"
}

# Built where the module lies, with the dependencies that it locks.
mongo_tools_fill() {
  local module source name
  module=$(go mod download -json "github.com/mongodb/mongo-tools@$MONGO_TOOLS_VERSION") || { printf '%s\n' "$module" >&2; return 1; }
  source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$module")
  for name in "${MONGO_TOOLS[@]}"; do
    CGO_ENABLED=0 go build -C "$source" -trimpath -ldflags="-s -X main.VersionStr=$MONGO_TOOLS_VERSION" -o "$1/$name" "./$name/main" || return
    "$1/$name" --version || return
  done
}

# Builds them unless they are there already; the first time takes a minute or two.
mongo_tools_fetch() {
  mongo_tools_dir >/dev/null && return
  mongo_tools_go >/dev/null || die "mongodump is not on PATH, and there is no Go $MONGO_TOOLS_GO_VERSION or newer to build it with: install the MongoDB Database Tools, or Go"
  cached "$(mongo_tools_key)" mongo_tools_fill "mongodump and mongorestore (built with Go)"
}
