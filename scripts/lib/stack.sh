# The servers as one stack: names, ports, addresses, keys, and the checks before a start.
# shellcheck shell=bash
# A server is a file in servers/ with NAME_variable (an address in it means: used as it is, not started),
# NAME_version, NAME_ports, NAME_address, NAME_has_state, NAME_fetch, NAME_launch, NAME_ready, NAME_env, NAME_stop_seconds.

# shellcheck source=scripts/lib/common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"
# shellcheck source=scripts/lib/process.sh
source "${BASH_SOURCE[0]%/*}/process.sh"
# shellcheck source=scripts/lib/mongo-tools.sh
source "${BASH_SOURCE[0]%/*}/mongo-tools.sh"

STACK_PORT_BASE=${STACK_PORT_BASE:-27100}
if [[ ! $STACK_PORT_BASE =~ ^[1-9][0-9]{3,4}$ ]] || ((STACK_PORT_BASE < 1024 || STACK_PORT_BASE > 65500)); then
  die "STACK_PORT_BASE=$STACK_PORT_BASE is not a port between 1024 and 65500"
fi
STATE=${STACK_DIR:-$ROOT/.stack}/$STACK_PORT_BASE

# shellcheck disable=SC2034
SERVERS=(kafka mongodb redis azurite anvil issuer)
STORES=(kafka mongodb redis azurite anvil)
# Servers that only --with starts.
# shellcheck disable=SC2034
OPTIONAL_SERVERS=(clamd prometheus)

for file in "${BASH_SOURCE[0]%/*}"/servers/*.sh; do
  # shellcheck source=/dev/null
  source "$file"
done

# port NAME: the one table of offsets from STACK_PORT_BASE.
port() {
  local offset
  case $1 in
    kafka) offset=0 ;; controller) offset=1 ;; mongodb) offset=2 ;; redis) offset=3 ;; azurite) offset=4 ;;
    anvil) offset=5 ;; issuer) offset=6 ;; clamd) offset=7 ;; prometheus) offset=8 ;; kafka-sasl) offset=9 ;; intake) offset=10 ;; intake-metrics) offset=11 ;; kafka-tls) offset=12 ;;
    *) die "no port is planned for $1" ;;
  esac
  printf '%s\n' $((STACK_PORT_BASE + offset))
}

# Whether another address than our own stands in the environment.
is_given() {
  local variable
  variable=$("$1_variable")
  [[ -n ${!variable:-} && ${!variable} != "$("$1_address")" ]]
}

export_line() { printf 'export %s=%q\n' "$1" "$2"; }
# Exports each variable that has a value, as it is.
pass_on() {
  local name
  for name; do
    if [[ -n ${!name:-} ]]; then export_line "$name" "${!name}"; fi
  done
}

# random_key NAME BYTES: a key of this stack, made once.
random_key() {
  local file=$STATE/keys/$1
  [[ -s $file ]] && return
  openssl rand "$2" | openssl base64 -A >"$file.new"
  mv "$file.new" "$file"
}

make_folders() {
  umask 077
  mkdir -p "$STATE"/{data,logs,run,conf,keys}
}

# The stores know each other's records by id, so they live and are cleared together.
check_stores() {
  local name started=() lost=()
  for name in "${STORES[@]}"; do
    is_given "$name" && continue
    mkdir -p "$STATE/data/$name"
    [[ -e $STATE/data/$name.started ]] || continue
    if "${name}_has_state"; then started+=("$name"); else lost+=("$name"); fi
  done
  ((${#lost[@]} == 0)) && return
  if ((${#started[@]} == 0)); then
    rm -f "$STATE"/data/*.started
    return
  fi
  die "the state of ${lost[*]} is gone or damaged while that of ${started[*]} is there, and they refer to each other:
  scripts/stack down --wipe    clears all stores together, then run scripts/stack up again"
}

# check_ports NAME…: every port of a server that is to be started must be free.
check_ports() {
  local name number taken=0
  for name; do
    for number in $("${name}_ports"); do
      port_taken "$number" || continue
      say "port $number, wanted for $name, is taken by $(port_holder "$number")"
      taken=1
    done
  done
  ((taken == 0)) || die "stop what holds it, or choose other ports for this clone: STACK_PORT_BASE=$((STACK_PORT_BASE + 100)) scripts/stack up"
}

stack_env() {
  local name tools
  for name in "${SERVERS[@]}" "${OPTIONAL_SERVERS[@]}"; do "${name}_env"; done
  # Only when they are there: building them is for what needs them (scripts/backup, scripts/test).
  if tools=$(mongo_tools_dir); then export_line MONGO_TOOLS_DIR "$tools"; fi
  export_line STACK_PORT_BASE "$STACK_PORT_BASE"
  export_line STACK_INTAKE_HTTP_ADDR "127.0.0.1:$(port intake)"
  export_line STACK_INTAKE_METRICS_ADDR "127.0.0.1:$(port intake-metrics)"
}
