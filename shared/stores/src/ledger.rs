//! The ledger's books in Redis: a hash each, gone a month after the last word.

use redis::AsyncCommands as _;
use runtime::{Answer, Change, Entries, Env, Ledger, LedgerDown, Reader};

use crate::{Cache, CacheConfig};

/// As long as dead letters are kept: nobody asks for anything older.
const TTL_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Books in Redis. As with the cache, a Redis that does not answer within a quarter of a second is left alone for a while.
#[derive(Clone)]
pub struct RedisLedger(Cache);

impl RedisLedger {
    /// Makes a client; the connection is made when it is first needed.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn new(config: &CacheConfig) -> anyhow::Result<Self> {
        Cache::new(config).map(Self)
    }

    /// The ledger that this process's environment leads to, for commands that need no other store.
    ///
    /// # Errors
    /// What is wrong with the environment.
    pub fn of_process() -> anyhow::Result<Self> {
        let mut r = Reader::default();
        let config = CacheConfig::read(&Env::of_process(), &mut r);
        Self::new(&r.finish(config)?)
    }
}

impl Ledger for RedisLedger {
    fn change<'a>(&'a self, book: &'a str, changes: &'a [Change]) -> Answer<'a> {
        Box::pin(async move {
            let key = format!("ledger:{book}");
            if changes.is_empty() {
                let read = self.0.call(|mut c| async move { c.hgetall::<_, Entries>(key).await }).await;
                return read.ok_or_else(down);
            }
            let transaction = transaction(&key, changes);
            let answer: Option<(Entries,)> = self.0.call(|mut c| async move { transaction.query_async(&mut c).await }).await;
            answer.map(|(entries,)| entries).ok_or_else(down)
        })
    }
}

fn transaction(key: &str, changes: &[Change]) -> redis::Pipeline {
    let mut all = redis::pipe();
    all.atomic();
    for change in changes {
        match change {
            Change::Put(entry, value) => all.hset(key, entry, value),
            Change::Add(entry, by) => all.hincr(key, entry, *by),
            Change::Remove(entry) => all.hdel(key, entry),
            Change::Clear => all.del(key),
        }
        .ignore();
    }
    all.expire(key, TTL_SECONDS).ignore();
    all.hgetall(key);
    all
}

fn down() -> LedgerDown {
    LedgerDown("redis gave no answer, its log line says why".to_owned())
}
