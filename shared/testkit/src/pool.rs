//! The whole pool as processes, in a corner of its own: what a kill can be aimed at.

use std::ops::Deref;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{repository, run, run_script, spawn, until};
use crate::{Anvil, Chain, Corner, OwnStack, Program, Scaler, ports};

/// Who the tenant's tokens go to: an account that has no code on any chain of ours.
pub const RECIPIENT: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
/// How many units of a token the tenant issues.
pub const UNITS: u64 = 1000;
/// A client that was asked to come again does so after this, sooner than it was asked to.
const COME_AGAIN: Duration = Duration::from_millis(500);

/// The intake runs; workers are started by the test.
pub struct Pool {
    pub corner: Corner,
    pub anvil: Node,
    pub contract: String,
    folder: TempDir,
    intake: Program,
    url: String,
    token: String,
    http: reqwest::Client,
}

/// The chain that the pool mints on.
pub enum Node {
    Own(Anvil),
    /// The stack's; it is stopped and started with the stack's other servers.
    OfStack(Chain),
}

impl Deref for Node {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        match self {
            Self::Own(anvil) => anvil,
            Self::OfStack(chain) => chain,
        }
    }
}

/// What a client was told when it sent a dossier.
#[derive(Debug)]
pub struct Submitted {
    /// The ids of the documents that were taken.
    pub documents: Vec<String>,
    /// How often the intake asked to come again later, or the connection broke.
    pub repeats: usize,
}

impl Pool {
    /// Chain, contract, topics, collections and containers of its own, and an intake.
    ///
    /// # Panics
    /// When any of it cannot be had.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with these settings for all its processes.
    ///
    /// # Panics
    /// When any of it cannot be had.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut corner = Corner::new();
        settings.iter().for_each(|(name, value)| corner.set(name, *value));
        Self::start_in(corner, Node::Own(Anvil::start())).await
    }

    /// The same on servers that the test may stop, with their chain.
    ///
    /// # Panics
    /// When any of it cannot be had.
    pub async fn start_on(stack: &OwnStack) -> Self {
        Self::start_in(stack.corner(), Node::OfStack(stack.chain())).await
    }

    #[allow(clippy::expect_used)]
    async fn start_in(mut corner: Corner, anvil: Node) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let tenants = json!({ &corner.name: { "recipient": RECIPIENT, "units": UNITS, "currency": "EUR", "mint": "auto" } });
        let tenants_file = folder.path().join("tenants.json");
        std::fs::write(&tenants_file, tenants.to_string()).expect("the test's folder takes a file");
        let port = ports::single();
        corner.set("TENANTS_FILE", tenants_file.to_string_lossy());
        corner.set("EVM_RPC_URLS", &anvil.url);
        corner.set("EVM_MNEMONIC_FILE", anvil.mnemonic_file.to_string_lossy());
        corner.set("HTTP_ADDR", format!("127.0.0.1:{port}"));
        corner.set("TOKEN_URI_TEMPLATE", "https://tokens.example/{id}.json");
        corner.set("IDLE_EXIT_MS", "500");
        corner.set("RUST_LOG", "info,bus=debug");
        corner.create_topics().await;
        let deployed = run(
            &corner,
            "minting",
            &["deploy", "--state", &folder.path().join("contract.json").to_string_lossy()],
        );
        let deployed: Value = serde_json::from_str(&deployed).expect("minting deploy prints JSON");
        let contract = deployed["address"].as_str().expect("minting deploy prints an address").to_owned();
        corner.set("ASSET_TOKEN_ADDRESS", &contract);
        for worker in ["ingestion", "valuation", "minting"] {
            run(&corner, worker, &["--prepare"]);
        }
        let intake = spawn(&corner, "intake", &[], folder.path());
        let token = run_script(&corner, "scripts/token", &["--tenant", &corner.name, "--ttl", "3600"]);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a plain client");
        let pool = Self {
            corner,
            anvil,
            contract,
            folder,
            intake,
            url: format!("http://127.0.0.1:{port}"),
            token: token.trim().to_owned(),
            http,
        };
        until("the intake listens", Duration::from_secs(30), async || {
            pool.http
                .get(format!("{}/openapi.json", pool.url))
                .send()
                .await
                .is_ok_and(|a| a.status().is_success())
        })
        .await;
        pool
    }

    /// Starts a worker process; its log goes to the test's folder.
    pub fn worker(&self, name: &str) -> Program {
        spawn(&self.corner, name, &[], self.folder.path())
    }

    /// Starts the scaler, which starts workers on lag.
    pub fn scaler(&self) -> Scaler {
        Scaler::start(&self.corner, self.folder.path())
    }

    /// Keeps the logs after the test; for one that fails.
    pub fn keep_logs(&mut self) {
        eprintln!("the pool's logs are kept in {}", self.folder.path().display());
        self.folder.disable_cleanup(true);
    }

    /// What a worker has logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// A request to the intake, with the tenant's token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/{path}", self.url));
        request.bearer_auth(&self.token)
    }

    /// Sends one file of the example dossier in this trace; with `close`, the dossier is closed behind it.
    ///
    /// # Panics
    /// When the intake does not take it.
    #[allow(clippy::expect_used)]
    pub async fn upload(&self, asset: &str, (file, media_type): (&str, &str), close: bool, traceparent: &str) -> Value {
        let bytes = std::fs::read(repository("docs/examples/dossier").join(file)).expect("the example dossier is there");
        let request = self
            .http
            .post(format!("{}/v1/assets/{asset}/documents?close={close}", self.url))
            .header("idempotency-key", format!("{asset}-{file}"))
            .header("content-type", media_type)
            .header("traceparent", traceparent)
            .body(bytes);
        self.accepted(request, None).await.0
    }

    /// Sends the example dossier for an asset and closes it.
    ///
    /// # Panics
    /// When the intake does not take it.
    pub async fn submit_dossier(&self, asset: &str) -> Submitted {
        self.submit(asset, None).await
    }

    /// The same as a client does it that means to get through: what may succeed later is sent again with the same key.
    ///
    /// # Panics
    /// When the intake refuses it for good, or has not taken a part of it after so long.
    pub async fn submit_dossier_patiently(&self, asset: &str, at_most: Duration) -> Submitted {
        self.submit(asset, Some(at_most)).await
    }

    #[allow(clippy::expect_used)]
    async fn submit(&self, asset: &str, patience: Option<Duration>) -> Submitted {
        let (mut documents, mut repeats) = (Vec::new(), 0);
        for (file, media_type) in [("ficha.json", "application/json"), ("testigos.csv", "text/csv")] {
            let bytes = std::fs::read(repository("docs/examples/dossier").join(file)).expect("the example dossier is there");
            let request = self
                .http
                .post(format!("{}/v1/assets/{asset}/documents", self.url))
                .header("idempotency-key", format!("{asset}-{file}"))
                .header("content-type", media_type)
                .body(bytes);
            let (answer, repeated) = self.accepted(request, patience).await;
            let id = answer["document_id"].as_str().expect("an accepted document has an id");
            documents.push(id.to_owned());
            repeats += repeated;
        }
        let close = self
            .http
            .post(format!("{}/v1/assets/{asset}/valuations", self.url))
            .header("idempotency-key", format!("{asset}-close"))
            .json(&json!({}));
        repeats += self.accepted(close, patience).await.1;
        Submitted { documents, repeats }
    }

    /// Sends a request until it is answered 202; gives the answer, and how often it had to be repeated.
    #[allow(clippy::expect_used)]
    async fn accepted(&self, request: reqwest::RequestBuilder, patience: Option<Duration>) -> (Value, usize) {
        let request = request.bearer_auth(&self.token);
        let begun = Instant::now();
        for repeats in 0.. {
            let attempt = request.try_clone().expect("a body of bytes can be sent again");
            let why = match attempt.send().await {
                Ok(answer) => {
                    let status = answer.status();
                    let text = answer.text().await.unwrap_or_default();
                    let body: Value = serde_json::from_str(&text).unwrap_or_default();
                    if status.as_u16() == 202 {
                        return (body, repeats);
                    }
                    assert!(status.is_server_error() || body["retryable"] == true, "{status}: {text}");
                    format!("{status}: {text}")
                }
                Err(e) => format!("{e:#}"),
            };
            assert!(patience.is_some_and(|most| begun.elapsed() < most), "{why}");
            tokio::time::sleep(COME_AGAIN).await;
        }
        unreachable!("the loop ends by an answer")
    }

    /// What the intake says of a document; null when it does not answer.
    pub async fn document(&self, id: &str) -> Value {
        self.get(&format!("documents/{id}")).await
    }

    /// What the intake says of an asset; null when nothing is known of it yet.
    pub async fn asset(&self, asset: &str) -> Value {
        self.get(&format!("assets/{asset}")).await
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.request(Method::GET, path);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => answer.json().await.unwrap_or(Value::Null),
            _ => Value::Null,
        }
    }

    /// How often the chain says that the token with this key was minted, and how many units the recipient holds.
    ///
    /// # Panics
    /// When the node does not answer.
    #[allow(clippy::expect_used)]
    pub async fn minted(&self, token_id: &str) -> (usize, u64) {
        let hex: String = ASSET_MINTED.bytes().map(|b| format!("{b:02x}")).collect();
        let topic = self.anvil.call("web3_sha3", json!([format!("0x{hex}")])).await;
        let filter = json!([{ "fromBlock": "0x0", "toBlock": "latest", "address": self.contract, "topics": [topic, token_id] }]);
        let logs = self.anvil.call("eth_getLogs", filter).await;
        // balanceOf(address,uint256)
        let data = format!(
            "0x00fdd58e{:0>64}{}",
            RECIPIENT.trim_start_matches("0x"),
            token_id.trim_start_matches("0x")
        );
        let balance = self
            .anvil
            .call("eth_call", json!([{ "to": self.contract, "data": data }, "latest"]))
            .await;
        let balance = balance.as_str().expect("a balance is text").trim_start_matches("0x").to_owned();
        (
            logs.as_array().map_or(0, Vec::len),
            u64::from_str_radix(balance.trim_start_matches('0'), 16).unwrap_or(0),
        )
    }

    /// Whether the intake still runs.
    pub fn intake_runs(&mut self) -> bool {
        self.intake.ended().is_none()
    }
}

/// The contract's event, whose hash is the first topic of its logs.
const ASSET_MINTED: &str = "AssetMinted(bytes32,address,uint256,bytes32)";
