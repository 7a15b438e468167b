//! A corner of the real broker with topics and one worker's program, and a scaler that runs there.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bus::{KafkaConfig, Producer};
use messages::{AssetKey, DossierClosed, Outgoing, TraceParent, new_id};
use rustix::process::{Pid, test_kill_process};
use scalers::kafka::Group;
use serde_json::Value;
use testkit::Corner;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn scalers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A corner with topics, and a place with `ingestion` as its only program.
pub struct Bench {
    pub corner: Corner,
    dir: tempfile::TempDir,
    /// Where the scaler files are that it runs by; our own unless a test says otherwise.
    pub scalers: PathBuf,
    /// `--poll`.
    pub poll: Option<&'static str>,
}

impl Bench {
    pub async fn new() -> Self {
        Self::of(Corner::new()).await
    }

    /// In a corner that has been told more.
    pub async fn of(corner: Corner) -> Self {
        Self::with_partitions(corner, 2).await
    }

    /// With topics of so many partitions at most.
    pub async fn with_partitions(mut corner: Corner, most: u16) -> Self {
        corner.set("IDLE_EXIT_MS", "300");
        let wanted = scalers::topics::read(&scalers_dir().join("topics.yaml")).unwrap();
        let few = wanted.into_iter().map(|t| scalers::topics::TopicSpec {
            partitions: t.partitions.min(most),
            ..t
        });
        let cluster = scalers::topics::Cluster::new(&corner.read(KafkaConfig::read)).unwrap();
        cluster.apply(&few.collect::<Vec<_>>(), |_| {}).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_BIN_EXE_scalers")).parent().unwrap().join("examples/drain");
        assert!(example.is_file(), "{} is built by: cargo test -p scalers", example.display());
        std::os::unix::fs::symlink(example, dir.path().join("ingestion")).unwrap();
        let scalers = scalers_dir();
        Self {
            corner,
            dir,
            scalers,
            poll: Some("200ms"),
        }
    }

    /// Sends so many messages at once, spread over the keys.
    pub async fn send(&self, count: usize) {
        let producer = std::sync::Arc::new(Producer::new(&self.corner.read(KafkaConfig::read), "test").unwrap());
        let mut sending = tokio::task::JoinSet::new();
        for n in 0..count {
            let asset = AssetKey::new(self.corner.name.parse().unwrap(), format!("a{n}").parse().unwrap());
            let message = DossierClosed {
                asset_id: asset.asset_id.clone(),
                requested_by: "ana".to_owned(),
                valuation_date: None,
            };
            let now = "2026-06-20T10:00:00Z".parse().unwrap();
            let event = Outgoing::first(new_id(), "/test", "assets/a".to_owned(), &asset, now, TraceParent::root(), &message);
            let producer = std::sync::Arc::clone(&producer);
            sending.spawn(async move { producer.send(&event).await.map(drop) });
        }
        for sent in sending.join_all().await {
            sent.unwrap();
        }
    }

    pub fn lag(&self) -> i64 {
        let group = Group::new(&self.corner.read(KafkaConfig::read), "ingestion", "ingestion").unwrap();
        group
            .partitions()
            .unwrap()
            .iter()
            .map(|p| p.end.unwrap() - p.committed.unwrap())
            .sum()
    }

    pub fn run(&self, more: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scalers"));
        command
            .args(["run", "--backoff", "200ms", "--events", "-"])
            .args(self.poll.iter().flat_map(|poll| ["--poll", *poll]))
            .args([Path::new("--scalers"), &self.scalers])
            .args([Path::new("--bin-dir"), self.dir.path()])
            .args([Path::new("--log-dir"), &self.log_dir()])
            .args(more)
            .envs(self.corner.vars().iter().cloned())
            .env("METRICS_ADDR", "127.0.0.1:1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tell, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                println!("{line}");
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Running {
            child,
            events,
            seen: Default::default(),
        }
    }

    /// Puts another program in the place of the worker's: the same, after a line of shell.
    pub fn replace_program(&self, line: &str) {
        use std::os::unix::fs::PermissionsExt;
        let (place, new) = (self.dir.path().join("ingestion"), self.dir.path().join("new"));
        let program = std::fs::canonicalize(&place).unwrap();
        std::fs::write(&new, format!("#!/bin/sh\n{line}\nexec {}\n", program.display())).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(new, place).unwrap();
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("jobs")
    }

    pub fn logs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.log_dir()).unwrap().map(|e| e.unwrap().path()).collect()
    }
}

pub struct Running {
    child: Child,
    events: Receiver<Value>,
    /// What `next` has taken or passed over.
    seen: std::cell::RefCell<Vec<Value>>,
}

impl Running {
    /// The next event of a kind.
    pub fn next(&self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|e| panic!("no {kind}: {e}"));
            self.seen.borrow_mut().push(event.clone());
            if event["event"] == kind {
                return event;
            }
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the scaler's end: its exit code and what it said to people.
    pub fn end(mut self) -> (Option<i32>, String) {
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Running {
    /// The next event, whatever it is.
    pub fn any(&self) -> Value {
        self.events.recv_timeout(DEADLINE).unwrap()
    }

    /// Tells the scaler to stop, waits for its end, and gives every event from the first on.
    pub fn stop(mut self) -> Vec<Value> {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        let mut all = self.seen.take();
        all.extend(self.events.iter());
        all
    }
}

pub fn pid_of(event: &Value) -> Pid {
    Pid::from_raw(i32::try_from(event["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

/// Waits until a process is no more.
pub async fn gone(pid: Pid) {
    testkit::until("a process is no more", DEADLINE, async || test_kill_process(pid).is_err()).await;
}
