//! Many messages for worker processes, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bus::KafkaConfig;
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use testkit::Corner;
use uuid::Uuid;

use super::{event, headers};

/// All topics, this worker's with so many partitions.
pub async fn create_topics(corner: &Corner, partitions: i32) {
    let kafka = corner.read(KafkaConfig::read);
    let admin: AdminClient<DefaultClientContext> = kafka.client("test").create().unwrap();
    let name = kafka.name(topics::INGESTION);
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    corner.create_topics().await;
}

/// Writes so many messages over this time, and waits for the broker while it is away; their ids. Blocks.
pub fn write(kafka: &KafkaConfig, messages: usize, over: Duration) -> BTreeSet<Uuid> {
    let mut config = kafka.client("test");
    config.set("enable.idempotence", "true").set("linger.ms", "20");
    let producer: BaseProducer = config.create().unwrap();
    let topic = kafka.name(topics::INGESTION);
    let (begun, mut sent) = (Instant::now(), BTreeSet::new());
    for n in 0..messages {
        let event = event(&format!("n-{}", n % 1000));
        sent.insert(event.envelope.id);
        let mut record = BaseRecord::to(&topic).key(event.key().as_bytes()).payload(event.value.as_slice());
        record = record.headers(headers(&event));
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(50));
        }
        producer.poll(Duration::ZERO);
        let due = over.mul_f64(n as f64 / messages as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    sent
}

/// How often each message was done, by the ids that the workers wrote down.
pub fn effects(file: &Path) -> BTreeMap<Uuid, usize> {
    let mut done = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        if let Some(id) = line.strip_prefix("done ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            *done.entry(id).or_default() += 1;
        }
    }
    done
}

/// The ids of the events in a topic, and how many events there are.
pub fn event_ids(kafka: &KafkaConfig, topic: &str) -> (BTreeSet<Uuid>, usize) {
    let patience = Duration::from_secs(20);
    let mut config = kafka.client("test");
    config
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    let metadata = consumer.fetch_metadata(Some(topic), patience).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    for p in 0..partitions {
        all.add_partition_offset(topic, p as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut ids, mut events, mut ended, begun) = (BTreeSet::new(), 0, BTreeSet::new(), Instant::now());
    while ended.len() < partitions {
        assert!(begun.elapsed() < Duration::from_secs(60), "the events cannot be read in time");
        match consumer.poll(patience) {
            Some(Ok(message)) => {
                let id = message.headers().unwrap().iter().find(|h| h.key == "ce_id").unwrap().value.unwrap();
                ids.insert(std::str::from_utf8(id).unwrap().parse().unwrap());
                events += 1;
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(p))) => {
                ended.insert(p);
            }
            Some(Err(e)) => panic!("{e}"),
            None => {}
        }
    }
    (ids, events)
}

/// The seconds in which somebody's share changed, by what the workers wrote.
pub fn restless_seconds(folder: &Path) -> usize {
    let log = std::fs::read_to_string(folder.join("steered.log")).unwrap();
    let change = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let message = line["message"].as_str()?;
        let changed = matches!(
            message,
            "partitions assigned" | "partitions revoked" | "partitions lost without being asked"
        );
        // A classic group tells every member of every rebalance, also when nothing changes for it.
        let changed = changed && line["partitions"].as_str()? != "[]";
        Some(line["timestamp"].as_str()?.split('.').next()?.to_owned()).filter(|_| changed)
    };
    log.lines().filter_map(change).collect::<BTreeSet<String>>().len()
}
