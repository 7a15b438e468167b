//! What the worker is told: the pool's settings, the chain, the keys, and how to mint.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use alloy::transports::http::reqwest::Url;
use bus::LoopConfig;
use messages::Address;
use runtime::{Env, FromEnv, Reader, Secret};
use serde::Deserialize;
use stores::{CacheConfig, MongoConfig};

/// Everything that the worker's main job needs.
#[derive(Debug, Clone)]
pub struct Config {
    pub run: LoopConfig,
    pub mongo: MongoConfig,
    pub cache: CacheConfig,
    pub rpc: RpcConfig,
    pub keys: KeysConfig,
    pub mint: MintConfig,
}

impl FromEnv for Config {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let run = LoopConfig::read(env, r);
        let mongo = MongoConfig::read(env, r);
        let cache = CacheConfig::read(env, r);
        let rpc = RpcConfig::read(env, r);
        let keys = KeysConfig::read(env, r);
        let mint = MintConfig::read(env, r);
        Some(Self {
            run: run?,
            mongo: mongo?,
            cache: cache?,
            rpc: rpc?,
            keys: keys?,
            mint: mint?,
        })
    }
}

/// What the worker owns, for `--prepare`: no Kafka and no Redis are needed for that.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    pub mongo: MongoConfig,
    pub rpc: RpcConfig,
    pub keys: KeysConfig,
    pub mint: MintConfig,
}

impl FromEnv for PrepareConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let mongo = MongoConfig::read(env, r);
        let rpc = RpcConfig::read(env, r);
        let keys = KeysConfig::read(env, r);
        let mint = MintConfig::read(env, r);
        Some(Self {
            mongo: mongo?,
            rpc: rpc?,
            keys: keys?,
            mint: mint?,
        })
    }
}

/// The chain and the records, without keys: for who only looks.
#[derive(Debug, Clone)]
pub struct ChainAndRecords {
    pub mongo: MongoConfig,
    pub rpc: RpcConfig,
    pub mint: MintConfig,
}

impl FromEnv for ChainAndRecords {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let mongo = MongoConfig::read(env, r);
        let rpc = RpcConfig::read(env, r);
        let mint = MintConfig::read(env, r);
        Some(Self {
            mongo: mongo?,
            rpc: rpc?,
            mint: mint?,
        })
    }
}

/// How to reach the chain.
#[derive(Debug, Clone)]
pub struct RpcConfig {
    /// One endpoint or several, of the same chain; they may carry a provider's key, so they are never shown.
    pub urls: Secret,
    pub chain_id: u64,
    /// How long one call may take.
    pub timeout: Duration,
}

#[derive(Deserialize)]
struct RawRpc {
    evm_rpc_urls: Option<String>,
    evm_chain_id: Option<String>,
    evm_rpc_timeout_ms: Option<String>,
}

impl RpcConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawRpc = env.raw();
        let urls = r.required_secret("EVM_RPC_URLS", raw.evm_rpc_urls);
        let chain_id = r.required::<ChainId>("EVM_CHAIN_ID", raw.evm_chain_id);
        let timeout = r.with_default::<Positive>("EVM_RPC_TIMEOUT_MS", raw.evm_rpc_timeout_ms, "5000");
        if urls.as_ref().is_some_and(|urls| parse_urls(urls).is_none()) {
            r.problem("EVM_RPC_URLS must be http(s) addresses, separated by commas");
            return None;
        }
        Some(Self {
            urls: urls?,
            chain_id: chain_id?.0,
            timeout: Duration::from_millis(timeout?.0),
        })
    }

    /// The endpoints; checked when the configuration was read.
    pub fn endpoints(&self) -> Vec<Url> {
        parse_urls(&self.urls).unwrap_or_default()
    }
}

fn parse_urls(urls: &Secret) -> Option<Vec<Url>> {
    let parse = |text: &str| {
        text.trim()
            .parse::<Url>()
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
    };
    urls.expose().split(',').map(parse).collect()
}

/// Where the signing keys are.
#[derive(Debug, Clone)]
pub struct KeysConfig {
    pub mnemonic_file: PathBuf,
    /// How many accounts sign: as many as the topic has partitions.
    pub signers: u32,
}

#[derive(Deserialize)]
struct RawKeys {
    evm_mnemonic_file: Option<String>,
    evm_signers: Option<String>,
}

impl KeysConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawKeys = env.raw();
        let mnemonic_file = r.required("EVM_MNEMONIC_FILE", raw.evm_mnemonic_file);
        let signers = r.with_default::<SignerCount>("EVM_SIGNERS", raw.evm_signers, "8");
        Some(Self {
            mnemonic_file: mnemonic_file?,
            signers: signers?.0,
        })
    }
}

/// How to mint.
#[derive(Debug, Clone)]
pub struct MintConfig {
    pub contract: Address,
    /// Before this block the contract has no events.
    pub contract_block: u64,
    /// No transaction offers more than this, however urgent it is. Wei a unit of gas.
    pub max_fee: u128,
    /// A transaction that is not mined after this many blocks offers more.
    pub bump_blocks: u64,
}

#[derive(Deserialize)]
struct RawMint {
    asset_token_address: Option<String>,
    asset_token_block: Option<String>,
    evm_max_fee_gwei: Option<String>,
    evm_bump_blocks: Option<String>,
}

impl MintConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawMint = env.raw();
        let contract = r.required("ASSET_TOKEN_ADDRESS", raw.asset_token_address);
        let contract_block = r.with_default::<u64>("ASSET_TOKEN_BLOCK", raw.asset_token_block, "0");
        let max_fee = r.with_default::<Gwei>("EVM_MAX_FEE_GWEI", raw.evm_max_fee_gwei, "500");
        let bump_blocks = r.with_default::<Positive>("EVM_BUMP_BLOCKS", raw.evm_bump_blocks, "3");
        Some(Self {
            contract: contract?,
            contract_block: contract_block?,
            max_fee: max_fee?.0,
            bump_blocks: bump_blocks?.0,
        })
    }
}

/// What `minting deploy` needs.
#[derive(Debug, Clone)]
pub struct DeployConfig {
    pub rpc: RpcConfig,
    pub keys: KeysConfig,
    pub max_fee: u128,
    /// A deployment that is already there.
    pub contract: Option<Address>,
    /// Where an id's public metadata is found, with `{id}` in it.
    pub uri_template: UriTemplate,
}

#[derive(Deserialize)]
struct RawDeploy {
    asset_token_address: Option<String>,
    evm_max_fee_gwei: Option<String>,
    token_uri_template: Option<String>,
}

impl FromEnv for DeployConfig {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawDeploy = env.raw();
        let rpc = RpcConfig::read(env, r);
        let keys = KeysConfig::read(env, r);
        let max_fee = r.with_default::<Gwei>("EVM_MAX_FEE_GWEI", raw.evm_max_fee_gwei, "500");
        let contract = r.optional("ASSET_TOKEN_ADDRESS", raw.asset_token_address);
        let uri_template = r.required("TOKEN_URI_TEMPLATE", raw.token_uri_template);
        Some(Self {
            rpc: rpc?,
            keys: keys?,
            max_fee: max_fee?.0,
            contract: contract?,
            uri_template: uri_template?,
        })
    }
}

/// An address with a place for the token's id (ERC-1155 metadata extension).
#[derive(Debug, Clone)]
pub struct UriTemplate(pub String);

impl FromStr for UriTemplate {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("{id}") {
            Ok(Self(text.to_owned()))
        } else {
            Err("it must contain {id}, in whose place a reader puts the token's id")
        }
    }
}

/// A chain's number (EIP-155). MongoDB's whole numbers are signed, so half the range is enough.
struct ChainId(u64);

impl FromStr for ChainId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = text.parse::<u64>().ok().filter(|id| *id > 0 && i64::try_from(*id).is_ok());
        id.map(Self).ok_or("it must be a whole number of 1 or more")
    }
}

struct Positive(u64);

impl FromStr for Positive {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let n = text.parse().ok().filter(|n| *n > 0);
        n.map(Self).ok_or("it must be a whole number of 1 or more")
    }
}

struct SignerCount(u32);

impl FromStr for SignerCount {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let n = text.parse().ok().filter(|n| (1..=256).contains(n));
        n.map(Self).ok_or("it must be a whole number from 1 to 256")
    }
}

/// A fee, written in gwei, kept in wei.
struct Gwei(u128);

impl FromStr for Gwei {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let n = text.parse::<u32>().ok().filter(|n| (1..=1_000_000).contains(n));
        n.map(|n| Self(u128::from(n) * 1_000_000_000))
            .ok_or("it must be a whole number from 1 to 1000000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<PrepareConfig, runtime::ConfigError> {
        let mut r = Reader::default();
        let config = PrepareConfig::read(&vars.iter().copied().collect(), &mut r);
        r.finish(config)
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_no_endpoint_is_shown() {
        let text = read(&[
            ("EVM_RPC_URLS", "https://node.example/v3/s3cret,ftp://s3cret"),
            ("EVM_SIGNERS", "0"),
            ("EVM_CHAIN_ID", "x"),
            ("EVM_MAX_FEE_GWEI", "-1"),
        ])
        .unwrap_err()
        .to_string();
        for part in [
            "EVM_RPC_URLS",
            "EVM_SIGNERS",
            "EVM_CHAIN_ID",
            "EVM_MAX_FEE_GWEI",
            "EVM_MNEMONIC_FILE",
            "ASSET_TOKEN_ADDRESS",
            "MONGODB_URI",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn several_endpoints_are_separated_by_commas() {
        let config = read(&[
            ("EVM_RPC_URLS", "http://127.0.0.1:1, https://b.example/k"),
            ("EVM_CHAIN_ID", "1"),
            ("EVM_MNEMONIC_FILE", "/m"),
            ("ASSET_TOKEN_ADDRESS", "0x0000000000000000000000000000000000000001"),
            ("MONGODB_URI", "mongodb://127.0.0.1"),
        ])
        .unwrap();
        assert_eq!(config.rpc.endpoints().len(), 2);
        assert_eq!(config.mint.max_fee, 500_000_000_000);
    }
}
