//! The cache in front of the reads (cache-aside): writers delete an entry after their commit, readers fill it for 30 s.
//!
//! A reader that has looked into MongoDB before a commit must not fill the cache after that commit's deletion, or the
//! old state would stand for 30 s. So a reader that finds nothing first leaves a lease under the key, and fills only in
//! place of its own lease. A writer's deletion takes the lease away, and the late fill does nothing. Redis runs the
//! comparison and the write as one step.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};
use redis::{AsyncCommands as _, Script};
use stores::Cache;
use uuid::Uuid;

/// A lease that was never filled is gone after this long.
const LEASE_MS: u64 = 5000;
/// How long a filled entry lives.
const TTL_SECONDS: u64 = 30;
/// Entries are JSON objects, so nothing but a lease begins like this.
const LEASE: &str = "lease:";

const FILL: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 1
";

pub struct ReadModel {
    cache: Cache,
    fill: Script,
    lookups: Counter<u64>,
}

/// What the cache says.
pub enum Looked {
    Hit(Vec<u8>),
    /// Not known; with a lease when this reader is the one to fill it.
    Miss(Option<Lease>),
}

/// The right to fill an entry.
pub struct Lease {
    key: String,
    token: String,
}

impl ReadModel {
    pub fn new(cache: Cache, meter: &Meter) -> Self {
        let lookups = meter
            .u64_counter("libertum_intake_cache_lookups")
            .with_description("Look-ups in the read model's cache")
            .build();
        Self {
            cache,
            fill: Script::new(FILL),
            lookups,
        }
    }

    pub async fn look(&self, key: &str) -> Looked {
        let entry = self.cache.call(|mut c| async move { c.get::<_, Option<Vec<u8>>>(key).await }).await;
        let count = |result: &'static str| self.lookups.add(1, &[KeyValue::new("result", result)]);
        match entry {
            Some(Some(entry)) if entry.starts_with(b"{") => {
                count("hit");
                Looked::Hit(entry)
            }
            // Another reader's lease: that one fills.
            Some(Some(_)) => {
                count("miss");
                Looked::Miss(None)
            }
            Some(None) => {
                count("miss");
                Looked::Miss(self.lease(key).await)
            }
            None => {
                count("down");
                Looked::Miss(None)
            }
        }
    }

    async fn lease(&self, key: &str) -> Option<Lease> {
        let token = format!("{LEASE}{}", Uuid::now_v7());
        let options = redis::SetOptions::default()
            .conditional_set(redis::ExistenceCheck::NX)
            .with_expiration(redis::SetExpiry::PX(LEASE_MS));
        let value = token.clone();
        let set = self
            .cache
            .call(|mut c| async move { c.set_options::<_, _, Option<String>>(key, value, options).await })
            .await;
        set.flatten().map(|_| Lease {
            key: key.to_owned(),
            token,
        })
    }

    /// Fills the entry, unless it was deleted since the lease.
    pub async fn fill(&self, lease: Option<Lease>, entry: &[u8]) {
        let Some(Lease { key, token }) = lease else { return };
        let mut call = self.fill.key(key);
        call.arg(token).arg(entry).arg(TTL_SECONDS);
        self.cache.call(|mut c| async move { call.invoke_async::<u64>(&mut c).await }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fill_that_comes_after_a_deletion_does_nothing() {
        let corner = testkit::Corner::new();
        let cache = corner.cache();
        let metrics = runtime::telemetry::Metrics::new("test", "0").unwrap();
        let model = ReadModel::new(cache.clone(), &metrics.meter());
        let key = format!("doc:{}:1", corner.name);
        let Looked::Miss(Some(late)) = model.look(&key).await else {
            panic!("nothing is there yet")
        };
        assert!(matches!(model.look(&key).await, Looked::Miss(None)), "one reader at a time fills");
        cache.delete(&key).await;
        model.fill(Some(late), b"{\"old\":1}").await;
        let Looked::Miss(Some(lease)) = model.look(&key).await else {
            panic!("the late fill did nothing")
        };
        model.fill(Some(lease), b"{\"new\":1}").await;
        let Looked::Hit(entry) = model.look(&key).await else {
            panic!("this one filled it")
        };
        assert_eq!(entry, b"{\"new\":1}");
        cache.delete(&key).await;
    }
}
