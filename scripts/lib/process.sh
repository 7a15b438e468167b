# Servers as detached processes: started in a session of their own, stopped by a pid that is proven to be theirs.
# shellcheck shell=bash
# Wants STATE (the folder of this stack).

LOG_LIMIT_BYTES=$((8 * 1024 * 1024))

log_file() { printf '%s/logs/%s.log' "$STATE" "$1"; }

# Prints what tells this process from any other that has had or will have its pid: boot and start time.
process_identity() {
  local stat boot fields
  read -r boot </proc/sys/kernel/random/boot_id
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) }
  read -ra fields <<<"$stat"
  [[ ${fields[0]} != Z ]] || return 1
  printf '%s %s' "${fields[19]}" "$boot"
}

# Prints the pid of a server that runs; fails when it does not.
process_pid() {
  local pid identity
  { read -r pid identity <"$STATE/run/$1.pid"; } 2>/dev/null || return 1
  [[ -n $identity && $(process_identity "$pid") == "$identity" ]] || return 1
  printf '%s' "$pid"
}

# process_start NAME COMMAND…: the log of an earlier run is kept once and never grows past the limit over restarts.
process_start() {
  local name=$1 log pid
  shift
  log=$(log_file "$name")
  if [[ -f $log && $(stat -c %s "$log") -gt $LOG_LIMIT_BYTES ]]; then mv "$log" "$log.1"; fi
  (
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      # 255 is where Bash reads this script; it closes itself
      [[ $fd -le 2 || $fd -eq 255 ]] || eval "exec $fd>&-"
    done
    cd "$STATE" || exit
    exec setsid "$@"
  ) </dev/null >>"$log" 2>&1 &
  pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(process_identity "$pid")" >"$STATE/run/$name.pid"
}

# process_stop NAME SECONDS: asks, waits, and kills only what did not listen.
process_stop() {
  local name=$1 pid deadline=$((SECONDS + $2))
  if pid=$(process_pid "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    while process_pid "$name" >/dev/null; do
      if ((SECONDS >= deadline)); then
        say "  $name: did not stop within $2 s, killed"
        kill -KILL "$pid" 2>/dev/null || true
        deadline=$((SECONDS + 5))
      fi
      sleep 0.05
    done
  fi
  rm -f "$STATE/run/$name.pid"
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Prints "name (pid N)" of the process that listens on a port, when the system tells.
port_holder() {
  local line
  line=$(ss -Hltnp "sport = :$1" 2>/dev/null | grep -o '(("[^"]*",pid=[0-9]*' | head -n 1) || true
  if [[ $line =~ \"(.*)\",pid=([0-9]+) ]]; then
    printf '%s (pid %s)' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
  else
    printf 'a process of another user'
  fi
}
