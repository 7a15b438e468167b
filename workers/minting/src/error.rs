//! What can go wrong, divided by what becomes of the message.

use alloy::primitives::{Address, U256};
use bus::Failure;
use stores::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No endpoint answered.
    #[error("no EVM endpoint answers {what}: {why}")]
    Rpc { what: &'static str, why: String },
    /// A node answered with an error that we have no use for.
    #[error("the EVM node refuses {what}: {why}")]
    Refused { what: &'static str, why: String },
    #[error("signer {signer} has {balance} wei and needs {needed}: send it funds")]
    Funds { signer: Address, balance: U256, needed: U256 },
    #[error("the node says that signer {0} lacks funds: send it some")]
    NodeSaysFunds(Address),
    #[error("the contract {0} is paused: it mints again once an account with PAUSER_ROLE has called unpause")]
    Paused(Address),
    #[error("signer {0} lacks MINTER_ROLE: grant it, or deploy with this mnemonic")]
    NotMinter(Address),
    #[error("partition {0} has no signer: set EVM_SIGNERS to the number of partitions of the topic and grant the new ones MINTER_ROLE")]
    NoSigner(u32),
    /// The transaction can never be accepted as it is.
    #[error("the node refuses transaction {attempt} for good: {why}; a person has to look at it")]
    Unacceptable { attempt: String, why: String },
    #[error("transaction {0} was final and is not on the chain any more: EVM_RPC_URLS leads to another chain, or this one was set back")]
    ChainLost(String),
    /// A fault of ours, or of the data.
    #[error("{0:#}")]
    Fault(anyhow::Error),
}

impl Error {
    /// Whether it is about reaching the chain, which a moment's patience often mends.
    pub fn is_transport(&self) -> bool {
        match self {
            Self::Rpc { .. } | Self::Refused { .. } => true,
            Self::Store(_)
            | Self::Funds { .. }
            | Self::NodeSaysFunds(_)
            | Self::Paused(_)
            | Self::NotMinter(_)
            | Self::NoSigner(_)
            | Self::Unacceptable { .. }
            | Self::ChainLost(_)
            | Self::Fault(_) => false,
        }
    }

    /// What becomes of the messages that met this error. What a person can mend without touching the message is
    /// waited for: their requests are right, and a dead letter would only have to be put back.
    pub fn to_failure(&self) -> Failure {
        let text = anyhow::anyhow!("{self:#}");
        match self {
            Self::Store(StoreError::Unavailable { .. } | StoreError::Refused { .. })
            | Self::Rpc { .. }
            | Self::Refused { .. }
            | Self::Funds { .. }
            | Self::NodeSaysFunds(_)
            | Self::Paused(_)
            | Self::NotMinter(_)
            | Self::NoSigner(_)
            | Self::Unacceptable { .. }
            | Self::ChainLost(_) => Failure::Unavailable(text),
            Self::Store(StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. }) | Self::Fault(_) => {
                Failure::Failed(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_waited_for_and_what_nobody_knows_is_not() {
        assert!(matches!(Error::Paused(Address::ZERO).to_failure(), Failure::Unavailable(_)));
        let funds = Error::Funds {
            signer: Address::ZERO,
            balance: U256::ZERO,
            needed: U256::from(1),
        };
        assert!(matches!(funds.to_failure(), Failure::Unavailable(e) if e.to_string().contains("send it funds")));
        assert!(matches!(Error::Fault(anyhow::anyhow!("odd")).to_failure(), Failure::Failed(_)));
    }
}
