//! `scalers/topics.yaml`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::check::nearest;
use crate::yaml::{Node, Place, parse as parse_yaml};

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
    /// Messages an hour at the rate that `promise` is given for.
    #[serde(default)]
    pub messages_per_hour: u64,
}

/// What an outage may take without a message lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Promise {
    pub outage_hours: u32,
    /// Of one message on disk, headers included.
    pub message_bytes: u64,
}

/// The disk that Kafka has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    pub bytes: u64,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsFile {
    pub topics: Vec<TopicSpec>,
    /// Where each topic stands.
    pub places: Vec<Place>,
    pub promise: Option<Promise>,
    pub disk: Option<Disk>,
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

    /// What the topic takes of the disk at most: disk is freed by whole segments.
    pub fn disk(&self) -> u64 {
        u64::from(self.partitions).saturating_mul(self.retention_bytes.saturating_add(u64::from(self.segment_bytes)))
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}: {what}", place.line)]
pub struct Wrong {
    pub place: Place,
    pub what: String,
}

fn wrong<T>(node: &Node, what: String) -> Result<T, Wrong> {
    Err(Wrong {
        place: node.place.clone(),
        what,
    })
}

/// Reads the text of the file.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse_file(text: &str) -> Result<TopicsFile, Wrong> {
    let documents = parse_yaml(text).map_err(|e| Wrong {
        place: Place {
            line: e.line,
            column: e.column,
            bytes: 0..0,
        },
        what: e.what,
    })?;
    let Some(root) = documents.first() else {
        return Err(Wrong {
            place: Place::default(),
            what: "there are no topics".to_owned(),
        });
    };
    for (key, node) in root.map() {
        if !["topics", "promise", "disk"].contains(&key.name.as_str()) {
            return wrong(node, unknown(&key.name, &["topics", "promise", "disk"]));
        }
    }
    let list = root.get("topics").map(Node::list).unwrap_or_default();
    if list.is_empty() {
        return wrong(root, "there are no topics".to_owned());
    }
    let mut file = TopicsFile {
        topics: Vec::with_capacity(list.len()),
        places: list.iter().map(|n| n.place.clone()).collect(),
        promise: root
            .get("promise")
            .map(|n| read_as(n, &["outageHours", "messageBytes"]))
            .transpose()?,
        disk: root.get("disk").map(|n| read_as(n, &["bytes"])).transpose()?,
    };
    let mut names = BTreeSet::new();
    for node in list {
        let topic = topic(node)?;
        if !names.insert(topic.name.clone()) {
            return wrong(node, format!("topic {} is there twice", topic.name));
        }
        file.topics.push(topic);
    }
    Ok(file)
}

const KEYS: [&str; 6] = [
    "name",
    "partitions",
    "retentionHours",
    "retentionBytes",
    "segmentBytes",
    "messagesPerHour",
];

fn topic(node: &Node) -> Result<TopicSpec, Wrong> {
    let topic: TopicSpec = read_as(node, &KEYS)?;
    let name = &topic.name;
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !valid || name.is_empty() || name.len() > 200 {
        return wrong(
            node,
            format!("topic {name:?}: a name has 1 to 200 of a-z, A-Z, 0-9, '.', '_' and '-'"),
        );
    }
    let says = |what: &str| wrong(node, format!("topic {name}: {what}"));
    match () {
        () if topic.partitions == 0 => says("partitions must be 1 or more"),
        () if topic.retention_hours == 0 => says("retentionHours must be 1 or more"),
        // The brokers' own lower bound; below it no segment could hold a message.
        () if topic.segment_bytes < 1_048_576 => says("segmentBytes must be 1048576 or more"),
        () if topic.retention_bytes < u64::from(topic.segment_bytes) => says("retentionBytes must be segmentBytes or more"),
        () => Ok(topic),
    }
}

fn read_as<T: DeserializeOwned>(node: &Node, keys: &[&str]) -> Result<T, Wrong> {
    if let Some((key, _)) = node.map().iter().find(|(key, _)| !keys.contains(&key.name.as_str())) {
        return Err(Wrong {
            place: key.place.clone(),
            what: unknown(&key.name, keys),
        });
    }
    serde_json::from_value(node.json()).map_err(|e| Wrong {
        place: node.place.clone(),
        what: e.to_string(),
    })
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("there is no key {name}; did you mean {near}?"),
        None => format!("there is no key {name}; there are {}", known.join(", ")),
    }
}

/// The topics of a text.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(text: &str) -> anyhow::Result<Vec<TopicSpec>> {
    Ok(parse_file(text)?.topics)
}

/// Reads the topics of the file.
///
/// # Errors
/// What is wrong, with the file's name.
pub fn read(path: &Path) -> anyhow::Result<Vec<TopicSpec>> {
    if path.is_dir() {
        bail!("{} is a directory; name the file", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}
