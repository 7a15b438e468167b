# Prometheus from the system's package: looks at itself and at the intake every five seconds, and keeps little.
# shellcheck shell=bash
# Workers come and go faster than anything could look at them: what they measure is in their logs.
# With PROMETHEUS_CONFIG_FILE it is told by that file what to look at, and which rules to follow.

PROMETHEUS_KEEP_TIME=2d
PROMETHEUS_KEEP_SIZE=256MB
PROMETHEUS_MEMORY=256MiB

prometheus_variable() { printf %s PROMETHEUS_URL; }
prometheus_version() { prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p'; }
prometheus_ports() { port prometheus; }
prometheus_address() { printf 'http://127.0.0.1:%s' "$(port prometheus)"; }
prometheus_stop_seconds() { printf %s 15; }
prometheus_has_state() { [[ -d $STATE/data/prometheus/wal ]]; }
prometheus_fetch() { command -v prometheus >/dev/null || die "prometheus is missing: run scripts/doctor --with prometheus"; }
prometheus_config() {
  if [[ -n ${PROMETHEUS_CONFIG_FILE:-} ]]; then
    cat -- "$PROMETHEUS_CONFIG_FILE"
    return
  fi
  cat <<CONFIG
global:
  scrape_interval: 5s
  scrape_timeout: 4s
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:$(port prometheus)"]
  - job_name: intake
    static_configs:
      - targets: ["127.0.0.1:$(port intake-metrics)"]
CONFIG
}
prometheus_launch() {
  mkdir -p "$STATE/data/prometheus"
  prometheus_config >"$STATE/conf/prometheus.yml"
  process_start prometheus env GOMEMLIMIT="$PROMETHEUS_MEMORY" prometheus --config.file="$STATE/conf/prometheus.yml" \
    --web.listen-address="127.0.0.1:$(port prometheus)" --storage.tsdb.path="$STATE/data/prometheus" \
    --storage.tsdb.retention.time="$PROMETHEUS_KEEP_TIME" --storage.tsdb.retention.size="$PROMETHEUS_KEEP_SIZE" \
    --query.max-samples=5000000 --query.timeout=30s --log.level=warn
}
prometheus_ready() { curl --noproxy '*' -sf -m 2 -o /dev/null "$(prometheus_address)/-/ready"; }
prometheus_env() {
  if is_given prometheus; then
    pass_on PROMETHEUS_URL
  elif process_pid prometheus >/dev/null; then
    export_line PROMETHEUS_URL "$(prometheus_address)"
  fi
}
