//! The worker's settings.

use bus::LoopConfig;
use runtime::{Env, FromEnv, Reader};
use stores::{BlobConfig, CacheConfig, MongoConfig};

#[derive(Debug, Clone)]
pub struct Config {
    pub run: LoopConfig,
    pub mongo: MongoConfig,
    pub blob: BlobConfig,
    pub cache: CacheConfig,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let mongo = MongoConfig::read(env, r);
        let blob = BlobConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        Some(Self {
            run: run?,
            mongo: mongo?,
            blob: blob?,
            cache: cache?,
        })
    }
}

/// What preparing needs.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    pub mongo: MongoConfig,
    pub blob: BlobConfig,
}

impl FromEnv for PrepareConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let mongo = MongoConfig::read(env, r);
        let blob = BlobConfig::read(env, r);
        Some(Self {
            mongo: mongo?,
            blob: blob?,
        })
    }
}
