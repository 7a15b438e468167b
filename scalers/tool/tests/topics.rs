//! `scalers topics` on the real broker.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bus::{KafkaConfig, Producer};
use messages::{AssetKey, DossierClosed, Outgoing, TraceParent, new_id};
use scalers::kafka::Group;
use testkit::Corner;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../topics.yaml")
}

fn scalers(corner: &Corner, args: &[&str]) -> (Option<i32>, String) {
    let file = file();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scalers"));
    command.arg("topics").args(args).args(["--file", file.to_str().unwrap()]);
    let Output { status, stdout, stderr } = command.envs(corner.vars().iter().cloned()).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap(),
    )
}

fn group(corner: &Corner, worker: &str) -> Group {
    Group::new(&corner.read(KafkaConfig::read), worker, worker).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_grown_and_never_shrunk() {
    let corner = Corner::new();
    let (code, said) = scalers(&corner, &["check", "--partitions-override", "2"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("topic {}.minting.dead does not exist", corner.name)),
        "{said}"
    );

    let (code, said) = scalers(&corner, &["apply", "--partitions-override", "2"]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "ingestion: created",
        "backup.dead: created",
        "minting: 2 partitions start",
        "14 changes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for worker in ["ingestion", "valuation", "minting", "backup"] {
        let partitions = group(&corner, worker).partitions().unwrap();
        assert_eq!(partitions.len(), if worker == "backup" { 1 } else { 2 });
        assert!(
            partitions.iter().all(|p| (p.committed, p.end) == (Some(0), Some(0))),
            "{worker}: {partitions:?}"
        );
    }
    let (code, said) = scalers(&corner, &["apply", "--partitions-override", "2"]);
    assert!(code == Some(0) && said.contains(", 0 changes"), "{said}");
    let (code, said) = scalers(&corner, &["check", "--partitions-override", "2"]);
    assert_eq!(code, Some(0), "{said}");

    let (code, said) = scalers(&corner, &["check", "--partitions-override", "3"]);
    assert!(code == Some(1) && said.contains("ingestion has 2 partitions, too few"), "{said}");
    let (code, said) = scalers(&corner, &["apply", "--partitions-override", "3"]);
    assert!(code == Some(0) && said.contains("ingestion: grown from 2 to 3"), "{said}");
    assert!(said.contains("ingestion: 1 partitions start"), "{said}");
    assert_eq!(group(&corner, "ingestion").partitions().unwrap().len(), 3);

    let (code, said) = scalers(&corner, &["apply", "--partitions-override", "2"]);
    assert!(code != Some(0) && said.contains("more than the file says"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_brought_back_and_offsets_that_exist_stay() {
    let corner = Corner::new();
    assert_eq!(scalers(&corner, &["apply", "--partitions-override", "1"]).0, Some(0));
    let kafka = corner.read(KafkaConfig::read);
    let producer = Producer::new(&kafka, "test").unwrap();
    for _ in 0..3 {
        producer.send(&closing(&corner)).await.unwrap();
    }
    let partitions = group(&corner, "ingestion").partitions().unwrap();
    assert_eq!((partitions[0].committed, partitions[0].end), (Some(0), Some(3)));

    let changed = tempfile::NamedTempFile::new().unwrap();
    let text = std::fs::read_to_string(file())
        .unwrap()
        .replace("retentionHours: 168", "retentionHours: 24");
    std::fs::write(changed.path(), text).unwrap();
    let wanted = scalers::topics::read(changed.path()).unwrap();
    let one: Vec<_> = wanted
        .into_iter()
        .map(|t| scalers::topics::TopicSpec { partitions: 1, ..t })
        .collect();
    let mut said = Vec::new();
    let cluster = scalers::topics::Cluster::new(&kafka).unwrap();
    cluster.apply(&one, |line| said.push(line)).await.unwrap();
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said[0].contains("retention.ms is 604800000, it should be 86400000"), "{said:?}");
    assert!(cluster.check(&one).await.unwrap().is_empty());
    let after = group(&corner, "ingestion").partitions().unwrap();
    assert_eq!(after, partitions);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_out_of_reach_are_an_error_in_time() {
    let mut corner = Corner::new();
    corner.set("KAFKA_BROKERS", "127.0.0.1:1");
    let (code, said) = scalers(&corner, &["check"]);
    assert!(code == Some(69) && said.contains("do not answer"), "{code:?} {said}");
}

fn closing(corner: &Corner) -> Outgoing {
    let asset = AssetKey::new(corner.name.parse().unwrap(), "a".parse().unwrap());
    let message = DossierClosed {
        asset_id: asset.asset_id.clone(),
        requested_by: "ana".to_owned(),
        valuation_date: None,
    };
    let now = "2026-06-20T10:00:00Z".parse().unwrap();
    Outgoing::first(new_id(), "/test", "assets/a".to_owned(), &asset, now, TraceParent::root(), &message)
}
