# mongodump and mongorestore: those of MONGO_TOOLS_DIR or on PATH, else built once with Go into the cache.
# shellcheck shell=bash
# Wants common.sh.

MONGO_TOOLS=(mongodump mongorestore)

mongo_tools_key() { printf 'mongo-tools-%s' "$MONGO_TOOLS_COMMIT"; }

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

# Every tool of the module is a package called main: each gets a folder of its own, then its real name.
mongo_tools_fill() {
  local name
  for name in "${MONGO_TOOLS[@]}"; do
    GOBIN=$1/.bin CGO_ENABLED=0 go install -trimpath -ldflags=-s "github.com/mongodb/mongo-tools/$name/main@$MONGO_TOOLS_COMMIT" || return
    mv "$1/.bin/main" "$1/$name" || return
    "$1/$name" --version || return
  done
  rmdir "$1/.bin"
}

# Builds them unless they are there already; the first time takes a minute or two.
mongo_tools_fetch() {
  mongo_tools_dir >/dev/null && return
  mongo_tools_go >/dev/null || die "mongodump is not on PATH, and there is no Go $MONGO_TOOLS_GO_VERSION or newer to build it with: install the MongoDB Database Tools, or Go"
  cached "$(mongo_tools_key)" mongo_tools_fill "mongodump and mongorestore (built with Go)"
}
