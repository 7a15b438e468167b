//! What the worker owns: two collections, and a contract that must be as it expects.

use anyhow::Context as _;
use bson::{Document, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;
use runtime::Exit;
use stores::Mongo;

use crate::config::PrepareConfig;
use crate::ledger::{ATTEMPTS, ITEMS};
use crate::rpc::Chain;
use crate::signers::Signers;

/// Creates the collections with their validators and indexes, and checks the contract and the signers' roles.
/// Idempotent.
///
/// # Errors
/// When a store or the chain is not reachable, or the contract is not ours to mint with.
pub async fn prepare(config: &PrepareConfig) -> anyhow::Result<Exit> {
    let mongo = Mongo::new(&config.mongo).await?;
    collections(&mongo).await?;
    let signers = Signers::load(&config.keys).await?;
    let chain = Chain::new(&config.rpc, &config.mint)?;
    chain.check(&signers.addresses()).await?;
    tracing::info!(contract = %config.mint.contract, signers = config.keys.signers, "minting is prepared");
    Ok(Exit::Drained)
}

/// Creates the collections; for `--prepare`, and for tests.
///
/// # Errors
/// When MongoDB is not reachable or refuses.
pub async fn collections(mongo: &Mongo) -> anyhow::Result<()> {
    let index = |keys: Document| IndexModel::builder().keys(keys).build();
    mongo
        .prepare(
            ITEMS,
            items_validator(),
            vec![index(doc! { "open_attempt": 1 }), index(doc! { "state": 1 })],
        )
        .await
        .context(ITEMS)?;
    let hashes = IndexModel::builder()
        .keys(doc! { "raws.hash": 1 })
        .options(IndexOptions::builder().unique(true).build())
        .build();
    // A nonce has one attempt: the `_id` says so already, this index says it of the fields and finds the free one.
    let nonces = IndexModel::builder()
        .keys(doc! { "chain_id": 1, "signer": 1, "nonce": 1 })
        .options(IndexOptions::builder().unique(true).build())
        .build();
    let open = index(doc! { "chain_id": 1, "signer": 1, "state": 1, "nonce": 1 });
    mongo
        .prepare(
            ATTEMPTS,
            attempts_validator(),
            vec![hashes, nonces, open, index(doc! { "items": 1 })],
        )
        .await
        .context(ATTEMPTS)?;
    Ok(())
}

fn items_validator() -> Document {
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "tenant", "asset_id", "digest", "recipient", "units", "evidence", "chain_id", "contract", "state",
            "open_attempt", "tries", "cause"],
        "properties": {
            "_id": hash(),
            "tenant": { "bsonType": "string" },
            "asset_id": { "bsonType": "string" },
            "digest": hash(),
            "recipient": address(),
            "units": { "bsonType": ["int", "long"], "minimum": 1 },
            "evidence": { "bsonType": "string", "pattern": "^[0-9a-f]{64}$" },
            "chain_id": { "bsonType": ["int", "long"] },
            "contract": address(),
            "state": { "enum": ["planned", "minted", "rejected", "failed"] },
            "open_attempt": { "bsonType": ["string", "null"] },
            "tries": { "bsonType": ["int", "long"], "minimum": 0 },
            "cause": { "bsonType": "string" },
        },
    } }
}

fn attempts_validator() -> Document {
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "chain_id", "signer", "nonce", "contract", "items", "raws", "bump_seq", "state", "sent_block"],
        "properties": {
            "_id": { "bsonType": "string", "pattern": "^[0-9]+:0x[0-9a-f]{40}:[0-9]+$" },
            "chain_id": { "bsonType": ["int", "long"] },
            "signer": address(),
            "nonce": { "bsonType": ["int", "long"], "minimum": 0 },
            "contract": address(),
            "items": { "bsonType": "array", "items": hash(), "maxItems": 100 },
            "raws": { "bsonType": "array", "minItems": 1, "items": {
                "bsonType": "object",
                "required": ["seq", "hash", "raw", "max_fee", "tip"],
                "properties": { "hash": hash(), "raw": { "bsonType": "string", "pattern": "^0x" } },
            } },
            "bump_seq": { "bsonType": ["int", "long"], "minimum": 0 },
            "state": { "enum": ["open", "final", "reverted", "superseded"] },
            "sent_block": { "bsonType": ["int", "long"] },
        },
    } }
}

fn hash() -> Document {
    doc! { "bsonType": "string", "pattern": "^0x[0-9a-f]{64}$" }
}

fn address() -> Document {
    doc! { "bsonType": "string", "pattern": "^0x[0-9a-f]{40}$" }
}
