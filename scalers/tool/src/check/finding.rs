//! What `check` has to say, and the rules that it goes by.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::yaml::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
}

/// One finding. `key` is the path of keys in the document, such as `spec.triggers.0.metadata.lagThreshold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub level: Level,
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub key: String,
    pub message: String,
    /// Why it matters.
    pub reason: &'static str,
    /// What to do.
    pub fix: &'static str,
}

impl Finding {
    pub fn new(id: &'static str, level: Level, file: &std::path::Path, place: &Place, key: &str, message: String) -> Self {
        let rule = RULES.iter().find(|rule| rule.0 == id);
        let (_, reason, fix) = rule.copied().unwrap_or((id, "", ""));
        Self {
            id,
            level,
            file: file.to_owned(),
            line: place.line.max(1),
            column: place.column.max(1),
            key: key.to_owned(),
            message,
            reason,
            fix,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        let key = if self.key.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.key)
        };
        writeln!(
            f,
            "{}:{}:{}: {level} {} {key}{}",
            self.file.display(),
            self.line,
            self.column,
            self.id,
            self.message
        )?;
        write!(f, "    why: {}\n    fix: {}", self.reason, self.fix)
    }
}

/// Each rule: its id, why it is one, and what to do about it.
pub const RULES: [(&str, &str, &str); 36] = [
    ("S01", "what cannot be read is not applied", "correct the YAML at this place"),
    (
        "S02",
        "the API server refuses what KEDA's schema does not allow",
        "write what the schema allows",
    ),
    (
        "S03",
        "the API server drops unknown keys without a word, or refuses them",
        "correct the key or take it out",
    ),
    (
        "L01",
        "trigger metadata is text, and KEDA reads numbers and switches in it as JSON and Go do: 1e3, 010, +10 and yes are errors",
        "quote the value, and write plain whole numbers and \"true\" or \"false\"",
    ),
    (
        "L02",
        "KEDA ignores unknown trigger parameters without a word and takes its default",
        "correct the key, or move it to where it belongs",
    ),
    (
        "L03",
        "the trigger fails, or counts something else than was meant",
        "set a value that KEDA takes",
    ),
    (
        "L04",
        "KEDA refuses these parameters together, and the trigger fails",
        "keep one of them",
    ),
    (
        "L05",
        "jobs above the partitions idle, and just above partitions times threshold KEDA creates one too many; unset it is 100",
        "set maxReplicaCount to the partitions or less",
    ),
    (
        "L06",
        "KEDA takes a minimum above the maximum for the maximum, and counts jobs beside the minimum",
        "keep minReplicaCount below maxReplicaCount, and set both",
    ),
    (
        "L07",
        "for a ScaledJob it holds back every creation, so the last messages wait for ever",
        "set activationLagThreshold to \"0\" or leave it out",
    ),
    (
        "L08",
        "the default rollout deletes running jobs at every edit of the file",
        "set rollout.strategy: gradual",
    ),
    (
        "L09",
        "the strategy must fit the moment of the commit: with commits after the work the lag contains the work in hand, with commits before it does not",
        "strategy default with commits after the work, accurate with commits before it",
    ),
    (
        "L10",
        "a partition whose job works longer than one poll counts as standing, so no job is created for it",
        "take excludePersistentLag out of the ScaledJob",
    ),
    (
        "L11",
        "a group without a committed offset starts where the worker says, but is counted where the trigger says",
        "set offsetResetPolicy: earliest, as the workers do",
    ),
    ("L12", "KEDA knows this for a ScaledObject only, or refuses it here", "take it out"),
    (
        "L13",
        "queues are compared, not jobs: a long queue with a large threshold hides a short one that needs more jobs",
        "set multipleScalersCalculation: sum, or bring the thresholds together",
    ),
    (
        "L14",
        "a cron trigger creates new jobs at every poll of its window",
        "use a CronJob that sends a message",
    ),
    (
        "L15",
        "the kafka trigger ignores workload identity and connects without credentials",
        "give user name and password in the TriggerAuthentication",
    ),
    (
        "L16",
        "this KEDA does not know it: it is ignored or refused",
        "raise KEDA, or do without",
    ),
    (
        "L17",
        "the number of jobs that is meant is never reached",
        "choose partitions with many divisors, or set a tolerance of the HPA",
    ),
    (
        "L18",
        "names, histories, deadlines and evictions bite later",
        "set what the message names",
    ),
    (
        "L19",
        "what must not run twice needs one partition, one job and the default strategy, and a lock of its own besides",
        "set maxReplicaCount: 1 on one partition with strategy default",
    ),
    ("L20", "it has no effect, or another than meant", "take it out or bring it in line"),
    (
        "L21",
        "without a version KEDA speaks a protocol that Kafka 4 refuses",
        "set version, for example \"2.8.0\"",
    ),
    (
        "A01",
        "a scaler without its topic never creates a job",
        "add the topic to topics.yaml, or correct the name",
    ),
    (
        "A02",
        "a worker's dead letters need a topic of one partition",
        "add it to topics.yaml",
    ),
    (
        "A03",
        "a worker without a scaler file or a topic never runs",
        "add the file, or the topic",
    ),
    (
        "A04",
        "a worker's crate, file, topic and group have one name; everything else leans on that",
        "use the worker's name",
    ),
    (
        "A05",
        "what kustomization.yaml does not list is not deployed",
        "list every scaler file, and only files that exist",
    ),
    (
        "A06",
        "the scaler file is a patch of the pod in k8s/base/workers; without it there is no job",
        "add k8s/base/workers/<worker>.yaml with the same kind and name",
    ),
    (
        "A07",
        "one file serves every environment, so brokers come from KAFKA_BROKERS",
        "set bootstrapServersFromEnv: KAFKA_BROKERS",
    ),
    ("T01", "topics.yaml says what there is", "correct it"),
    (
        "T02",
        "a full disk stops Kafka, and everything else on that machine",
        "lower retentionBytes, segmentBytes or partitions, or give Kafka more disk and raise disk.bytes",
    ),
    (
        "T03",
        "messages that wait longer than the retention are lost",
        "raise retentionHours, or promise less",
    ),
    (
        "T04",
        "the oldest messages go when a partition is full, read or not",
        "raise retentionBytes, or promise less",
    ),
    (
        "T05",
        "without it nobody can say whether an outage loses messages, or fills the disk",
        "say disk.bytes and promise in topics.yaml",
    ),
];
