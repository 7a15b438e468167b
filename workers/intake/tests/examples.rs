//! The programs that the README shows, against an intake on the real servers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use messages::{DossierClosed, Hash32, Message as _, topics};
use serde_json::{Value, json};
use stores::Cache;
use support::*;
use tokio::process::Command;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name)
}

fn program(house: &House, command: &str, script: &str, files: &[PathBuf]) -> Command {
    let mut program = Command::new(command);
    program.arg(example(script)).arg("a-1").args(files);
    program.env("INTAKE_URL", &house.intake.url).env("INTAKE_TOKEN", house.token());
    program
        .env("WAIT_SECONDS", "40")
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1");
    program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    program
}

/// Answers the closing of the dossier as ingestion does for one that lacks something.
async fn answer_incomplete(house: &House) {
    let mongo = house.corner.mongo().await;
    let id = format!("{}/a-1", house.tenant());
    let now = bson::DateTime::now().try_to_rfc3339_string().unwrap();
    let sheet = json!({
        "schema": "asset-fact-sheet/1", "tenant": house.tenant(), "asset_id": "a-1", "valuation_currency": "EUR",
        "valuation_date": "2026-09-30", "sources": [],
    });
    let facts = json!({
        "version": 1, "closed_by": messages::new_id(), "closed_at": now, "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "sheet": sheet, "sha256": Hash32([1; 32]),
        "missing": [{ "approach": "market", "missing": ["market.comparables: three sales"] }],
    });
    let set =
        bson::serialize_to_document(&json!({ "tenant": house.tenant(), "asset_id": "a-1", "facts_version": 1, "facts": facts })).unwrap();
    let assets = mongo.assets();
    let update = bson::doc! { "$set": set };
    assets.update_one(bson::doc! { "_id": id }, update).upsert(true).await.unwrap();
    let key = messages::AssetKey::new(house.tenant().parse().unwrap(), "a-1".parse().unwrap());
    house.corner.cache().delete(&Cache::asset_key(&key)).await;
}

async fn sends_closes_and_waits(command: &str, script: &str) {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("anexo de tasación.bin");
    std::fs::write(&large, bytes(9_000_000)).unwrap();
    let files = [large, example("dossier/ficha.json")];
    let mut running = program(&house, command, script, &files).spawn().expect(command);

    // Only when everything has arrived does the asset come to its state.
    let closed = async {
        loop {
            let events = house.corner.events(topics::INGESTION).await;
            if events.iter().any(|e| e.envelope().event_type == DossierClosed::TYPE) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let events = tokio::select! {
        events = closed => events,
        ended = running.wait() => panic!("{script} ended with {ended:?} before the dossier was closed"),
        () = tokio::time::sleep(PATIENCE) => panic!("{script} does not close the dossier"),
    };
    assert_eq!(events.len(), 3, "two documents and the closing");
    let (first, second) = (&events[0].value, &events[1].value);
    assert_eq!(
        (&first["filename"], &first["size"]),
        (&json!("anexo de tasación.bin"), &json!(9_000_000))
    );
    assert_eq!(second["filename"], "ficha.json");
    assert_eq!(first["sha256"], Hash32(sha256(&bytes(9_000_000))).to_string());
    answer_incomplete(&house).await;

    let ended = tokio::time::timeout(PATIENCE, running.wait_with_output())
        .await
        .expect(script)
        .unwrap();
    assert!(ended.status.success(), "{script}: {}", String::from_utf8_lossy(&ended.stderr));
    let printed: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&printed["state"], &printed["asset_id"]), (&json!("incomplete"), &json!("a-1")));

    // Once more it is the same request, and what is refused is said.
    let again = program(&house, command, script, &files).output().await.unwrap();
    assert!(again.status.success());
    let ids = |events: &[testkit::Seen]| events.iter().map(|e| e.envelope().id).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&house.corner.events(topics::INGESTION).await), ids(&events));
    let refused = program(&house, command, script, &files)
        .env("INTAKE_TOKEN", "no token")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("401"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example_sends_closes_and_waits() {
    sends_closes_and_waits("node", "upload.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_sends_closes_and_waits() {
    sends_closes_and_waits("python3", "upload.py").await;
}
