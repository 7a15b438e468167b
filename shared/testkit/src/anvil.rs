//! A chain of a test's own, to be set back, to forget, and to be starved.

use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long Anvil may take to listen.
const START: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(10);

/// A node to ask.
pub struct Chain {
    pub url: String,
    /// Holds the mnemonic phrase of 16 funded accounts.
    pub mnemonic_file: PathBuf,
    http: reqwest::Client,
}

/// The real Anvil on a free port, with accounts of its own; ends with the value.
pub struct Anvil {
    child: Child,
    _folder: TempDir,
    chain: Chain,
}

impl Deref for Anvil {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}

impl Anvil {
    /// A chain with five blocks a second, of which all but the newest two are final.
    ///
    /// # Panics
    /// When there is no Anvil, or it does not start.
    pub fn start() -> Self {
        Self::start_with(&["--block-time", "0.2"])
    }

    /// A chain with these further arguments.
    ///
    /// # Panics
    /// As [`Anvil::start`].
    #[allow(clippy::expect_used)]
    pub fn start_with(args: &[&str]) -> Self {
        let anvil = std::env::var_os("ANVIL").expect("ANVIL is not set: run scripts/test, or first: eval \"$(scripts/stack env)\"");
        let mut child = Command::new(&anvil)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--chain-id",
                "31337",
                "--slots-in-an-epoch",
                "1",
            ])
            .args(["--accounts", "16", "--mnemonic-random", "12"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}; run scripts/stack up first", anvil.display()));
        let stdout = child.stdout.take().expect("stdout is piped");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, so that Anvil never waits for a full pipe.
            let mut phrase = None;
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix("Mnemonic:") {
                    phrase = Some(text.trim().to_owned());
                }
                let listening = phrase.clone().zip(line.strip_prefix("Listening on "));
                if listening.is_some_and(|(phrase, address)| tell.send((phrase, address.trim().to_owned())).is_err()) {
                    // The test has given up waiting; what is left is read away all the same.
                }
            }
        });
        let started = told.recv_timeout(START);
        let (phrase, address) = match started {
            Ok(started) => started,
            Err(e) => {
                end(&mut child);
                panic!("anvil does not listen: {e}");
            }
        };
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mnemonic_file = folder.path().join("mnemonic");
        std::fs::write(&mnemonic_file, phrase).expect("the test's folder takes a file");
        Self {
            child,
            chain: Chain::at(format!("http://{address}"), mnemonic_file),
            _folder: folder,
        }
    }
}

impl Chain {
    /// The node at an address.
    #[allow(clippy::expect_used)]
    pub(crate) fn at(url: String, mnemonic_file: PathBuf) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(CALL).build().expect("a plain client");
        Self { url, mnemonic_file, http }
    }

    /// Calls a method of the node.
    ///
    /// # Panics
    /// When it does not answer, or with an error.
    #[allow(clippy::expect_used)]
    pub async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(&self.url).json(&body).send().await.expect("anvil answers");
        let mut answer: Value = answer.json().await.expect("anvil answers in JSON");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself; a zombie is collected either way.
    if child.kill().is_err() || child.wait().is_err() {
        eprintln!("anvil had ended already");
    }
}
