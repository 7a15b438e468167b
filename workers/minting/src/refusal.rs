//! What a node means when it does not simply take a transaction. Nodes have no codes for this, only words; the words
//! are those of geth, Anvil, Erigon, Nethermind and Besu. Whatever is not known here counts as possibly sent.

/// What a node said to `eth_sendRawTransaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has the transaction already.
    Known,
    /// Its account has used the nonce: by one of our variants, or by somebody else. Only finality decides.
    NonceTooLow,
    /// It holds another transaction of this nonce, and ours does not pay enough more.
    Replacement,
    /// Lower nonces are missing.
    TooFarAhead,
    /// It offers too little for the next block.
    FeeTooLow,
    Funds,
    /// No node will ever take it.
    Never,
    /// It may have been sent, or not.
    Unknown,
}

/// Reads a node's words. The first class that fits wins, so the order matters: "underpriced" is also in a
/// replacement's refusal, and "known" in "unknown".
pub fn classify(message: &str) -> Refusal {
    const CLASSES: [(Refusal, &[&str]); 7] = [
        (
            Refusal::Replacement,
            &[
                "replacement transaction underpriced",
                "replacement underpriced",
                "replacement fee too low",
            ],
        ),
        (
            Refusal::Known,
            &[
                "already imported",
                "already known",
                "same hash was already imported",
                "already in the pool",
                "alreadyknown",
            ],
        ),
        (
            Refusal::NonceTooLow,
            &["nonce too low", "nonce is too low", "oldnonce", "nonce_too_low"],
        ),
        (
            Refusal::TooFarAhead,
            &[
                "nonce too high",
                "nonce too far",
                "exceeds next nonce",
                "nonce out of range",
                "noncegap",
            ],
        ),
        (
            Refusal::Funds,
            &[
                "insufficient funds",
                "insufficient balance",
                "insufficientfunds",
                "upfront cost exceeds",
            ],
        ),
        (
            Refusal::FeeTooLow,
            &[
                "less than block base fee",
                "underpriced",
                "fee too low",
                "feetoolow",
                "gas price too low",
                "below the minimum",
            ],
        ),
        (
            Refusal::Never,
            &[
                "invalid chain id",
                "invalid sender",
                "invalid signature",
                "oversized",
                "intrinsic gas",
                "gas limit cap",
                "gas_limit_cap",
                "exceeds block gas limit",
                "fee cap higher than",
                "exceeds the configured cap",
                "tx fee (",
                "transaction type not supported",
            ],
        ),
    ];
    let text = message.to_ascii_lowercase();
    let known = text.starts_with("known transaction");
    let fits = |(class, words): &(Refusal, &[&str])| words.iter().any(|word| text.contains(word)).then_some(*class);
    CLASSES
        .iter()
        .find_map(fits)
        .unwrap_or(if known { Refusal::Known } else { Refusal::Unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_nodes_are_understood() {
        for (words, class) in [
            ("transaction already imported", Refusal::Known),
            ("already known", Refusal::Known),
            ("known transaction: 0xabc", Refusal::Known),
            ("nonce too low: next nonce 5, tx nonce 4", Refusal::NonceTooLow),
            ("replacement transaction underpriced", Refusal::Replacement),
            ("transaction underpriced: tip needed 1", Refusal::FeeTooLow),
            (
                "max fee per gas less than block base fee: address 0x, maxFeePerGas: 1",
                Refusal::FeeTooLow,
            ),
            ("nonce too high", Refusal::TooFarAhead),
            ("Insufficient funds for gas * price + value", Refusal::Funds),
            ("intrinsic gas too high -- tx.gas_limit > env.cfg.tx_gas_limit_cap", Refusal::Never),
            ("invalid chain id for signer: have 1 want 5", Refusal::Never),
        ] {
            assert_eq!(classify(words), class, "{words}");
        }
    }

    #[test]
    fn what_is_not_understood_may_have_been_sent() {
        for words in [
            "unknown transaction pool error",
            "internal error",
            "",
            "header not found",
            "429 Too Many Requests",
        ] {
            assert_eq!(classify(words), Refusal::Unknown, "{words}");
        }
    }
}
