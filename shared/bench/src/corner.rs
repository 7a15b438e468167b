//! A topic of the real broker that belongs to one measurement, and is given back.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bus::{GroupProtocol, KafkaConfig, Worker as _};
use jiff::Timestamp;
use messages::{TraceParent, header, new_id};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Env, Reader};

use crate::worker::Bench;

/// How long the broker may take for one thing.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a group stands before a measurement.
#[derive(Clone, Copy)]
pub enum Stand {
    Beginning,
    End,
}

pub struct Corner {
    pub kafka: KafkaConfig,
    /// The topic, and the group of the worker.
    pub topic: String,
    partitions: i32,
    admin: AdminClient<DefaultClientContext>,
    /// Groups besides the worker's.
    groups: Vec<String>,
    tokio: tokio::runtime::Runtime,
}

impl Corner {
    pub fn new(partitions: i32) -> anyhow::Result<Self> {
        let mut r = Reader::default();
        let kafka = KafkaConfig::read(&Env::of_process(), &mut r);
        let mut kafka = r
            .finish(kafka)
            .context("start the servers first: scripts/stack up && eval \"$(scripts/stack env)\"")?;
        kafka.topic_prefix = format!("bench-{}.", new_id().simple());
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin: AdminClient<DefaultClientContext> = {
            let _inside = tokio.enter();
            kafka.client("bench").create()?
        };
        let topic = kafka.name(Bench::NAME);
        let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1)).set("segment.bytes", "268435456");
        for made in tokio.block_on(admin.create_topics(&[new], &options()))? {
            made.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
        }
        Ok(Self {
            kafka,
            topic,
            partitions,
            admin,
            groups: Vec::new(),
            tokio,
        })
    }

    /// The environment of a child in this corner.
    pub fn vars(&self, protocol: GroupProtocol) -> [(&'static str, String); 2] {
        let protocol = match protocol {
            GroupProtocol::Classic => "classic",
            GroupProtocol::Consumer => "consumer",
        };
        [
            ("KAFKA_TOPIC_PREFIX", self.kafka.topic_prefix.clone()),
            ("KAFKA_GROUP_PROTOCOL", protocol.to_owned()),
        ]
    }

    /// Produces messages as a worker's producer would: CloudEvents headers, a value of at least `bytes`, which begins
    /// with what `value` gives; `keys` keys in turn.
    pub fn fill(&self, messages: usize, keys: usize, bytes: usize, value: impl Fn(usize) -> String) -> anyhow::Result<()> {
        let mut config = self.kafka.client("bench");
        config
            .set("linger.ms", "5")
            .set("batch.size", "262144")
            .set("queue.buffering.max.messages", "100000");
        let producer: BaseProducer = config.create()?;
        let time = Timestamp::now().to_string();
        for n in 0..messages {
            let key = format!("bench/key-{:06}", n % keys);
            let mut body = value(n);
            body.extend(std::iter::repeat_n('x', bytes.saturating_sub(body.len())));
            let headers = headers(&key, &time);
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(&body).headers(headers);
            while let Err((e, again)) = producer.send(record) {
                anyhow::ensure!(
                    matches!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                    "a message could not be produced: {e}"
                );
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(DEADLINE).context("the messages were not acknowledged")
    }

    /// Moves a group, which has no members, to the beginning or the end of every partition.
    pub fn stand(&mut self, group: &str, stand: Stand) -> anyhow::Result<()> {
        if !self.groups.iter().any(|g| g == group) {
            self.groups.push(group.to_owned());
        }
        let consumer: BaseConsumer = self.kafka.client("bench").set("group.id", group).create()?;
        let deadline = Instant::now() + DEADLINE;
        // A new topic has no leaders at first, and the coordinator may still be saying good-bye to the member before.
        loop {
            match self.try_to_stand(&consumer, stand) {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > deadline => anyhow::bail!("the group {group} could not be moved: {e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "not a worker: nothing else waits for this thread")]
    fn try_to_stand(&self, consumer: &BaseConsumer, stand: Stand) -> KafkaResult<()> {
        let mut offsets = TopicPartitionList::new();
        for partition in 0..self.partitions {
            let (low, high) = consumer.fetch_watermarks(&self.topic, partition, DEADLINE)?;
            let offset = match stand {
                Stand::Beginning => low,
                Stand::End => high,
            };
            offsets.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        consumer.commit(&offsets, CommitMode::Sync)
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let given_back = self.tokio.block_on(async {
            self.admin.delete_topics(&[&self.topic], &options()).await?;
            self.admin.delete_groups(&groups, &options()).await
        });
        if let Err(e) = given_back {
            eprintln!("bench: {} could not be given back: {e}", self.topic);
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE))
}

fn headers(key: &str, time: &str) -> OwnedHeaders {
    let id = new_id().to_string();
    let trace = TraceParent::root().to_string();
    let all = [
        (header::SPEC_VERSION, "1.0"),
        (header::ID, &id),
        (header::SOURCE, "/libertum/bench"),
        (header::TYPE, "com.libertum.bench.v1"),
        (header::SUBJECT, "assets/bench"),
        (header::TIME, time),
        (header::TENANT, "bench"),
        (header::PARTITION_KEY, key),
        (header::CONTENT_TYPE, "application/json"),
        (header::TRACE_PARENT, &trace),
    ];
    all.into_iter().fold(OwnedHeaders::new_with_capacity(10), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}
