//! What this worker owns: two collections and two containers.

use anyhow::Context as _;
use bson::{Document, doc};
use mongodb::IndexModel;
use stores::{Blobs, Mongo};
use tracing::info;

use crate::PrepareConfig;
use crate::fetch::DOCUMENTS;

/// Where uploads lie.
const INBOX: &str = "inbox";

/// Creates what is not there yet, and brings validators and indexes up to date.
///
/// # Errors
/// When a store is not to be had.
pub async fn prepare(config: &PrepareConfig) -> anyhow::Result<()> {
    let mongo = Mongo::new(&config.mongo).await?;
    let blobs = Blobs::new(&config.blob)?;
    let by_asset = || index(doc! { "tenant": 1, "asset_id": 1 });
    mongo
        .prepare("documents", documents(), vec![by_asset(), index(doc! { "tenant": 1, "sha256": 1 })])
        .await
        .context("the collection documents cannot be prepared")?;
    mongo
        .prepare("assets", assets(), vec![by_asset()])
        .await
        .context("the collection assets cannot be prepared")?;
    for container in [INBOX, DOCUMENTS] {
        blobs
            .prepare_container(container)
            .await
            .with_context(|| format!("the container {container} cannot be prepared"))?;
    }
    info!("collections and containers are prepared");
    Ok(())
}

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

/// The essentials only: fields are added within a version.
fn documents() -> Document {
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "tenant", "document_id", "asset_id", "state", "sha256", "size", "inbox", "facts", "received_at", "history"],
        "properties": {
            "_id": { "bsonType": "string" },
            "tenant": { "bsonType": "string" },
            "document_id": { "bsonType": "string" },
            "asset_id": { "bsonType": "string" },
            "state": { "enum": ["accepted", "ingested", "partial", "rejected", "quarantined", "needs_password", "failed"] },
            "sha256": { "bsonType": "string", "pattern": "^[0-9a-f]{64}$" },
            "size": { "bsonType": ["int", "long"], "minimum": 0 },
            "inbox": { "bsonType": "object", "required": ["container", "name", "etag"] },
            "facts": { "bsonType": "array" },
            "received_at": { "bsonType": "string" },
            "history": { "bsonType": "array", "minItems": 1 },
        },
    } }
}

/// Other workers write their sections into the same record, so only what every record has is demanded.
fn assets() -> Document {
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "tenant", "asset_id"],
        "properties": {
            "_id": { "bsonType": "string" },
            "tenant": { "bsonType": "string" },
            "asset_id": { "bsonType": "string" },
            "documents": { "bsonType": "array", "items": { "bsonType": "string" } },
            "facts_version": { "bsonType": ["int", "long"], "minimum": 0 },
            "facts": { "bsonType": ["object", "null"], "required": ["version", "closed_by", "closed_at", "sheet", "sha256", "missing"] },
        },
    } }
}
