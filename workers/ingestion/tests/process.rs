//! The program itself, from Kafka to Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Stdio;
use std::time::Duration;

use bus::{KafkaConfig, Producer};
use bytes::Bytes;
use jiff::Timestamp;
use messages::{AssetKey, BlobRef, DocumentSubmitted, DossierClosed, Outgoing, TraceParent, new_id, topics};
use stores::PutOptions;
use testkit::Corner;
use tokio::process::Command;

const FILES: [&str; 4] = ["ficha.json", "testigos.csv", "nota-simple.pdf", "rentas.xlsx"];

/// Runs the program in the corner to its end, and returns its exit status and standard output.
async fn run(corner: &Corner, args: &[&str]) -> (Option<i32>, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .args(args)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let output = output.expect("the program ends by itself").unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code(), text)
}

fn example(name: &str) -> String {
    format!("{}/../../docs/examples/dossier/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_program_drains_its_topic_and_asks_for_a_valuation() {
    let mut corner = Corner::new();
    corner.set("IDLE_EXIT_MS", "500");
    corner.create_topics().await;
    let (code, text) = run(&corner, &["--prepare"]).await;
    assert_eq!(code, Some(0), "{text}");

    let asset = AssetKey::new(corner.name.parse().unwrap(), "piso-1".parse().unwrap());
    let producer = Producer::new(&corner.read(KafkaConfig::read), "test").unwrap();
    let trace = TraceParent::root();
    for name in FILES {
        let bytes = Bytes::from(std::fs::read(example(name)).unwrap());
        let size = bytes.len() as u64;
        let document_id = new_id();
        let blob_name = format!("{}/{document_id}", asset.tenant);
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let (info, sha256) = corner
            .blobs()
            .blob("inbox", &blob_name)
            .put(stream, PutOptions::default())
            .await
            .unwrap();
        let message = DocumentSubmitted {
            document_id,
            asset_id: asset.asset_id.clone(),
            blob: BlobRef {
                container: "inbox".to_owned(),
                name: blob_name,
                etag: info.etag,
            },
            size,
            sha256,
            declared_type: None,
            filename: Some(name.to_owned()),
            received_at: Timestamp::now(),
            submitted_by: "ana".to_owned(),
        };
        let subject = format!("documents/{document_id}");
        let event = Outgoing::first(new_id(), "/libertum/intake", subject, &asset, Timestamp::now(), trace, &message);
        producer.send(&event).await.unwrap();
    }
    let message = DossierClosed {
        asset_id: asset.asset_id.clone(),
        requested_by: "ana".to_owned(),
        valuation_date: None,
    };
    let subject = format!("assets/{}", asset.asset_id);
    let event = Outgoing::first(new_id(), "/libertum/intake", subject, &asset, Timestamp::now(), trace, &message);
    producer.send(&event).await.unwrap();

    let (code, text) = run(&corner, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    let outcomes = corner.events(topics::ASSET_EVENTS).await;
    let types: Vec<_> = outcomes.iter().map(|e| e.envelope().event_type).collect();
    assert_eq!(types, ["com.libertum.document.ingested.v1"; 4], "{text}");
    let requests = corner.events(topics::VALUATION).await;
    assert_eq!(requests.len(), 1, "{text}");
    assert_eq!(requests[0].key, asset.to_string());
    assert_eq!(requests[0].envelope().trace.trace_id(), trace.trace_id());
    // Nothing is left: a second process finds nothing to do and says nothing.
    let (code, text) = run(&corner, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(corner.events(topics::VALUATION).await.len(), 1);
}

#[tokio::test]
async fn inspect_needs_no_server_and_prints_json_only() {
    let files: Vec<String> = FILES.iter().map(|f| example(f)).collect();
    let inspect = |args: Vec<String>| async move {
        let output = Command::new(env!("CARGO_BIN_EXE_ingestion"))
            .arg("inspect")
            .args(args)
            .env_clear()
            .output()
            .await
            .unwrap();
        (
            output.status.code(),
            output.stdout,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, stdout, stderr) = inspect(files.clone()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let found: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(found["dossier"]["complete"], true);
    assert_eq!(found["documents"][1]["facts"][0]["fact"]["provenance"]["locator"]["row"], 1);
    let (_, stdout, _) = inspect(vec![files[1].clone(), "--valuation-date".to_owned(), "2026-09-30".to_owned()]).await;
    let found: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(found["dossier"]["complete"], false);
    assert!(
        found["dossier"]["missing"][0]["missing"][0]
            .as_str()
            .unwrap()
            .starts_with("physical.")
    );
    let (code, stdout, stderr) = inspect(vec!["/nowhere.csv".to_owned()]).await;
    assert_eq!((code, stdout.len()), (Some(1), 0));
    assert!(stderr.contains("/nowhere.csv"), "{stderr}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_and_names_everything() {
    let output = Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .arg("--check-config")
        .env_clear()
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["KAFKA_BROKERS", "MONGODB_URI", "REDIS_URL", "BLOB_ENDPOINT"] {
        assert!(text.contains(&format!("{name} is not set")), "{text}");
    }
}
