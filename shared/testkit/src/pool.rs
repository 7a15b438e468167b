//! The whole pool as processes, in a corner of its own: what a kill can be aimed at.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Anvil, Corner};

/// How long a program that prepares something may take.
const PREPARE: Duration = Duration::from_secs(60);
/// Who the tenant's tokens go to: an account that has no code on any chain of ours.
pub const RECIPIENT: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
/// How many units of a token the tenant issues.
pub const UNITS: u64 = 1000;

/// The intake runs; workers are started by the test.
pub struct Pool {
    pub corner: Corner,
    pub anvil: Anvil,
    pub contract: String,
    folder: TempDir,
    intake: Program,
    url: String,
    token: String,
    http: reqwest::Client,
}

/// A running program; killed with -9 when the value ends.
pub struct Program(Child);

impl Program {
    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// When the system refuses.
    #[allow(clippy::expect_used)]
    pub fn kill_dash_nine(&mut self) {
        self.0.kill().expect("a child of ours can be killed");
        self.0.wait().expect("a child of ours can be waited for");
    }

    /// Its status, when it has ended.
    ///
    /// # Panics
    /// When the system does not tell.
    #[allow(clippy::expect_used)]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours can be asked")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill_dash_nine();
        }
    }
}

/// Where cargo put the binaries of this build.
#[allow(clippy::expect_used)]
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run scripts/test, or first: cargo build --workspace --bins",
        path.display()
    );
    path
}

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

impl Pool {
    /// Chain, contract, topics, collections and containers of its own, and an intake.
    ///
    /// # Panics
    /// When any of it cannot be had.
    #[allow(clippy::expect_used)]
    pub async fn start() -> Self {
        let anvil = Anvil::start();
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut corner = Corner::new();
        let tenants = json!({ &corner.name: { "recipient": RECIPIENT, "units": UNITS, "currency": "EUR", "mint": "auto" } });
        let tenants_file = folder.path().join("tenants.json");
        std::fs::write(&tenants_file, tenants.to_string()).expect("the test's folder takes a file");
        let port = free_port();
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
        let intake = spawn(&corner, "intake", folder.path());
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
        spawn(&self.corner, name, self.folder.path())
    }

    /// What a worker has logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Sends the example dossier for an asset and closes it.
    ///
    /// # Panics
    /// When the intake does not take it.
    #[allow(clippy::expect_used)]
    pub async fn submit_dossier(&self, asset: &str) {
        for (file, media_type) in [("ficha.json", "application/json"), ("testigos.csv", "text/csv")] {
            let bytes = std::fs::read(repository("docs/examples/dossier").join(file)).expect("the example dossier is there");
            let request = self
                .http
                .post(format!("{}/v1/assets/{asset}/documents", self.url))
                .header("content-type", media_type)
                .body(bytes);
            self.accepted(request.header("idempotency-key", format!("{asset}-{file}"))).await;
        }
        let close = self
            .http
            .post(format!("{}/v1/assets/{asset}/valuations", self.url))
            .json(&json!({}));
        self.accepted(close.header("idempotency-key", format!("{asset}-close"))).await;
    }

    #[allow(clippy::expect_used)]
    async fn accepted(&self, request: reqwest::RequestBuilder) {
        let answer = request.bearer_auth(&self.token).send().await.expect("the intake answers");
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert_eq!(status.as_u16(), 202, "{text}");
    }

    /// What the intake says of an asset; null when nothing is known of it yet.
    pub async fn asset(&self, asset: &str) -> Value {
        let answer = self
            .http
            .get(format!("{}/v1/assets/{asset}", self.url))
            .bearer_auth(&self.token)
            .send()
            .await;
        match answer {
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

#[allow(clippy::expect_used)]
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

#[allow(clippy::expect_used)]
fn spawn(corner: &Corner, name: &str, folder: &std::path::Path) -> Program {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join(format!("{name}.log")))
        .expect("a log file");
    let errors = log.try_clone().expect("a second handle of the log");
    let child = Command::new(binary(name))
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .expect("a binary of ours starts");
    Program(child)
}

fn run(corner: &Corner, name: &str, args: &[&str]) -> String {
    output(corner, Command::new(binary(name)).args(args))
}

fn run_script(corner: &Corner, path: &str, args: &[&str]) -> String {
    output(corner, Command::new(repository(path)).args(args))
}

#[allow(clippy::expect_used)]
fn output(corner: &Corner, command: &mut Command) -> String {
    let begun = Instant::now();
    let output = command
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .output()
        .expect("a program of ours starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && begun.elapsed() < PREPARE,
        "{:?} {:?}: {}\n{out}\n{err}",
        command.get_program(),
        command.get_args().collect::<Vec<_>>(),
        output.status
    );
    // Logs and results share standard output: the result is the last line.
    out.trim().lines().last().unwrap_or_default().to_owned()
}

/// Waits for a condition.
///
/// # Panics
/// When it does not come about in time.
pub async fn until(what: &str, at_most: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within {} s", at_most.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
