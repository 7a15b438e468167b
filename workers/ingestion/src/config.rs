//! The worker's settings.

use std::net::Ipv6Addr;
use std::str::FromStr;

use bus::LoopConfig;
use runtime::{Env, FromEnv, Reader};
use serde::Deserialize;
use stores::{BlobConfig, CacheConfig, MongoConfig};

#[derive(Debug, Clone)]
pub struct Config {
    pub run: LoopConfig,
    pub mongo: MongoConfig,
    pub blob: BlobConfig,
    pub cache: CacheConfig,
    /// Where the scanner is; without one documents are not scanned.
    pub clamd: Option<ClamdAddr>,
}

/// `host:port` of ClamAV's daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClamdAddr(String);

impl ClamdAddr {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClamdAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "expected HOST:PORT, as in clamd:3310";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let is_host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
            None => !host.is_empty() && !host.contains([':', '/', '@', ']']),
        };
        if !is_host || port.parse::<u16>().map_or(true, |p| p == 0) {
            return Err(FORM);
        }
        Ok(Self(text.to_owned()))
    }
}

#[derive(Deserialize)]
struct Raw {
    clamd_addr: Option<String>,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let run = LoopConfig::read(env, r);
        let mongo = MongoConfig::read(env, r);
        let blob = BlobConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        let clamd = r.optional("CLAMD_ADDR", raw.clamd_addr);
        Some(Self {
            run: run?,
            mongo: mongo?,
            blob: blob?,
            cache: cache?,
            clamd: clamd?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_nowhere_is_refused() {
        for good in [
            "clamd:3310",
            "clamd.libertum.svc.cluster.local:3310",
            "127.0.0.1:27107",
            "[::1]:3310",
        ] {
            assert!(good.parse::<ClamdAddr>().is_ok(), "{good}");
        }
        for bad in [
            "clamd",
            "clamd:",
            ":3310",
            "clamd:0",
            "clamd:99999",
            "tcp://clamd:3310",
            "::1:3310",
            "a@b:1",
            "[]x:1",
        ] {
            assert!(bad.parse::<ClamdAddr>().is_err(), "{bad}");
        }
    }
}
