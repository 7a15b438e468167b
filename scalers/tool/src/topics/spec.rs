//! `scalers/topics.yaml`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicSpec {
    /// Without the prefix of the environment.
    pub name: String,
    pub partitions: u16,
    pub retention_hours: u32,
    /// A partition.
    pub retention_bytes: u64,
    pub segment_bytes: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    topics: Vec<TopicSpec>,
}

impl TopicSpec {
    /// The topic's settings by Kafka's names.
    pub fn config(&self) -> [(&'static str, String); 4] {
        [
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", (u64::from(self.retention_hours) * 3_600_000).to_string()),
            ("retention.bytes", self.retention_bytes.to_string()),
            ("segment.bytes", self.segment_bytes.to_string()),
        ]
    }
}

/// Reads the text of the file.
///
/// # Errors
/// What is wrong, with its line or the topic's name.
pub fn parse(text: &str) -> anyhow::Result<Vec<TopicSpec>> {
    let File { topics } = serde_yaml_ng::from_str(text)?;
    ensure!(!topics.is_empty(), "there are no topics");
    let mut names = BTreeSet::new();
    for topic in &topics {
        let name = &topic.name;
        let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        ensure!(
            valid && !name.is_empty() && name.len() <= 200,
            "topic {name:?}: a name has 1 to 200 of a-z, A-Z, 0-9, '.', '_' and '-'"
        );
        ensure!(names.insert(name), "topic {name} is there twice");
        ensure!(topic.partitions > 0, "topic {name}: partitions must be 1 or more");
        ensure!(topic.retention_hours > 0, "topic {name}: retentionHours must be 1 or more");
        // The brokers' own lower bound; below it no segment could hold a message.
        ensure!(
            topic.segment_bytes >= 1_048_576,
            "topic {name}: segmentBytes must be 1048576 or more"
        );
        ensure!(
            topic.retention_bytes >= u64::from(topic.segment_bytes),
            "topic {name}: retentionBytes must be segmentBytes or more"
        );
    }
    Ok(topics)
}

/// Reads the file.
///
/// # Errors
/// What is wrong, with the file's name.
pub fn read(path: &Path) -> anyhow::Result<Vec<TopicSpec>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}
