//! The whole loop on the mock cluster, while handlers are slow and fail, members come and go, and brokers answer
//! wrongly, late or not at all: nothing is lost, nothing is committed before its effect, and keys keep their order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::GroupProtocol;
use common::Step;
use common::mock::{Member, Mock, PARTITIONS};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Exit;
use testkit::MockError::{self, *};
use testkit::{BROKERS, MockKafka, Request};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Cases of each protocol; the two run side by side.
const CASES: usize = 28;
/// Clusters of each protocol. A case mostly waits, for a heartbeat or for a broker to come back.
const LANES: usize = 4;
/// How soon everything is done once the weather has cleared: a member that was fenced has to come back first.
const QUIET: Duration = Duration::from_secs(60);

/// What goes wrong, milliseconds after the beginning.
#[derive(Debug, Clone)]
enum Fault {
    Spoil(Request, Vec<MockError>),
    Lead { partition: i32, broker: i32 },
    Coordinate { broker: i32 },
    Down { broker: i32, millis: u64 },
    AllDown { millis: u64 },
    RoundTrip { millis: u64, lasts: u64 },
}

#[derive(Debug, Clone)]
struct Case {
    messages: usize,
    keys: usize,
    in_flight: usize,
    /// The slowest handler, milliseconds.
    latency: u64,
    /// When the second member comes, and how long it stays.
    second: Option<(u64, u64)>,
    faults: Vec<(u64, Fault)>,
}

fn faults(protocol: GroupProtocol) -> impl Strategy<Value = Fault> {
    let errors = |request: Request, kinds: Vec<MockError>| {
        prop::collection::vec(prop::sample::select(kinds), 1..5).prop_map(move |errors| Fault::Spoil(request, errors))
    };
    let (heartbeat, fences) = match protocol {
        GroupProtocol::Classic => (
            Request::Heartbeat,
            vec![
                RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                RD_KAFKA_RESP_ERR__TRANSPORT,
            ],
        ),
        GroupProtocol::Consumer => (
            Request::ConsumerGroupHeartbeat,
            vec![
                RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH,
                RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            ],
        ),
    };
    // Each protocol has its own word for a member that is behind; librdkafka does not recover from the other's.
    let behind = match protocol {
        GroupProtocol::Classic => RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        GroupProtocol::Consumer => RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    };
    let commit = vec![
        behind,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    let fetch = vec![
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    let produce = vec![RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR__TRANSPORT];
    let broker = || prop::sample::select(BROKERS.to_vec());
    prop_oneof![
        4 => errors(Request::OffsetCommit, commit),
        2 => errors(Request::Fetch, fetch),
        2 => errors(heartbeat, fences),
        1 => errors(Request::Produce, produce),
        2 => (0..PARTITIONS, broker()).prop_map(|(partition, broker)| Fault::Lead { partition, broker }),
        1 => broker().prop_map(|broker| Fault::Coordinate { broker }),
        2 => (broker(), 50..800u64).prop_map(|(broker, millis)| Fault::Down { broker, millis }),
        1 => (50..800u64).prop_map(|millis| Fault::AllDown { millis }),
        1 => (20..300u64, 100..800u64).prop_map(|(millis, lasts)| Fault::RoundTrip { millis, lasts }),
    ]
}

fn cases(protocol: GroupProtocol) -> impl Strategy<Value = Case> {
    // In the new protocol members hear of each other with their heartbeats, which the mock has them send every 3 s.
    let stays = match protocol {
        GroupProtocol::Classic => 100..900u64,
        GroupProtocol::Consumer => 100..9000,
    };
    let second = prop_oneof![1 => Just(None), 2 => (0..700u64, stays).prop_map(Some)];
    let faults = prop::collection::vec((0..1200u64, faults(protocol)), 0..5);
    (40..120usize, 1..12usize, 1..24usize, 0..25u64, second, faults).prop_map(|(messages, keys, in_flight, latency, second, faults)| Case {
        messages,
        keys,
        in_flight,
        latency,
        second,
        faults,
    })
}

/// Some keys are slow, some fail at first in one way or the other, and some panic.
fn script(latency: u64) -> impl Fn(&str, u32) -> Step + Send + Sync + Clone {
    move |asset: &str, attempt| {
        let number: u32 = asset.trim_start_matches('k').parse().unwrap();
        match (number % 6, attempt) {
            (1, 0) => Step::Unavailable,
            (2, 0..2) => Step::Fail,
            (3, 0) => Step::Panic,
            (4, _) => Step::DoUnlessCancelled(Duration::from_millis(latency * 4)),
            _ => Step::DoSlowly(Duration::from_millis(rand::random_range(0..=latency))),
        }
    }
}

async fn strike(cluster: Arc<MockKafka>, topic: String, faults: Vec<(u64, Fault)>) {
    let strikes = faults.into_iter().map(|(at, fault)| {
        let (cluster, topic) = (cluster.clone(), topic.clone());
        async move {
            sleep(Duration::from_millis(at)).await;
            match fault {
                Fault::Spoil(request, errors) => cluster.spoil(request, &errors),
                Fault::Lead { partition, broker } => cluster.lead(&topic, partition, Some(broker)),
                Fault::Coordinate { broker } => cluster.coordinate(&topic, broker),
                Fault::Down { broker, millis } => {
                    cluster.down(broker);
                    sleep(Duration::from_millis(millis)).await;
                    cluster.up(broker);
                }
                Fault::AllDown { millis } => {
                    BROKERS.into_iter().for_each(|b| cluster.down(b));
                    sleep(Duration::from_millis(millis)).await;
                    BROKERS.into_iter().for_each(|b| cluster.up(b));
                }
                Fault::RoundTrip { millis, lasts } => {
                    cluster.round_trip(Duration::from_millis(millis));
                    sleep(Duration::from_millis(lasts)).await;
                    cluster.round_trip(Duration::ZERO);
                }
            }
        }
    });
    futures::future::join_all(strikes).await;
}

/// Reads what the group has committed and checks that all of it had its effect, over and over.
fn watch(mock: Arc<Mock>, over: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = mock.kafka.client("watch").set("group.id", &mock.topic).create().unwrap();
        let mut asked = TopicPartitionList::new();
        (0..PARTITIONS).for_each(|p| {
            asked.add_partition(&mock.topic, p);
        });
        while !over.is_cancelled() {
            // Who is asked may be down; then it is asked again.
            if let Ok(found) = consumer.committed_offsets(asked.clone(), Duration::from_millis(500)) {
                let effects = mock.effects();
                for p in found.elements() {
                    let Offset::Offset(committed) = p.offset() else { continue };
                    let sent = mock.sent.lock().unwrap();
                    let early = sent
                        .iter()
                        .find(|(id, _, at, offset)| *at == p.partition() && *offset < committed && !effects.contains_key(id));
                    assert!(
                        early.is_none(),
                        "{committed} is committed in {} before {early:?} had its effect",
                        p.partition()
                    );
                }
            }
            std::thread::sleep(Duration::from_millis(40));
        }
    })
}

/// Runs a case, and tells how many effects there were beyond one a message.
async fn run(mock: Arc<Mock>, case: &Case) -> usize {
    let keys = case.keys;
    for n in 0..case.messages / 2 {
        mock.write(&format!("k{}", n % keys)).await;
    }
    // Cancelled by a case that fails, too: the test would wait for the thread that watches.
    let over = CancellationToken::new().drop_guard();
    let watching = watch(mock.clone(), over.token().clone());
    let start = || Member::start(&mock, case.in_flight, script(case.latency));
    let first = start();
    let second = async {
        let Some((comes, stays)) = case.second else { return };
        sleep(Duration::from_millis(comes)).await;
        let member = start();
        sleep(Duration::from_millis(stays)).await;
        let exit = member.stop().await;
        // Its last commit may have been refused: then it says so, and the other does the work again.
        assert!(matches!(exit, Exit::Drained | Exit::NotAcknowledged), "{exit:?}");
    };
    let rest = async {
        for n in case.messages / 2..case.messages {
            mock.write(&format!("k{}", n % keys)).await;
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(strike(mock.cluster.clone(), mock.topic.clone(), case.faults.clone()), second, rest);
    mock.cluster.heal();
    let first = first.or_another(&mock, QUIET, start).await;
    mock.settled(QUIET).await;
    drop(over);
    watching.await.unwrap();
    assert!(first.runs(), "the first member has ended by itself");
    assert_eq!(first.stop().await, Exit::Drained);
    mock.assert_order();
    let effects: BTreeMap<_, _> = mock.effects();
    assert_eq!(effects.len(), case.messages);
    let again = effects.values().map(|n| *n as usize - 1).sum();
    if case.second.is_none() && case.faults.is_empty() {
        assert_eq!(again, 0, "nothing went wrong, and yet something was done twice");
    }
    again
}

async fn hold(protocol: GroupProtocol) {
    let mut runner = TestRunner::new(Config::default());
    let cases: Vec<Case> = (0..CASES)
        .map(|_| cases(protocol).new_tree(&mut runner).unwrap().current())
        .collect();
    let begun = Instant::now();
    let lanes = (0..LANES).map(|lane| {
        let cases: Vec<Case> = cases.iter().skip(lane).step_by(LANES).cloned().collect();
        tokio::spawn(async move {
            let cluster = Arc::new(MockKafka::start());
            let mut again = 0;
            for (number, case) in cases.into_iter().enumerate() {
                eprintln!("{protocol:?} c{number} of lane {lane}: {case:?}");
                let mock = Arc::new(Mock::on(cluster.clone(), protocol, &format!("c{number}.")));
                again += run(mock, &case).await;
            }
            again
        })
    });
    let mut again = 0;
    for lane in futures::future::join_all(lanes).await {
        again += lane.unwrap();
    }
    let messages: usize = cases.iter().map(|c| c.messages).sum();
    let share = 100.0 * again as f64 / messages as f64;
    eprintln!(
        "{protocol:?}: {CASES} cases, {messages} messages, {share:.1} % done again, {:.0?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_brokers_do_the_classic_group_loses_nothing() {
    hold(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_brokers_do_the_new_group_loses_nothing() {
    hold(GroupProtocol::Consumer).await;
}
