# Redis from the system's package, in a folder of ours: on disk, bounded, evicting only keys that expire anyway.
# shellcheck shell=bash

redis_variable() { printf %s REDIS_URL; }
redis_version() { redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p'; }
redis_ports() { port redis; }
redis_address() { printf 'redis://127.0.0.1:%s/0' "$(port redis)"; }
redis_stop_seconds() { printf %s 15; }
redis_has_state() { [[ -d $STATE/data/redis/appendonlydir || -s $STATE/data/redis/appendonly.aof ]]; }
redis_fetch() { :; }
redis_launch() {
  process_start redis redis-server --bind 127.0.0.1 --port "$(port redis)" --dir "$STATE/data/redis" --daemonize no \
    --appendonly yes --save '' --maxmemory 256mb --maxmemory-policy volatile-lru --always-show-logo no
}
redis_ready() {
  local answer
  (
    exec 3<>"/dev/tcp/127.0.0.1/$(port redis)"
    printf 'PING\r\n' >&3
    read -r -t 2 answer <&3
    [[ $answer == +PONG* ]]
  ) 2>/dev/null
}
redis_env() {
  if is_given redis; then pass_on REDIS_URL; else export_line REDIS_URL "$(redis_address)"; fi
}
