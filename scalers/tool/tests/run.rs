//! `scalers run` on the real broker, with a real worker that takes what lies on its topic.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bus::{KafkaConfig, Producer};
use messages::{AssetKey, DossierClosed, Outgoing, TraceParent, new_id};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use scalers::kafka::Group;
use serde_json::Value;
use testkit::Corner;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn scalers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A corner with topics, and a place with `ingestion` as its only program.
struct Bench {
    corner: Corner,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let mut corner = Corner::new();
        corner.set("IDLE_EXIT_MS", "300");
        let wanted = scalers::topics::read(&scalers_dir().join("topics.yaml")).unwrap();
        let few = wanted.into_iter().map(|t| scalers::topics::TopicSpec {
            partitions: t.partitions.min(2),
            ..t
        });
        let cluster = scalers::topics::Cluster::new(&corner.read(KafkaConfig::read)).unwrap();
        cluster.apply(&few.collect::<Vec<_>>(), |_| {}).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_BIN_EXE_scalers")).parent().unwrap().join("examples/drain");
        assert!(example.is_file(), "{} is built by: cargo test -p scalers", example.display());
        std::os::unix::fs::symlink(example, dir.path().join("ingestion")).unwrap();
        Self { corner, dir }
    }

    async fn send(&self, count: usize) {
        let producer = Producer::new(&self.corner.read(KafkaConfig::read), "test").unwrap();
        for n in 0..count {
            let asset = AssetKey::new(self.corner.name.parse().unwrap(), format!("a{n}").parse().unwrap());
            let message = DossierClosed {
                asset_id: asset.asset_id.clone(),
                requested_by: "ana".to_owned(),
                valuation_date: None,
            };
            let now = "2026-06-20T10:00:00Z".parse().unwrap();
            let event = Outgoing::first(new_id(), "/test", "assets/a".to_owned(), &asset, now, TraceParent::root(), &message);
            producer.send(&event).await.unwrap();
        }
    }

    fn lag(&self) -> i64 {
        let group = Group::new(&self.corner.read(KafkaConfig::read), "ingestion", "ingestion").unwrap();
        group
            .partitions()
            .unwrap()
            .iter()
            .map(|p| p.end.unwrap() - p.committed.unwrap())
            .sum()
    }

    fn run(&self, more: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scalers"));
        command
            .args(["run", "--poll", "200ms", "--events", "-"])
            .args([Path::new("--scalers"), &scalers_dir()])
            .args([Path::new("--bin-dir"), self.dir.path()])
            .args([Path::new("--log-dir"), &self.dir.path().join("jobs")])
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
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Running { child, events }
    }

    fn logs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.dir.path().join("jobs"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect()
    }
}

struct Running {
    child: Child,
    events: Receiver<Value>,
}

impl Running {
    /// The next event of a kind.
    fn next(&self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|e| panic!("no {kind}: {e}"));
            if event["event"] == kind {
                return event;
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the scaler's end: its exit code and what it said to people.
    fn end(mut self) -> (Option<i32>, String) {
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

fn pid_of(event: &Value) -> Pid {
    Pid::from_raw(i32::try_from(event["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

/// Waits until a process is no more.
fn gone(pid: Pid) {
    let deadline = Instant::now() + DEADLINE;
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < deadline, "process {pid:?} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_started_from_zero_on_lag_and_ends_by_itself() {
    let b = Bench::new().await;
    let running = b.run(&[]);
    b.send(5).await;
    let started = running.next("started");
    assert_eq!(
        (started["worker"].as_str(), started["lag"].as_i64().unwrap() > 0),
        (Some("ingestion"), true)
    );
    let ended = running.next("ended");
    assert_eq!(
        (&ended["exit_code"], &ended["pid"], &ended["job"]),
        (&Value::from(0), &started["pid"], &started["job"])
    );
    assert_eq!(b.lag(), 0);
    let log = std::fs::read_to_string(started["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("process ended"), "{log}");

    // It starts again when there is something again, and only then.
    b.send(1).await;
    let again = running.next("started");
    assert_ne!(again["pid"], started["pid"]);
    running.next("ended");
    kill_process(running.pid(), Signal::TERM).unwrap();
    running.next("stopping");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "--poll 200ms overrides pollingInterval",
        "authenticationRef, sasl, tls",
        "minting: skipped",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(b.logs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_lets_its_jobs_finish() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let job = pid_of(&running.next("started"));
    let deadline = Instant::now() + DEADLINE;
    while b.lag() > 0 {
        assert!(Instant::now() < deadline, "the job does not work");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(running.pid(), Signal::INT).unwrap();
    assert_eq!(running.next("stopping")["running"], 1);
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(running.end().0, Some(0));
    gone(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaler_that_is_killed_takes_its_jobs_with_it() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&[]);
    let job = pid_of(&running.next("started"));
    test_kill_process(job).unwrap();
    kill_process(running.pid(), Signal::KILL).unwrap();
    assert_eq!(running.end().0, None);
    gone(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_is_started_anew_and_the_work_gets_done() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "3000");
    b.send(3).await;
    let running = b.run(&[]);
    let first = running.next("started");
    kill_process(pid_of(&first), Signal::KILL).unwrap();
    let ended = running.next("ended");
    assert_eq!((&ended["exit_code"], &ended["signal"]), (&Value::Null, &Value::from(9)));
    assert_eq!(running.next("waiting")["failures"], 1);
    running.next("started");
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(b.lag(), 0);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_program_does_not_spin() {
    let mut b = Bench::new().await;
    b.corner.set("FAIL", "1");
    b.send(1).await;
    let running = b.run(&[]);
    let waits: Vec<i64> = (0..3).map(|_| running.next("waiting")["wait_ms"].as_i64().unwrap()).collect();
    assert_eq!(waits, [1000, 2000, 4000]);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_said_before_anything_starts() {
    let b = Bench::new().await;
    let (code, said) = b.run(&["--worker", "minting"]).end();
    assert!(code == Some(64) && said.contains("cargo build -p minting"), "{code:?} {said}");
    let (code, said) = b.run(&["--worker", "nobody"]).end();
    assert!(code == Some(64) && said.contains("no file for worker nobody"), "{code:?} {said}");
}
