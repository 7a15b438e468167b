//! What the intake is told by its environment.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bus::KafkaConfig;
use messages::tenants::Tenants;
use reqwest::Url;
use runtime::{Env, FromEnv, Reader};
use serde::Deserialize;
use stores::{BlobConfig, CacheConfig, MongoConfig};

/// 5 GiB: what fits through one request in a reasonable time.
const MAX_DOCUMENT_BYTES: &str = "5368709120";
/// What fits into one blob: 50,000 blocks of 4 MiB.
const BLOB_BYTES: u64 = 50_000 * 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Config {
    pub http_addr: SocketAddr,
    pub oidc: OidcConfig,
    pub tenants: Arc<Tenants>,
    pub limits: Limits,
    pub kafka: KafkaConfig,
    pub blob: BlobConfig,
    pub cache: CacheConfig,
    /// For the reads only.
    pub mongo: MongoConfig,
}

/// Whose tokens are taken.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    pub issuer: String,
    pub audience: String,
    pub jwks_url: JwksUrl,
}

/// How much one process takes on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_document_bytes: u64,
    /// How long a body may pause.
    pub body_idle: Duration,
    /// Requests at one time.
    pub max_requests: usize,
    /// Uploads at one time; each holds up to 24 MiB (measured), so the default keeps a process below 640 MiB.
    pub max_uploads: usize,
}

/// Where the issuer's keys are. Whoever can change them on the way can make tokens, so it is https, or loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(pub Url);

impl JwksUrl {
    /// Whether it is on this machine, where no proxy must come between.
    pub fn is_loopback(&self) -> bool {
        match self.0.host_str() {
            Some("localhost") => true,
            Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            None => false,
        }
    }
}

impl FromStr for JwksUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Self(text.parse().map_err(|e| format!("{e}"))?);
        match url.0.scheme() {
            "https" => Ok(url),
            "http" if url.is_loopback() => Ok(url),
            _ => Err("it must be an https address (http is for loopback only)".to_owned()),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    http_addr: Option<String>,
    oidc_issuer: Option<String>,
    oidc_audience: Option<String>,
    oidc_jwks_url: Option<String>,
    tenants_file: Option<String>,
    max_document_bytes: Option<String>,
    body_idle_ms: Option<String>,
    max_requests: Option<String>,
    max_uploads: Option<String>,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let http_addr = r.with_default("HTTP_ADDR", raw.http_addr, "0.0.0.0:8080");
        let issuer = r.required("OIDC_ISSUER", raw.oidc_issuer);
        let audience = r.required("OIDC_AUDIENCE", raw.oidc_audience);
        let jwks_url = r.required("OIDC_JWKS_URL", raw.oidc_jwks_url);
        let tenants = r.required::<String>("TENANTS_FILE", raw.tenants_file);
        let tenants = tenants.and_then(|path| read_tenants(&path).map_err(|e| r.problem(e)).ok());
        let max_document_bytes = r.with_default("MAX_DOCUMENT_BYTES", raw.max_document_bytes, MAX_DOCUMENT_BYTES);
        if max_document_bytes.is_some_and(|n: u64| !(1..=BLOB_BYTES).contains(&n)) {
            r.problem(format!("MAX_DOCUMENT_BYTES must be from 1 to {BLOB_BYTES}"));
        }
        let body_idle = r.with_default("BODY_IDLE_MS", raw.body_idle_ms, "30000").map(Duration::from_millis);
        let max_requests = r.with_default("MAX_REQUESTS", raw.max_requests, "512");
        let max_uploads = r.with_default("MAX_UPLOADS", raw.max_uploads, "24");
        let (kafka, blob) = (KafkaConfig::read(env, r), BlobConfig::read(env, r));
        let (cache, mongo) = (CacheConfig::read(env, r), MongoConfig::read(env, r));
        Some(Self {
            http_addr: http_addr?,
            oidc: OidcConfig {
                issuer: issuer?,
                audience: audience?,
                jwks_url: jwks_url?,
            },
            tenants: Arc::new(tenants?),
            limits: Limits {
                max_document_bytes: max_document_bytes?,
                body_idle: body_idle?,
                max_requests: max_requests?,
                max_uploads: max_uploads?,
            },
            kafka: kafka?,
            blob: blob?,
            cache: cache?,
            mongo: mongo?,
        })
    }
}

fn read_tenants(path: &str) -> Result<Tenants, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("TENANTS_FILE {path} cannot be read: {e}"))?;
    Tenants::parse(&text).map_err(|e| format!("TENANTS_FILE {path}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_taken_on_loopback_only() {
        for good in [
            "https://login.example/keys",
            "http://127.0.0.1:1/k",
            "http://[::1]:1/k",
            "http://localhost/k",
        ] {
            assert!(good.parse::<JwksUrl>().is_ok(), "{good}");
        }
        for bad in ["http://login.example/keys", "http://127.0.0.1.example/k", "file:///keys", "keys"] {
            assert!(bad.parse::<JwksUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_missing_setting_is_named_at_once() {
        let mut r = Reader::default();
        let config = Config::read(&Env::default(), &mut r);
        let text = r.finish(config).unwrap_err().to_string();
        for name in [
            "OIDC_ISSUER",
            "OIDC_AUDIENCE",
            "OIDC_JWKS_URL",
            "TENANTS_FILE",
            "KAFKA_BROKERS",
            "BLOB_ENDPOINT",
            "REDIS_URL",
            "MONGODB_URI",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
