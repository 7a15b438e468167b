//! `kill -9` of the worker at random moments: every request ends in one backup, and the lock passes on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backup::manifest::BACKUPS;
use messages::{BackupCompleted, Message as _, topics};
use rand::RngExt as _;
use support::{Bench, pid_in};
use testkit::until;

const KILLS: usize = 10;
/// From a dump's beginning, or from a finished backup, to the kill. A dump takes about half as long.
const MOMENT_MS: u64 = 2500;
/// The session of the killed lapses after 10 s, its lease after 15.
const AT_WORK: Duration = Duration::from_secs(60);
/// How long the last may take for all that is left.
const REST: Duration = Duration::from_secs(150);

struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    fn start(bench: &Bench, folder: &Path, number: usize) -> Self {
        let log = folder.join(format!("{number}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_backup"))
            .env_clear()
            .envs(bench.corner.vars().iter().cloned())
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Ends it as a power cut would. False when it had ended already.
    fn kill_dash_nine(&mut self) -> bool {
        let ran = self.child.try_wait().unwrap().is_none();
        if ran {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        ran
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill_dash_nine();
    }
}

fn slot(number: usize) -> String {
    format!("2026-11-22T02:{number:02}:00Z")
}

async fn ask(bench: &Bench, number: usize) {
    let asked = tokio::process::Command::new(env!("CARGO_BIN_EXE_backup"))
        .args(["request", "--slot", &slot(number)])
        .env_clear()
        .envs(bench.corner.vars().iter().cloned())
        .output();
    let asked = asked.await.unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_ten_times_at_random_moments_takes_every_backup_once() {
    let mut bench = Bench::new().await;
    bench.fill(500, 400).await;
    bench.corner.create_topics().await;
    let folder = tempfile::tempdir().unwrap();
    let pid = bench.slow_dump(250);
    let (mut kills, mut dumps_killed, mut asked) = (0, 0, 0);
    while kills < KILLS {
        assert!(asked < 4 * KILLS, "the worker mostly ends before it can be killed");
        // Every other worker dies at a dump; those between finish one and die anywhere after it. So no request sees three
        // deaths, which would make it a suspect.
        let at_dump = kills % 2 == 0;
        for _ in 0..if at_dump { 1 } else { 3 } {
            ask(&bench, asked).await;
            asked += 1;
        }
        let (before, done) = (pid_in(&pid), bench.manifests().await.len());
        let mut worker = Worker::start(&bench, folder.path(), asked);
        until("the worker is at work", AT_WORK, async || {
            let begun = if at_dump {
                pid_in(&pid) != before
            } else {
                bench.manifests().await.len() > done
            };
            begun || worker.child.try_wait().unwrap().is_some()
        })
        .await;
        let moment = rand::rng().random_range(0..MOMENT_MS);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let dumping = pid_in(&pid).filter(|p| Some(*p) != before && Path::new(&format!("/proc/{p}")).exists());
        if worker.kill_dash_nine() {
            kills += 1;
            dumps_killed += usize::from(dumping.is_some());
        }
    }
    assert!(dumps_killed > 0, "no dump was ever running when its worker was killed");

    let mut last = Worker::start(&bench, folder.path(), 0);
    until("the last worker ends by itself", REST, async || {
        last.child.try_wait().unwrap().is_some()
    })
    .await;
    let status = last.child.wait().unwrap();
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(&last.log).unwrap());

    let manifests = bench.manifests().await;
    let slots: Vec<String> = manifests.iter().map(|m| m.slot.to_string()).collect();
    assert_eq!(slots, (0..asked).map(slot).collect::<Vec<_>>(), "one manifest a slot");
    let stored = bench.corner.blobs().names(BACKUPS, "").await.unwrap();
    for manifest in &manifests {
        assert!(stored.contains(&manifest.archive.name), "{} is not there", manifest.archive.name);
    }
    // Every request has one answer, told at least once.
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in bench.corner.events(topics::ASSET_EVENTS).await {
        let envelope = event.envelope();
        assert_eq!(envelope.event_type, BackupCompleted::TYPE);
        let ids = answers.entry(event.value["slot"].as_str().unwrap().to_owned()).or_default();
        if !ids.contains(&envelope.id.to_string()) {
            ids.push(envelope.id.to_string());
        }
    }
    assert!(answers.len() == asked && answers.values().all(|ids| ids.len() == 1), "{answers:?}");
    assert!(bench.corner.events(&topics::dead(topics::BACKUP)).await.is_empty());
    assert_eq!(bench.corner.lag(topics::BACKUP).await, 0);
    println!("{kills} kills, {dumps_killed} of them in a dump, {asked} backups");
}
