//! The program itself: from Kafka to Blob and back, killed on the way, and by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use bson::{Document, doc};
use messages::{BackupCompleted, Message as _, topics};
use serde_json::Value;
use support::{Bench, pid_in, request, signal};
use testkit::{Corner, Mongod, until};
use tokio::process::{Child, Command};

const SLOT: &str = "2026-11-22T02:00:00Z";

fn spawn(corner: &Corner, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_backup"))
        .args(args)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn end(child: Child) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("the program ends by itself").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs the program to its good end, and returns its standard output.
async fn run(corner: &Corner, args: &[&str]) -> String {
    let (code, out, err) = end(spawn(corner, args)).await;
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

async fn json(corner: &Corner, args: &[&str]) -> Value {
    let out = run(corner, args).await;
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?} prints JSON and nothing else: {e}: {out}"))
}

async fn completed(corner: &Corner) -> Vec<testkit::Seen> {
    let mut seen = corner.events(topics::ASSET_EVENTS).await;
    seen.retain(|e| e.envelope().event_type == BackupCompleted::TYPE);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_asked_for_taken_shown_and_restored() {
    let bench = Bench::new().await;
    bench.fill(1000, 400).await;
    let corner = &bench.corner;
    corner.create_topics().await;
    run(corner, &["--prepare"]).await;
    let asked = json(corner, &["request", "--slot", SLOT]).await;
    let again = json(corner, &["request", "--slot", SLOT]).await;
    assert_eq!(asked, again, "a slot is one event");
    run(corner, &[]).await;
    let events = completed(corner).await;
    let ids: Vec<_> = events.iter().map(|e| e.envelope().id).collect();
    assert!(
        ids.len() == 2 && ids[0] == ids[1],
        "asked twice, answered twice with one event: {ids:?}"
    );
    assert_eq!(events[0].value, events[1].value);
    assert_eq!(bench.stored().await.len(), 2, "one archive, one manifest");

    let list = json(corner, &["list", "--json"]).await;
    let id = asked["backup_id"].as_str().unwrap();
    assert_eq!((list.as_array().unwrap().len(), list[0]["backup_id"].as_str()), (1, Some(id)));
    assert!(run(corner, &["list"]).await.contains(id));
    let target = Mongod::start().await;
    let restored = json(corner, &["restore", id, "--to", &target.uri]).await;
    assert_eq!(restored["consistent_at"], list[0]["consistent_at"]);
    assert!(
        (1000..=list[0]["documents"].as_u64().unwrap()).contains(&restored["documents"].as_u64().unwrap()),
        "{restored}"
    );
    let there = target.client.database("app").collection::<Document>("ballast");
    assert_eq!(there.count_documents(doc! {}).await.unwrap(), 1000);
    let (code, out, err) = end(spawn(corner, &["restore", id, "--to", &target.uri])).await;
    assert_eq!((code, out.as_str()), (Some(70), ""));
    assert!(err.contains("the target is not empty"), "{err}");
    let (code, _, err) = end(spawn(corner, &["restore", "never", "--to", &target.uri])).await;
    assert!(code == Some(70) && err.contains("backup list"), "{err}");

    // By hand, without Kafka: the same slot is there, another is taken.
    let there = json(corner, &["run", "--slot", SLOT]).await;
    assert_eq!(there["attempt"], list[0]["attempt"]);
    let fresh = json(corner, &["run"]).await;
    assert_ne!(fresh["backup_id"], list[0]["backup_id"]);
    assert_eq!(json(corner, &["list", "--json"]).await.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_the_middle_is_continued_by_the_next() {
    let mut bench = Bench::new().await;
    bench.fill(2000, 400).await;
    bench.corner.create_topics().await;
    let pid = bench.slow_dump(300);
    json(&bench.corner, &["request", "--slot", SLOT]).await;
    let mut worker = spawn(&bench.corner, &[]);
    until("mongodump runs", Duration::from_secs(60), async || pid_in(&pid).is_some()).await;
    worker.kill().await.unwrap();
    let dump = pid_in(&pid).unwrap();
    // Nobody reads what it writes any more: it must not go on reading the database for nothing.
    let gone = async || match std::fs::read_to_string(format!("/proc/{dump}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    until("the orphaned mongodump is gone", Duration::from_secs(30), gone).await;
    assert_eq!(bench.stored().await, Vec::<String>::new());
    bench.honest_tools();
    // The lock is still held by the dead: the next worker waits until it lapses.
    run(&bench.corner, &[]).await;
    assert_eq!(bench.stored().await.len(), 2, "one archive, one manifest");
    assert!(bench.manifest(&request(SLOT)).await.is_some());
    assert_eq!(completed(&bench.corner).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_leaves_the_request_to_the_next() {
    let mut bench = Bench::new().await;
    bench.fill(2000, 400).await;
    bench.corner.create_topics().await;
    bench.corner.set("GRACE_SECONDS", "3");
    let pid = bench.slow_dump(2000);
    json(&bench.corner, &["request", "--slot", SLOT]).await;
    let worker = spawn(&bench.corner, &[]);
    until("mongodump runs", Duration::from_secs(60), async || pid_in(&pid).is_some()).await;
    signal(worker.id().unwrap(), "TERM");
    let (code, out, err) = end(worker).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(bench.stored().await, Vec::<String>::new());
    bench.honest_tools();
    run(&bench.corner, &[]).await;
    assert_eq!(completed(&bench.corner).await.len(), 1);
}

/// Memory does not grow with the database. The bound is generous, for what a debug build and an allocator keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_dump_takes_little_memory_and_shows_no_secret() {
    let mut bench = Bench::new().await;
    bench.fill(12_000, 10_000).await;
    // The peak of a process is gone with it: the dump's last act is to look at its parent's.
    let peak = std::env::temp_dir().join(format!("{}-peak", bench.corner.name));
    let tool = support::tools().join("mongodump");
    bench.dump_script(&format!(
        "#!/bin/sh\n{} \"$@\" || exit $?\ngrep VmHWM /proc/$PPID/status >{peak}\ntr '\\0' ' ' </proc/$$/cmdline >>{peak}\n",
        tool.display(),
        peak = peak.display()
    ));
    let manifest = json(&bench.corner, &["run"]).await;
    let seen = std::fs::read_to_string(&peak).unwrap();
    std::fs::remove_file(&peak).unwrap();
    let kib: u64 = seen.split_whitespace().nth(1).unwrap().parse().unwrap();
    let raw = manifest["archive"]["raw_size"].as_u64().unwrap();
    println!(
        "{} MB dumped, {} MB stored, peak of the worker {} MiB",
        raw / 1_000_000,
        manifest["archive"]["size"].as_u64().unwrap() / 1_000_000,
        kib / 1024
    );
    assert!(raw > 100_000_000, "{raw}");
    assert!(kib * 1024 < raw, "{kib} KiB for {raw} bytes");
    assert!(
        !seen.contains("mongodb://"),
        "the connection string stands in the arguments: {seen}"
    );
}

#[tokio::test]
async fn a_missing_tool_and_a_wrong_configuration_are_named() {
    let mut corner = Corner::new();
    corner.set("MONGO_TOOLS_DIR", "/nowhere");
    let (code, _, err) = end(spawn(&corner, &["run"])).await;
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("/nowhere/mongodump") && err.contains("MONGO_TOOLS_DIR"), "{err}");
    let output = Command::new(env!("CARGO_BIN_EXE_backup"))
        .arg("--check-config")
        .env_clear()
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["KAFKA_BROKERS", "MONGODB_URI", "BLOB_ENDPOINT"] {
        assert!(text.contains(&format!("{name} is not set")), "{text}");
    }
}
