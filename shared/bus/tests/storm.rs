//! A hundred thousand messages while worker processes are killed, frozen, told to stop and replaced, another member comes
//! or goes every second, and the broker is restarted: every message has its effect, and what is done twice leads to the
//! same event (cases 1 and 4).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bus::KafkaConfig;
use common::{event, headers};
use messages::topics;
use rand::RngExt as _;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use testkit::{Corner, OwnStack, Program, Signal, start_program, until};
use tokio::sync::Mutex;
use uuid::Uuid;

const MESSAGES: usize = 100_000;
const PARTITIONS: i32 = 12;
const WORKERS: usize = 4;
const KILLS: usize = 50;
/// How long the storm lasts; a worker is killed and replaced more than once every second and a half.
const STORM: Duration = Duration::from_secs(60);
/// How long a member that was told to stop may stay.
const GOODBYE: Duration = Duration::from_secs(30);
/// So often a member joins, or one leaves.
const BEAT: Duration = Duration::from_secs(1);
/// One storm at a time; two would starve each other.
static ALONE: Mutex<()> = Mutex::const_new(());
/// How long the rest may take: the killed hold their partitions until their sessions end.
const QUIET: Duration = Duration::from_secs(100);

async fn create_topic(corner: &Corner) {
    let kafka = corner.read(KafkaConfig::read);
    let admin: AdminClient<DefaultClientContext> = kafka.client("test").create().unwrap();
    let name = kafka.name(topics::INGESTION);
    let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    corner.create_topics().await;
}

/// Writes the messages over most of the storm; waits for the broker while it is away.
fn write(kafka: &KafkaConfig) -> BTreeSet<Uuid> {
    let mut config = kafka.client("test");
    config.set("enable.idempotence", "true").set("linger.ms", "20");
    let producer: BaseProducer = config.create().unwrap();
    let topic = kafka.name(topics::INGESTION);
    let (begun, mut sent) = (Instant::now(), BTreeSet::new());
    for n in 0..MESSAGES {
        let event = event(&format!("n-{}", n % 1000));
        sent.insert(event.envelope.id);
        let mut record = BaseRecord::to(&topic).key(event.key().as_bytes()).payload(event.value.as_slice());
        record = record.headers(headers(&event));
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(50));
        }
        producer.poll(Duration::ZERO);
        let due = STORM.mul_f64(0.8 * n as f64 / MESSAGES as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    sent
}

/// How often each message was done, by the ids that the workers wrote down.
fn effects(file: &Path) -> BTreeMap<Uuid, usize> {
    let mut done = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        if let Some(id) = line.strip_prefix("done ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            *done.entry(id).or_default() += 1;
        }
    }
    done
}

/// The ids of the events in a topic, and how many events there are.
fn event_ids(kafka: &KafkaConfig, topic: &str) -> (BTreeSet<Uuid>, usize) {
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

struct Storm<'a> {
    corner: &'a Corner,
    folder: &'a Path,
    workers: Vec<Program>,
    ends: BTreeMap<String, usize>,
}

/// Members that come and go.
struct Guests<'a> {
    corner: &'a Corner,
    folder: &'a Path,
    gone: Vec<Program>,
}

impl Guests<'_> {
    /// A member joins, or the one that has leaves, once a second for as long as the storm lasts.
    async fn come_and_go(&mut self) {
        let begun = Instant::now();
        let mut guest: Option<Program> = None;
        let mut due = Duration::ZERO;
        while due < STORM {
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            due += BEAT;
            match guest.take() {
                Some(here) => {
                    here.signal(Signal::TERM);
                    self.gone.push(here);
                }
                None => guest = Some(start_program(self.corner, "examples/steered", &[], self.folder)),
            }
        }
        if let Some(last) = guest {
            last.signal(Signal::TERM);
            self.gone.push(last);
        }
    }

    /// How they ended.
    async fn ends(mut self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for guest in &mut self.gone {
            until("a guest has gone", GOODBYE, async || guest.ended().is_some()).await;
            *ends.entry(guest.ended().unwrap().to_string()).or_default() += 1;
        }
        ends
    }
}

/// The seconds in which somebody's share changed, by what the workers wrote.
fn restless_seconds(folder: &Path) -> usize {
    let log = std::fs::read_to_string(folder.join("steered.log")).unwrap();
    let change = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let message = line["message"].as_str()?;
        let changed = matches!(
            message,
            "partitions assigned" | "partitions revoked" | "partitions lost without being asked"
        );
        Some(line["timestamp"].as_str()?.split('.').next()?.to_owned()).filter(|_| changed)
    };
    log.lines().filter_map(change).collect::<BTreeSet<String>>().len()
}

impl Storm<'_> {
    fn start(&self) -> Program {
        start_program(self.corner, "examples/steered", &[], self.folder)
    }

    /// Whoever has ended is followed by another, as KEDA does while there is lag.
    fn replace_the_ended(&mut self) {
        for n in 0..self.workers.len() {
            if let Some(status) = self.workers[n].ended() {
                *self.ends.entry(status.to_string()).or_default() += 1;
                self.workers[n] = self.start();
            }
        }
    }

    async fn rage(&mut self, stack: &OwnStack) {
        let begun = Instant::now();
        for n in 0..KILLS {
            let due = STORM.mul_f64(n as f64 / KILLS as f64);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            self.replace_the_ended();
            let victim = rand::rng().random_range(0..self.workers.len());
            self.workers[victim].kill_dash_nine();
            self.workers[victim] = self.start();
            let other = (victim + 1) % self.workers.len();
            match n % 5 {
                // One freezes, and thaws when it may have been given up already.
                0 => self.workers[other].signal(Signal::STOP),
                3 => self.workers.iter().for_each(|w| w.signal(Signal::CONT)),
                // One is told to stop, and another takes its place.
                1 => self.workers[other].signal(Signal::TERM),
                _ => {}
            }
            if n == KILLS / 2 {
                stack.stop("kafka").await;
                stack.begin("kafka").await;
            }
        }
        self.workers.iter().for_each(|w| w.signal(Signal::CONT));
    }
}

/// In at least so many of the storm's seconds somebody's share must change.
async fn storm(protocol: &str, restless_at_least: usize) {
    let _alone = ALONE.lock().await;
    let begun = Instant::now();
    let say = |text: &str| eprintln!("{protocol} {:6.1} s  {text}", begun.elapsed().as_secs_f64());
    let stack = OwnStack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("effects");
    let mut corner = stack.corner();
    corner.set("KAFKA_GROUP_PROTOCOL", protocol);
    corner.set("STEERED_EFFECTS", file.to_string_lossy());
    corner.set("LOG_FORMAT", "json");
    corner.set("RUST_LOG", "warn,bus::run::events=debug");
    corner.set("IDLE_EXIT_MS", "1000");
    create_topic(&corner).await;
    let kafka = corner.read(KafkaConfig::read);
    say("servers run");
    let writing = {
        let kafka = kafka.clone();
        tokio::task::spawn_blocking(move || write(&kafka))
    };
    let mut storm = Storm {
        corner: &corner,
        folder: folder.path(),
        workers: Vec::new(),
        ends: BTreeMap::new(),
    };
    storm.workers = (0..WORKERS).map(|_| storm.start()).collect();
    let mut guests = Guests {
        corner: &corner,
        folder: folder.path(),
        gone: Vec::new(),
    };
    tokio::join!(storm.rage(&stack), guests.come_and_go());
    let restless = restless_seconds(folder.path());
    let sent = writing.await.unwrap();
    say("the storm is over");
    until("nothing is left to do", QUIET, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        storm.replace_the_ended();
        corner.lag(topics::INGESTION).await == 0
    })
    .await;
    say("all is committed");
    let done = effects(&file);
    let missing = sent.iter().filter(|id| !done.contains_key(id)).count();
    assert_eq!(missing, 0, "of {MESSAGES} messages {missing} are lost");
    let times: usize = done.values().sum();
    let again = times - done.len();
    // Of each message one event by its id, however often it was done.
    let outcomes = kafka.name(topics::ASSET_EVENTS);
    let (ids, events) = tokio::task::spawn_blocking(move || event_ids(&kafka, &outcomes)).await.unwrap();
    assert_eq!(ids.len(), MESSAGES);
    assert!(
        corner.events(&topics::dead(topics::INGESTION)).await.is_empty(),
        "a kill is no reason for a dead letter"
    );
    say(&format!(
        "{MESSAGES} messages, {KILLS} kills, shares changed in {restless} of {} seconds: {:.2} % done again, {events} events \
         of {} ids; ends: {:?}, of guests: {:?}",
        STORM.as_secs(),
        100.0 * again as f64 / MESSAGES as f64,
        ids.len(),
        storm.ends,
        guests.ends().await
    ));
    assert!(
        restless >= restless_at_least,
        "it was too quiet: shares changed in {restless} seconds only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_a_rebalance_a_second_and_a_restarted_broker_lose_none_of_a_hundred_thousand_messages() {
    // A classic group waits with every rebalance for the killed, until their sessions end: here most of the time.
    storm("classic", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_storm_under_the_new_group_protocol_loses_none_either() {
    storm("consumer", 20).await;
}
