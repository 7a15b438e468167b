//! What this worker owns: the collection `valuations`.

use bson::doc;
use mongodb::IndexModel;
use stores::{Mongo, StoreError};

/// Creates it, or brings it up to date. Idempotent.
///
/// # Errors
/// The database's.
pub async fn prepare(mongo: &Mongo) -> Result<(), StoreError> {
    let digest = doc! { "bsonType": "string", "pattern": "^[0-9a-f]{64}$" };
    let validator = doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "tenant", "asset_id", "inputs_sha256", "report", "report_sha256", "status", "value", "currency", "approaches", "at"],
        "properties": {
            "_id": { "bsonType": "string", "pattern": "^[a-z0-9-]{1,40}/[0-9a-f]{64}$" },
            "tenant": { "bsonType": "string" },
            "asset_id": { "bsonType": "string" },
            "inputs_sha256": digest.clone(),
            "report": { "bsonType": "string", "minLength": 2 },
            "report_sha256": digest,
            "status": { "enum": ["indicative"] },
            "value": { "bsonType": "string", "pattern": "^[0-9]+([.][0-9]+)?$" },
            "currency": { "bsonType": "string", "pattern": "^[A-Z]{3}$" },
            "approaches": { "bsonType": "array", "minItems": 1, "items": { "enum": ["market", "income", "cost"] } },
            "at": { "bsonType": "string" },
        },
    } };
    let by_asset = IndexModel::builder().keys(doc! { "tenant": 1, "asset_id": 1, "at": -1 }).build();
    mongo.prepare("valuations", validator, vec![by_asset]).await
}
