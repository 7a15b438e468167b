//! A hundred thousand messages while worker processes are killed, frozen, told to stop and replaced, another member comes
//! or goes every second, and the broker is restarted: every message has its effect, and what is done twice leads to the
//! same event (cases 1 and 4).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use bus::KafkaConfig;
use common::load;
use messages::topics;
use rand::RngExt as _;
use testkit::{Corner, OwnStack, Program, Signal, start_program, until};
use tokio::sync::Mutex;

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
/// Members come and go for so many times as long at most, where a slow machine needs it until shares have changed often
/// enough.
const LONGER: u32 = 4;
/// Messages a minute for the group whose members come and go in good order.
const VISITED: usize = 30_000;
/// In so many seconds somebody's share must change there: more than half of a minute.
const RESTLESS: usize = 31;
/// Members of it that stay, and how many others there are at a time.
const STAY: usize = 3;
const VISITORS: usize = 2;
/// One test at a time; two would starve each other.
static ALONE: Mutex<()> = Mutex::const_new(());
/// How long the rest may take: the killed hold their partitions until their sessions end.
const QUIET: Duration = Duration::from_secs(100);

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
    /// A member joins, or the one that has leaves, once a second for as long as the storm lasts, and on until shares have
    /// changed in so many seconds.
    async fn come_and_go(&mut self, restless_at_least: usize) {
        let begun = Instant::now();
        let mut guest: Option<Program> = None;
        let mut due = Duration::ZERO;
        while due < STORM || (due < STORM * LONGER && load::restless_seconds(self.folder) < restless_at_least) {
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
    load::create_topics(&corner, PARTITIONS).await;
    let kafka = corner.read(KafkaConfig::read);
    say("servers run");
    let writing = {
        let kafka = kafka.clone();
        tokio::task::spawn_blocking(move || load::write(&kafka, MESSAGES, STORM.mul_f64(0.8)))
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
    tokio::join!(storm.rage(&stack), guests.come_and_go(restless_at_least));
    let restless = load::restless_seconds(folder.path());
    let sent = writing.await.unwrap();
    say("the storm is over");
    until("nothing is left to do", QUIET, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        storm.replace_the_ended();
        corner.lag(topics::INGESTION).await == 0
    })
    .await;
    say("all is committed");
    let done = load::effects(&file);
    let missing = sent.iter().filter(|id| !done.contains_key(id)).count();
    assert_eq!(missing, 0, "of {MESSAGES} messages {missing} are lost");
    let times: usize = done.values().sum();
    let again = times - done.len();
    // Of each message one event by its id, however often it was done.
    let outcomes = kafka.name(topics::ASSET_EVENTS);
    let (ids, events) = tokio::task::spawn_blocking(move || load::event_ids(&kafka, &outcomes))
        .await
        .unwrap();
    assert_eq!(ids.len(), MESSAGES);
    assert!(
        corner.events(&topics::dead(topics::INGESTION)).await.is_empty(),
        "a kill is no reason for a dead letter"
    );
    say(&format!(
        "{MESSAGES} messages, {KILLS} kills, shares changed in {restless} seconds: {:.2} % done again, {events} events of {} \
         ids; ends: {:?}, of guests: {:?}",
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

/// Members of a classic group that join and leave in good order, one of each every second, and three that stay.
struct Visitors<'a> {
    corner: &'a Corner,
    folder: &'a Path,
    here: VecDeque<Program>,
    gone: Vec<Program>,
}

impl Visitors<'_> {
    fn join(&mut self) {
        self.here
            .push_back(start_program(self.corner, "examples/steered", &[], self.folder));
    }

    /// The one that has been here for longest leaves.
    async fn leave(&mut self) {
        let visitor = self.here.pop_front().unwrap();
        until("a visitor can be told to leave", GOODBYE, async || visitor.hears(Signal::TERM)).await;
        visitor.signal(Signal::TERM);
        self.gone.push(visitor);
    }

    async fn come_and_go(&mut self) {
        let begun = Instant::now();
        for beat in 0..STORM.as_secs() {
            tokio::time::sleep(Duration::from_secs(beat).saturating_sub(begun.elapsed())).await;
            self.join();
            if self.here.len() > VISITORS {
                self.leave().await;
            }
        }
        while !self.here.is_empty() {
            self.leave().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_in_which_a_member_joins_and_one_leaves_every_second_loses_nothing_on_the_classic_protocol() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("effects");
    let mut corner = Corner::new();
    for (name, value) in [
        ("KAFKA_GROUP_PROTOCOL", "classic"),
        ("STEERED_EFFECTS", &file.to_string_lossy()),
        ("RUST_LOG", "warn,bus::run::events=debug"),
        ("WORKER_MODE", "service"),
    ] {
        corner.set(name, value);
    }
    load::create_topics(&corner, PARTITIONS).await;
    let kafka = corner.read(KafkaConfig::read);
    let mut stay: Vec<Program> = (0..STAY)
        .map(|_| start_program(&corner, "examples/steered", &[], folder.path()))
        .collect();
    let mut visitors = Visitors {
        corner: &corner,
        folder: folder.path(),
        here: VecDeque::new(),
        gone: Vec::new(),
    };
    let (mut sent, mut minutes, mut restless) = (BTreeSet::new(), 0, 0);
    while restless < RESTLESS && minutes < LONGER {
        let kafka = kafka.clone();
        let writing = tokio::task::spawn_blocking(move || load::write(&kafka, VISITED, STORM));
        visitors.come_and_go().await;
        sent.extend(writing.await.unwrap());
        restless = load::restless_seconds(folder.path());
        minutes += 1;
    }
    let begun = Instant::now();
    until("nothing is left to do", QUIET, async || corner.lag(topics::INGESTION).await == 0).await;
    let rest = begun.elapsed();
    stay.iter().for_each(|member| member.signal(Signal::TERM));
    for member in visitors.gone.iter_mut().chain(&mut stay) {
        until("a member has gone", GOODBYE, async || member.ended().is_some()).await;
        assert_eq!(member.ended().unwrap().code(), Some(0));
    }
    let done = load::effects(&file);
    assert!(sent.iter().all(|id| done.contains_key(id)), "messages are lost");
    let again = done.values().sum::<usize>() - done.len();
    let outcomes = kafka.name(topics::ASSET_EVENTS);
    let (ids, events) = tokio::task::spawn_blocking(move || load::event_ids(&kafka, &outcomes))
        .await
        .unwrap();
    assert_eq!(
        (done.len(), ids.len()),
        (sent.len(), sent.len()),
        "of each message one event by its id"
    );
    eprintln!(
        "{} messages, {} members came and went, shares changed in {restless} of {} seconds: {:.2} % done again, {events} \
         events of {} ids, the rest took {rest:.1?}",
        sent.len(),
        visitors.gone.len(),
        STORM.as_secs() * u64::from(minutes),
        100.0 * again as f64 / sent.len() as f64,
        ids.len()
    );
    assert!(restless >= RESTLESS, "it was too quiet: shares changed in {restless} seconds only");
}
