# Anvil: an EVM chain with a block a second and finality two blocks behind; its state is on disk every five seconds.
# shellcheck shell=bash
# It keeps every block and receipt (about 1.7 KB a block), and the state of recent blocks, which reads at "finalized" need.
# Not --prune-history: alone it cannot read at "finalized", and its number is ignored at this block time (1,500 states,
# each larger than the one before). Spilling to disk is what lets memory fall again, past 450 MB after 40 minutes.

ANVIL_CHAIN_ID=31337
ANVIL_STATE_WARNING_BYTES=$((256 * 1024 * 1024))

anvil_variable() { printf %s EVM_RPC_URLS; }
anvil_version() { printf '%s' "$ANVIL_VERSION"; }
anvil_ports() { port anvil; }
anvil_address() { printf 'http://127.0.0.1:%s' "$(port anvil)"; }
anvil_stop_seconds() { printf %s 30; }
anvil_has_state() { [[ -s $STATE/data/anvil/state.json && $(tail -c 1 "$STATE/data/anvil/state.json") == '}' ]]; }
anvil_fetch() { npm_fetch; }
anvil_binary() { printf '%s/@foundry-rs/anvil-linux-amd64/bin/anvil' "$(npm_modules)"; }
anvil_mnemonic() {
  local file=$STATE/keys/evm-mnemonic
  [[ -s $file ]] && return
  (cd "$(npm_modules)" && node --input-type=module -e '
    import { generateMnemonic } from "@scure/bip39";
    import { wordlist } from "@scure/bip39/wordlists/english.js";
    console.log(generateMnemonic(wordlist, 128));') >"$file.new"
  mv "$file.new" "$file"
}
anvil_launch() {
  local file=$STATE/data/anvil/state.json
  anvil_mnemonic
  rm -rf "$STATE/data/anvil/spill"
  mkdir "$STATE/data/anvil/spill"
  if [[ -f $file && $(stat -c %s "$file") -gt $ANVIL_STATE_WARNING_BYTES ]]; then
    say "  anvil: its state is $(($(stat -c %s "$file") / 1048576)) MiB; scripts/stack down --wipe starts over"
  fi
  process_start anvil "$(anvil_binary)" --quiet --host 127.0.0.1 --port "$(port anvil)" \
    --chain-id "$ANVIL_CHAIN_ID" --block-time 1 --slots-in-an-epoch 1 --state "$file" --state-interval 5 \
    --max-persisted-states 64 --cache-path "$STATE/data/anvil/spill" --accounts 16 --mnemonic "$(cat "$STATE/keys/evm-mnemonic")"
}
anvil_call() {
  curl --noproxy '*' -s -m 2 -H 'content-type: application/json' \
    -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":$2}" "$(anvil_address)" 2>/dev/null
}
# Ready is: our chain answers, and can be read at its finalized block (for that it needs two new blocks after a restart).
anvil_ready() {
  [[ $(anvil_call eth_chainId '[]') == *"\"$(printf '0x%x' "$ANVIL_CHAIN_ID")\""* ]] &&
    [[ $(anvil_call eth_getBalance '["0x0000000000000000000000000000000000000001","finalized"]') == *'"result"'* ]]
}
# Tests that set a chain back, or let it forget, start one of their own from this binary.
anvil_env() {
  export_line ANVIL "$(anvil_binary)"
  if is_given anvil; then
    pass_on EVM_RPC_URLS EVM_CHAIN_ID EVM_MNEMONIC_FILE
    return
  fi
  export_line EVM_RPC_URLS "$(anvil_address)"
  export_line EVM_CHAIN_ID "$ANVIL_CHAIN_ID"
  export_line EVM_MNEMONIC_FILE "$STATE/keys/evm-mnemonic"
}
