//! Looks at topics and groups without ever joining a group.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use bus::KafkaConfig;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::engine::Partition;

/// A broker that refuses us closes the connection, which looks like one that is away.
pub(crate) const NO_ANSWER: &str = "the brokers do not answer, or not us: check KAFKA_BROKERS, KAFKA_SECURITY_PROTOCOL, \
                                    KAFKA_SASL_USERNAME, its password and KAFKA_SSL_CA_LOCATION";

/// How long one question to the brokers may take.
const CALL: Duration = Duration::from_secs(5);

/// A group and the topic that it reads, seen from outside. Its calls block.
pub struct Group {
    config: ClientConfig,
    client: Mutex<Option<Arc<Client>>>,
    topic: String,
    group: String,
}

/// A connection that is no member of the group.
struct Client {
    consumer: BaseConsumer,
    topic: String,
    group: String,
}

/// What became of partitions without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeded {
    /// There were none.
    Nothing,
    /// So many begin at their first message now.
    Partitions(usize),
    /// The group has members, who commit for themselves; nobody else may.
    LeftToMembers(usize),
}

impl Group {
    /// Makes a client that knows the group's name but never subscribes, so it is no member.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(kafka: &KafkaConfig, topic: &str, group: &str) -> anyhow::Result<Self> {
        let (topic, group) = (kafka.name(topic), kafka.name(group));
        let mut config = kafka.client("scalers");
        config
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            // KEDA counts up to the high watermark.
            .set("isolation.level", "read_uncommitted")
            .set("session.timeout.ms", "6000");
        let all = Self {
            config,
            client: Mutex::default(),
            topic,
            group,
        };
        all.client()?;
        Ok(all)
    }

    /// The topic's partitions with the group's offsets and the topic's ends.
    ///
    /// After a failure the next call connects anew, as KEDA does: of librdkafka's clients, some stay without any
    /// connection after their only broker was away, for as long as they live (5 of 40 after eight restarts, measured).
    ///
    /// # Errors
    /// When the brokers do not answer for every partition, as KEDA's trigger would fail.
    pub fn partitions(&self) -> anyhow::Result<Vec<Partition>> {
        let partitions = self.client()?.partitions();
        if partitions.is_err() {
            self.kept().take();
        }
        partitions
    }

    /// Commits the start of every partition that has no committed offset.
    ///
    /// # Errors
    /// When the brokers do not answer, or refuse it for another reason than that the group has members.
    pub fn seed(&self) -> anyhow::Result<Seeded> {
        self.client()?.seed()
    }

    /// How many partitions have no committed offset.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn unseeded(&self) -> anyhow::Result<usize> {
        let client = self.client()?;
        let ids = client.partition_ids()?;
        Ok(client.committed(&ids)?.iter().filter(|offset| offset.is_none()).count())
    }

    /// The client of before, or a new one.
    fn client(&self) -> anyhow::Result<Arc<Client>> {
        let mut kept = self.kept();
        if let Some(client) = &*kept {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client {
            consumer: self.config.create().context("the Kafka settings are refused")?,
            topic: self.topic.clone(),
            group: self.group.clone(),
        });
        *kept = Some(Arc::clone(&client));
        Ok(client)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn partitions(&self) -> anyhow::Result<Vec<Partition>> {
        self.drain_events();
        let ids = self.partition_ids()?;
        let committed = self.committed(&ids)?;
        let mut partitions = Vec::with_capacity(ids.len());
        for (id, committed) in ids.iter().zip(committed) {
            let (start, end) = self.watermarks(*id)?;
            partitions.push(Partition {
                committed,
                end: Some(end),
                start: Some(start),
            });
        }
        Ok(partitions)
    }

    fn seed(&self) -> anyhow::Result<Seeded> {
        self.drain_events();
        let ids = self.partition_ids()?;
        let mut offsets = TopicPartitionList::new();
        for (id, committed) in ids.iter().zip(self.committed(&ids)?) {
            if committed.is_none() {
                let (low, _) = self.watermarks(*id)?;
                offsets.add_partition_offset(&self.topic, *id, Offset::Offset(low))?;
            }
        }
        let count = offsets.count();
        if count == 0 {
            return Ok(Seeded::Nothing);
        }
        // Blocks for the session timeout at most, which is short here; nothing else waits for this thread.
        #[allow(clippy::disallowed_methods)]
        match self.consumer.commit(&offsets, CommitMode::Sync) {
            Ok(()) => Ok(Seeded::Partitions(count)),
            Err(e) => match e.rdkafka_error_code() {
                Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => Ok(Seeded::LeftToMembers(count)),
                _ => Err(anyhow!(e).context(format!("the offsets of group {} cannot be set", self.group))),
            },
        }
    }

    fn partition_ids(&self) -> anyhow::Result<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), CALL).context(NO_ANSWER)?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let ids: Vec<i32> = topic.map(|t| t.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        ensure!(
            !ids.is_empty(),
            "topic {} does not exist; scalers topics apply creates it",
            self.topic
        );
        Ok(ids)
    }

    fn committed(&self, ids: &[i32]) -> anyhow::Result<Vec<Option<i64>>> {
        let mut asked = TopicPartitionList::new();
        for id in ids {
            asked.add_partition(&self.topic, *id);
        }
        let found = self
            .consumer
            .committed_offsets(asked, CALL)
            .with_context(|| format!("the offsets of group {} are not to be had", self.group))?;
        let one = |id: &i32| {
            let element = found
                .find_partition(&self.topic, *id)
                .ok_or_else(|| anyhow!("partition {id} was left out"))?;
            element
                .error()
                .with_context(|| format!("the offset of partition {id} is not to be had"))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            })
        };
        ids.iter().map(one).collect()
    }

    fn watermarks(&self, id: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(&self.topic, id, CALL)
    }

    /// Takes what librdkafka has to say off its queue, which would grow while brokers are away. A consumer without a
    /// subscription gets no messages, so nothing but news of connections can be in it.
    fn drain_events(&self) {
        for _ in 0..1000 {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
    }
}

/// Repeats a call that blocks until it succeeds or the deadline has passed; then its last error.
///
/// # Errors
/// The call's.
pub async fn until<T, F>(deadline: Instant, call: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Fn() -> anyhow::Result<T> + Clone + Send + 'static,
{
    loop {
        match tokio::task::spawn_blocking(call.clone()).await? {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() >= deadline => return Err(e),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_look_that_failed_the_next_one_connects_anew() {
        let settings = [("KAFKA_BROKERS", "127.0.0.1:1"), ("KAFKA_SECURITY_PROTOCOL", "plaintext")];
        let env: runtime::Env = settings.into_iter().collect();
        let mut r = runtime::Reader::default();
        let kafka = KafkaConfig::read(&env, &mut r);
        let group = Group::new(&r.finish(kafka).unwrap(), "t", "t").unwrap();
        let (first, still) = (group.client().unwrap(), group.client().unwrap());
        assert!(Arc::ptr_eq(&first, &still));
        group.partitions().unwrap_err();
        assert!(!Arc::ptr_eq(&first, &group.client().unwrap()));
    }
}
