//! What became of things, on `asset-events`, for the rest of the company.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, AssetId, ClusterName, DecodeError, Hash32, Message, Payload, decode_json, facts::Approach, topics};

/// A document was read and its facts are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentIngested {
    pub document_id: Uuid,
    pub asset_id: AssetId,
    pub sha256: Hash32,
    pub detected_type: String,
    /// How many facts it gave.
    pub facts: u32,
}

/// A document that is not simply `ingested`, and why, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentVerdict {
    pub document_id: Uuid,
    pub asset_id: AssetId,
    /// A short code that a program can match, e.g. `digest-mismatch`.
    pub code: String,
    pub reason: String,
}

macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident = $type:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub DocumentVerdict);

        impl Message for $name {
            const TYPE: &'static str = $type;
            const TOPIC: &'static str = topics::ASSET_EVENTS;
        }
    )*};
}

verdicts! {
    /// Stored, but not everything in it could be read.
    DocumentPartial = "com.libertum.document.partial.v1";
    /// The input is wrong: not what was declared, or not what we take.
    DocumentRejected = "com.libertum.document.rejected.v1";
    /// Kept away from everybody until a person has looked: malware, or a suspicion of it.
    DocumentQuarantined = "com.libertum.document.quarantined.v1";
    /// Encrypted: send it again without a password.
    DocumentNeedsPassword = "com.libertum.document.needs_password.v1";
    /// We failed; the message is among the dead letters and can be put back.
    DocumentFailed = "com.libertum.document.failed.v1";
}

/// What one approach to value lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingFacts {
    pub approach: Approach,
    /// Paths into the fact sheet, with what is needed there.
    pub missing: Vec<String>,
}

/// A dossier was closed before its facts sufficed for any approach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetIncomplete {
    pub asset_id: AssetId,
    pub facts_version: i64,
    pub approaches: Vec<MissingFacts>,
}

/// An asset has a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetValued {
    pub asset_id: AssetId,
    pub valuation_id: String,
    /// The concluded value, a decimal as text.
    pub value: String,
    /// ISO 4217.
    pub currency: String,
    pub report_sha256: Hash32,
    /// True when a person must post the mint.
    pub review: bool,
}

/// A closed dossier could not be valued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValuationFailed {
    pub asset_id: AssetId,
    pub facts_sha256: Hash32,
    pub code: String,
    pub reason: String,
}

/// The token exists, in a block that is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetMinted {
    pub asset_id: AssetId,
    pub chain_id: u64,
    pub contract: Address,
    /// The mint key; read as a big-endian number it is the token's id.
    pub token_id: String,
    pub recipient: Address,
    pub units: u64,
    pub evidence: Hash32,
    /// Transaction hash, `0x` and 64 hexadecimal digits.
    pub tx: String,
    pub block: u64,
    pub block_hash: String,
}

/// A mint that will never happen as asked, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MintVerdict {
    pub asset_id: AssetId,
    pub valuation_id: String,
    pub code: String,
    pub reason: String,
}

/// The request is wrong: the asset has another mint already, or the contract refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MintRejected(pub MintVerdict);

/// We failed; the message is among the dead letters and can be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MintFailed(pub MintVerdict);

/// A time of the database's cluster clock, which orders all of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ClusterTime {
    /// Seconds since 1970.
    pub t: u32,
    /// Counts the writes within the second.
    pub i: u32,
}

/// A backup is whole, and its manifest is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupCompleted {
    pub backup_id: String,
    pub cluster: ClusterName,
    pub slot: Timestamp,
    /// The manifest's name in the container `backups`.
    pub manifest: String,
    /// Bytes of the stored archive.
    pub size: u64,
    /// Of the stored archive.
    pub sha256: Hash32,
    /// A restore has every write up to this time and none after it.
    pub consistent_at: ClusterTime,
    pub documents: u64,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// A backup was not taken; the request is among the dead letters unless it was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupFailed {
    pub backup_id: String,
    pub cluster: ClusterName,
    pub slot: Timestamp,
    pub code: String,
    pub reason: String,
}

macro_rules! outcome {
    ($($variant:ident($message:ident) $(= $type:literal)?;)*) => {
        /// Everything that `asset-events` carries.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Outcome {
            $($variant($message),)*
        }

        $($(impl Message for $message {
            const TYPE: &'static str = $type;
            const TOPIC: &'static str = topics::ASSET_EVENTS;
        })?)*

        impl Outcome {
            /// The CloudEvents types, in the order of an asset's life.
            pub const TYPES: &'static [&'static str] = &[$($message::TYPE),*];
        }

        impl Payload for Outcome {
            fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
                match event_type {
                    $($message::TYPE => decode_json(value).map(Self::$variant),)*
                    other => Err(DecodeError::UnknownType(other.to_owned())),
                }
            }
        }
    };
}

outcome! {
    DocumentIngested(DocumentIngested) = "com.libertum.document.ingested.v1";
    DocumentPartial(DocumentPartial);
    DocumentRejected(DocumentRejected);
    DocumentQuarantined(DocumentQuarantined);
    DocumentNeedsPassword(DocumentNeedsPassword);
    DocumentFailed(DocumentFailed);
    AssetIncomplete(AssetIncomplete) = "com.libertum.asset.incomplete.v1";
    AssetValued(AssetValued) = "com.libertum.asset.valued.v1";
    ValuationFailed(ValuationFailed) = "com.libertum.valuation.failed.v1";
    AssetMinted(AssetMinted) = "com.libertum.asset.minted.v1";
    MintRejected(MintRejected) = "com.libertum.mint.rejected.v1";
    MintFailed(MintFailed) = "com.libertum.mint.failed.v1";
    BackupCompleted(BackupCompleted) = "com.libertum.backup.completed.v1";
    BackupFailed(BackupFailed) = "com.libertum.backup.failed.v1";
}
