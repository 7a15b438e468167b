//! The program itself, from Kafka to the chain and back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Output, Stdio};
use std::time::Duration;

use bus::{KafkaConfig, Producer};
use jiff::Timestamp;
use messages::{AssetKey, Event, MintingPayload, Outgoing, TraceParent, topics};
use support::{Bench, distinct};
use tokio::process::{Child, Command};

const MINTED: &str = "com.libertum.asset.minted.v1";

fn spawn(bench: &Bench, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_minting"))
        .args(args)
        .env_clear()
        .envs(bench.corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn run(bench: &Bench, args: &[&str]) -> (Option<i32>, String) {
    let ended = tokio::time::timeout(Duration::from_secs(90), spawn(bench, args).wait_with_output()).await;
    let Output { status, stdout, stderr } = ended.expect("the program ends by itself").unwrap();
    (
        status.code(),
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)),
    )
}

async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench.corner.set("IDLE_EXIT_MS", "500");
    bench.corner.create_topics().await;
    let (code, text) = run(&bench, &["--prepare"]).await;
    assert_eq!(code, Some(0), "{text}");
    bench
}

async fn produce(bench: &Bench, events: &[Event<MintingPayload>]) {
    let producer = Producer::new(&bench.corner.read(KafkaConfig::read), "test").unwrap();
    for event in events {
        let MintingPayload::Requested(request) = &event.payload;
        let asset = AssetKey::new(event.envelope.tenant.clone(), request.asset_id.clone());
        let (id, subject) = (event.envelope.id, event.envelope.subject.to_string());
        let out = Outgoing::first(id, "/test", subject, &asset, Timestamp::now(), TraceParent::root(), request);
        producer.send(&out).await.unwrap();
    }
}

/// The ids of the asset.minted events that went out.
async fn minted_ids(bench: &Bench) -> Vec<uuid::Uuid> {
    let seen = bench.corner.events(topics::ASSET_EVENTS).await;
    let envelopes = seen.iter().map(testkit::Seen::envelope);
    envelopes.filter(|e| e.event_type == MINTED).map(|e| e.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_mints_what_is_asked_for_and_the_chain_confirms_it() {
    let bench = bench().await;
    let events = bench.requests("a", 12);
    produce(&bench, &events).await;
    let (code, text) = run(&bench, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    bench.assert_minted_once(&events).await;
    assert_eq!(distinct(minted_ids(&bench).await), 12, "{text}");
    // The same requests again: the same events, and nothing new on the chain.
    let open = bench.attempts().await.len();
    produce(&bench, &events).await;
    let (code, text) = run(&bench, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    let ids = minted_ids(&bench).await;
    assert_eq!((ids.len(), distinct(ids)), (24, 12));
    assert_eq!(bench.attempts().await.len(), open);

    let tenant = bench.corner.name.clone();
    let (code, text) = run(&bench, &["confirm", "--tenant", &tenant, "--asset", "a-3", "--json"]).await;
    assert_eq!(code, Some(0), "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (found["confirmed"].as_bool(), found["state"].as_str()),
        (Some(true), Some("minted"))
    );
    let (code, text) = run(&bench, &["confirm", "--tenant", &tenant, "--asset", "never"]).await;
    assert_eq!(code, Some(70), "{text}");
    let (code, text) = run(&bench, &["status", "--json"]).await;
    assert_eq!(code, Some(0), "{text}");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["signers"].as_array().unwrap().len(), 8);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_between_broadcast_and_commit_is_continued() {
    let bench = bench().await;
    let events = bench.requests("a", 3);
    produce(&bench, &events).await;
    bench.pause_blocks().await;
    let mut child = spawn(&bench, &[]);
    bench.pending().await;
    child.kill().await.unwrap();
    assert!(minted_ids(&bench).await.is_empty());
    bench.resume_blocks().await;
    for _ in 0..5 {
        let (code, text) = run(&bench, &[]).await;
        assert_eq!(code, Some(0), "{text}");
        if distinct(minted_ids(&bench).await) == events.len() {
            break;
        }
    }
    let ids = minted_ids(&bench).await;
    assert_eq!((ids.len(), distinct(ids)), (3, 3), "each event went out once");
    bench.assert_minted_once(&events).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_chain_ends_the_program_with_64() {
    let mut bench = bench().await;
    bench.corner.set("EVM_CHAIN_ID", "5");
    let (code, text) = run(&bench, &[]).await;
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("EVM_CHAIN_ID is 5"), "{text}");
    bench.end().await;
}
