//! What the worker keeps: a mint item for each key, an attempt for each nonce.

use jiff::Timestamp;
use messages::{Address, AssetId, AssetKey, Hash32, Tenant};
use serde::{Deserialize, Serialize};
use stores::records::Reason;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// To be minted, or being minted; `open_attempt` says by which transaction.
    Planned,
    /// Minted in a block that is final.
    Minted,
    /// Refused by the contract, for a reason in the request. Another request may take the key.
    Rejected,
    /// Not minted by its last transaction, for a reason that may pass.
    Failed,
}

impl ItemState {
    /// As it is written in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Minted => "minted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// `mint_items`: what is to be minted under a key, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MintItem {
    /// The mint key, `0x` and 64 hexadecimal digits.
    #[serde(rename = "_id")]
    pub key: String,
    pub tenant: Tenant,
    pub asset_id: AssetId,
    /// What the contract keeps under the key once it is minted.
    pub digest: String,
    pub recipient: Address,
    pub units: i64,
    pub evidence: Hash32,
    pub valuation_id: String,
    pub chain_id: i64,
    pub contract: Address,
    pub state: ItemState,
    /// The `_id` of the attempt that carries it, while that is undecided.
    pub open_attempt: Option<String>,
    /// Transactions that ended without minting it.
    pub tries: i64,
    pub reason: Option<Reason>,
    pub minted: Option<MintedIn>,
    /// The id and trace of the request that it is minted for.
    pub cause: Uuid,
    pub trace_id: String,
    pub first_seen: Timestamp,
    pub settled_at: Option<Timestamp>,
}

impl MintItem {
    pub fn asset(&self) -> AssetKey {
        AssetKey::new(self.tenant.clone(), self.asset_id.clone())
    }
}

/// Where a key was minted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintedIn {
    pub tx: String,
    pub block: i64,
    pub block_hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Undecided: its bytes are with the nodes, or have to be sent to them again.
    Open,
    /// Mined in a block that is final; its items are settled.
    Final,
    /// Mined in a block that is final, and reverted as a whole; its items are free.
    Reverted,
    /// Its nonce was used by a transaction that is not ours, which is final; its items are free.
    Superseded,
}

impl AttemptState {
    /// As it is written in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Final => "final",
            Self::Reverted => "reverted",
            Self::Superseded => "superseded",
        }
    }
}

/// `mint_attempts`: the transaction of one nonce. Its insertion is the allocation of the nonce, and comes before
/// anybody sees its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// `chain:signer:nonce`.
    #[serde(rename = "_id")]
    pub id: String,
    pub chain_id: i64,
    pub signer: Address,
    pub nonce: i64,
    pub contract: Address,
    /// The keys of what it mints, in the order of the call; empty when it only closes a gap of nonces.
    pub items: Vec<String>,
    /// Variants that differ in their fees only, oldest first.
    pub raws: Vec<RawTx>,
    /// The `seq` of the newest variant: bumping is a compare-and-set of this.
    pub bump_seq: i64,
    pub state: AttemptState,
    /// The newest block when the newest variant was made.
    pub sent_block: i64,
    pub planned_at: Timestamp,
    pub receipt: Option<ReceiptRecord>,
}

impl Attempt {
    pub fn id_of(chain_id: i64, signer: Address, nonce: i64) -> String {
        format!("{chain_id}:{signer}:{nonce}")
    }
}

/// One variant of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawTx {
    pub seq: i64,
    pub hash: String,
    /// The signed bytes, `0x` and hexadecimal digits.
    pub raw: String,
    /// Wei a unit of gas, as text: it may be beyond what a number holds.
    pub max_fee: String,
    pub tip: String,
    pub at: Timestamp,
}

/// What the chain says of the variant that was mined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    pub hash: String,
    pub block: i64,
    pub block_hash: String,
    pub succeeded: bool,
    pub gas_used: i64,
    pub gas_price: String,
}
