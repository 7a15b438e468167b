//! A thousand jobs, each a process of its own, one after another while messages come: each is given all that there is, and
//! leaves the group to the next as if it had never been (case 30).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bus::GroupProtocol::Consumer;
use bus::KafkaConfig;
use common::event;
use messages::topics;
use testkit::{Corner, MockKafka, start_program, until};
use uuid::Uuid;

const JOBS: usize = 1000;
/// Groups side by side, each with a topic and a line of jobs of its own: a job mostly waits for answers.
const GROUPS: usize = 4;
const PARTITIONS: i32 = 3;
/// How often a message comes, in each group.
const PACE: Duration = Duration::from_millis(20);
/// A job that takes as long waits for somebody who has gone: a dead member's session is longer.
const SOON: Duration = Duration::from_secs(15);

/// Ids of messages, by the asset that they are about.
type ByAsset = BTreeMap<String, Vec<Uuid>>;

/// A group on the mock cluster, and its jobs.
struct Line<'a> {
    cluster: &'a MockKafka,
    corner: Corner,
    kafka: KafkaConfig,
    folder: tempfile::TempDir,
}

impl<'a> Line<'a> {
    fn new(cluster: &'a MockKafka) -> Self {
        let mut corner = Corner::new();
        let kafka = cluster.config(Consumer, &format!("{}.", corner.name));
        cluster.create_topic(&kafka.name(topics::INGESTION), PARTITIONS);
        cluster.create_topic(&kafka.name(&topics::dead(topics::INGESTION)), 1);
        cluster.create_topic(&kafka.name(topics::ASSET_EVENTS), 1);
        let folder = tempfile::tempdir().unwrap();
        let effects = folder.path().join("effects").to_string_lossy().into_owned();
        for (name, value) in [
            ("KAFKA_BROKERS", kafka.brokers.as_str()),
            ("KAFKA_SECURITY_PROTOCOL", "plaintext"),
            ("KAFKA_GROUP_PROTOCOL", "consumer"),
            ("STEERED_EFFECTS", &effects),
            ("IDLE_EXIT_MS", "0"),
            ("RUST_LOG", "warn,bus::run::events=debug"),
        ] {
            corner.set(name, value);
        }
        Self {
            cluster,
            corner,
            kafka,
            folder,
        }
    }

    /// Writes messages until it is told to stop.
    async fn write(&self, over: &AtomicBool) -> ByAsset {
        let topic = self.kafka.name(topics::INGESTION);
        let mut sent = ByAsset::new();
        for n in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let asset = format!("s-{}", n % 11);
            let event = event(&asset);
            self.cluster.send(&topic, &event).await;
            sent.entry(asset).or_default().push(event.envelope.id);
            tokio::time::sleep(PACE).await;
        }
        sent
    }

    /// What was done, in the order in which it was.
    fn done(&self) -> ByAsset {
        let mut done = ByAsset::new();
        for line in std::fs::read_to_string(self.folder.path().join("effects")).unwrap().lines() {
            if let ["done", id, asset, _] = line.split(' ').collect::<Vec<_>>()[..] {
                done.entry(asset.to_owned()).or_default().push(id.parse().unwrap());
            }
        }
        done
    }

    /// Runs one job; how long it took.
    async fn job(&self) -> Duration {
        let begun = Instant::now();
        let mut job = start_program(&self.corner, "examples/steered", &[], self.folder.path());
        until("the job ends", SOON, async || job.ended().is_some()).await;
        assert_eq!(job.ended().unwrap().code(), Some(0), "{}", self.log());
        begun.elapsed()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("steered.log")).unwrap()
    }

    /// What the jobs themselves warn of. What they only pass on from librdkafka may come of a busy machine.
    fn warnings(&self) -> Vec<String> {
        let passed_on = [
            "librdkafka",
            "no broker can be reached, waiting",
            "kafka reported an error, going on",
        ];
        let warns = |line: &&str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let quiet = matches!(line["level"].as_str(), Some("DEBUG" | "INFO"));
            !quiet && !line["message"].as_str().is_some_and(|message| passed_on.contains(&message))
        };
        self.log().lines().filter(warns).map(str::to_owned).collect()
    }

    /// Jobs, one after another, beside the writer; what was written, and the longest that a job took.
    async fn run(&self, jobs: usize) -> (ByAsset, Duration) {
        let over = AtomicBool::new(false);
        let working = async {
            let mut longest = Duration::ZERO;
            for _ in 0..jobs {
                longest = longest.max(self.job().await);
            }
            over.store(true, Ordering::Relaxed);
            longest
        };
        let (sent, longest) = tokio::join!(self.write(&over), working);
        // What came while the last one ended.
        self.job().await;
        (sent, longest)
    }

    /// The shares that the jobs were given, in their order.
    fn shares(&self) -> Vec<BTreeSet<i32>> {
        let share = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let given = line["message"] == "partitions assigned";
            given.then(|| serde_json::from_str(line["partitions"].as_str().unwrap()).unwrap())
        };
        self.log().lines().filter_map(share).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_one_after_another_do_every_message_once_and_leave_no_member_behind() {
    let begun = Instant::now();
    let cluster = MockKafka::start();
    let lines: Vec<Line<'_>> = (0..GROUPS).map(|_| Line::new(&cluster)).collect();
    let ran = futures::future::join_all(lines.iter().map(|line| line.run(JOBS / GROUPS))).await;
    let (mut messages, mut slowest) = (0, Duration::ZERO);
    for (line, (sent, longest)) in lines.iter().zip(ran) {
        // Nothing is missing, done twice or out of its order.
        assert_eq!(line.done(), sent);
        // Who is still of the group keeps a share: none is left for the next.
        assert_eq!(line.shares(), vec![(0..PARTITIONS).collect(); JOBS / GROUPS + 1]);
        assert_eq!(line.warnings(), Vec::<String>::new());
        messages += sent.values().map(Vec::len).sum::<usize>();
        slowest = slowest.max(longest);
    }
    eprintln!(
        "{JOBS} jobs and {GROUPS} more, {messages} messages, the slowest job {slowest:?}, {:?} in all",
        begun.elapsed()
    );
    assert!(messages > JOBS, "too few messages came for a job each");
}
