//! A topic that belongs to one measurement: of the real broker, and given back, or of pretended brokers in this process.

use std::sync::atomic::{AtomicBool, Ordering};
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
use testkit::MockKafka;

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
    home: Home,
    /// Groups besides the worker's.
    groups: Vec<String>,
}

/// Where the topic lies.
enum Home {
    Broker {
        admin: AdminClient<DefaultClientContext>,
        tokio: tokio::runtime::Runtime,
    },
    /// Ends with the value.
    Mock { _brokers: MockKafka },
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
            home: Home::Broker { admin, tokio },
            groups: Vec::new(),
        })
    }

    /// On librdkafka's brokers in this process: what the client alone takes.
    pub fn mock(partitions: i32) -> Self {
        let brokers = MockKafka::start();
        let kafka = brokers.config(GroupProtocol::Classic, "bench.");
        let topic = kafka.name(Bench::NAME);
        brokers.create_topic(&topic, partitions);
        Self {
            kafka,
            topic,
            partitions,
            home: Home::Mock { _brokers: brokers },
            groups: Vec::new(),
        }
    }

    pub fn is_mock(&self) -> bool {
        matches!(self.home, Home::Mock { .. })
    }

    /// Begins anew where that is cheap: pretended brokers let nobody move a group that has had members.
    pub fn renew(&mut self) {
        if self.is_mock() {
            *self = Self::mock(self.partitions);
        }
    }

    /// The environment of a child in this corner.
    pub fn vars(&self, protocol: GroupProtocol) -> Vec<(&'static str, String)> {
        let protocol = match protocol {
            GroupProtocol::Classic => "classic",
            GroupProtocol::Consumer => "consumer",
        };
        let mut vars = vec![
            ("KAFKA_TOPIC_PREFIX", self.kafka.topic_prefix.clone()),
            ("KAFKA_GROUP_PROTOCOL", protocol.to_owned()),
        ];
        if self.is_mock() {
            vars.push(("KAFKA_BROKERS", self.kafka.brokers.clone()));
            vars.push(("KAFKA_SECURITY_PROTOCOL", "plaintext".to_owned()));
        }
        vars
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

    /// Produces a message to each partition in turn, one every so often, until it is over.
    pub fn drip(&self, every: Duration, over: &AtomicBool) -> anyhow::Result<()> {
        let producer: BaseProducer = self.kafka.client("bench").set("linger.ms", "0").create()?;
        let time = Timestamp::now().to_string();
        let begun = Instant::now();
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            let key = format!("bench/key-{sent:06}");
            let record = BaseRecord::to(&self.topic).key(&key).payload("").headers(headers(&key, &time));
            let record = record.partition(i32::try_from(sent)? % self.partitions);
            producer
                .send(record)
                .map_err(|(e, _)| e)
                .context("a message could not be produced")?;
            sent += 1;
            producer.poll((every * sent).saturating_sub(begun.elapsed()));
        }
        producer.flush(DEADLINE).context("the messages were not acknowledged")
    }

    /// Waits until the worker's group has done, and committed, everything.
    pub fn wait_until_done(&self, at_most: Duration) -> anyhow::Result<()> {
        let consumer: BaseConsumer = self.kafka.client("bench").set("group.id", &self.topic).create()?;
        let deadline = Instant::now() + at_most;
        while self.behind(&consumer)? > 0 {
            anyhow::ensure!(Instant::now() < deadline, "the group has not done its work within {at_most:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn behind(&self, consumer: &BaseConsumer) -> anyhow::Result<i64> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partitions {
            asked.add_partition(&self.topic, partition);
        }
        let mut behind = 0;
        for e in consumer.committed_offsets(asked, DEADLINE)?.elements() {
            let (_, high) = consumer.fetch_watermarks(&self.topic, e.partition(), DEADLINE)?;
            behind += high - e.offset().to_raw().unwrap_or(0).max(0);
        }
        Ok(behind)
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
        let Home::Broker { admin, tokio } = &self.home else { return };
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let given_back = tokio.block_on(async {
            admin.delete_topics(&[&self.topic], &options()).await?;
            admin.delete_groups(&groups, &options()).await
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
