//! Whether the topics fit the disk, and outlast the outage that is promised.

use std::path::Path;

use super::finding::{Finding, Level};
use crate::topics::TopicsFile;
use crate::yaml::Place;

/// Messages spread over partitions by their keys, so no partition gets exactly its share.
const SKEW: f64 = 1.25;

pub fn check(file: &Path, topics: &TopicsFile, findings: &mut Vec<Finding>) {
    let mut say = |id, level, place: &Place, key: &str, message: String| {
        findings.push(Finding::new(id, level, file, place, key, message));
    };
    let whole_file = Place::default();
    let all: u64 = topics.topics.iter().map(|t| t.disk()).fold(0, u64::saturating_add);
    match topics.disk {
        Some(disk) if all > disk.bytes => {
            let message = format!(
                "the topics may take {} MiB (partitions × (retentionBytes + segmentBytes)), Kafka has {} MiB",
                all >> 20,
                disk.bytes >> 20
            );
            say("T02", Level::Error, &whole_file, "disk.bytes", message);
        }
        Some(_) => {}
        None => say(
            "T05",
            Level::Warning,
            &whole_file,
            "disk",
            "it is not said how much disk Kafka has".to_owned(),
        ),
    }
    let Some(promise) = topics.promise else {
        say(
            "T05",
            Level::Warning,
            &whole_file,
            "promise",
            "it is not said what outage the messages outlast".to_owned(),
        );
        return;
    };
    for (topic, place) in topics.topics.iter().zip(&topics.places) {
        if topic.retention_hours <= promise.outage_hours {
            let message = format!(
                "{} keeps messages {} hours, and {} are promised",
                topic.name, topic.retention_hours, promise.outage_hours
            );
            say("T03", Level::Error, place, "retentionHours", message);
        }
        let messages = topic.messages_per_hour.saturating_mul(u64::from(promise.outage_hours));
        let each = messages.saturating_mul(promise.message_bytes) as f64 / f64::from(topic.partitions);
        let skew = if topic.partitions > 1 { SKEW } else { 1.0 };
        if each * skew > topic.retention_bytes as f64 {
            let message = format!(
                "{} gets {} messages an hour, {messages} in {} hours: about {:.0} MiB a partition, and retentionBytes is {} MiB",
                topic.name,
                topic.messages_per_hour,
                promise.outage_hours,
                each * skew / 1_048_576.0,
                topic.retention_bytes >> 20
            );
            say("T04", Level::Error, place, "retentionBytes", message);
        }
    }
}
