//! What the worker is told by its environment.

use std::path::PathBuf;

use bus::LoopConfig;
use runtime::{Env, FromEnv, Reader};
use serde::Deserialize;
use stores::{CacheConfig, MongoConfig};

#[derive(Debug, Clone)]
pub struct Config {
    pub run: LoopConfig,
    pub mongo: MongoConfig,
    pub cache: CacheConfig,
    /// What is agreed with each tenant; without it every mint waits for a person.
    pub tenants_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Raw {
    tenants_file: Option<String>,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let mongo = MongoConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        let tenants_file = r.optional("TENANTS_FILE", env.raw::<Raw>().tenants_file);
        Some(Self {
            run: run?,
            mongo: mongo?,
            cache: cache?,
            tenants_file: tenants_file?,
        })
    }
}
