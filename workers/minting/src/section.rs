//! The asset's record: this worker writes its section `mint`, and nothing else of it.

use std::sync::Arc;

use bson::doc;
use jiff::Timestamp;
use messages::AssetKey;
use mongodb::options::UpdateOptions;
use stores::records::{MintSection, MintState, Reason};
use stores::{Cache, Mongo, StoreError};

use crate::error::Error;
use crate::ledger::to_bson;
use crate::records::{ItemState, MintItem};

#[derive(Clone)]
pub struct Sections {
    mongo: Mongo,
    /// Entries are dropped after a commit; a command without Redis has none to drop.
    cache: Option<Arc<Cache>>,
}

/// What a new section does not overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Respect {
    /// Nothing: a mint that is final is the last word.
    Nothing,
    /// A mint that is final.
    Minted,
    /// A mint that is final, or under way for another request.
    MintedAndMinting,
}

impl Respect {
    fn states(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Minted => &["minted"],
            Self::MintedAndMinting => &["minted", "minting"],
        }
    }
}

impl Sections {
    pub fn new(mongo: Mongo, cache: Option<Cache>) -> Self {
        Self {
            mongo,
            cache: cache.map(Arc::new),
        }
    }

    /// Writes the section that an item's state gives.
    pub async fn write(&self, item: &MintItem, now: Timestamp) -> Result<(), Error> {
        let respect = match item.state {
            ItemState::Minted => Respect::Nothing,
            ItemState::Planned | ItemState::Rejected | ItemState::Failed => Respect::Minted,
        };
        self.put(&item.asset(), &section_of(item, now), respect).await
    }

    /// Says that a request came to nothing.
    pub async fn fail(&self, item: &MintItem, reason: &Reason, now: Timestamp, respect: Respect) -> Result<(), Error> {
        let section = MintSection {
            state: MintState::Failed,
            reason: Some(reason.clone()),
            ..section_of(item, now)
        };
        self.put(&item.asset(), &section, respect).await
    }

    async fn put(&self, asset: &AssetKey, section: &MintSection, respect: Respect) -> Result<(), Error> {
        let filter = doc! { "_id": asset.to_string(), "mint.state": { "$nin": respect.states() } };
        let update = doc! {
            "$set": { "mint": to_bson(section)? },
            "$setOnInsert": { "tenant": asset.tenant.as_str(), "asset_id": asset.asset_id.as_str(), "documents": [], "facts_version": 0i64 },
        };
        let options = UpdateOptions::builder().upsert(true).build();
        let written = self
            .mongo
            .call(async { self.mongo.assets().update_one(filter, update).with_options(options).await })
            .await;
        match written {
            Ok(_) => {}
            // The record is there, and says something that we do not overwrite.
            Err(StoreError::Conflict(_)) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        if let Some(cache) = &self.cache {
            cache.delete(&Cache::asset_key(asset)).await;
        }
        Ok(())
    }
}

fn section_of(item: &MintItem, now: Timestamp) -> MintSection {
    MintSection {
        state: match item.state {
            ItemState::Planned => MintState::Minting,
            ItemState::Minted => MintState::Minted,
            ItemState::Rejected | ItemState::Failed => MintState::Failed,
        },
        reason: item.reason.clone(),
        valuation_id: item.valuation_id.clone(),
        evidence: item.evidence,
        recipient: item.recipient,
        units: item.units,
        chain_id: item.chain_id,
        contract: item.contract,
        token_id: item.key.clone(),
        tx: item.minted.as_ref().map(|m| m.tx.clone()),
        block: item.minted.as_ref().map(|m| m.block),
        block_hash: item.minted.as_ref().map(|m| m.block_hash.clone()),
        at: item.settled_at.unwrap_or(now),
        cause: item.cause,
        trace_id: item.trace_id.clone(),
    }
}
