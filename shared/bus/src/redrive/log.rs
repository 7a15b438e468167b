//! A topic as it lies there: read from a place to a place, without a group, in bounded memory and time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use messages::PartitionEnd;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Exit;

use crate::KafkaConfig;
use crate::source::Record;
use crate::sys::Message;

/// How long one question to the brokers may take.
const CALL: Duration = Duration::from_secs(10);
/// How long nothing at all may come while there is something to read.
const STALL: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// What of a partition is read: from the first offset to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// A reader of one topic.
pub(crate) struct Log {
    consumer: BaseConsumer,
    topic: String,
    /// The partitions that are not at their end yet, and where that is.
    open: BTreeMap<i32, i64>,
    last_error: Option<KafkaError>,
}

impl Log {
    /// Makes a reader; `topic` is the whole name. `worker`'s group is only named: librdkafka wants one, and this is one
    /// that the credentials are good for. Nothing joins it or commits for it.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(kafka: &KafkaConfig, worker: &str, topic: String) -> anyhow::Result<Self> {
        let mut config = kafka.client("redrive");
        config
            .set("group.id", kafka.name(worker))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            // What is read ahead, whatever the topic holds.
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "1000")
            .set("fetch.wait.max.ms", "100");
        Ok(Self {
            consumer: config.create().context("the Kafka settings are refused")?,
            topic,
            open: BTreeMap::new(),
            last_error: None,
        })
    }

    /// Where each partition begins and ends now.
    ///
    /// # Errors
    /// When the topic does not exist, or the brokers do not answer.
    pub fn bounds(&self) -> anyhow::Result<Vec<Range>> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), CALL).map_err(|e| self.failed(e))?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let partitions = topic.filter(|t| t.error().is_none()).map(|t| t.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(self.failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)));
        }
        let mut bounds = Vec::with_capacity(partitions.len());
        for partition in partitions.iter().map(|p| p.id()) {
            let (from, to) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, CALL)
                .map_err(|e| self.failed(e))?;
            bounds.push(Range { partition, from, to });
        }
        Ok(bounds)
    }

    /// Where each partition ends now.
    ///
    /// # Errors
    /// As [`Log::bounds`].
    pub fn ends(&self) -> anyhow::Result<Vec<PartitionEnd>> {
        let ends = self.bounds()?.into_iter().map(|r| PartitionEnd {
            partition: r.partition,
            offset: r.to,
        });
        Ok(ends.collect())
    }

    /// Reads these from now on.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn seek(&mut self, ranges: &[Range]) -> anyhow::Result<()> {
        let wanted = ranges.iter().filter(|r| r.from < r.to);
        let mut assignment = TopicPartitionList::new();
        for range in wanted.clone() {
            assignment.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.from))?;
        }
        self.consumer.assign(&assignment)?;
        self.open = wanted.map(|r| (r.partition, r.to)).collect();
        Ok(())
    }

    /// The next message; none when all that was wanted has been read.
    ///
    /// # Errors
    /// When nothing comes for too long, or the brokers refuse us.
    pub fn next(&mut self) -> anyhow::Result<Option<Record>> {
        let deadline = Instant::now() + STALL;
        while !self.open.is_empty() {
            if Instant::now() >= deadline {
                return Err(self.silent(STALL));
            }
            if let Some(record) = self.poll()?
                && let Some(to) = self.open.get(&record.partition()).copied()
            {
                if record.offset() + 1 >= to {
                    self.open.remove(&record.partition());
                }
                if record.offset() < to {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// The next message that is written, however late, behind those that were read.
    ///
    /// # Errors
    /// When none has come by the deadline, or the brokers refuse us.
    pub fn follow(&mut self, at_most: Duration) -> anyhow::Result<Record> {
        let deadline = Instant::now() + at_most;
        while Instant::now() < deadline {
            if let Some(record) = self.poll()? {
                return Ok(record);
            }
        }
        Err(self.silent(at_most))
    }

    fn poll(&mut self) -> anyhow::Result<Option<Record>> {
        match self.consumer.poll(POLL) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Record::alone(Message::of(&message))),
            // Retention, or a transaction's marker, may have taken the last offset before the end.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.open.remove(&partition);
                Ok(None)
            }
            Some(Err(e)) if is_final(&e) => Err(self.failed(e)),
            // A broker that is away comes back, or time runs out.
            Some(Err(e)) => {
                self.last_error = Some(e);
                Ok(None)
            }
        }
    }

    fn silent(&self, waited: Duration) -> anyhow::Error {
        let why = self.last_error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
        Exit::Unavailable.error().context(format!(
            "topic {} told nothing for {} s{why}; check KAFKA_BROKERS, and run this again",
            self.topic,
            waited.as_secs()
        ))
    }

    fn failed(&self, error: KafkaError) -> anyhow::Error {
        let topic = &self.topic;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => Exit::Config
                .error()
                .context(format!("topic {topic} does not exist: scalers topics apply creates it")),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => Exit::NotAuthorised.error().context(format!(
                "topic {topic}: {error}: check KAFKA_SASL_USERNAME, its password and its ACLs"
            )),
            _ => Exit::Unavailable.error().context(format!("topic {topic} cannot be read: {error}")),
        }
    }
}

fn is_final(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
        )
    )
}

/// The one partition of a topic that has one by its nature.
///
/// # Errors
/// When it has more: its order would be nobody's.
pub(crate) fn only(topic: &str, bounds: &[Range]) -> anyhow::Result<Range> {
    match bounds {
        [one] => Ok(*one),
        more => bail!(
            "topic {topic} has {} partitions; it is made with one (scalers/topics.yaml) and cannot be used with more",
            more.len()
        ),
    }
}
