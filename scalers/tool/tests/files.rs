//! The files that ops edit: ours are right and agree with each other, and a mistake is named.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use scalers::engine::OffsetReset;
use scalers::{spec, topics};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn ingestion() -> String {
    std::fs::read_to_string(dir().join("ingestion.yaml")).unwrap()
}

#[test]
fn files_topics_and_workers_agree() {
    let scalers = spec::read_dir(&dir()).unwrap();
    let topics = topics::read(&dir().join("topics.yaml")).unwrap();
    let mut names: Vec<&str> = scalers.iter().map(|s| s.worker.as_str()).collect();
    names.sort_unstable();
    let mut workers = messages::topics::WORK;
    workers.sort_unstable();
    assert_eq!(names, workers);
    for s in &scalers {
        assert_eq!((&s.topic, &s.group), (&s.worker, &s.worker));
        assert_eq!(s.brokers_from, "KAFKA_BROKERS");
        assert_eq!(s.trigger.offset_reset, OffsetReset::Earliest);
        assert_eq!(s.trigger.activation_lag_threshold, 0);
        assert!(!s.trigger.allow_idle_consumers);
        let topic = topics.iter().find(|t| t.name == s.topic).unwrap();
        assert!(s.limits.max.unwrap() <= i64::from(topic.partitions), "{}", s.worker);
        let dead = topics.iter().find(|t| t.name == messages::topics::dead(&s.topic)).unwrap();
        assert_eq!((dead.partitions, dead.retention_hours), (1, 30 * 24));
    }
    let partitions = |name: &str| topics.iter().find(|t| t.name == name).unwrap().partitions;
    assert_eq!(
        ["ingestion", "valuation", "minting", "backup", "asset-events"].map(partitions),
        [12, 12, 8, 1, 12]
    );
    assert_eq!(topics.len(), 9);
    let disk: u64 = topics
        .iter()
        .map(|t| u64::from(t.partitions) * (t.retention_bytes + u64::from(t.segment_bytes)))
        .sum();
    assert!(disk <= 5 << 30, "{disk} bytes");
}

#[test]
fn the_component_joins_every_scaler_file() {
    let text = std::fs::read_to_string(dir().join("kustomization.yaml")).unwrap();
    for s in spec::read_dir(&dir()).unwrap() {
        assert!(text.contains(&format!("- path: {}.yaml\n", s.worker)), "{}", s.worker);
    }
}

/// Changes one piece of a right file, and what the error must say then.
const MISTAKES: [(&str, &str, &[&str]); 17] = [
    ("maxReplicaCount: 12", "maxReplicaCount: -1", &["maxReplicaCount", "1 or more"]),
    (
        "maxReplicaCount: 12",
        "maxReplicaCount: \"12\"",
        &["maxReplicaCount", "whole number"],
    ),
    ("lagThreshold:", "lagTreshold:", &["lagTreshold", "lagThreshold", "line"]),
    ("\"20\"", "20", &["20", "string", "line"]),
    ("\"20\"", "\"0\"", &["lagThreshold", "\"0\"", "1 or more", "line"]),
    ("\"20\"", "\"1e3\"", &["1e3", "whole number"]),
    ("\"20\"", "\"010\"", &["010", "whole number"]),
    ("earliest", "sometimes", &["sometimes", "earliest or latest", "line"]),
    (
        "maxReplicaCount: 12",
        "maxReplicaCount: 0",
        &["maxReplicaCount", "1 or more", "line"],
    ),
    ("maxReplicaCount: 12", "maxReplicas: 12", &["maxReplicas", "line"]),
    ("strategy: default", "strategy: accurate", &["accurate", "default", "line"]),
    ("strategy: gradual", "strategy: immediate", &["immediate", "gradual"]),
    ("type: kafka", "type: cron", &["cron", "kafka"]),
    ("topic: ingestion", "topic: \"\"", &["topic", "empty"]),
    ("kind: ScaledJob", "kind: ScaledObject", &["ScaledObject", "ScaledJob"]),
    ("tls: enable", "allowIdleConsumers: \"yes\"", &["yes", "true"]),
    ("  triggers:", "  trigger:", &["trigger"]),
];

#[test]
fn a_mistake_is_named_with_its_line() {
    spec::parse(&ingestion()).unwrap();
    for (right, wrong, parts) in MISTAKES {
        let text = ingestion();
        assert!(text.contains(right), "{right}");
        let error = format!("{:#}", spec::parse(&text.replacen(right, wrong, 1)).unwrap_err());
        let line = text.lines().position(|l| l.contains(right)).unwrap() + 1;
        for part in parts {
            let part = if *part == "line" {
                format!("line {line} ")
            } else {
                (*part).to_owned()
            };
            assert!(error.contains(&part), "{wrong}: {part}: {error}");
        }
    }
}

#[test]
fn a_file_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("minting.yaml"), ingestion()).unwrap();
    let error = format!("{:#}", spec::read_dir(dir.path()).unwrap_err());
    assert!(error.contains("minting.yaml") && error.contains("ingestion"), "{error}");
}

#[test]
fn mistakes_in_the_topics_are_named() {
    let right = std::fs::read_to_string(dir().join("topics.yaml")).unwrap();
    for (from, to, part) in [
        ("partitions: 12", "partitions: 0", "partitions must be 1"),
        ("partitions: 12", "partitons: 12", "partitons"),
        ("name: valuation,", "name: ingestion,", "there twice"),
        ("name: minting,", "name: \"a/b\",", "a/b"),
        ("segmentBytes: 33554432", "segmentBytes: 14", "segmentBytes"),
        ("retentionBytes: 67108864", "retentionBytes: 1", "retentionBytes"),
    ] {
        let error = format!("{:#}", topics::parse(&right.replacen(from, to, 1)).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}
