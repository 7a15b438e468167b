//! A worker whose Kafka user lacks one of its rights, each in turn: how it ends, that nothing is committed which is not
//! done, and that it works again with the right (case 11).
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use bus::{KafkaConfig, Producer, ScramMechanism, dead};
use common::event;
use common::processes::{PATIENCE, Steered};
use futures::{StreamExt as _, stream};
use messages::topics;
use serde_json::Value;
use testkit::{Corner, On, Operation, OwnStack, Right, Rights, until};

/// A worker that is refused does not ask for ever.
const AT_ONCE: Duration = Duration::from_secs(20);
/// In this many seconds a worker among others has joined, handled its messages and been refused.
const TIME: &str = "10";
/// Good messages, which spread over the partitions.
const GOOD: usize = 6;

/// What the user lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Less {
    Topic,
    /// It sees that the topic is there.
    TopicButDescribe,
    /// It may read the topic, and is forbidden to ask about it.
    DescribeTopic,
    Group,
    GroupButDescribe,
    DescribeGroup,
    Outcomes,
    DeadLetters,
}

impl Less {
    const ALL: [Self; 8] = [
        Self::Topic,
        Self::TopicButDescribe,
        Self::DescribeTopic,
        Self::Group,
        Self::GroupButDescribe,
        Self::DescribeGroup,
        Self::Outcomes,
        Self::DeadLetters,
    ];

    /// What is not on the user's list and should be, and what is and should not.
    fn change(self, kafka: &KafkaConfig) -> (Option<Right>, Option<Right>) {
        let topic = || On::Topic(kafka.name(topics::INGESTION));
        let group = || On::Group(kafka.name(topics::INGESTION));
        let read = |on| Some(Right::to(Operation::Read, on));
        let write = |topic: &str| Some(Right::to(Operation::Write, On::Topic(kafka.name(topic))));
        match self {
            Self::Topic => (read(topic()), None),
            Self::TopicButDescribe => (read(topic()), Some(Right::to(Operation::Describe, topic()))),
            Self::DescribeTopic => (None, Some(Right::not_to(Operation::Describe, topic()))),
            Self::Group => (read(group()), None),
            Self::GroupButDescribe => (read(group()), Some(Right::to(Operation::Describe, group()))),
            Self::DescribeGroup => (None, Some(Right::not_to(Operation::Describe, group()))),
            Self::Outcomes => (write(topics::ASSET_EVENTS), None),
            Self::DeadLetters => (write(&topics::dead(topics::INGESTION)), None),
        }
    }
}

/// What the worker needs: of its line in `access.json` what this one uses, who redrives nothing and leads to events alone.
fn needed(kafka: &KafkaConfig) -> Vec<Right> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/modules/vm/files/access.json");
    let access: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let dead = topics::dead(topics::INGESTION);
    let used = |entry: &Value| {
        let [operation, kind, name] = entry.as_str().unwrap().split(' ').collect::<Vec<_>>()[..] else {
            panic!("an entry of three words: {entry}");
        };
        let operation = match operation {
            "READ" if name == topics::INGESTION => Operation::Read,
            "WRITE" if name == topics::ASSET_EVENTS || name == dead => Operation::Write,
            _ => return None,
        };
        let on = if kind == "GROUP" { On::Group } else { On::Topic };
        Some(Right::to(operation, on(kafka.name(name))))
    };
    let line = access["kafka"][topics::INGESTION].as_array();
    line.unwrap().iter().filter_map(used).collect()
}

/// A corner, and workers with a user of their own.
struct Case {
    less: Less,
    protocol: &'static str,
    /// Everyone may everything here.
    corner: Corner,
    user: String,
    workers: Steered,
}

impl Case {
    async fn new(stack: &OwnStack, rights: &Rights, protocol: &'static str, less: Less) -> Self {
        let corner = stack.corner();
        corner.create_topics().await;
        let user = format!("worker-{}", corner.name);
        let (mechanism, name) = match protocol {
            "classic" => (ScramMechanism::Sha512, "SCRAM-SHA-512"),
            _ => (ScramMechanism::Sha256, "SCRAM-SHA-256"),
        };
        rights.add_user(&user, "sesame", mechanism);
        let kafka = corner.read(KafkaConfig::read);
        let (missing, instead) = less.change(&kafka);
        let given = needed(&kafka)
            .into_iter()
            .filter(|right| Some(right) != missing.as_ref())
            .chain(instead);
        given.for_each(|right| rights.give(&user, &right));
        let mut workers = Steered::new(stack.log_in(corner.clone_for_process(), &user, "sesame"));
        workers.corner.set("KAFKA_SASL_MECHANISM", name);
        workers.corner.set("KAFKA_GROUP_PROTOCOL", protocol);
        Self {
            less,
            protocol,
            corner,
            user,
            workers,
        }
    }

    /// Writes the messages; among them one that is to be dead-lettered, when that is what cannot be done.
    async fn send(&self) {
        let producer = Producer::new(&self.corner.read(KafkaConfig::read), "test").unwrap();
        for n in 0..GOOD {
            producer.send(&event(&format!("m-{n}"))).await.unwrap();
            if n == 1 && self.less == Less::DeadLetters {
                producer.send(&event("fail-x")).await.unwrap();
            }
        }
    }

    /// The list is as it should be.
    fn mend(&self, rights: &Rights) {
        let (missing, instead) = self.less.change(&self.corner.read(KafkaConfig::read));
        missing.iter().for_each(|right| rights.give(&self.user, right));
        instead.iter().for_each(|right| rights.take(&self.user, right));
    }

    async fn lag(&self) -> i64 {
        self.corner.lag(topics::INGESTION).await
    }

    async fn letters(&self) -> usize {
        self.corner.events(&topics::dead(topics::INGESTION)).await.len()
    }

    /// It is refused, says so, and has not begun anything.
    async fn is_refused(&self) {
        let begun = Instant::now();
        assert_eq!(self.workers.run().await, Some(77), "{self}");
        assert!(begun.elapsed() < AT_ONCE, "{:?}: {self}", begun.elapsed());
        let log = self.workers.read("steered.log");
        assert!(log.contains("check KAFKA_SASL_USERNAME, its password and its ACLs"), "{self}");
        assert_eq!(self.workers.read("effects"), "", "{self}");
        assert_eq!(self.lag().await, self.untouched(), "{self}");
    }

    /// The lag as long as nobody has committed anything.
    fn untouched(&self) -> i64 {
        GOOD as i64 + i64::from(self.less == Less::DeadLetters)
    }

    /// Its work is done and cannot be told: it waits, whatever its time is, and gives up nothing.
    async fn waits(&self, rights: &Rights) {
        assert_eq!(self.workers.run_with(&[("MAX_RUN_SECONDS", TIME)]).await, Some(69), "{self}");
        assert_eq!((self.lag().await, self.letters().await), (self.untouched(), 0), "{self}");
        let before = self.workers.read("effects").len();
        let mut waiting = self.workers.start();
        until("the next one tries", PATIENCE, async || self.workers.read("effects").len() > before).await;
        assert!(waiting.ended().is_none(), "{self}");
        self.mend(rights);
        until("it goes on without a restart", PATIENCE, async || waiting.ended().is_some()).await;
        assert_eq!(waiting.ended().unwrap().code(), Some(0), "{self}");
    }

    /// The dead letter cannot be written: its message stays, and whatever is behind it in its partition.
    async fn keeps_what_it_cannot_bury(&self) {
        assert_eq!(self.workers.run().await, Some(74), "{self}");
        let all = self.corner.events(topics::INGESTION).await;
        let bad = all.iter().find(|e| e.key == "demo/fail-x").unwrap();
        let stays = all
            .iter()
            .filter(|e| e.partition == bad.partition && e.offset >= bad.offset)
            .count();
        assert!(self.lag().await >= stays as i64, "{} of {stays}: {self}", self.lag().await);
        assert_eq!(self.letters().await, 0, "{self}");
    }

    async fn passes(&self, rights: &Rights) {
        self.send().await;
        match self.less {
            Less::Outcomes => self.waits(rights).await,
            Less::DeadLetters => self.keeps_what_it_cannot_bury().await,
            _ => self.is_refused().await,
        }
        if self.less != Less::Outcomes {
            self.mend(rights);
            assert_eq!(self.workers.run().await, Some(0), "{self}");
        }
        assert_eq!((self.workers.done().len(), self.lag().await), (GOOD, 0), "{self}");
        let letters = self.corner.events(&topics::dead(topics::INGESTION)).await;
        assert_eq!(letters.len(), usize::from(self.less == Less::DeadLetters), "{self}");
        assert!(letters.iter().all(|l| l.header(dead::header::CLASS) == Some("handle")), "{self}");
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} by {}: {}", self.less, self.protocol, self.workers.read("steered.log"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_one_of_its_rights_says_so_and_loses_nothing_and_works_again_with_it() {
    let stack = OwnStack::start().await;
    let rights = Rights::of(&stack.corner().read(KafkaConfig::read));
    let all = ["classic", "consumer"]
        .into_iter()
        .flat_map(|protocol| Less::ALL.map(|less| (protocol, less)));
    stream::iter(all)
        .for_each_concurrent(3, async |(protocol, less)| {
            let begun = Instant::now();
            Case::new(&stack, &rights, protocol, less).await.passes(&rights).await;
            eprintln!("{protocol} without {less:?}: {:.1} s", begun.elapsed().as_secs_f64());
        })
        .await;
    a_password_of_one_mechanism_is_none_of_the_other(&stack, &rights).await;
}

/// Each mechanism has its own record of a user.
async fn a_password_of_one_mechanism_is_none_of_the_other(stack: &OwnStack, rights: &Rights) {
    let mut case = Case::new(stack, rights, "consumer", Less::Topic).await;
    case.mend(rights);
    case.send().await;
    case.workers.corner.set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512");
    case.is_refused().await;
    case.workers.corner.set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256");
    assert_eq!(case.workers.run().await, Some(0), "{case}");
    assert_eq!((case.workers.done().len(), case.lag().await), (GOOD, 0), "{case}");
}
