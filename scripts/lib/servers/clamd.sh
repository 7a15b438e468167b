# ClamAV's daemon from the system's package, with signatures of ours alone: for trying out that documents are scanned.
# shellcheck shell=bash
# It knows two things: the EICAR test file, by its hash, and the marker below, wherever it stands in a file. It never
# downloads signatures. A file beyond a limit is reported as found, not as clean (Heuristics.Limits.Exceeded).

# An innocent line of ours that counts as malware here; scripts and tests write it into documents.
CLAMD_MARKER='LIBERTUM*STANDARD*MARKER*FOR*SCANNERS*IT*HARMS*NOTHING'
# SHA-256 of the 68 bytes of the EICAR test file, https://www.eicar.org/download-anti-malware-testfile/
CLAMD_EICAR_SHA256=275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f
CLAMD_MEMORY_BYTES=$((1024 * 1024 * 1024))

clamd_variable() { printf %s CLAMD_ADDR; }
clamd_version() { clamd --version | sed -n 's/^ClamAV \([0-9.]*\).*/\1/p'; }
clamd_ports() { port clamd; }
clamd_address() { printf '127.0.0.1:%s' "$(port clamd)"; }
clamd_stop_seconds() { printf %s 10; }
clamd_has_state() { [[ -s $STATE/data/clamd/signatures/libertum.hsb ]]; }
clamd_fetch() { command -v clamd >/dev/null || die "clamd is missing: run scripts/doctor --with clamd"; }

# Without AlertExceedsMax a bomb would be clean. With it, a zip member larger than MaxFileSize is still cut there and
# called clean; only because MaxScanSize is not larger than MaxFileSize does the sum of member and archive exceed it.
clamd_config() {
  cat <<CONFIG
Foreground yes
LogTime yes
TCPSocket $(port clamd)
TCPAddr 127.0.0.1
DatabaseDirectory $STATE/data/clamd/signatures
TemporaryDirectory $STATE/data/clamd/scratch
SelfCheck 0
ConcurrentDatabaseReload no
Bytecode no
OfficialDatabaseOnly no
MaxThreads 4
MaxQueue 16
MaxConnectionQueueLength 16
ReadTimeout 30
CommandReadTimeout 10
IdleTimeout 30
StreamMaxLength 256M
MaxFileSize 256M
MaxScanSize 256M
MaxScanTime 60000
MaxFiles 5000
MaxRecursion 12
AlertExceedsMax yes
AlertEncrypted no
CONFIG
}
clamd_signatures() {
  local folder=$STATE/data/clamd/signatures
  printf '%s:68:Libertum.Test.Eicar\n' "$CLAMD_EICAR_SHA256" >"$folder/libertum.hsb"
  # name, any kind of file, any place in it, the bytes in hexadecimal
  printf 'Libertum.Test.Marker:0:*:%s\n' "$(printf %s "$CLAMD_MARKER" | od -An -v -tx1 | tr -d ' \n')" >"$folder/libertum.ndb"
}
clamd_launch() {
  rm -rf "$STATE/data/clamd/scratch"
  mkdir -p "$STATE/data/clamd"/{signatures,scratch}
  clamd_signatures
  clamd_config >"$STATE/conf/clamd.conf"
  process_start clamd env MALLOC_ARENA_MAX=2 prlimit --as="$CLAMD_MEMORY_BYTES" clamd --config-file="$STATE/conf/clamd.conf"
}
clamd_ready() {
  local answer
  (
    exec 3<>"/dev/tcp/127.0.0.1/$(port clamd)"
    printf 'nPING\n' >&3
    read -r -t 2 answer <&3
    [[ $answer == PONG ]]
  ) 2>/dev/null
}
clamd_env() {
  if is_given clamd; then
    pass_on CLAMD_ADDR
  elif process_pid clamd >/dev/null; then
    export_line CLAMD_ADDR "$(clamd_address)"
    export_line STACK_CLAMD_MARKER "$CLAMD_MARKER"
  fi
}
