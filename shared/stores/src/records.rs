//! What the collections hold. JSON-shaped: a record reads the same in MongoDB, in Redis and on the wire.

use jiff::Timestamp;
use messages::facts::{Approach, Fact, FactSheet};
use messages::{Address, AssetId, AssetKey, BlobRef, Hash32, MissingFacts, Tenant, TraceParent};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A step in the life of a thing: when, to which state, by which event, in which trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move<S> {
    pub at: Timestamp,
    pub to: S,
    /// The id of the event that caused it.
    pub cause: Uuid,
    pub trace_id: String,
}

impl<S> Move<S> {
    pub fn new(at: Timestamp, to: S, cause: Uuid, trace: TraceParent) -> Self {
        Self {
            at,
            to,
            cause,
            trace_id: trace.trace_id(),
        }
    }
}

/// Why something is as it is, for a program and for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentState {
    Accepted,
    Ingested,
    Partial,
    Rejected,
    Quarantined,
    NeedsPassword,
    Failed,
}

impl DocumentState {
    /// Whether its facts count.
    pub fn has_facts(self) -> bool {
        match self {
            Self::Ingested | Self::Partial => true,
            Self::Accepted | Self::Rejected | Self::Quarantined | Self::NeedsPassword | Self::Failed => false,
        }
    }
}

/// A document, `_id` = `tenant/document_id`. Written by ingestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRecord {
    #[serde(rename = "_id")]
    pub id: String,
    pub tenant: Tenant,
    pub document_id: Uuid,
    pub asset_id: AssetId,
    pub state: DocumentState,
    pub reason: Option<Reason>,
    pub sha256: Hash32,
    pub size: i64,
    pub declared_type: Option<String>,
    /// What the bytes are; `None` until they have been looked at.
    pub detected_type: Option<String>,
    pub filename: Option<String>,
    /// Where it was uploaded to.
    pub inbox: BlobRef,
    /// Its content-addressed name in `documents`, once it is stored there.
    pub stored: Option<String>,
    /// What it says: a path into the fact sheet, a value, and where it stands.
    pub facts: Vec<DocumentFact>,
    /// What is worth knowing without being a reason: fields that were ignored, a type other than the declared one.
    #[serde(default)]
    pub notes: Vec<String>,
    pub received_at: Timestamp,
    pub history: Vec<Move<DocumentState>>,
}

impl DocumentRecord {
    pub fn id_of(tenant: &Tenant, document_id: Uuid) -> String {
        format!("{tenant}/{document_id}")
    }
}

/// One fact as a document states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentFact {
    /// A path into the fact sheet, e.g. `physical.gross_internal_area`; `market.comparables[]` for a row of a list.
    pub path: String,
    pub fact: Fact<Value>,
}

/// Where an asset is, as its sections say; no worker writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    Open,
    Closed,
    Incomplete,
    Valued,
    Review,
    ValuationFailed,
    Minting,
    Minted,
    MintFailed,
}

/// An asset, `_id` = `tenant/asset_id`. Each worker sets only its own section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRecord {
    #[serde(rename = "_id")]
    pub id: String,
    pub tenant: Tenant,
    pub asset_id: AssetId,
    /// Document ids in the order of their arrival; ingestion's.
    #[serde(default)]
    pub documents: Vec<Uuid>,
    /// How often the dossier has been closed; ingestion's.
    #[serde(default)]
    pub facts_version: i64,
    /// The dossier as it was last closed; ingestion's.
    #[serde(default)]
    pub facts: Option<DossierSection>,
    #[serde(default)]
    pub valuation: Option<ValuationSection>,
    #[serde(default)]
    pub mint: Option<MintSection>,
}

/// A closed dossier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DossierSection {
    pub version: i64,
    /// The id of the event that closed it: the same event again finds its answer here.
    pub closed_by: Uuid,
    pub closed_at: Timestamp,
    pub trace_id: String,
    pub sheet: FactSheet,
    /// SHA-256 of the canonical JSON of `sheet` (RFC 8785).
    pub sha256: Hash32,
    /// Empty when some approach has all that it needs; else what each lacks.
    pub missing: Vec<MissingFacts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValuationStatus {
    /// A figure by itself, before a person has signed it.
    Indicative,
    Failed,
}

/// Who is to receive how many units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintTerms {
    pub recipient: Address,
    pub units: i64,
}

/// The last valuation of the asset; valuation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuationSection {
    /// Which closing of the dossier was valued.
    pub facts_version: i64,
    pub status: ValuationStatus,
    pub reason: Option<Reason>,
    /// `None` when the valuation failed.
    pub valuation_id: Option<String>,
    pub value: Option<String>,
    pub currency: Option<String>,
    pub report_sha256: Option<Hash32>,
    /// Whether a person must post the mint.
    pub review: bool,
    /// The mint that was asked for with this valuation: the same event again asks for the very same.
    #[serde(default)]
    pub mint_request: Option<MintTerms>,
    pub at: Timestamp,
    pub cause: Uuid,
    pub trace_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MintState {
    Minting,
    Minted,
    Failed,
}

/// The asset's issuance; minting's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintSection {
    pub state: MintState,
    pub reason: Option<Reason>,
    pub valuation_id: String,
    pub evidence: Hash32,
    pub recipient: Address,
    pub units: i64,
    pub chain_id: i64,
    pub contract: Address,
    /// The mint key, `0x` and 64 hexadecimal digits.
    pub token_id: String,
    pub tx: Option<String>,
    pub block: Option<i64>,
    pub block_hash: Option<String>,
    pub at: Timestamp,
    pub cause: Uuid,
    pub trace_id: String,
}

impl AssetRecord {
    pub fn key(&self) -> AssetKey {
        AssetKey::new(self.tenant.clone(), self.asset_id.clone())
    }

    /// Where the asset is. A section speaks only for the closing of the dossier that it was made for; a mint speaks
    /// for ever, since an asset is issued once.
    pub fn state(&self) -> AssetState {
        match self.mint.as_ref().map(|mint| mint.state) {
            Some(MintState::Minted) => return AssetState::Minted,
            Some(MintState::Minting) => return AssetState::Minting,
            Some(MintState::Failed) => return AssetState::MintFailed,
            None => {}
        }
        let Some(dossier) = &self.facts else { return AssetState::Open };
        match self.valuation.as_ref().filter(|v| v.facts_version == dossier.version) {
            Some(ValuationSection {
                status: ValuationStatus::Failed,
                ..
            }) => AssetState::ValuationFailed,
            Some(ValuationSection {
                status: ValuationStatus::Indicative,
                review: true,
                ..
            }) => AssetState::Review,
            Some(ValuationSection {
                status: ValuationStatus::Indicative,
                review: false,
                ..
            }) => AssetState::Valued,
            None if dossier.missing.is_empty() => AssetState::Closed,
            None => AssetState::Incomplete,
        }
    }
}

/// A valuation, `_id` = `tenant/inputs_sha256`: the same inputs are valued once. Written by valuation, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuationRecord {
    #[serde(rename = "_id")]
    pub id: String,
    pub tenant: Tenant,
    pub asset_id: AssetId,
    pub inputs_sha256: Hash32,
    /// The report as canonical JSON (RFC 8785), the very bytes that `report_sha256` is the digest of.
    pub report: String,
    pub report_sha256: Hash32,
    pub status: ValuationStatus,
    pub value: String,
    pub currency: String,
    pub approaches: Vec<Approach>,
    pub at: Timestamp,
}
