//! Closing a dossier: its facts become one sheet, under a version of its own.

use bson::serde_helpers::HumanReadable;
use bson::{Bson, doc};
use bus::{Context, Emit};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use messages::facts::FactSheet;
use messages::{AssetIncomplete, AssetKey, DossierClosed, Envelope, Hash32, MissingFacts, Outgoing, ValuationRequested};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stores::records::DossierSection;
use stores::{Mongo, StoreError};
use tracing::{info, warn};
use uuid::Uuid;

use crate::assemble::{Assembly, Dossier, Stated};
use crate::documents::{assets_as, in_order, new_asset};
use crate::error::Error;

/// Closings that an asset remembers, so that an event that comes again finds its answer.
const REMEMBERED: i32 = 32;
/// Attempts against another process that closes the same dossier.
const ATTEMPTS: u32 = 3;

/// A closing of a dossier, as its event is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The event that closed it.
    pub event: Uuid,
    pub version: i64,
    pub closed_at: Timestamp,
    /// When it was handled.
    pub at: Timestamp,
    pub sha256: Hash32,
    pub missing: Vec<MissingFacts>,
}

/// The fields of an asset's record that closing needs; the sections of others can be large.
#[derive(Debug, Default, Deserialize)]
struct Ledger {
    #[serde(default)]
    documents: Vec<Uuid>,
    #[serde(default)]
    facts_version: i64,
    #[serde(default)]
    closings: Vec<Closing>,
}

impl Closing {
    /// The answer to the event; the same closing always answers the same.
    pub fn emit(&self, envelope: &Envelope, dossier: &DossierClosed, ctx: &Context) -> Emit {
        let subject = format!("assets/{}", dossier.asset_id);
        let mut event: Outgoing = if self.missing.is_empty() {
            let message = ValuationRequested {
                asset_id: dossier.asset_id.clone(),
                facts_sha256: self.sha256,
                facts_version: self.version,
                closed_at: self.closed_at,
                requested_by: dossier.requested_by.clone(),
            };
            ctx.caused(envelope, subject, &message)
        } else {
            let message = AssetIncomplete {
                asset_id: dossier.asset_id.clone(),
                facts_version: self.version,
                approaches: self.missing.clone(),
            };
            ctx.caused(envelope, subject, &message)
        };
        event.envelope.time = self.at;
        event.into()
    }
}

/// Closes the dossier, or finds how this event closed it before.
///
/// # Errors
/// A store's, and [`Error::Contended`] when another process is faster every time.
pub async fn close(mongo: &Mongo, asset: &AssetKey, envelope: &Envelope, dossier: &DossierClosed, ctx: &Context) -> Result<Closing, Error> {
    for _ in 0..ATTEMPTS {
        let ledger = load(mongo, asset).await?;
        if let Some(closing) = ledger.closings.iter().find(|c| c.event == envelope.id) {
            return Ok(closing.clone());
        }
        let version = ledger.facts_version;
        let section = section(mongo, asset, ledger, envelope, dossier).await?;
        let closing = Closing {
            event: envelope.id,
            version: section.version,
            closed_at: section.closed_at,
            at: ctx.now(),
            sha256: section.sha256,
            missing: section.missing.clone(),
        };
        if write(mongo, asset, version, &section, &closing).await? {
            info!(
                asset.id = %asset.asset_id,
                facts.version = closing.version,
                documents = section.sheet.sources.len(),
                comparables = section.sheet.market.comparables.len(),
                complete = closing.missing.is_empty(),
                "dossier closed"
            );
            return Ok(closing);
        }
    }
    Err(Error::Contended)
}

async fn load(mongo: &Mongo, asset: &AssetKey) -> Result<Ledger, StoreError> {
    let wanted = doc! { "documents": 1, "facts_version": 1, "closings": 1 };
    let found = mongo
        .call(async {
            assets_as::<Ledger>(mongo)
                .find_one(doc! { "_id": asset.to_string() })
                .projection(wanted)
                .await
        })
        .await?;
    Ok(found.map(|HumanReadable(ledger)| ledger).unwrap_or_default())
}

/// Assembles the dossier from the documents, one after the other.
async fn section(
    mongo: &Mongo,
    asset: &AssetKey,
    ledger: Ledger,
    envelope: &Envelope,
    dossier: &DossierClosed,
) -> Result<DossierSection, Error> {
    let mut assembly = Assembly::default();
    let mut documents = std::pin::pin!(in_order(mongo, asset, ledger.documents));
    while let Some(record) = documents.try_next().await? {
        if let Some(record) = record.filter(|r| r.state.has_facts()) {
            assembly.add(Stated::from(record));
        }
    }
    let closed_at = envelope.time;
    let date = dossier.valuation_date.unwrap_or_else(|| closed_at.to_zoned(TimeZone::UTC).date());
    let Dossier { sheet, missing, notes } = assembly.finish(asset, date);
    for note in notes {
        warn!(asset.id = %asset.asset_id, note, "a fact was left out of the sheet");
    }
    Ok(DossierSection {
        version: ledger.facts_version + 1,
        closed_by: envelope.id,
        closed_at,
        trace_id: envelope.trace.trace_id(),
        sha256: digest(&sheet)?,
        sheet,
        missing,
    })
}

/// SHA-256 of a sheet's canonical JSON (RFC 8785).
///
/// # Errors
/// When it cannot be written as JSON.
pub fn digest(sheet: &FactSheet) -> Result<Hash32, Error> {
    let canonical = serde_json_canonicalizer::to_vec(sheet).map_err(|e| Error::Unwritable(e.to_string()))?;
    Ok(Hash32(Sha256::digest(canonical).into()))
}

/// Writes the dossier unless the asset has moved on from `version`; whether it was written.
async fn write(mongo: &Mongo, asset: &AssetKey, version: i64, section: &DossierSection, closing: &Closing) -> Result<bool, Error> {
    let mut new = new_asset(asset);
    new.remove("facts_version");
    new.insert("documents", Vec::<Bson>::new());
    // An asset without documents has no record yet: then this makes one.
    let upsert = version == 0;
    let guard = match upsert {
        true => doc! { "_id": asset.to_string(), "$or": [{ "facts_version": 0 }, { "facts_version": { "$exists": false } }] },
        false => doc! { "_id": asset.to_string(), "facts_version": version },
    };
    let update = doc! {
        "$setOnInsert": new,
        "$set": { "facts": to_bson(section)?, "facts_version": section.version },
        "$push": { "closings": { "$each": [to_bson(closing)?], "$slice": -REMEMBERED } },
    };
    let updated = mongo
        .call(async { mongo.assets().update_one(guard, update).upsert(upsert).await })
        .await;
    match updated {
        Ok(result) => Ok(result.matched_count + u64::from(result.upserted_id.is_some()) > 0),
        // The record exists with another version: somebody was faster.
        Err(StoreError::Conflict(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn to_bson<T: Serialize + Clone>(value: &T) -> Result<Bson, Error> {
    bson::serialize_to_bson(&HumanReadable(value.clone())).map_err(|e| Error::Unwritable(e.to_string()))
}
