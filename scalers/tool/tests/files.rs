//! The files that ops edit: ours are right and agree with each other, and a mistake is named.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use scalers::engine::{OffsetReset, Version};
use scalers::spec::Trigger;
use scalers::{spec, topics};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn ingestion() -> String {
    std::fs::read_to_string(dir().join("ingestion.yaml")).unwrap()
}

#[test]
fn files_topics_and_workers_agree() {
    let scalers = spec::read_dir(&dir(), Version::DEFAULT).unwrap();
    let topics = topics::read(&dir().join("topics.yaml")).unwrap();
    let mut names: Vec<&str> = scalers.iter().map(|s| s.worker.as_str()).collect();
    names.sort_unstable();
    let mut workers = messages::topics::WORK;
    workers.sort_unstable();
    assert_eq!(names, workers);
    for s in &scalers {
        let [
            Trigger::Kafka {
                topic,
                group,
                brokers_from,
                kafka,
            },
        ] = s.triggers.as_slice()
        else {
            panic!("{}: {:?}", s.worker, s.triggers);
        };
        assert_eq!((topic, group), (&s.worker, &s.worker));
        assert_eq!(brokers_from.as_deref(), Some("KAFKA_BROKERS"));
        assert_eq!(kafka.offset_reset, OffsetReset::Earliest);
        assert_eq!(kafka.activation_lag_threshold, 0);
        assert!(!kafka.allow_idle_consumers);
        let topic = topics.iter().find(|t| t.name == *topic).unwrap();
        assert!(s.max() <= i64::from(topic.partitions), "{}", s.worker);
        let dead = topics.iter().find(|t| t.name == messages::topics::dead(&s.worker)).unwrap();
        assert_eq!((dead.partitions, dead.retention_hours), (1, 30 * 24));
    }
    let partitions = |name: &str| topics.iter().find(|t| t.name == name).unwrap().partitions;
    assert_eq!(
        ["ingestion", "valuation", "minting", "backup", "asset-events", "redrives"].map(partitions),
        [12, 12, 8, 1, 12, 1]
    );
    assert_eq!(topics.len(), 10);
    let disk: u64 = topics
        .iter()
        .map(|t| u64::from(t.partitions) * (t.retention_bytes + u64::from(t.segment_bytes)))
        .sum();
    assert!(disk <= 5 << 30, "{disk} bytes");
}

#[test]
fn the_component_joins_every_scaler_file() {
    let text = std::fs::read_to_string(dir().join("kustomization.yaml")).unwrap();
    for s in spec::read_dir(&dir(), Version::DEFAULT).unwrap() {
        assert!(text.contains(&format!("- path: {}.yaml\n", s.worker)), "{}", s.worker);
    }
}

#[test]
fn a_file_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("minting.yaml"), ingestion()).unwrap();
    let error = format!("{:#}", spec::read_dir(dir.path(), Version::DEFAULT).unwrap_err());
    assert!(error.contains("minting.yaml") && error.contains("ingestion"), "{error}");
}

#[test]
fn mistakes_in_the_topics_are_named() {
    let right = std::fs::read_to_string(dir().join("topics.yaml")).unwrap();
    for (from, to, part) in [
        ("partitions: 12", "partitions: 0", "partitions must be 1"),
        (
            "partitions: 12",
            "partitons: 12",
            "line 11: there is no key partitons; did you mean partitions?",
        ),
        ("name: valuation,", "name: ingestion,", "there twice"),
        ("name: minting,", "name: \"a/b\",", "a/b"),
        ("segmentBytes: 33554432", "segmentBytes: 14", "segmentBytes"),
        ("retentionBytes: 67108864", "retentionBytes: 1", "retentionBytes"),
    ] {
        let error = format!("{:#}", topics::parse(&right.replacen(from, to, 1)).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}
