//! What reads answer. The types are the contract of the HTTP interface; records of MongoDB are turned into them.

use jiff::Timestamp;
use messages::{Address, AssetId, Hash32, MissingFacts};
use serde::Serialize;
use serde_json::Value;
use stores::records::{
    AssetRecord, AssetState, DocumentRecord, DocumentState, MintSection, MintState, Move, Reason, ValuationSection, ValuationStatus,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::upload::Stored;

/// How many facts of a document, and documents of an asset, one answer lists.
pub const LISTED: usize = 500;

/// The states of a document, for the interface's description.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "the description's picture of stores::records::DocumentState; a test holds them together"
)]
pub enum DocumentStateName {
    Accepted,
    Ingested,
    Partial,
    Rejected,
    Quarantined,
    NeedsPassword,
    Failed,
}

/// The states of an asset, for the interface's description.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "the description's picture of stores::records::AssetState; a test holds them together"
)]
pub enum AssetStateName {
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

/// Why something is as it is: a code for programs, a text for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Why {
    pub code: String,
    pub text: String,
}

impl From<&Reason> for Why {
    fn from(reason: &Reason) -> Self {
        Self {
            code: reason.code.clone(),
            text: reason.text.clone(),
        }
    }
}

/// A step in the life of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it happened to: `documents/{id}`, `dossier`, `valuation` or `mint`.
    pub of: String,
    /// The state that it is in since.
    pub to: String,
    /// The id of the event that caused it.
    pub cause: Uuid,
    /// The trace that it belongs to, from the HTTP request on.
    pub trace_id: String,
}

/// A document and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentView {
    pub document_id: Uuid,
    #[schema(value_type = String)]
    pub asset_id: AssetId,
    #[schema(value_type = DocumentStateName)]
    pub state: DocumentState,
    pub reason: Option<Why>,
    #[schema(value_type = String)]
    pub sha256: Hash32,
    /// Bytes.
    pub size: u64,
    pub filename: Option<String>,
    /// The media type that was claimed.
    pub declared_type: Option<String>,
    /// What the bytes are; absent until they have been looked at.
    pub detected_type: Option<String>,
    pub facts: FactsView,
    /// What is worth knowing without being a reason, e.g. fields that were ignored.
    pub notes: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    pub history: Vec<Step>,
}

/// What a document says.
#[derive(Debug, Serialize, ToSchema)]
pub struct FactsView {
    pub count: usize,
    /// The first 500: path in the fact sheet, value, and where in the document it stands.
    #[schema(value_type = Vec<Object>)]
    pub list: Vec<Value>,
}

impl DocumentView {
    /// A document that no worker has written yet.
    pub fn accepted(stored: &Stored) -> Self {
        let u = &stored.upload;
        let accepted = Move::new(u.received_at, DocumentState::Accepted, u.document_id, u.trace);
        Self {
            document_id: u.document_id,
            asset_id: u.asset.asset_id.clone(),
            state: DocumentState::Accepted,
            reason: None,
            sha256: stored.sha256,
            size: stored.size,
            filename: u.filename.clone(),
            declared_type: u.declared_type.clone(),
            detected_type: None,
            facts: FactsView {
                count: 0,
                list: Vec::new(),
            },
            notes: Vec::new(),
            received_at: u.received_at,
            history: vec![document_step(u.document_id, &accepted)],
        }
    }

    pub fn of(record: &DocumentRecord) -> Self {
        let facts = record.facts.iter().take(LISTED);
        Self {
            document_id: record.document_id,
            asset_id: record.asset_id.clone(),
            state: record.state,
            reason: record.reason.as_ref().map(Why::from),
            sha256: record.sha256,
            size: record.size.unsigned_abs(),
            filename: record.filename.clone(),
            declared_type: record.declared_type.clone(),
            detected_type: record.detected_type.clone(),
            facts: FactsView {
                count: record.facts.len(),
                list: facts.map(|f| serde_json::to_value(f).unwrap_or_default()).collect(),
            },
            notes: record.notes.clone(),
            received_at: record.received_at,
            history: record.history.iter().map(|m| document_step(record.document_id, m)).collect(),
        }
    }
}

pub fn document_step(id: Uuid, m: &Move<DocumentState>) -> Step {
    Step {
        at: m.at,
        of: format!("documents/{id}"),
        to: word(m.to),
        cause: m.cause,
        trace_id: m.trace_id.clone(),
    }
}

/// A state as it is written on the wire.
fn word(state: impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// An asset and everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetView {
    #[schema(value_type = String)]
    pub asset_id: AssetId,
    #[schema(value_type = AssetStateName)]
    pub state: AssetState,
    /// What you can do next, in words.
    pub next: String,
    /// The last 500 documents that have been read, in the order of their arrival.
    pub documents: Vec<DocumentLine>,
    pub documents_total: usize,
    /// The dossier as it was last closed.
    pub dossier: Option<DossierView>,
    pub valuation: Option<ValuationView>,
    pub mint: Option<MintView>,
    /// In the order of time.
    pub history: Vec<Step>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentLine {
    pub id: Uuid,
    #[schema(value_type = DocumentStateName)]
    pub state: DocumentState,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DossierView {
    /// How often it has been closed.
    pub version: i64,
    /// SHA-256 of the canonical fact sheet.
    #[schema(value_type = String)]
    pub sha256: Hash32,
    /// Empty when some approach to value has all that it needs; else what each lacks.
    #[schema(value_type = Vec<Object>)]
    pub missing: Vec<MissingFacts>,
    #[schema(value_type = String, format = DateTime)]
    pub closed_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ValuationView {
    /// `indicative` or `failed`.
    #[schema(value_type = String)]
    pub status: ValuationStatus,
    pub reason: Option<Why>,
    /// Which closing of the dossier was valued.
    pub facts_version: i64,
    pub valuation_id: Option<String>,
    /// A decimal.
    pub value: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    #[schema(value_type = Option<String>)]
    pub report_sha256: Option<Hash32>,
    /// Whether a person must post the mint.
    pub review: bool,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl From<&ValuationSection> for ValuationView {
    fn from(v: &ValuationSection) -> Self {
        Self {
            status: v.status,
            reason: v.reason.as_ref().map(Why::from),
            facts_version: v.facts_version,
            valuation_id: v.valuation_id.clone(),
            value: v.value.clone(),
            currency: v.currency.clone(),
            report_sha256: v.report_sha256,
            review: v.review,
            at: v.at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MintView {
    /// `minting`, `minted` or `failed`.
    #[schema(value_type = String)]
    pub state: MintState,
    pub reason: Option<Why>,
    pub valuation_id: String,
    #[schema(value_type = String)]
    pub evidence: Hash32,
    #[schema(value_type = String)]
    pub recipient: Address,
    pub units: i64,
    pub chain_id: i64,
    #[schema(value_type = String)]
    pub contract: Address,
    pub token_id: String,
    pub tx: Option<String>,
    pub block: Option<i64>,
    pub block_hash: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl From<&MintSection> for MintView {
    fn from(m: &MintSection) -> Self {
        Self {
            state: m.state,
            reason: m.reason.as_ref().map(Why::from),
            valuation_id: m.valuation_id.clone(),
            evidence: m.evidence,
            recipient: m.recipient,
            units: m.units,
            chain_id: m.chain_id,
            contract: m.contract,
            token_id: m.token_id.clone(),
            tx: m.tx.clone(),
            block: m.block,
            block_hash: m.block_hash.clone(),
            at: m.at,
        }
    }
}

impl AssetView {
    /// An asset that no worker has written yet.
    pub fn unwritten(asset_id: AssetId) -> Self {
        Self {
            next: next(AssetState::Open, &asset_id),
            asset_id,
            state: AssetState::Open,
            documents: Vec::new(),
            documents_total: 0,
            dossier: None,
            valuation: None,
            mint: None,
            history: Vec::new(),
        }
    }

    /// The record with the lines and steps of its documents.
    pub fn of(record: &AssetRecord, documents: Vec<DocumentLine>, mut history: Vec<Step>) -> Self {
        let state = record.state();
        let step = |of: &str, to: String, at, cause, trace_id: &str| Step {
            at,
            of: of.to_owned(),
            to,
            cause,
            trace_id: trace_id.to_owned(),
        };
        let dossier = record.facts.as_ref();
        history.extend(dossier.map(|d| step("dossier", "closed".to_owned(), d.closed_at, d.closed_by, &d.trace_id)));
        let valuation = record.valuation.as_ref();
        history.extend(valuation.map(|v| step("valuation", word(v.status), v.at, v.cause, &v.trace_id)));
        let mint = record.mint.as_ref();
        history.extend(mint.map(|m| step("mint", word(m.state), m.at, m.cause, &m.trace_id)));
        history.sort_by_key(|s| s.at);
        Self {
            next: next(state, &record.asset_id),
            asset_id: record.asset_id.clone(),
            state,
            documents,
            documents_total: record.documents.len(),
            dossier: dossier.map(|d| DossierView {
                version: d.version,
                sha256: d.sha256,
                missing: d.missing.clone(),
                closed_at: d.closed_at,
            }),
            valuation: valuation.map(ValuationView::from),
            mint: mint.map(MintView::from),
            history,
        }
    }
}

/// What the client can do in this state.
fn next(state: AssetState, asset_id: &AssetId) -> String {
    let asset = format!("/v1/assets/{asset_id}");
    match state {
        AssetState::Open => {
            format!("Upload documents with POST {asset}/documents; when all are there, close the dossier with POST {asset}/valuations.")
        }
        AssetState::Closed => "Wait: the dossier is closed and its valuation is under way.".to_owned(),
        AssetState::Incomplete => {
            format!(
                "Upload what dossier.missing names with POST {asset}/documents, then close the dossier again with POST {asset}/valuations."
            )
        }
        AssetState::Valued => "Wait: the asset is valued and its mint has been asked for.".to_owned(),
        AssetState::Review => format!(
            "Read the valuation; when you agree, POST {asset}/mints with valuation_id and evidence (the valuation's report_sha256)."
        ),
        AssetState::ValuationFailed => {
            format!(
                "See valuation.reason; upload what mends it with POST {asset}/documents, then close the dossier again with POST {asset}/valuations."
            )
        }
        AssetState::Minting => "Wait: the token is being minted; it counts once its block is final.".to_owned(),
        AssetState::Minted => "Nothing: the token exists.".to_owned(),
        AssetState::MintFailed => "See mint.reason, and ask us: a person has to look at it.".to_owned(),
    }
}

/// A view as JSON.
#[allow(clippy::expect_used)]
pub fn to_json<T: Serialize>(view: &T) -> Vec<u8> {
    serde_json::to_vec(view).expect("a view has text keys only and no failing serializer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_state() {
        use utoipa::PartialSchema as _;
        let documents = serde_json::to_value(DocumentStateName::schema()).unwrap();
        for state in [
            DocumentState::Accepted,
            DocumentState::Ingested,
            DocumentState::Partial,
            DocumentState::Rejected,
            DocumentState::Quarantined,
            DocumentState::NeedsPassword,
            DocumentState::Failed,
        ] {
            assert!(documents["enum"].as_array().unwrap().contains(&word(state).into()), "{documents}");
        }
        let assets = serde_json::to_value(AssetStateName::schema()).unwrap();
        for state in [
            AssetState::Open,
            AssetState::Closed,
            AssetState::Incomplete,
            AssetState::Valued,
            AssetState::Review,
            AssetState::ValuationFailed,
            AssetState::Minting,
            AssetState::Minted,
            AssetState::MintFailed,
        ] {
            assert!(assets["enum"].as_array().unwrap().contains(&word(state).into()), "{assets}");
            assert!(!next(state, &"a-1".parse().unwrap()).is_empty());
        }
    }
}
