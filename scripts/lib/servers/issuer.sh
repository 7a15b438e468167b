# The development OIDC issuer: a key that never leaves this folder, its public half as static files on loopback.
# shellcheck shell=bash
# scripts/token and scripts/kind sign with the key. The key id is the key's thumbprint (RFC 7638).

issuer_variable() { printf %s OIDC_JWKS_URL; }
issuer_version() { printf 'static files'; }
issuer_ports() { port issuer; }
issuer_url() { printf 'http://127.0.0.1:%s' "$(port issuer)"; }
issuer_address() { printf '%s/jwks.json' "$(issuer_url)"; }
issuer_stop_seconds() { printf %s 5; }
issuer_has_state() { [[ -s $STATE/data/issuer/jwks.json ]]; }
issuer_fetch() { :; }
issuer_modulus() { openssl rsa -in "$STATE/keys/issuer.pem" -noout -modulus | sed 's/^Modulus=//'; }
# The modulus as the JWK wants it: hex to bytes to base64url.
issuer_n() { issuer_modulus | tr -d '\n' | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64url; }
issuer_kid() { jq -r '.keys[0].kid' "$STATE/data/issuer/jwks.json"; }
# Makes the key, once, and its public half.
issuer_keys() {
  local n kid public=$STATE/data/issuer
  mkdir -p "$public" "$STATE/keys"
  if [[ ! -s $STATE/keys/issuer.pem ]]; then
    openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$STATE/keys/issuer.pem.new" 2>/dev/null ||
      openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$STATE/keys/issuer.pem.new" 2>/dev/null
    mv "$STATE/keys/issuer.pem.new" "$STATE/keys/issuer.pem"
  fi
  n=$(issuer_n)
  kid=$(printf '{"e":"AQAB","kty":"RSA","n":"%s"}' "$n" | openssl dgst -sha256 -binary | base64url)
  jq -n --arg n "$n" --arg kid "$kid" '{keys: [{kty: "RSA", use: "sig", alg: "RS256", kid: $kid, n: $n, e: "AQAB"}]}' >"$public/jwks.json"
}
issuer_launch() {
  local public=$STATE/data/issuer
  issuer_keys
  mkdir -p "$public/.well-known"
  jq -n --arg issuer "$(issuer_url)" '{issuer: $issuer, jwks_uri: ($issuer + "/jwks.json"), id_token_signing_alg_values_supported: ["RS256"]}' \
    >"$public/.well-known/openid-configuration"
  process_start issuer "$PYTHON" -m http.server --bind 127.0.0.1 --directory "$public" "$(port issuer)"
}
# issuer_token ISSUER AUDIENCE SUBJECT TENANT SCOPE SECONDS: a signed token, valid from now.
issuer_token() {
  local now header claims signature
  now=$(date +%s)
  header=$(jq -cjn --arg kid "$(issuer_kid)" '{alg: "RS256", typ: "JWT", kid: $kid}' | base64url)
  claims=$(jq -cjn --arg iss "$1" --arg aud "$2" --arg sub "$3" --arg tenant "$4" --arg scope "$5" --argjson now "$now" --argjson ttl "$6" \
    '{iss: $iss, aud: $aud, sub: $sub, tenant: $tenant, scope: $scope, iat: $now, nbf: $now, exp: ($now + $ttl)}' | base64url)
  signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -sign "$STATE/keys/issuer.pem" -binary | base64url)
  printf '%s.%s.%s\n' "$header" "$claims" "$signature"
}
issuer_ready() { curl --noproxy '*' -sf -m 2 -o /dev/null "$(issuer_address)"; }
issuer_env() {
  if is_given issuer; then
    pass_on OIDC_ISSUER OIDC_AUDIENCE OIDC_JWKS_URL
    return
  fi
  export_line OIDC_ISSUER "$(issuer_url)"
  export_line OIDC_AUDIENCE libertum
  export_line OIDC_JWKS_URL "$(issuer_address)"
}
