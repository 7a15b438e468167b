//! Dead letters on their way back, on the real broker.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::redrive::{self, Args, Output, header};
use bus::{Burial, Context, Emit, Failure, KafkaConfig, LoopConfig, Producer, Worker, dead};
use clap::Parser as _;
use jiff::{SignedDuration, Timestamp};
use messages::{
    ClaimedLetter, DocumentSubmitted, DossierClosed, Event, IngestionPayload, Message as _, Outgoing, PartitionEnd, RedriveClaimed, topics,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Exit, Process, Service};
use serde_json::Value;
use testkit::Corner;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A handler with a bug, until it is mended.
struct Mendable {
    mended: Arc<AtomicBool>,
    handled: Arc<Mutex<Vec<Uuid>>>,
}

impl Worker for Mendable {
    const NAME: &'static str = topics::INGESTION;
    type Payload = IngestionPayload;

    async fn handle(&self, event: &Event<IngestionPayload>, _: &Context) -> Result<Emit, Failure> {
        if !self.mended.load(Ordering::Relaxed) {
            return Err(Failure::Failed(anyhow::anyhow!("division by zero")));
        }
        self.handled.lock().unwrap().push(event.envelope.id);
        Ok(Emit::none())
    }

    async fn buried(&self, _: &Event<IngestionPayload>, _: &Burial, _: &Context) -> Result<Emit, Failure> {
        Ok(Emit::none())
    }
}

struct Bench {
    corner: Corner,
    kafka: KafkaConfig,
    producer: Producer,
    mended: Arc<AtomicBool>,
    handled: Arc<Mutex<Vec<Uuid>>>,
}

/// What a run of the command has said.
struct Told {
    exit: anyhow::Result<Exit>,
    out: String,
    say: String,
}

impl Told {
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn letters(&self) -> Vec<i64> {
        self.lines().iter().map(|l| l["letter"].as_i64().unwrap()).collect()
    }

    fn states(&self) -> Vec<String> {
        self.lines().iter().map(|l| l["state"].as_str().unwrap().to_owned()).collect()
    }
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

impl Bench {
    async fn new() -> Self {
        let mut corner = Corner::new();
        corner.set("IDLE_EXIT_MS", "0");
        corner.create_topics().await;
        let kafka = corner.read(KafkaConfig::read);
        Self {
            producer: Producer::new(&kafka, "test").unwrap(),
            kafka,
            corner,
            mended: Arc::default(),
            handled: Arc::default(),
        }
    }

    fn dead(&self) -> String {
        self.kafka.name(&topics::dead(topics::INGESTION))
    }

    async fn run_worker(&self) -> Exit {
        let service = Service {
            name: topics::INGESTION,
            version: "0.0.0-test",
        };
        let process = Process::new(service, self.corner.env()).unwrap();
        let worker = Mendable {
            mended: self.mended.clone(),
            handled: self.handled.clone(),
        };
        let config = self.corner.read(LoopConfig::read);
        let ledger = testkit::MemoryLedger::default();
        let run = bus::run(&process, &config, ledger, async { Ok(worker) });
        tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap()
    }

    /// Runs the command as `ingestion redrive ARGS…` would.
    async fn redrive(&self, args: &[&str]) -> Told {
        let mut args = Cli::parse_from(["redrive"].iter().chain(args)).args;
        args.by = if args.by.as_deref() == Some(" ") {
            None
        } else {
            Some("ana".to_owned())
        };
        let kafka = self.kafka.clone();
        let work = move || {
            let (mut out, mut say) = (Vec::new(), Vec::new());
            let mut output = Output {
                out: &mut out,
                say: &mut say,
                terminal: false,
            };
            let exit = redrive::run(&kafka, topics::INGESTION, &args, &CancellationToken::new(), &mut output);
            Told {
                exit,
                out: String::from_utf8(out).unwrap(),
                say: String::from_utf8(say).unwrap(),
            }
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// Writes a letter as the loop does it.
    async fn letter(&self, n: i64, change: impl Fn(&mut BTreeMap<&'static str, String>)) {
        let last = Timestamp::from_second(1_800_000_000 + n * 60).unwrap();
        let mut headers = BTreeMap::from([
            ("ce_id", Uuid::from_u128(u128::try_from(n).unwrap()).to_string()),
            ("ce_type", DossierClosed::TYPE.to_owned()),
            ("ce_subject", format!("assets/a{n}")),
            ("ce_time", last.to_string()),
            ("key", format!("demo/a{n}")),
            (dead::header::TOPIC, self.kafka.name(topics::INGESTION)),
            (dead::header::PARTITION, (n % 3).to_string()),
            (dead::header::OFFSET, (500 + n).to_string()),
            (dead::header::ATTEMPTS, "3".to_owned()),
            (dead::header::ERROR, format!("Error number {n}")),
            (dead::header::CLASS, "handle".to_owned()),
            (dead::header::WORKER, "ingestion@0.1.0".to_owned()),
            (dead::header::FIRST_FAILURE, last.to_string()),
            (dead::header::LAST_FAILURE, last.to_string()),
        ]);
        change(&mut headers);
        let key = headers.remove("key").unwrap();
        let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(value.as_str()),
            })
        });
        let topic = self.dead();
        let record = FutureRecord::to(&topic).key(key.as_bytes()).payload(b"{}".as_slice()).headers(all);
        self.producer.send_record(record).await.unwrap();
    }

    async fn letters(&self, count: i64) {
        futures::future::join_all((0..count).map(|n| self.letter(n, |_| {}))).await;
    }

    /// What lies in a topic, as it is.
    async fn raw(&self, topic: &str) -> Vec<OwnedMessage> {
        let (kafka, topic) = (self.kafka.clone(), self.kafka.name(topic));
        tokio::task::spawn_blocking(move || read_all(&kafka, &topic)).await.unwrap()
    }

    /// How often each letter has been put back, by the headers of what lies on the topic.
    async fn put_back(&self) -> BTreeMap<i64, usize> {
        let mut times = BTreeMap::new();
        for message in self.raw(topics::INGESTION).await {
            if let Some(letter) = text(&message, header::LETTER) {
                let (topic, offset) = letter.rsplit_once('/').unwrap();
                assert_eq!(topic, self.dead());
                *times.entry(offset.parse().unwrap()).or_default() += 1;
            }
        }
        times
    }

    /// A claim as a process leaves it that dies right after it.
    async fn claim(&self, age: i64, ends: Vec<PartitionEnd>, offsets: &[i64]) -> Uuid {
        let letters = self.raw(&topics::dead(topics::INGESTION)).await;
        let claim = RedriveClaimed {
            topic: topics::INGESTION.to_owned(),
            by: "ben".to_owned(),
            reason: None,
            ends,
            letters: letters
                .iter()
                .filter(|l| offsets.contains(&l.offset()))
                .map(|l| ClaimedLetter {
                    offset: l.offset(),
                    written_ms: l.timestamp().to_millis().unwrap(),
                    after: None,
                })
                .collect(),
        };
        let at = Timestamp::now().checked_sub(SignedDuration::from_secs(age)).unwrap();
        let event = Outgoing::redrive(topics::INGESTION, at, &claim);
        self.producer.send(&event).await.unwrap();
        event.envelope.id
    }

    /// A message as a process leaves it that dies before it has written down that it sent it.
    async fn sent(&self, claim: Uuid, letter: i64) {
        let (claim, letter) = (claim.to_string(), format!("{}/{letter}", self.dead()));
        let headers = [(header::LETTER, &letter), (header::CLAIM, &claim)];
        let headers = headers.into_iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: Some(value) })
        });
        let topic = self.kafka.name(topics::INGESTION);
        let record = FutureRecord::to(&topic)
            .key(b"k".as_slice())
            .payload(b"{}".as_slice())
            .headers(headers);
        self.producer.send_record(record).await.unwrap();
    }
}

fn ends(of: impl Fn(i32) -> i64) -> Vec<PartitionEnd> {
    let end = |partition| PartitionEnd {
        partition,
        offset: of(partition),
    };
    (0..3).map(end).collect()
}

fn read_all(kafka: &KafkaConfig, topic: &str) -> Vec<OwnedMessage> {
    let mut config = kafka.client("test");
    config.set("group.id", "test").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let (mut assignment, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), TIMEOUT).unwrap();
        left += high - low;
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let mut all = Vec::new();
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} messages of {topic} did not come");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            all.push(message.unwrap().detach());
            left -= 1;
        }
    }
    all.sort_by_key(|m| (m.partition(), m.offset()));
    all
}

fn text(message: &OwnedMessage, name: &str) -> Option<String> {
    let found = message.headers()?.iter().filter(|h| h.key == name).last()?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}

type Own = Vec<(String, Option<Vec<u8>>)>;

fn headers(message: &OwnedMessage) -> Own {
    let all = message.headers().unwrap().iter();
    all.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_goes_round_and_the_mended_worker_does_what_the_broken_one_could_not() {
    let bench = Bench::new().await;
    // The third of its partition, with headers that no text could carry: place and headers must not be mixed up.
    let topic = bench.kafka.name(topics::INGESTION);
    let id = Uuid::now_v7();
    for n in 0..3 {
        let key = messages::AssetKey::new("demo".parse().unwrap(), "a".parse().unwrap());
        let closed = DossierClosed {
            asset_id: key.asset_id.clone(),
            requested_by: "test".to_owned(),
            valuation_date: None,
        };
        let id = if n == 2 { id } else { Uuid::now_v7() };
        let trace = messages::TraceParent::root();
        let event = Outgoing::first(id, "/test", "assets/a".to_owned(), &key, Timestamp::now(), trace, &closed);
        let event_headers = event.headers();
        let own = event_headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(value.as_bytes()),
            })
        });
        let own = own
            .insert(Header {
                key: "odd",
                value: Some([0u8, 255, 254].as_slice()),
            })
            .insert(Header::<&[u8]> { key: "null", value: None })
            .insert(Header {
                key: dead::header::CLASS,
                value: Some(b"its own".as_slice()),
            });
        let record = FutureRecord::to(&topic)
            .partition(1)
            .key(event.key().as_bytes())
            .payload(event.value.as_slice())
            .headers(own);
        bench.producer.send_record(record).await.unwrap();
    }
    assert_eq!(bench.run_worker().await, Exit::Drained);
    assert_eq!(bench.corner.lag(topics::INGESTION).await, 0);

    let listed = bench.redrive(&["--json"]).await;
    assert_eq!(listed.exit.unwrap(), Exit::Drained);
    let line = listed
        .out
        .lines()
        .nth(2)
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .unwrap();
    assert_eq!((line["partition"].as_i64(), line["offset"].as_i64()), (Some(1), Some(2)));
    assert_eq!(
        (line["class"].as_str(), line["error"].as_str()),
        (Some("handle"), Some("division by zero"))
    );
    assert_eq!((line["attempts"].as_i64(), line["state"].as_str()), (Some(3), Some("waiting")));
    assert_eq!(
        (line["event_id"].as_str(), line["key"].as_str()),
        (Some(id.to_string().as_str()), Some("demo/a"))
    );
    assert!(line.get("payload").is_none(), "values are confidential");
    assert!(
        listed.say.contains("3 would be put back") && listed.say.contains("nothing has changed"),
        "{}",
        listed.say
    );
    assert_eq!(bench.raw(topics::INGESTION).await.len(), 3);
    assert!(bench.raw(topics::REDRIVES).await.is_empty());

    bench.mended.store(true, Ordering::Relaxed);
    let back = bench.redrive(&["--json", "--put-back", "--reason", "mended in 0.1.1"]).await;
    assert_eq!(back.exit.unwrap(), Exit::Drained);
    let lies = bench.raw(topics::INGESTION).await;
    let (before, after): (Vec<_>, Vec<_>) = lies.iter().partition(|m| text(m, header::LETTER).is_none());
    assert_eq!((before.len(), after.len()), (3, 3));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.key(), before.payload()), (after.key(), after.payload()));
        let (own, all) = (headers(before), headers(after));
        assert_eq!(all.get(..own.len()).unwrap(), own);
        let added: Vec<&str> = all.iter().skip(own.len()).map(|(k, _)| k.as_str()).collect();
        assert_eq!(added, header::ALL);
        assert_eq!(
            (text(after, header::BY), text(after, header::COUNT)),
            (Some("ana".to_owned()), Some("1".to_owned()))
        );
    }
    assert_eq!(bench.run_worker().await, Exit::Drained);
    assert_eq!(bench.handled.lock().unwrap().len(), 3);
    assert!(bench.handled.lock().unwrap().contains(&id), "the event's id stays");
    assert_eq!(bench.corner.lag(topics::INGESTION).await, 0);
    assert_eq!(bench.raw(&topics::dead(topics::INGESTION)).await.len(), 3);
    let record = bench.redrive(&["--record", "--json"]).await.lines();
    assert_eq!(
        (
            record[0]["by"].as_str(),
            record[0]["reason"].as_str(),
            record[0]["put_back"].as_i64()
        ),
        (Some("ana"), Some("mended in 0.1.1"), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_fails_again_is_a_new_letter_and_counts_on() {
    let bench = Bench::new().await;
    bench.letter(1, |_| {}).await;
    bench.redrive(&["--put-back"]).await.exit.unwrap();
    // The value is no event: it comes back at once.
    assert_eq!(bench.run_worker().await, Exit::Drained);
    let listed = bench.redrive(&["--json"]).await;
    assert_eq!(listed.states(), ["put-back", "waiting"]);
    assert_eq!(listed.lines()[1]["redriven"], 1);
    bench.redrive(&["--put-back"]).await.exit.unwrap();
    let counts: Vec<_> = bench
        .raw(topics::INGESTION)
        .await
        .iter()
        .map(|m| text(m, header::COUNT).unwrap())
        .collect();
    assert_eq!(counts, ["1", "2"]);
    let last = bench.raw(topics::INGESTION).await.pop().unwrap();
    let added = headers(&last).iter().filter(|(k, _)| header::ALL.contains(&k.as_str())).count();
    assert_eq!(added, header::ALL.len(), "one story, the newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn twice_is_refused_and_again_is_on_purpose() {
    let bench = Bench::new().await;
    bench.letters(7).await;
    let first = bench.redrive(&["--put-back", "--limit", "5", "--json"]).await;
    assert_eq!(first.states(), ["put-back"; 5]);
    let second = bench.redrive(&["--put-back", "--json"]).await;
    assert!(
        second.say.contains("2 are put back") && second.say.contains("5 were put back before"),
        "{}",
        second.say
    );
    let third = bench.redrive(&["--put-back", "--json"]).await;
    assert!(third.say.contains("0 are put back"), "{}", third.say);
    assert_eq!(bench.put_back().await, (0..7).map(|n| (n, 1)).collect());
    let again = bench.redrive(&["--put-back", "--again", "--offset", "3", "--json"]).await;
    assert_eq!((again.letters(), again.lines()[0]["times"].as_i64()), (vec![3], Some(2)));
    assert_eq!(bench.put_back().await.get(&3), Some(&2));
    let table = bench.redrive(&["--offset", "2..3"]).await;
    assert!(
        table.out.contains("by ana") && table.out.contains("put back 2 times"),
        "{}",
        table.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_people_at_one_time_each_letter_has_one() {
    let bench = Bench::new().await;
    bench.letters(300).await;
    let (bench, people) = (&bench, 5);
    let told = futures::future::join_all((0..people).map(|_| bench.redrive(&["--put-back", "--json", "--rate", "150"]))).await;
    let back: usize = told.iter().map(|t| t.states().iter().filter(|s| *s == "put-back").count()).sum();
    assert!(told.iter().all(|t| matches!(t.exit, Ok(Exit::Drained))));
    assert!(back >= 300, "{back}");
    assert_eq!(bench.put_back().await, (0..300).map(|n| (n, 1)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_between_claim_and_record_no_letter_is_lost_and_none_goes_twice() {
    let bench = Bench::new().await;
    bench.letters(6).await;
    let crashed = bench.claim(60, ends(|_| 0), &[0, 1, 2]).await;
    bench.sent(crashed, 1).await;
    // Somebody is at it right now.
    bench.claim(5, ends(|_| 0), &[3]).await;

    let listed = bench.redrive(&["--json"]).await;
    assert_eq!(listed.states(), ["waiting", "put-back", "waiting", "claimed", "waiting", "waiting"]);
    assert_eq!(bench.raw(topics::REDRIVES).await.len(), 2, "a list writes nothing");

    let told = bench.redrive(&["--put-back", "--json"]).await;
    assert!(
        told.say.contains("4 are put back") && told.say.contains("1 were put back before"),
        "{}",
        told.say
    );
    assert!(told.say.contains("1 are being put back by somebody else"), "{}", told.say);
    assert_eq!(bench.put_back().await, [0, 1, 2, 4, 5].map(|n| (n, 1)).into());
    let record = bench.redrive(&["--record", "--json"]).await.lines();
    let of = |by: &str| {
        record
            .iter()
            .filter(|r| r["by"] == by)
            .map(|r| r["put_back"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((of("ben"), of("ana")), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_does_not_tell_any_more_is_not_put_back_without_again() {
    let bench = Bench::new().await;
    bench.letters(2).await;
    // The claim was made when the partition ended before what is its beginning now: -1 stands for what retention took.
    bench.claim(60, ends(|p| i64::from(p) - 1), &[0]).await;
    let told = bench.redrive(&["--put-back", "--json"]).await;
    assert!(told.say.contains("1 were perhaps put back"), "{}", told.say);
    assert_eq!(told.states(), ["unclear", "put-back"]);
    bench.redrive(&["--put-back", "--again", "--offset", "0"]).await.exit.unwrap();
    assert_eq!(bench.put_back().await, [0, 1].map(|n| (n, 1)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_take_what_they_say_and_nothing_else() {
    let bench = Bench::new().await;
    for n in 0..8 {
        bench
            .letter(n, |h| match n {
                1 => drop(h.insert(dead::header::CLASS, "decode".to_owned())),
                2 => drop(h.insert("ce_type", DocumentSubmitted::TYPE.to_owned())),
                3 => drop(h.insert("key", "other/a3".to_owned())),
                4 => drop(h.insert(dead::header::WORKER, "ingestion@0.2.0".to_owned())),
                5 => drop(h.insert(dead::header::TOPIC, "elsewhere".to_owned())),
                6 => drop(h.remove(dead::header::TOPIC)),
                _ => {}
            })
            .await;
    }
    let time = |n: i64| Timestamp::from_second(1_800_000_000 + n * 60).unwrap().to_string();
    let (two, four) = (time(2), time(4));
    let cases: [(&[&str], &[i64]); 11] = [
        (&[], &[0, 1, 2, 3, 4, 5, 7]),
        (&["--class", "decode"], &[1]),
        (&["--error", "error NUMBER 7"], &[7]),
        (&["--type", "document.submitted"], &[2]),
        (&["--key", "demo/a4"], &[4]),
        (&["--key", "other/*"], &[3]),
        (&["--since", &two, "--until", &four], &[2, 3]),
        (&["--offset", "..1"], &[0, 1]),
        (&["--worker", "0.2.0"], &[4]),
        (&["--worker", "ingestion@0.1.0", "--offset", "3..5"], &[3, 5]),
        (&["--class", "decode", "--key", "demo/a0"], &[]),
    ];
    for (args, expected) in cases {
        let told = bench.redrive(&[&["--json"], args].concat()).await;
        assert_eq!(told.letters(), expected, "{args:?}");
    }
    let limited = bench.redrive(&["--json", "--limit", "2", "--payload"]).await;
    assert_eq!(
        (limited.letters(), &limited.lines()[0]["payload"]),
        (vec![0, 1], &serde_json::json!({}))
    );
    // An upload of long ago is named; what is of another topic, or no letter at all, stays.
    let told = bench.redrive(&["--put-back", "--offset", "5..7", "--json"]).await;
    assert_eq!(told.states(), ["foreign", "put-back"]);
    assert!(
        told.say.contains("1 were on another topic") && told.say.contains("1 other messages"),
        "{}",
        told.say
    );
    bench
        .letter(9, |h| {
            h.insert("ce_type", DocumentSubmitted::TYPE.to_owned());
            h.insert("ce_time", "2020-01-01T00:00:00Z".to_owned());
        })
        .await;
    let told = bench.redrive(&["--type", "submitted"]).await;
    assert!(told.say.contains("1 are uploads of more than 35 days ago"), "{}", told.say);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_puts_back_without_a_name_and_a_missing_topic_is_named() {
    let mut bench = Bench::new().await;
    bench.letters(1).await;
    let nameless = bench.redrive(&["--put-back", "--by", " "]).await;
    assert!(format!("{:#}", nameless.exit.unwrap_err()).contains("--by NAME"));
    assert!(bench.put_back().await.is_empty());
    bench.kafka.topic_prefix = format!("{}none.", bench.kafka.topic_prefix);
    let error = bench.redrive(&[]).await.exit.unwrap_err();
    assert!(format!("{error:#}").contains("scalers topics apply"), "{error:#}");
    assert_eq!(Exit::from_error(&error), Exit::Config);
}
