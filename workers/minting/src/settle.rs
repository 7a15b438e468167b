//! From a final receipt to what became of each item.

use std::collections::HashMap;

use alloy::primitives::{Address, B256};
use alloy::rpc::types::{Log, TransactionReceipt};
use alloy::sol_types::SolEvent as _;
use stores::records::Reason;

use crate::contract::{AssetToken, Outcome, Skip, skip_of};
use crate::keys::digest;
use crate::records::{ItemState, MintedIn, ReceiptRecord};

/// What a batch says of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// By this transaction, with this digest.
    Minted(B256),
    /// Not minted, and why.
    Unminted(ItemState, Reason),
    /// The key was used before; when and for what, only the chain's history says.
    UsedBefore,
}

/// Reads the contract's events in a receipt.
pub fn said_of(receipt: &TransactionReceipt, contract: Address) -> HashMap<B256, Said> {
    receipt
        .logs()
        .iter()
        .filter(|log| log.address() == contract)
        .filter_map(said)
        .collect()
}

fn said(log: &Log) -> Option<(B256, Said)> {
    if let Ok(minted) = AssetToken::AssetMinted::decode_log(&log.inner) {
        return Some((
            minted.key,
            Said::Minted(digest(minted.key, minted.to, minted.amount, minted.evidence)),
        ));
    }
    let skipped = AssetToken::MintSkipped::decode_log(&log.inner).ok()?;
    let said = match Outcome::from_code(skipped.outcome)? {
        Outcome::AlreadyMinted | Outcome::KeyConflict => Said::UsedBefore,
        Outcome::Failed => unminted(&skipped.reason),
        Outcome::Minted => return None,
    };
    Some((skipped.key, said))
}

fn unminted(reason: &[u8]) -> Said {
    match skip_of(reason) {
        Skip::Wrong { code, text } => Said::Unminted(
            ItemState::Rejected,
            Reason {
                code: code.to_owned(),
                text,
            },
        ),
        Skip::Other(text) => Said::Unminted(
            ItemState::Failed,
            Reason {
                code: "mint-failed".to_owned(),
                text,
            },
        ),
    }
}

/// A receipt as the ledger keeps it; `None` while the block is not known.
pub fn record_of(receipt: &TransactionReceipt) -> Option<ReceiptRecord> {
    Some(ReceiptRecord {
        hash: receipt.transaction_hash.to_string(),
        block: i64::try_from(receipt.block_number?).ok()?,
        block_hash: receipt.block_hash?.to_string(),
        succeeded: receipt.status(),
        gas_used: i64::try_from(receipt.gas_used).ok()?,
        gas_price: receipt.effective_gas_price.to_string(),
    })
}

/// Where a receipt's items were minted.
pub fn place_of(receipt: &ReceiptRecord) -> MintedIn {
    MintedIn {
        tx: receipt.hash.clone(),
        block: receipt.block,
        block_hash: receipt.block_hash.clone(),
    }
}
