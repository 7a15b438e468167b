//! What is read and written: the asset's record, the valuation, and the asset's section of it.

use bson::doc;
use bson::serde_helpers::HumanReadable;
use messages::{AssetKey, ValuationRequested};
use stores::records::{AssetRecord, DossierSection, ValuationRecord, ValuationSection};
use stores::{Cache, Mongo, StoreError};

use crate::Error;

/// Whether the request is still for the dossier as it is.
pub enum Dossier {
    Current(Box<(AssetRecord, DossierSection)>),
    /// It was closed again since; that closing has a request of its own.
    ClosedAgain {
        version: i64,
    },
}

/// Loads the dossier that a request is for.
///
/// # Errors
/// When there is no such dossier, or it is not the one that was asked for.
pub async fn load(mongo: &Mongo, asset: &AssetKey, request: &ValuationRequested) -> Result<Dossier, Error> {
    let assets = mongo.assets();
    let found = mongo
        .call(async { assets.find_one(doc! { "_id": asset.to_string() }).await })
        .await?;
    let mut record = found.ok_or_else(|| Error::NoAsset(asset.clone()))?.0;
    let not_closed = |known| Error::NotClosed {
        asset: asset.clone(),
        known,
        asked: request.facts_version,
    };
    let dossier = record.facts.take().ok_or_else(|| not_closed(record.facts_version))?;
    if dossier.version > request.facts_version {
        return Ok(Dossier::ClosedAgain { version: dossier.version });
    }
    if dossier.version < request.facts_version {
        return Err(not_closed(dossier.version));
    }
    if dossier.sha256 != request.facts_sha256 {
        return Err(Error::OtherFacts {
            asset: asset.clone(),
            known: dossier.sha256,
            asked: request.facts_sha256,
        });
    }
    Ok(Dossier::Current(Box::new((record, dossier))))
}

/// Keeps a valuation, once: the same inputs again must have given the same report.
///
/// # Errors
/// [`Error::ReportDiffers`] when they have not.
pub async fn keep(mongo: &Mongo, record: ValuationRecord) -> Result<(), Error> {
    let valuations = mongo.valuations();
    let (id, made) = (record.id.clone(), record.report_sha256);
    match mongo.call(async { valuations.insert_one(HumanReadable(record)).await }).await {
        Ok(_) => return Ok(()),
        Err(StoreError::Conflict(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let found = mongo.call(async { valuations.find_one(doc! { "_id": &id }).await }).await?;
    let known = found
        .ok_or_else(|| StoreError::NotFound(format!("valuation {id}")))?
        .0
        .report_sha256;
    if known == made {
        Ok(())
    } else {
        Err(Error::ReportDiffers { id, known, made })
    }
}

/// Sets the asset's section unless it speaks of a later closing, and drops the cached asset. Whether it was set.
///
/// # Errors
/// The database's.
pub async fn set_section(mongo: &Mongo, cache: &Cache, asset: &AssetKey, section: &ValuationSection) -> Result<bool, Error> {
    let filter = doc! {
        "_id": asset.to_string(),
        "$or": [
            { "valuation": null },
            { "valuation.facts_version": { "$lte": section.facts_version } },
        ],
    };
    let section = bson::serialize_to_bson(&HumanReadable(section))?;
    let assets = mongo.assets();
    let update = doc! { "$set": { "valuation": section } };
    let updated = mongo.call(async { assets.update_one(filter, update).await }).await?;
    cache.delete(&Cache::asset_key(asset)).await;
    Ok(updated.matched_count > 0)
}
