//! The write-ahead ledger in MongoDB. Every decision is a conditional write, so that any number of processes may
//! work on the same partition, and one that died is continued by whoever comes next.

use bson::serde_helpers::HumanReadable;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use messages::Address;
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{ClientSession, Collection};
use serde::Serialize;
use stores::records::Reason;
use stores::{Mongo, StoreError, is_duplicate_key};
use tracing::debug;

use crate::error::Error;
use crate::records::{Attempt, AttemptState, ItemState, MintItem, MintedIn, RawTx, ReceiptRecord};

pub const ITEMS: &str = "mint_items";
pub const ATTEMPTS: &str = "mint_attempts";
/// Open attempts of a signer that are looked at in one go, lowest nonces first.
const OPEN_LIMIT: i64 = 64;
/// Nonces after the chain's that are looked at for a free one.
const NONCE_LIMIT: i64 = 256;
/// How often a commit whose outcome is unknown is asked for again.
const COMMITS: u32 = 3;

/// What became of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    Done,
    /// The nonce, or another transaction's write, was in the way: choose again.
    Contended,
    /// Some item has an attempt already, or is settled: look again.
    ItemsTaken,
}

/// A nonce that has an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct UsedNonce {
    pub nonce: i64,
    pub state: AttemptState,
}

#[derive(Clone)]
pub struct Ledger {
    mongo: Mongo,
}

impl Ledger {
    pub fn new(mongo: Mongo) -> Self {
        Self { mongo }
    }

    pub fn mongo(&self) -> &Mongo {
        &self.mongo
    }

    pub fn items(&self) -> Collection<HumanReadable<MintItem>> {
        self.mongo.db().collection(ITEMS)
    }

    pub fn attempts(&self) -> Collection<HumanReadable<Attempt>> {
        self.mongo.db().collection(ATTEMPTS)
    }

    /// Inserts what is not there yet; what is there stays as it is.
    pub async fn enrol(&self, items: &[MintItem]) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let items: Vec<_> = items.iter().cloned().map(HumanReadable).collect();
        let inserted = self
            .mongo
            .call(async { self.items().insert_many(items).ordered(false).await })
            .await;
        match inserted {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub async fn load(&self, keys: &[String]) -> Result<Vec<MintItem>, Error> {
        let filter = doc! { "_id": { "$in": keys } };
        let found: Vec<HumanReadable<MintItem>> = self
            .mongo
            .call(async { self.items().find(filter).await?.try_collect().await })
            .await?;
        Ok(found.into_iter().map(|item| item.0).collect())
    }

    /// Gives an item that ended without being minted to another request. False when it has changed since.
    pub async fn reopen(&self, stored: &MintItem, next: &MintItem) -> Result<bool, Error> {
        let filter = doc! {
            "_id": &stored.key,
            "state": stored.state.as_str(),
            "cause": stored.cause.to_string(),
            "tries": stored.tries,
            "open_attempt": Bson::Null,
        };
        let mut next = next.clone();
        next.tries = stored.tries;
        let done = self
            .mongo
            .call(async { self.items().replace_one(filter, HumanReadable(next)).await })
            .await?;
        Ok(done.matched_count == 1)
    }

    /// The attempts of these ids that exist.
    pub async fn existing(&self, ids: &[String]) -> Result<Vec<String>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let filter = doc! { "_id": { "$in": ids } };
        let attempts: Collection<Document> = self.mongo.db().collection(ATTEMPTS);
        let only_id = doc! { "_id": 1 };
        let found: Vec<Document> = self
            .mongo
            .call(async { attempts.find(filter).projection(only_id).await?.try_collect().await })
            .await?;
        Ok(found.iter().filter_map(|d| d.get_str("_id").ok().map(str::to_owned)).collect())
    }

    /// The undecided attempts of a signer, lowest nonce first.
    pub async fn open_attempts(&self, chain_id: i64, signer: Address) -> Result<Vec<Attempt>, Error> {
        let filter = doc! { "chain_id": chain_id, "signer": signer.to_string(), "state": AttemptState::Open.as_str() };
        let find = async {
            let cursor = self.attempts().find(filter).sort(doc! { "nonce": 1 }).limit(OPEN_LIMIT).await?;
            cursor.try_collect::<Vec<_>>().await
        };
        Ok(self.mongo.call(find).await?.into_iter().map(|a| a.0).collect())
    }

    /// The nonces from `from` on that have an attempt, in order; at most 256.
    pub async fn used_nonces(&self, chain_id: i64, signer: Address, from: i64) -> Result<Vec<UsedNonce>, Error> {
        let filter = doc! { "chain_id": chain_id, "signer": signer.to_string(), "nonce": { "$gte": from } };
        let attempts: Collection<HumanReadable<UsedNonce>> = self.mongo.db().collection(ATTEMPTS);
        let find = async {
            let fields = doc! { "_id": 0, "nonce": 1, "state": 1 };
            let sorted = attempts.find(filter).projection(fields).sort(doc! { "nonce": 1 });
            sorted.limit(NONCE_LIMIT).await?.try_collect::<Vec<_>>().await
        };
        Ok(self.mongo.call(find).await?.into_iter().map(|used| used.0).collect())
    }

    /// Writes an attempt and claims its items, both or neither. Once this says [`Allocation::Done`], and not before,
    /// the bytes may be sent.
    pub async fn allocate(&self, attempt: &Attempt) -> Result<Allocation, Error> {
        Ok(self.mongo.call(self.try_allocate(attempt)).await?)
    }

    async fn try_allocate(&self, attempt: &Attempt) -> mongodb::error::Result<Allocation> {
        let mut session = self.mongo.client().start_session().await?;
        session.start_transaction().await?;
        let outcome = match self.claim(&mut session, attempt).await {
            Ok(true) => return commit(session).await,
            Ok(false) => Ok(Allocation::ItemsTaken),
            Err(e) if is_duplicate_key(&e) || e.contains_label(TRANSIENT_TRANSACTION_ERROR) => Ok(Allocation::Contended),
            Err(e) => Err(e),
        };
        // The server has given up the transaction already, or will soon.
        if let Err(e) = session.abort_transaction().await {
            debug!(error = %e, "an allocation was not taken back by a word of ours");
        }
        outcome
    }

    async fn claim(&self, session: &mut ClientSession, attempt: &Attempt) -> mongodb::error::Result<bool> {
        self.attempts()
            .insert_one(HumanReadable(attempt.clone()))
            .session(&mut *session)
            .await?;
        if attempt.items.is_empty() {
            return Ok(true);
        }
        let free = doc! { "_id": { "$in": &attempt.items }, "state": ItemState::Planned.as_str(), "open_attempt": Bson::Null };
        let claim = doc! { "$set": { "open_attempt": &attempt.id } };
        let claimed = self.items().update_many(free, claim).session(session).await?;
        Ok(claimed.matched_count == attempt.items.len() as u64)
    }

    /// Adds a variant. False when another process was faster, or the attempt is decided.
    pub async fn push_variant(&self, attempt: &Attempt, raw: &RawTx, sent_block: i64) -> Result<bool, Error> {
        let filter = doc! { "_id": &attempt.id, "state": AttemptState::Open.as_str(), "bump_seq": attempt.bump_seq };
        let update = doc! {
            "$set": { "bump_seq": raw.seq, "sent_block": sent_block },
            "$push": { "raws": to_bson(raw)? },
        };
        let done = self.mongo.call(async { self.attempts().update_one(filter, update).await }).await?;
        Ok(done.matched_count == 1)
    }

    /// Settles the items that an attempt has minted.
    pub async fn settle_minted(&self, attempt_id: &str, keys: &[String], minted: &MintedIn, at: Timestamp) -> Result<(), Error> {
        let filter = doc! { "_id": { "$in": keys }, "open_attempt": attempt_id };
        self.update_items(filter, minted_update(minted, at)?).await
    }

    /// Settles an item that no attempt of ours carries, and that the chain says is minted.
    pub async fn settle_found(&self, key: &str, minted: &MintedIn, at: Timestamp) -> Result<(), Error> {
        let filter = doc! { "_id": key, "state": ItemState::Planned.as_str(), "open_attempt": Bson::Null };
        self.update_items(filter, minted_update(minted, at)?).await
    }

    /// Ends an item without a mint; `attempt_id` is `None` when no attempt of ours carries it.
    pub async fn settle_unminted(
        &self,
        attempt_id: Option<&str>,
        key: &str,
        state: ItemState,
        reason: &Reason,
        at: Timestamp,
    ) -> Result<(), Error> {
        let filter = doc! { "_id": key, "state": ItemState::Planned.as_str(), "open_attempt": attempt_id };
        let update = doc! {
            "$set": { "state": state.as_str(), "reason": to_bson(reason)?, "settled_at": to_bson(&at)?, "open_attempt": Bson::Null },
            "$inc": { "tries": 1 },
        };
        self.update_items(filter, update).await
    }

    /// Frees the items that an attempt did not mint, to be planned anew.
    pub async fn release(&self, attempt_id: &str, tried: bool) -> Result<(), Error> {
        let filter = doc! { "open_attempt": attempt_id };
        let update = doc! { "$set": { "open_attempt": Bson::Null }, "$inc": { "tries": i64::from(tried) } };
        self.update_items(filter, update).await
    }

    async fn update_items(&self, filter: Document, update: Document) -> Result<(), Error> {
        self.mongo.call(async { self.items().update_many(filter, update).await }).await?;
        Ok(())
    }

    /// Decides an attempt, after its items.
    pub async fn close(&self, attempt_id: &str, state: AttemptState, receipt: Option<&ReceiptRecord>) -> Result<(), Error> {
        let filter = doc! { "_id": attempt_id, "state": AttemptState::Open.as_str() };
        let update = doc! { "$set": { "state": state.as_str(), "receipt": to_bson(&receipt)? } };
        self.mongo.call(async { self.attempts().update_one(filter, update).await }).await?;
        Ok(())
    }
}

async fn commit(mut session: ClientSession) -> mongodb::error::Result<Allocation> {
    let mut asked = 1;
    loop {
        match session.commit_transaction().await {
            Ok(()) => return Ok(Allocation::Done),
            Err(e) if e.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) && asked < COMMITS => asked += 1,
            Err(e) if e.contains_label(TRANSIENT_TRANSACTION_ERROR) => return Ok(Allocation::Contended),
            Err(e) => return Err(e),
        }
    }
}

fn minted_update(minted: &MintedIn, at: Timestamp) -> Result<Document, Error> {
    Ok(doc! { "$set": {
        "state": ItemState::Minted.as_str(),
        "minted": to_bson(minted)?,
        "settled_at": to_bson(&at)?,
        "reason": Bson::Null,
        "open_attempt": Bson::Null,
    } })
}

/// A value as the records write it.
pub fn to_bson<T: Serialize>(value: &T) -> Result<Bson, Error> {
    bson::serialize_to_bson(&HumanReadable(value)).map_err(|e| Error::Fault(e.into()))
}
