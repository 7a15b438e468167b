//! A chain, a token and a database that belong to one test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod proxy;

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, Instant};

use alloy::primitives::{B256, U256};
use alloy::sol_types::SolEvent as _;
use bson::doc;
use bus::{Clock, Context, Emit, Failure, Worker as _};
use jiff::Timestamp;
use messages::{AssetKey, AssetMinted, Event, Hash32, MintRequested, MintingPayload, Outgoing, Payload as _, TraceParent};
use minting::commands::{Deployment, deploy};
use minting::config::DeployConfig;
use minting::contract::AssetToken;
use minting::ledger::Ledger;
use minting::records::{Attempt, MintItem};
use minting::{Config, Handler, mint_key};
use serde_json::{Value, json};
use testkit::{Anvil, Corner};

pub const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

pub struct Bench {
    pub corner: Corner,
    pub anvil: Anvil,
    pub deployment: Deployment,
    pub ledger: Ledger,
}

impl Bench {
    pub async fn new() -> Self {
        let anvil = Anvil::start();
        let mut corner = Corner::new();
        corner.set("EVM_RPC_URLS", &anvil.url);
        corner.set("EVM_CHAIN_ID", "31337");
        corner.set("EVM_MNEMONIC_FILE", anvil.mnemonic_file.to_str().unwrap());
        corner.set("TOKEN_URI_TEMPLATE", "https://tokens.example/{id}.json");
        corner.set("ASSET_TOKEN_ADDRESS", "");
        let deployment = deploy(&corner.config::<DeployConfig>(), 15, 8, None).await.unwrap();
        corner.set("ASSET_TOKEN_ADDRESS", deployment.address.to_string());
        let mongo = corner.mongo().await;
        minting::prepare::collections(&mongo).await.unwrap();
        let ledger = Ledger::new(mongo);
        Self {
            corner,
            anvil,
            deployment,
            ledger,
        }
    }

    pub async fn handler(&self) -> Handler {
        Handler::connect(&self.corner.config::<Config>()).await.unwrap()
    }

    pub fn ctx(&self) -> Context {
        Context::new(Handler::NAME, Clock::system(), 0)
    }

    pub fn asset(&self, name: &str) -> AssetKey {
        AssetKey::new(self.corner.name.parse().unwrap(), name.parse().unwrap())
    }

    /// A request for an asset: the same name gives the same request, and the same event id.
    pub fn request(&self, name: &str) -> Event<MintingPayload> {
        self.request_for(name, 7, recipient(), name)
    }

    pub fn requests(&self, prefix: &str, count: usize) -> Vec<Event<MintingPayload>> {
        (0..count).map(|n| self.request(&format!("{prefix}-{n}"))).collect()
    }

    /// A request; `cause` tells requests for the same thing apart.
    pub fn request_for(&self, name: &str, units: u64, to: messages::Address, cause: &str) -> Event<MintingPayload> {
        let asset = self.asset(name);
        let request = MintRequested {
            asset_id: asset.asset_id.clone(),
            valuation_id: format!("{}/{name}", asset.tenant),
            evidence: Hash32([0xab; 32]),
            recipient: to,
            units,
            requested_by: "test".to_owned(),
        };
        let id = messages::door_id(asset.tenant.as_str(), "mints", cause);
        let subject = format!("assets/{}", asset.asset_id);
        let out = Outgoing::first(id, "/test", subject, &asset, Timestamp::now(), TraceParent::root(), &request);
        Event {
            envelope: out.envelope,
            payload: MintingPayload::Requested(request),
        }
    }

    pub fn key(&self, event: &Event<MintingPayload>) -> B256 {
        let MintingPayload::Requested(request) = &event.payload;
        mint_key(&event.envelope.tenant, &request.asset_id)
    }

    /// The hashes of the transactions that minted a key, on the canonical chain.
    pub async fn mints(&self, key: B256) -> Vec<String> {
        let topics = json!([AssetToken::AssetMinted::SIGNATURE_HASH, key]);
        let filter = json!({ "address": self.deployment.address, "fromBlock": "0x0", "toBlock": "latest", "topics": topics });
        let logs = self.anvil.call("eth_getLogs", json!([filter])).await;
        let hash = |log: &Value| log["transactionHash"].as_str().unwrap().to_owned();
        logs.as_array().unwrap().iter().map(hash).collect()
    }

    pub async fn balance(&self, holder: messages::Address, key: B256) -> U256 {
        let call = AssetToken::balanceOfCall {
            account: alloy::primitives::Address::from(holder.0),
            id: U256::from_be_bytes(key.0),
        };
        let data = format!("0x{}", hex::encode(alloy::sol_types::SolCall::abi_encode(&call)));
        let answer = self
            .anvil
            .call("eth_call", json!([{ "to": self.deployment.address, "data": data }, "latest"]))
            .await;
        answer.as_str().unwrap().parse().unwrap()
    }

    /// The property that everything here is for: each of these assets has been minted once, and in full.
    pub async fn assert_minted_once(&self, events: &[Event<MintingPayload>]) {
        for event in events {
            let MintingPayload::Requested(request) = &event.payload;
            let key = self.key(event);
            assert_eq!(self.mints(key).await.len(), 1, "{}", request.asset_id);
            assert_eq!(self.balance(request.recipient, key).await, U256::from(request.units));
        }
    }

    /// Never more than once, at any moment.
    pub async fn assert_never_twice(&self, events: &[Event<MintingPayload>]) {
        for event in events {
            let MintingPayload::Requested(request) = &event.payload;
            let key = self.key(event);
            let balance = self.balance(request.recipient, key).await;
            assert!(balance == U256::ZERO || balance == U256::from(request.units), "{balance} of {key}");
        }
    }

    pub async fn account(&self, index: usize) -> String {
        let accounts = self.anvil.call("eth_accounts", json!([])).await;
        accounts[index].as_str().unwrap().to_owned()
    }

    /// Transactions that signer 0 has on the chain.
    pub async fn nonce(&self) -> u64 {
        let answer = self
            .anvil
            .call("eth_getTransactionCount", json!([self.account(0).await, "latest"]))
            .await;
        u64::from_str_radix(answer.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    pub async fn item(&self, event: &Event<MintingPayload>) -> Option<MintItem> {
        self.ledger.load(&[self.key(event).to_string()]).await.unwrap().pop()
    }

    pub async fn attempts(&self) -> Vec<Attempt> {
        use futures::TryStreamExt as _;
        let all: Vec<_> = self
            .ledger
            .attempts()
            .find(doc! {})
            .sort(doc! { "nonce": 1 })
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        all.into_iter().map(|a: bson::serde_helpers::HumanReadable<Attempt>| a.0).collect()
    }

    /// The hash of the newest variant of the only attempt, once the node has it.
    pub async fn pending(&self) -> String {
        eventually("a transaction in the pool", || async {
            let hash = self.attempts().await.last()?.raws.last()?.hash.clone();
            let known = self.anvil.call("eth_getTransactionByHash", json!([hash])).await;
            (!known.is_null()).then_some(hash)
        })
        .await
    }

    pub async fn pause_blocks(&self) {
        self.anvil.call("evm_setIntervalMining", json!([0])).await;
    }

    pub async fn resume_blocks(&self) {
        self.anvil.call("evm_setIntervalMining", json!([1])).await;
    }

    pub async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.anvil.call("evm_mine", json!([])).await;
        }
    }

    pub async fn mint_section(&self, event: &Event<MintingPayload>) -> stores::records::MintSection {
        let MintingPayload::Requested(request) = &event.payload;
        let id = AssetKey::new(event.envelope.tenant.clone(), request.asset_id.clone()).to_string();
        let record = self.ledger.mongo().assets().find_one(doc! { "_id": id }).await.unwrap().unwrap();
        record.0.mint.unwrap()
    }

    /// Ends a test: leaves nothing in the shared database.
    pub async fn end(self) {
        self.ledger.mongo().db().drop().await.unwrap();
    }
}

pub fn recipient() -> messages::Address {
    messages::Address([0x77; 20])
}

/// Asks again and again until there is an answer.
pub async fn eventually<T, Fut: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> Fut) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "there was no {what} within {DEADLINE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Bounds a step of a test.
pub async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than {DEADLINE:?}"),
    }
}

/// The one event of each answer, which must be asset.minted.
pub fn minted(answers: Vec<Result<Emit, Failure>>) -> Vec<(Outgoing, AssetMinted)> {
    answers.into_iter().map(|answer| minted_one(answer.unwrap())).collect()
}

pub fn minted_one(emit: Emit) -> (Outgoing, AssetMinted) {
    assert_eq!(emit.0.len(), 1);
    let out = emit.0.into_iter().next().unwrap();
    match messages::Outcome::decode(&out.envelope.event_type, &out.value).unwrap() {
        messages::Outcome::AssetMinted(minted) => (out, minted),
        other => panic!("{other:?}"),
    }
}

/// The code of a rejection.
pub fn rejection(answer: Result<Emit, Failure>) -> String {
    match answer {
        Err(Failure::Rejected { emit, .. }) => {
            let out = emit.0.into_iter().next().unwrap();
            match messages::Outcome::decode(&out.envelope.event_type, &out.value).unwrap() {
                messages::Outcome::MintRejected(rejected) => rejected.0.code,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

pub fn distinct<T: std::hash::Hash + Eq>(all: impl IntoIterator<Item = T>) -> usize {
    all.into_iter().collect::<HashSet<_>>().len()
}
