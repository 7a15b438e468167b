# Azurite, the blob service only, with an account and a random key of this stack.
# shellcheck shell=bash

BLOB_ACCOUNT=libertum
BLOB_SAS_VERSION=2021-12-02

azurite_variable() { printf %s BLOB_ENDPOINT; }
azurite_version() { printf '%s' "$AZURITE_VERSION"; }
azurite_ports() { port azurite; }
azurite_address() { printf 'http://127.0.0.1:%s/%s' "$(port azurite)" "$BLOB_ACCOUNT"; }
azurite_stop_seconds() { printf %s 15; }
azurite_has_state() { [[ -s $STATE/data/azurite/__azurite_db_blob__.json ]]; }
azurite_fetch() { npm_fetch; }
azurite_launch() {
  random_key blob-account-key 64
  AZURITE_ACCOUNTS="$BLOB_ACCOUNT:$(cat "$STATE/keys/blob-account-key")" \
    process_start azurite node "$(npm_modules)/azurite/dist/src/blob/main.js" --blobHost 127.0.0.1 \
    --blobPort "$(port azurite)" --location "$STATE/data/azurite" --silent --disableTelemetry
}
azurite_ready() {
  curl --noproxy '*' -s -m 2 -o /dev/null -D - "$(azurite_address)?comp=list" 2>/dev/null | grep -qi '^server: azurite'
}

# An account SAS for everything in the blob service, until the end of next year: the same words on every call.
azurite_sas() {
  [[ -s $STATE/keys/blob-account-key ]] || return 0
  blob_sas "$BLOB_ACCOUNT" "$(cat "$STATE/keys/blob-account-key")"
}
# blob_sas ACCOUNT KEY
blob_sas() {
  local permissions=rwdxylacuptfi services=b types=sco protocols=https,http start=2024-01-01T00:00:00Z end key signature
  end=$(($(date -u +%Y) + 2))-01-01T00:00:00Z
  key=$(printf %s "$2" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
  signature=$(printf '%s\n' "$1" "$permissions" "$services" "$types" "$start" "$end" '' "$protocols" "$BLOB_SAS_VERSION" '' |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A | sed 's/+/%2B/g; s,/,%2F,g; s/=/%3D/g')
  printf 'sv=%s&ss=%s&srt=%s&sp=%s&st=%s&se=%s&spr=%s&sig=%s' \
    "$BLOB_SAS_VERSION" "$services" "$types" "$permissions" "${start//:/%3A}" "${end//:/%3A}" "${protocols//,/%2C}" "$signature"
}
azurite_env() {
  if is_given azurite; then
    pass_on BLOB_ENDPOINT BLOB_SAS
    return
  fi
  export_line BLOB_ENDPOINT "$(azurite_address)"
  export_line BLOB_SAS "$(azurite_sas)"
}
