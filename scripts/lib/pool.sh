# The pool on this machine: build, prepare, intake and scaler as child processes, and the questions asked of it.
# shellcheck shell=bash
# Wants STATE (the folder of this stack) and the addresses of scripts/stack env.
# shellcheck disable=SC2153

TENANT=demo
# the programs: those of this build, or of the folder that POOL_BIN names
BIN=${POOL_BIN:-$ROOT/target/debug}
POOL_SCALER=
POOL_INTAKE=
EVENTS=$STATE/run/scaler-events.jsonl
# shellcheck disable=SC2034
FOLLOW_SECONDS=240

pool_build() { [[ -n ${POOL_BIN:-} ]] || (cd "$ROOT" && cargo build --workspace --bins) >&2; }

# The contract is deployed once a chain; its address outlives the chain's process, not the chain.
pool_prepare() {
  local address=$STATE/data/anvil/contract.json worker
  export TENANTS_FILE=${TENANTS_FILE:-$ROOT/docs/examples/tenants.json}
  export TOKEN_URI_TEMPLATE=${TOKEN_URI_TEMPLATE:-https://tokens.example/\{id\}.json}
  if [[ -z ${ASSET_TOKEN_ADDRESS:-} ]]; then
    "$BIN/minting" deploy --state "$address" >"$STATE/logs/deploy.json"
    ASSET_TOKEN_ADDRESS=$(jq -r .address "$address")
    export ASSET_TOKEN_ADDRESS
  fi
  "$BIN/scalers" topics apply --file "$ROOT/scalers/topics.yaml" >&2
  for worker in ingestion valuation minting backup; do
    "$BIN/$worker" --prepare >"$STATE/logs/prepare-$worker.log" || die "$worker --prepare failed: $STATE/logs/prepare-$worker.log"
  done
}

pool_start() {
  local deadline=$((SECONDS + 30))
  HTTP_ADDR=127.0.0.1:$(port intake)
  export HTTP_ADDR
  if port_taken "$(port intake)"; then die "port $(port intake) for the intake is taken by $(port_holder "$(port intake)"): another STACK_PORT_BASE helps"; fi
  METRICS_ADDR=127.0.0.1:$(port intake-metrics) "$BIN/intake" >"$STATE/logs/intake.log" 2>&1 &
  POOL_INTAKE=$!
  until curl --noproxy '*' -sf -m 2 -o /dev/null "http://127.0.0.1:$(port intake-metrics)/healthz/ready"; do
    kill -0 "$POOL_INTAKE" 2>/dev/null || die "the intake ended: $(tail -n 3 "$STATE/logs/intake.log")"
    ((SECONDS < deadline)) || die "the intake is not ready after 30 s: $STATE/logs/intake.log"
    sleep 0.05
  done
  rm -f "$EVENTS"
  IDLE_EXIT_MS=500 "$BIN/scalers" run --scalers "$ROOT/scalers" --bin-dir "$BIN" --poll 1s --backoff 1s --events "$EVENTS" --log-dir "$STATE/logs/jobs" >"$STATE/logs/scaler.log" 2>&1 &
  POOL_SCALER=$!
  until [[ -s $EVENTS ]]; do
    kill -0 "$POOL_SCALER" 2>/dev/null || die "the scaler ended: $(tail -n 3 "$STATE/logs/scaler.log")"
    ((SECONDS < deadline)) || die "the scaler has not polled after 30 s: $STATE/logs/scaler.log"
    sleep 0.05
  done
}

# Stops what pool_start started, workers included (the scaler ends its own).
pool_stop() {
  local pid
  for pid in $POOL_SCALER $POOL_INTAKE; do
    kill -TERM "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  POOL_SCALER=
  POOL_INTAKE=
}

# The worker processes that the scaler has running now.
pool_workers() {
  jq -rs '[.[] | select(.event == "started")] as $s | [.[] | select(.event == "ended") | .pid] as $e
    | [$s[] | select(.pid as $p | $e | index($p) | not) | "\(.worker) (\(.pid))"] | join(", ")' "$EVENTS"
}

pool_url() { printf 'http://127.0.0.1:%s/v1/%s' "$(port intake)" "$1"; }
pool_token() { "$ROOT/scripts/token" --tenant "$TENANT"; }

# pool_call METHOD PATH KEY CURL-ARG…: an answer that is not 2xx ends the script with the server's words.
pool_call() {
  local method=$1 path=$2 key=$3 answer status
  shift 3
  answer=$(curl --noproxy '*' -sS -m 120 -w '\n%{http_code}' -X "$method" -H "Authorization: Bearer $(pool_token)" \
    -H "Idempotency-Key: $key" "$@" "$(pool_url "$path")")
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  [[ $status == 2* ]] || die "$method $path was answered $status: $(jq -r '.detail // .' <<<"$answer" 2>/dev/null || printf %s "$answer")"
  printf '%s' "$answer"
}

# The JSON of a resource; {} when there is none yet.
pool_get() {
  local answer
  answer=$(curl --noproxy '*' -sf -m 10 -H "Authorization: Bearer $(pool_token)" "$(pool_url "$1")") || answer='{}'
  printf '%s' "$answer"
}

# The same file for the same asset is the same request, however often it is sent.
pool_upload() {
  local asset=$1 file=$2 hash
  hash=$(sha256sum "$file" | cut -c1-64)
  pool_call POST "assets/$asset/documents" "$asset-$hash" --data-binary @"$file" \
    -H "Content-Type: $(media_type "$file")" -H "Content-Disposition: attachment; filename=\"$(basename "$file" | tr -cd 'A-Za-z0-9._ -')\""
}

media_type() {
  case ${1,,} in
    *.json) printf application/json ;;
    *.csv) printf text/csv ;;
    *.pdf) printf application/pdf ;;
    *.xlsx) printf application/vnd.openxmlformats-officedocument.spreadsheetml.sheet ;;
    *) printf application/octet-stream ;;
  esac
}

pool_close() {
  local asset=$1 key
  key=close-$(cat "${FILES[@]}" | sha256sum | cut -c1-48)
  pool_call POST "assets/$asset/valuations" "$asset-$key" -H 'Content-Type: application/json' -d '{}' >/dev/null
}

# Follows an asset until its state is an answer, and prints that state.
pool_follow() {
  local asset=$1 deadline=$((SECONDS + FOLLOW_SECONDS)) state=
  while ((SECONDS < deadline)); do
    state=$(pool_get "assets/$asset" | jq -r '.state // "unknown"')
    case $state in
      minted | incomplete | review | mint_failed | valuation_failed) printf '%s' "$state"; return ;;
    esac
    kill -0 "$POOL_SCALER" 2>/dev/null || die "the scaler ended: $(tail -n 3 "$STATE/logs/scaler.log")"
    sleep 0.2
  done
  die "$asset is still $state after $FOLLOW_SECONDS s; logs are in $STATE/logs"
}

# Waits until every worker has ended by itself and nothing is left to do.
pool_drained() {
  local deadline=$((SECONDS + 60))
  until [[ -z $(pool_workers) ]] && [[ $(jq -rs '[.[] | select(.event == "poll")] | group_by(.worker) | map(.[-1].lag) | add // 0' "$EVENTS") == 0 ]]; do
    ((SECONDS < deadline)) || die "workers still run after 60 s: $(pool_workers)"
    sleep 0.2
  done
}

# Sends the request that the CronJob would send, waits for the worker, and prints the manifest.
pool_backup() {
  local slot manifest='' deadline=$((SECONDS + FOLLOW_SECONDS))
  slot=$(date -u +%FT%TZ)
  "$BIN/backup" request --slot "$slot" --requested-by scripts/run >/dev/null
  until manifest=$("$BIN/backup" list --json | jq -ce --arg slot "$slot" '.[] | select(.slot == $slot)'); do
    ((SECONDS < deadline)) || die "no backup after $FOLLOW_SECONDS s; logs are in $STATE/logs/jobs"
    sleep 0.5
  done
  say "$manifest"
  pool_drained
}

# What was read from each file, each with its place; and what else was seen there, which may only want another name.
pool_facts() {
  "$BIN/ingestion" inspect "$@" | jq -r '
    def place: .locator // . | if .kind == "json_pointer" then .pointer elif .kind == "csv_cell" then "row \(.row) \(.column)" | rtrimstr(" ")
      elif .kind == "sheet_cell" then "\(.sheet)!\(.cell)" else "page \(.page)" end;
    .documents[] | (.file | split("/") | last) as $file
    | (.facts[] | "  \($file), \(.fact.provenance | place): \(.path) = \(.fact.value | if type == "string" then . else tojson end)"),
      (.seen[] | "  \($file), \(place): seen, not known: " + if .saw == "table" then "a table of \(.rows) rows with \(.columns | join(", ")); \(.why)"
        elif .saw == "labelled" then "\(.label): \(.value)" else "text that begins with “\(.begins)”" end),
      (select(.seen_more > 0) | "  \($file): and \(.seen_more) more")' >&2
}

pool_confirm() { "$BIN/minting" confirm --tenant "$TENANT" --asset "$1" --json >&2; }

pool_timeline() {
  say ""
  {
    pool_get "assets/$1" | jq -r '.history[]? | "\(.at)\t\(.to)\ttrace \(.trace_id)"'
    jq -r 'select(.event == "started" or .event == "ended")
      | "\(.at)\t\(.worker) \(.event)\tpid \(.pid)\(if .event == "ended" then ", exit \(.exit_code)" else "" end)"' "$EVENTS"
  } | sort | awk -F '\t' '{ printf "  %-30s %-22s %s\n", $1, $2, $3 }' >&2
}

pool_example() {
  printf "curl -X POST -H \"Authorization: Bearer \$(STACK_PORT_BASE=$STACK_PORT_BASE %s/scripts/token)\" -H 'Idempotency-Key: my-first' -H 'Content-Type: application/json' --data-binary @%s '%s'" \
    "$ROOT" "$ROOT/docs/examples/dossier/ficha.json" "$(pool_url 'assets/my-asset/documents?close=true')"
}
