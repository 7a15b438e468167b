//! The topics of one corner, and what has been written to them.

use std::time::{Duration, Instant};

use bus::KafkaConfig;
use messages::{Envelope, topics};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers as _, Message as _};
use serde_json::Value;

use crate::Corner;

/// Partitions of a work topic in a test: few enough to be quick, enough that keys spread.
const PARTITIONS: i32 = 3;
/// How long the broker may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// An event as it lies in a topic.
#[derive(Debug, Clone)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    /// The headers in their order.
    pub headers: Vec<(String, String)>,
    pub value: Value,
}

impl Seen {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The CloudEvents attributes.
    ///
    /// # Panics
    /// When the headers are not an envelope.
    pub fn envelope(&self) -> Envelope {
        let headers = self.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        match Envelope::from_headers(headers) {
            Ok(envelope) => envelope,
            Err(e) => panic!("{e}: {:?}", self.headers),
        }
    }
}

impl Corner {
    /// Creates every topic of the pool in this corner: [`PARTITIONS`] a work topic, one for dead letters, their redrives and backups.
    ///
    /// # Panics
    /// When the broker refuses.
    #[allow(clippy::expect_used)]
    pub async fn create_topics(&self) {
        let kafka = self.read(KafkaConfig::read);
        let admin: AdminClient<DefaultClientContext> = kafka.client("testkit").create().expect("the stack's KAFKA_ settings are right");
        let names: Vec<(String, i32)> = topics::WORK
            .into_iter()
            .flat_map(|t| {
                [
                    (kafka.name(t), if t == topics::BACKUP { 1 } else { PARTITIONS }),
                    (kafka.name(&topics::dead(t)), 1),
                ]
            })
            .chain([(kafka.name(topics::ASSET_EVENTS), PARTITIONS), (kafka.name(topics::REDRIVES), 1)])
            .collect();
        let new: Vec<NewTopic<'_>> = names
            .iter()
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
        for result in admin.create_topics(&new, &options).await.expect("the broker answers") {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => panic!("topic {topic}: {code}"),
            }
        }
        let known = tokio::task::spawn_blocking(move || names.iter().all(|(name, _)| is_led(&admin, name))).await;
        assert!(known.expect("the thread ends"), "the broker does not lead the new topics");
    }

    /// How many messages of a worker's topic its group has not committed.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn lag(&self, worker: &str) -> i64 {
        let kafka = self.read(KafkaConfig::read);
        let name = kafka.name(worker);
        let looked = tokio::task::spawn_blocking(move || lag(&kafka, &name)).await;
        match looked {
            Ok(Ok(lag)) => lag,
            Ok(Err(e)) => panic!("the lag of {worker} is not to be had: {e}"),
            Err(e) => panic!("{e}"),
        }
    }

    /// Everything that lies in a topic of this corner now, by partition and offset; a topic is named without its prefix.
    ///
    /// # Panics
    /// When the broker does not answer, or a value is not JSON.
    pub async fn events(&self, topic: &str) -> Vec<Seen> {
        let kafka = self.read(KafkaConfig::read);
        let name = kafka.name(topic);
        let read = tokio::task::spawn_blocking(move || read_all(&kafka, &name)).await;
        match read {
            Ok(Ok(seen)) => seen,
            Ok(Err(e)) => panic!("topic {topic} cannot be read: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
}

/// Waits until the broker, too, knows what the controller has made: a worker that comes before that is told of no such topic.
fn is_led(admin: &AdminClient<DefaultClientContext>, topic: &str) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let metadata = admin.inner().fetch_metadata(Some(topic), DEADLINE);
        let found = metadata.iter().flat_map(|m| m.topics()).flat_map(|t| t.partitions());
        let leaders: Vec<i32> = found.map(|p| p.leader()).collect();
        if !leaders.is_empty() && leaders.iter().all(|leader| *leader >= 0) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The topic and the group of a worker have one name. A partition without a commit is counted from its start.
fn lag(kafka: &KafkaConfig, name: &str) -> anyhow::Result<i64> {
    let mut config = kafka.client("testkit");
    config.set("group.id", name).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look(&consumer, name) {
            // A broker that has just begun does not coordinate its groups yet.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            looked => return looked,
        }
    }
}

fn look(consumer: &BaseConsumer, name: &str) -> anyhow::Result<i64> {
    let metadata = consumer.fetch_metadata(Some(name), DEADLINE)?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        asked.add_partition(name, partition.id());
    }
    anyhow::ensure!(asked.count() > 0, "topic {name} has no partitions");
    let mut lag = 0;
    for known in consumer.committed_offsets(asked, DEADLINE)?.elements() {
        let (low, high) = consumer.fetch_watermarks(name, known.partition(), DEADLINE)?;
        lag += match known.offset() {
            rdkafka::Offset::Offset(committed) => high - committed,
            _ => high - low,
        };
    }
    Ok(lag)
}

fn read_all(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<Vec<Seen>> {
    let deadline = Instant::now() + DEADLINE;
    let mut config = kafka.client("testkit");
    config.set("group.id", "testkit").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let partitions = metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id());
    let mut ends = Vec::new();
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, DEADLINE)?;
        if high > low {
            ends.push((partition, high));
            assignment.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let mut seen = Vec::new();
    while !ends.is_empty() {
        anyhow::ensure!(Instant::now() < deadline, "not at the end after {} s", DEADLINE.as_secs());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let message = message?;
        ends.retain(|(partition, end)| *partition != message.partition() || message.offset() + 1 < *end);
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = message.headers().into_iter().flat_map(|h| h.iter());
        seen.push(Seen {
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key()),
            headers: headers.map(|h| (h.key.to_owned(), text(h.value))).collect(),
            value: serde_json::from_slice(message.payload().unwrap_or_default())?,
        });
    }
    seen.sort_by_key(|s| (s.partition, s.offset));
    Ok(seen)
}
