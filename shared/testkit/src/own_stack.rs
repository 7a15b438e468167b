//! A copy of the whole stack that belongs to one test: the only one whose servers a test may stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::doc;
use tempfile::TempDir;

use crate::program::{repository, until};
use crate::{Chain, Corner, ports};

/// Ports of a stack, counted from its base.
const PORTS: u16 = 13;
/// Variables that would lead to other servers, or to what was made on them.
const FOREIGN: [&str; 13] = [
    "KAFKA_",
    "MONGODB_",
    "REDIS_",
    "BLOB_",
    "EVM_",
    "OIDC_",
    "CLAMD_",
    "PROMETHEUS_",
    "STACK_",
    "ASSET_TOKEN_",
    "TENANTS_FILE",
    "HTTP_ADDR",
    "METRICS_ADDR",
];
/// Where the script is told what Prometheus is to do.
const PROMETHEUS_CONFIG: &str = "PROMETHEUS_CONFIG_FILE";
/// What the script is told of this stack: its own in spite of their names.
const SETTINGS: [&str; 3] = ["STACK_DIR", "STACK_PORT_BASE", PROMETHEUS_CONFIG];
/// How long a server may take to stop or start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers of `scripts/stack`, all of them unless one is asked for, on free ports, with data of its own; stopped and wiped with the value.
pub struct OwnStack {
    folder: TempDir,
    vars: Vec<(String, String)>,
}

impl OwnStack {
    /// Starts all servers, about ten seconds, and waits until they answer.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn start() -> Self {
        Self::with(&["up"], &[]).await
    }

    /// Starts one server alone.
    pub(crate) async fn of(server: &str) -> Self {
        Self::with(&["start", server], &[]).await
    }

    /// Starts Prometheus alone, with this file for its configuration.
    pub(crate) async fn of_prometheus(config: &Path) -> Self {
        Self::with(&["start", "prometheus"], &[(PROMETHEUS_CONFIG, &config.to_string_lossy())]).await
    }

    #[allow(clippy::expect_used)]
    async fn with(args: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut vars: Vec<(String, String)> = std::env::vars()
            .filter(|(name, _)| !FOREIGN.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        vars.push(("STACK_DIR".to_owned(), folder.path().to_string_lossy().into_owned()));
        vars.push(("STACK_PORT_BASE".to_owned(), ports::of_stack(PORTS).to_string()));
        vars.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut stack = Self { folder, vars };
        stack.script(args).await;
        stack.vars = stack.read_env();
        stack
    }

    /// The environment of the script with the addresses that it exports.
    #[allow(clippy::expect_used)]
    fn read_env(&self) -> Vec<(String, String)> {
        let output = Command::new("bash")
            .args(["-c", "set -e; exports=$(\"$1\" env); eval \"$exports\"; exec env -0", "bash"])
            .arg(script())
            .env_clear()
            .envs(self.vars.iter().cloned())
            .output()
            .expect("bash starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("the environment is text");
        text.split_terminator('\0')
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// A corner on these servers.
    pub fn corner(&self) -> Corner {
        Corner::of(self.vars.clone())
    }

    /// A corner whose processes reach Kafka over TLS.
    pub fn corner_over_tls(&self) -> Corner {
        let mut corner = self.corner();
        corner.set("KAFKA_SECURITY_PROTOCOL", "ssl");
        corner.set("KAFKA_BROKERS", self.var("STACK_KAFKA_TLS_BROKERS"));
        corner.set("KAFKA_SSL_CA_LOCATION", self.var("STACK_KAFKA_CA_FILE"));
        corner
    }

    /// A corner whose processes are this SCRAM user of Kafka's: `admin` may everything, `stranger` nothing.
    ///
    /// # Panics
    /// When the stack has no such user.
    #[allow(clippy::expect_used)]
    pub fn corner_of_user(&self, user: &str) -> Corner {
        let file = self.var(&format!("STACK_KAFKA_{}_PASSWORD_FILE", user.to_uppercase()));
        let password = std::fs::read_to_string(file).expect("the stack keeps the passwords of its users");
        self.log_in(self.corner(), user, &password)
    }

    /// The corner's processes are this SCRAM user of Kafka's from now on, over TLS.
    pub fn log_in(&self, mut corner: Corner, user: &str, password: &str) -> Corner {
        corner.set("KAFKA_SECURITY_PROTOCOL", "sasl_ssl");
        corner.set("KAFKA_BROKERS", self.var("STACK_KAFKA_SASL_BROKERS"));
        corner.set("KAFKA_SSL_CA_LOCATION", self.var("STACK_KAFKA_CA_FILE"));
        corner.set("KAFKA_SASL_USERNAME", user);
        corner.set("KAFKA_SASL_PASSWORD", password);
        corner
    }

    /// The stack's chain.
    pub(crate) fn chain(&self) -> Chain {
        Chain::at(self.var("EVM_RPC_URLS").to_owned(), PathBuf::from(self.var("EVM_MNEMONIC_FILE")))
    }

    #[allow(clippy::expect_used)]
    pub(crate) fn var(&self, name: &str) -> &str {
        let found = self.vars.iter().rev().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str()).expect("scripts/stack env exports it")
    }

    /// Stops a server in order; its state stays.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub async fn stop(&self, server: &str) {
        self.script(&["stop", server]).await;
    }

    /// Starts a server that was stopped, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn begin(&self, server: &str) {
        self.script(&["start", server]).await;
    }

    /// Takes the primary's office from MongoDB for this long, as an election in a set of three would for a moment.
    ///
    /// # Panics
    /// When it refuses, or has not taken it up again a while later.
    #[allow(clippy::expect_used)]
    pub async fn step_down(&self, seconds: u32) {
        let mongo = self.corner().mongo().await;
        let admin = mongo.client().database("admin");
        let command = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
        admin.run_command(command).await.expect("mongodb steps down");
        let hello = async || admin.run_command(doc! { "hello": 1 }).await.ok();
        let writable = |answer: Option<bson::Document>| answer.is_some_and(|a| matches!(a.get_bool("isWritablePrimary"), Ok(true)));
        assert!(!writable(hello().await), "mongodb is primary still");
        until("mongodb is primary again", PATIENCE, async || writable(hello().await)).await;
    }

    /// Runs a command of `scripts/stack`.
    #[allow(clippy::expect_used)]
    async fn script(&self, args: &[&str]) {
        let mut command = self.command(args);
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let output = done.expect("the thread ends").expect("scripts/stack starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/stack {args:?}: {}\n{said}", output.status);
    }

    /// Its addresses are left out: the script would take them for those of others.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(script());
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let own = |name: &str| SETTINGS.contains(&name) || !FOREIGN.iter().any(|p| name.starts_with(p));
        command.envs(self.vars.iter().filter(|(name, _)| own(name)).cloned());
        command
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        let mut args = vec!["down"];
        if std::thread::panicking() {
            eprintln!("the servers' logs are kept in {}", self.folder.path().display());
            self.folder.disable_cleanup(true);
        } else {
            args.push("--wipe");
        }
        match self.command(&args).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("scripts/stack {args:?}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(e) => eprintln!("scripts/stack {args:?}: {e}"),
        }
    }
}

fn script() -> PathBuf {
    repository("scripts/stack")
}
