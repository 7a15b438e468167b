//! Redis as a cache, never the truth: with it down everything works, slower. So no call here fails; it answers
//! "not known" within a quarter of a second, and a Redis that did not answer is left alone for a while.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use messages::{AssetKey, Tenant};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, RedisResult, TlsCertificates};
use runtime::{Env, Reader, Secret};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tracing::warn;
use uuid::Uuid;

/// A cache that is slower than this is no help.
const CALL: Duration = Duration::from_millis(250);
/// How long a Redis that failed is left alone.
const REST: Duration = Duration::from_secs(1);
/// How long a reader's entry lives.
const TTL_SECONDS: u64 = 30;

#[derive(Debug, Clone)]
pub struct CacheConfig {
    pub url: Secret,
    /// With `rediss://`: a file of CA certificates, when not the public ones.
    pub ca_location: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Raw {
    redis_url: Option<String>,
    redis_ca_location: Option<String>,
}

impl CacheConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let url = r.required_secret("REDIS_URL", raw.redis_url);
        let ca_location = r.optional("REDIS_CA_LOCATION", raw.redis_ca_location);
        Some(Self {
            url: url?,
            ca_location: ca_location?,
        })
    }
}

/// The read model's cache. Writers delete an entry after their commit, readers fill it.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    client: redis::Client,
    connection: OnceCell<ConnectionManager>,
    started: Instant,
    /// Milliseconds since `started` before which Redis is left alone.
    rest_until: AtomicU64,
}

impl Cache {
    /// Makes a client; the connection is made when it is first needed.
    ///
    /// # Errors
    /// When the URL is malformed (the error does not quote it), or the CA certificates cannot be read.
    pub fn new(config: &CacheConfig) -> anyhow::Result<Self> {
        let opened = match &config.ca_location {
            None => redis::Client::open(config.url.expose()),
            Some(path) => {
                let root_cert = std::fs::read(path).with_context(|| format!("REDIS_CA_LOCATION {} cannot be read", path.display()))?;
                let trusted = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(root_cert),
                };
                redis::Client::build_with_tls(config.url.expose(), trusted)
            }
        };
        let client = opened
            .map_err(|_| anyhow!("REDIS_URL is not a redis:// or rediss:// address, or REDIS_CA_LOCATION holds no PEM certificates"))?;
        let inner = Inner {
            client,
            connection: OnceCell::new(),
            started: Instant::now(),
            rest_until: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The key of a document's entry.
    pub fn document_key(tenant: &Tenant, document_id: Uuid) -> String {
        format!("doc:{tenant}:{document_id}")
    }

    /// The key of an asset's entry.
    pub fn asset_key(asset: &AssetKey) -> String {
        format!("asset:{}:{}", asset.tenant, asset.asset_id)
    }

    /// The entry, when there is one and Redis says so in time.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.call(|mut c| async move { c.get::<_, Option<Vec<u8>>>(key).await })
            .await
            .flatten()
    }

    /// Keeps an entry for 30 s.
    pub async fn put(&self, key: &str, value: &[u8]) {
        self.call(|mut c| async move { c.set_ex::<_, _, ()>(key, value, TTL_SECONDS).await })
            .await;
    }

    /// Keeps an entry for 30 s unless there is one: what the writer of the truth has said stays.
    pub async fn put_if_absent(&self, key: &str, value: &[u8]) {
        let options = redis::SetOptions::default()
            .conditional_set(redis::ExistenceCheck::NX)
            .with_expiration(redis::SetExpiry::EX(TTL_SECONDS));
        self.call(|mut c| async move { c.set_options::<_, _, ()>(key, value, options).await })
            .await;
    }

    /// Drops an entry; call it after the commit that made it old.
    pub async fn delete(&self, key: &str) {
        self.call(|mut c| async move { c.del::<_, ()>(key).await }).await;
    }

    /// Makes a call on the connection; `None` when Redis does not answer.
    pub async fn call<T, F, Fut>(&self, action: F) -> Option<T>
    where
        F: FnOnce(ConnectionManager) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.0.rest_until.load(Ordering::Relaxed) {
            return None;
        }
        let result = tokio::time::timeout(CALL, async { action(self.connection().await?).await }).await;
        let error = match result {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {} ms", CALL.as_millis()),
        };
        warn!(error, "redis does not answer, going on without it");
        self.0.rest_until.store(now + REST.as_millis() as u64, Ordering::Relaxed);
        None
    }

    async fn connection(&self) -> RedisResult<ConnectionManager> {
        let make = || {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(CALL))
                .set_response_timeout(Some(CALL));
            ConnectionManager::new_with_config(self.0.client.clone(), config)
        };
        self.0.connection.get_or_try_init(make).await.cloned()
    }
}
