//! Documents and the asset's list of them, in MongoDB.

use bson::serde_helpers::HumanReadable;
use bson::{Bson, doc};
use bus::{Context, Emit, Failure};
use messages::facts::{Fact, Provenance};
use messages::{
    AssetKey, DocumentFailed, DocumentIngested, DocumentNeedsPassword, DocumentPartial, DocumentQuarantined, DocumentRejected,
    DocumentSubmitted, DocumentVerdict, Envelope, Outgoing,
};
use stores::records::{AssetRecord, DocumentFact, DocumentRecord, DocumentState, Move, Reason};
use stores::{Mongo, StoreError};
use uuid::Uuid;

use crate::conclude::Conclusion;
use crate::error::Error;

/// Documents that one asset may have.
pub const MAX_DOCUMENTS: u64 = 1000;
/// Moves of a document that are remembered.
const MAX_HISTORY: usize = 50;

/// The document's record, if there is one.
pub async fn find(mongo: &Mongo, id: &str) -> Result<Option<DocumentRecord>, StoreError> {
    let found = mongo.call(async { mongo.documents().find_one(doc! { "_id": id }).await }).await?;
    Ok(found.map(|HumanReadable(record)| record))
}

/// Whether this event has settled the document before. A failure is no settlement: its message was put back.
pub fn is_settled_by(record: &DocumentRecord, event: Uuid) -> bool {
    let last = record.history.iter().rev().find(|m| m.cause == event);
    last.is_some_and(|m| m.to == record.state && m.to != DocumentState::Failed)
}

/// The record of a document as an event left it.
pub fn record(
    before: Option<DocumentRecord>,
    envelope: &Envelope,
    document: &DocumentSubmitted,
    found: (Option<String>, Option<String>),
    conclusion: Conclusion,
    ctx: &Context,
) -> DocumentRecord {
    let mut history = before.map(|r| r.history).unwrap_or_default();
    if history.is_empty() {
        history.push(Move::new(
            document.received_at,
            DocumentState::Accepted,
            envelope.id,
            envelope.trace,
        ));
    }
    let excess = (history.len() + 1).saturating_sub(MAX_HISTORY);
    history.drain(..excess);
    history.push(Move::new(ctx.now(), conclusion.state, envelope.id, envelope.trace));
    let (detected_type, stored) = found;
    let extractor = conclusion.extractor.unwrap_or_default();
    let provenance = |locator| Provenance {
        document_id: document.document_id,
        document_sha256: document.sha256,
        locator,
        extractor: extractor.clone(),
    };
    let facts = conclusion.facts.into_iter().map(|found| DocumentFact {
        path: found.path,
        fact: Fact {
            value: found.value,
            provenance: provenance(found.locator),
        },
    });
    DocumentRecord {
        id: DocumentRecord::id_of(&envelope.tenant, document.document_id),
        tenant: envelope.tenant.clone(),
        document_id: document.document_id,
        asset_id: document.asset_id.clone(),
        state: conclusion.state,
        reason: conclusion.reason,
        sha256: document.sha256,
        // Blob storage holds no more than 2^63 bytes.
        size: i64::try_from(document.size).unwrap_or(i64::MAX),
        declared_type: document.declared_type.clone(),
        detected_type,
        filename: document.filename.clone(),
        inbox: document.blob.clone(),
        stored,
        facts: facts.collect(),
        notes: conclusion.notes,
        received_at: document.received_at,
        history,
    }
}

/// Writes the record, whatever was there before.
pub async fn write(mongo: &Mongo, record: &DocumentRecord) -> Result<(), StoreError> {
    let filter = doc! { "_id": &record.id };
    let wrapped = HumanReadable(record.clone());
    mongo
        .call(async { mongo.documents().replace_one(filter, &wrapped).upsert(true).await })
        .await?;
    Ok(())
}

/// How many documents the asset has.
pub async fn count(mongo: &Mongo, asset: &AssetKey) -> Result<u64, StoreError> {
    let filter = doc! { "tenant": asset.tenant.as_str(), "asset_id": asset.asset_id.as_str() };
    mongo
        .call(async { mongo.documents().count_documents(filter).limit(MAX_DOCUMENTS).await })
        .await
}

/// Puts the document at the end of its asset's list, unless it is there; creates the asset if need be.
pub async fn link(mongo: &Mongo, asset: &AssetKey, document_id: Uuid) -> Result<(), StoreError> {
    let update = doc! {
        "$setOnInsert": new_asset(asset),
        "$addToSet": { "documents": document_id.to_string() },
    };
    mongo
        .call(async {
            mongo
                .assets()
                .update_one(doc! { "_id": asset.to_string() }, update)
                .upsert(true)
                .await
        })
        .await?;
    Ok(())
}

/// The fields that an asset's record is created with, its `documents` aside.
pub fn new_asset(asset: &AssetKey) -> bson::Document {
    doc! { "tenant": asset.tenant.as_str(), "asset_id": asset.asset_id.as_str(), "facts_version": Bson::Int64(0) }
}

/// A loaded asset's documents in the order of their arrival; one whose record is missing is passed over.
pub fn in_order(
    mongo: &Mongo,
    asset: &AssetKey,
    ids: Vec<Uuid>,
) -> impl futures::Stream<Item = Result<Option<DocumentRecord>, StoreError>> {
    /// Records on their way at one time; each may have several MiB.
    const AHEAD: usize = 2;
    use futures::StreamExt as _;
    let (mongo, tenant) = (mongo.clone(), asset.tenant.clone());
    futures::stream::iter(ids)
        .map(move |id| {
            let (mongo, id) = (mongo.clone(), DocumentRecord::id_of(&tenant, id));
            async move { find(&mongo, &id).await }
        })
        .buffered(AHEAD)
}

/// What the record says to the rest of the company: the same record always says the same.
///
/// # Errors
/// [`Failure::Rejected`], which carries the event, for a document that was rejected.
pub fn emit(record: &DocumentRecord, envelope: &Envelope, ctx: &Context) -> Result<Emit, Failure> {
    let subject = format!("documents/{}", record.document_id);
    let at = record.history.last().map_or(envelope.time, |m| m.at);
    let timed = |mut event: Outgoing| {
        event.envelope.time = at;
        Emit::from(event)
    };
    match record.state {
        DocumentState::Ingested => {
            let message = DocumentIngested {
                document_id: record.document_id,
                asset_id: record.asset_id.clone(),
                sha256: record.sha256,
                detected_type: record.detected_type.clone().unwrap_or_default(),
                facts: u32::try_from(record.facts.len()).unwrap_or(u32::MAX),
            };
            Ok(timed(ctx.caused(envelope, subject, &message)))
        }
        DocumentState::Partial => Ok(timed(ctx.caused(envelope, subject, &DocumentPartial(verdict(record))))),
        DocumentState::Rejected => {
            let verdict = verdict(record);
            let reason = format!("{}: {}", verdict.code, verdict.reason);
            Err(Failure::Rejected {
                emit: timed(ctx.caused(envelope, subject, &DocumentRejected(verdict))),
                reason,
            })
        }
        DocumentState::Failed => Ok(timed(ctx.caused(envelope, subject, &DocumentFailed(verdict(record))))),
        DocumentState::Quarantined => Ok(timed(ctx.caused(envelope, subject, &DocumentQuarantined(verdict(record))))),
        DocumentState::NeedsPassword => Ok(timed(ctx.caused(envelope, subject, &DocumentNeedsPassword(verdict(record))))),
        DocumentState::Accepted => Err(Error::Reader(format!("a document cannot be settled as {:?}", record.state)).into()),
    }
}

fn verdict(record: &DocumentRecord) -> DocumentVerdict {
    let Reason { code, text } = record.reason.clone().unwrap_or(Reason {
        code: "unknown".to_owned(),
        text: "no reason was kept".to_owned(),
    });
    DocumentVerdict {
        document_id: record.document_id,
        asset_id: record.asset_id.clone(),
        code,
        reason: text,
    }
}

/// The collection of assets as records of which only some fields are wanted.
pub fn assets_as<T: Send + Sync>(mongo: &Mongo) -> mongodb::Collection<HumanReadable<T>> {
    let assets: mongodb::Collection<HumanReadable<AssetRecord>> = mongo.assets();
    assets.clone_with_type()
}
