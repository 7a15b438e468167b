//! What the worker is told by its environment.

use std::path::PathBuf;

use bus::{KafkaConfig, LoopConfig};
use messages::ClusterName;
use runtime::{Env, FromEnv, Reader};
use serde::Deserialize;
use stores::{BlobConfig, CacheConfig, LEASE_SECONDS, MongoConfig};

/// What taking and restoring a backup needs; the worker's own needs Kafka besides.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the backups are filed under, and the key of their events.
    pub cluster: ClusterName,
    /// The whole cluster at this address is dumped; the database's name does not matter.
    pub mongo: MongoConfig,
    pub blob: BlobConfig,
    /// Where mongodump and mongorestore are; else on PATH.
    pub tools: Option<PathBuf>,
    /// How long the lock outlives a holder that is gone.
    pub lease_seconds: u8,
    /// How long one dump may take.
    pub max_seconds: u64,
}

/// The worker's.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub run: LoopConfig,
    /// Where the loop keeps what outlives a process.
    pub ledger: CacheConfig,
    pub backup: Config,
}

/// What asking for a backup needs.
#[derive(Debug, Clone)]
pub struct RequestConfig {
    pub kafka: KafkaConfig,
    pub cluster: ClusterName,
}

/// What looking at backups needs.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub cluster: ClusterName,
    pub blob: BlobConfig,
    pub tools: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Raw {
    backup_cluster: Option<String>,
    backup_blob_endpoint: Option<String>,
    backup_blob_sas: Option<String>,
    backup_lease_seconds: Option<String>,
    backup_max_seconds: Option<String>,
    mongo_tools_dir: Option<String>,
}

fn cluster(raw: &Raw, r: &mut Reader) -> Option<ClusterName> {
    r.with_default("BACKUP_CLUSTER", raw.backup_cluster.clone(), "libertum")
}

/// An account of its own when there is one, else the documents'.
fn blob(raw: &Raw, env: &Env, r: &mut Reader) -> Option<BlobConfig> {
    let endpoint = r.optional("BACKUP_BLOB_ENDPOINT", raw.backup_blob_endpoint.clone())?;
    let sas = r.optional_secret("BACKUP_BLOB_SAS", raw.backup_blob_sas.clone());
    match endpoint {
        None => {
            if sas.is_some() {
                r.problem("BACKUP_BLOB_SAS is set without BACKUP_BLOB_ENDPOINT");
                return None;
            }
            BlobConfig::read(env, r)
        }
        Some(endpoint) => Some(BlobConfig {
            endpoint,
            sas,
            container_prefix: BlobConfig::read_prefix(env, r)?,
        }),
    }
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let store = StoreConfig::read(env, r);
        let mongo = MongoConfig::read(env, r);
        let lease_seconds = r.with_default("BACKUP_LEASE_SECONDS", raw.backup_lease_seconds, "60");
        let max_seconds = r.with_default("BACKUP_MAX_SECONDS", raw.backup_max_seconds, "21600");
        if let Some(seconds) = lease_seconds
            && !LEASE_SECONDS.contains(&seconds)
        {
            r.problem(format!("BACKUP_LEASE_SECONDS={seconds} is not between 15 and 60"));
        }
        let store = store?;
        Some(Self {
            cluster: store.cluster,
            mongo: mongo?,
            blob: store.blob,
            tools: store.tools,
            lease_seconds: lease_seconds?,
            max_seconds: max_seconds?,
        })
    }
}

impl FromEnv for WorkerConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let ledger = CacheConfig::read(env, r);
        let backup = Config::read(env, r);
        Some(Self {
            run: run?,
            ledger: ledger?,
            backup: backup?,
        })
    }
}

impl FromEnv for RequestConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let kafka = KafkaConfig::read(env, r);
        let cluster = cluster(&env.raw(), r);
        Some(Self {
            kafka: kafka?,
            cluster: cluster?,
        })
    }
}

impl FromEnv for StoreConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let cluster = cluster(&raw, r);
        let blob = blob(&raw, env, r);
        let tools = r.optional("MONGO_TOOLS_DIR", raw.mongo_tools_dir.clone());
        Some(Self {
            cluster: cluster?,
            blob: blob?,
            tools: tools?,
        })
    }
}
