//! The loop on the real broker: what it promises on good days and bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{GroupProtocol, Mode, dead};
use common::{Bench, Step, event, headers, until};
use jiff::Timestamp;
use messages::{Envelope, topics};
use rdkafka::producer::FutureRecord;
use runtime::Exit;
use tokio::sync::Semaphore;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_from_nothing_handles_all_there_is_and_ends_with_no_lag_anywhere() {
    let bench = Bench::new().await;
    let mut sent = BTreeSet::new();
    for n in 0..40 {
        sent.insert(bench.send(&format!("a{}", n % 7)).await);
    }
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    let handled: BTreeSet<Uuid> = bench.log.lock().unwrap().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(handled, sent);
    bench.assert_no_lag().await;

    let outcomes = bench.corner.events(topics::ASSET_EVENTS).await;
    assert_eq!(outcomes.len(), 40);
    let envelope: Envelope = outcomes[0].envelope();
    assert_eq!(envelope.source, "/libertum/ingestion");
    assert!(outcomes[0].key.starts_with("demo/a"));

    // A second job finds nothing, and says so quickly.
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    assert_eq!(bench.log.lock().unwrap().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_a_topic_that_was_never_used_commits_every_partition_and_ends() {
    let bench = Bench::new().await;
    assert!(bench.lag().await.values().all(|l| *l == 1));
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    bench.assert_no_lag().await;
}

/// A key's messages that wait, and how many of others come after each. All together are more bytes than the loop holds.
const WAITING: usize = 700;
const OTHERS: usize = 3;
/// Bytes of one of the others.
const LARGE: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_their_key_keep_no_memory_but_their_own_from_the_others() {
    let bench = Bench::new().await;
    let topic = bench.kafka.name(topics::INGESTION);
    let asset = |n: usize| {
        if n.is_multiple_of(OTHERS + 1) {
            "waits".to_owned()
        } else {
            format!("o{n}")
        }
    };
    let events: Vec<_> = (0..WAITING * (OTHERS + 1)).map(|n| event(&asset(n))).collect();
    let values = events.iter().enumerate().map(|(n, event)| {
        let mut value = event.value.clone();
        let length = if n.is_multiple_of(OTHERS + 1) { 0 } else { LARGE };
        // Spaces after its end are no part of JSON.
        value.resize(value.len().max(length), b' ');
        value
    });
    let values: Vec<_> = values.collect();
    let sent = events.iter().zip(&values).map(|(event, value)| {
        let record = FutureRecord::to(&topic)
            .partition(0)
            .key(event.key().as_bytes())
            .payload(value.as_slice());
        bench.producer.send_record(record.headers(headers(event)))
    });
    let placed = futures::future::join_all(sent).await;
    assert!(placed.iter().all(Result::is_ok));

    let allowed = Arc::new(Semaphore::new(0));
    let script = {
        let allowed = allowed.clone();
        move |asset: &str, _| {
            if asset == "waits" {
                Step::DoOnceAllowed(allowed.clone())
            } else {
                Step::Do
            }
        }
    };
    let others_are_done = async {
        until(|| bench.log.lock().unwrap().len() == WAITING * OTHERS).await;
        allowed.add_permits(WAITING);
    };
    let (exit, ()) = tokio::join!(bench.run(script), others_are_done);
    assert_eq!(exit, Exit::Drained);
    assert_eq!(bench.log.lock().unwrap().len(), events.len());
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_per_key_holds_while_keys_run_side_by_side() {
    let bench = Bench::new().await;
    let mut expected: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for n in 0..60 {
        let asset = format!("k{}", n % 6);
        let id = bench.send(&asset).await;
        expected.entry(asset).or_default().push(id);
    }
    assert_eq!(bench.run(|_, _| Step::DoSlowly(Duration::from_millis(20))).await, Exit::Drained);
    let mut got: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for (asset, id, _) in bench.log.lock().unwrap().iter() {
        got.entry(asset.clone()).or_default().push(*id);
    }
    assert_eq!(got, expected);
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_message_is_dead_lettered_with_its_story_and_its_neighbours_go_on() {
    let bench = Bench::new().await;
    bench.send("bad").await;
    bench.send("bug").await;
    bench.send("good").await;
    bench.send("good").await;
    let script = |asset: &str, _| match asset {
        "bad" => Step::Fail,
        "bug" => Step::Panic,
        _ => Step::Do,
    };
    assert_eq!(bench.run(script).await, Exit::Drained);
    assert_eq!(bench.handled(), ["good", "good"]);
    bench.assert_no_lag().await;

    let letters = bench.corner.events(&topics::dead(topics::INGESTION)).await;
    assert_eq!(letters.len(), 2);
    let letter = letters.iter().find(|l| l.key == "demo/bad").unwrap();
    let lies = bench
        .corner
        .events(topics::INGESTION)
        .await
        .into_iter()
        .find(|e| e.key == "demo/bad")
        .unwrap();
    assert_eq!(lies.offset, 0, "the very first of its partition");
    assert_ne!(lies.partition, 0, "a partition that is taken for an offset would not be seen");
    let header = |name| letter.header(name).unwrap();
    assert_eq!(header(dead::header::TOPIC), bench.kafka.name(topics::INGESTION));
    assert_eq!(header(dead::header::PARTITION), lies.partition.to_string());
    assert_eq!(header(dead::header::OFFSET), lies.offset.to_string());
    assert_eq!(header(dead::header::ATTEMPTS), "3");
    assert_eq!(header(dead::header::CLASS), "handle");
    assert_eq!(header(dead::header::ERROR), "it always fails");
    assert_eq!(header(dead::header::WORKER), "ingestion@0.0.0-test");
    assert!(header(dead::header::FIRST_FAILURE).parse::<Timestamp>().unwrap() < header(dead::header::LAST_FAILURE).parse().unwrap());
    assert!(header(dead::header::TIMESTAMP).parse::<i64>().unwrap() > 0);
    assert_eq!(letter.envelope(), lies.envelope(), "the message's own headers stay");
    assert_eq!(letter.value, lies.value);
    let bug = letters.iter().find(|l| l.key == "demo/bug").unwrap();
    assert_eq!(bug.header(dead::header::CLASS), Some("panic"));

    // Whoever waits for it was told.
    let told = bench.corner.events(topics::ASSET_EVENTS).await;
    assert_eq!(told.iter().filter(|e| e.envelope().subject == "buried").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_goes_to_the_dead_letters_at_once() {
    let bench = Bench::new().await;
    let topic = bench.kafka.name(topics::INGESTION);
    let no_envelope = FutureRecord::to(&topic).key(b"demo/x".as_slice()).payload(b"{}".as_slice());
    bench.producer.send_record(no_envelope).await.unwrap();
    bench.send("fine").await;
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    assert_eq!(bench.handled(), ["fine"]);
    let letters = bench.corner.events(&topics::dead(topics::INGESTION)).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header(dead::header::CLASS), Some("decode"));
    assert_eq!(letters[0].header(dead::header::ATTEMPTS), Some("1"));
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_dependency_is_waited_for_and_nothing_is_dead_lettered() {
    let bench = Bench::new().await;
    bench.send("a").await;
    bench.send("b").await;
    let script = |_: &str, attempt| if attempt < 5 { Step::Unavailable } else { Step::Do };
    assert_eq!(bench.run(script).await, Exit::Drained);
    assert_eq!(bench.handled().len(), 2);
    assert!(bench.log.lock().unwrap().iter().all(|(_, _, attempt)| *attempt == 5));
    assert!(bench.corner.events(&topics::dead(topics::INGESTION)).await.is_empty());
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_is_answered_and_done() {
    let bench = Bench::new().await;
    bench.send("a").await;
    assert_eq!(bench.run(|_, _| Step::Reject).await, Exit::Drained);
    assert_eq!(bench.corner.events(topics::ASSET_EVENTS).await.len(), 1);
    assert!(bench.corner.events(&topics::dead(topics::INGESTION)).await.is_empty());
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_is_in_flight_and_loses_nothing_that_waits() {
    let bench = Bench::new().await;
    for n in 0..30 {
        bench.send(&format!("s{n}")).await;
    }
    let process = bench.process();
    let mut config = bench.config();
    config.max_in_flight = 4;
    let (stop, begun) = (process.stop.clone(), Arc::new(Mutex::new(0)));
    let exit = bench
        .run_with(&process, &config, move |_, _| {
            let mut begun = begun.lock().unwrap();
            *begun += 1;
            if *begun == 8 {
                stop.cancel();
            }
            Step::DoSlowly(Duration::from_millis(50))
        })
        .await;
    assert_eq!(exit, Exit::Drained);
    let first = bench.handled().len();
    assert!((8..30).contains(&first), "{first}");
    assert_eq!(bench.lag().await.values().sum::<i64>(), 30 - first as i64);
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    let all: BTreeSet<String> = bench.handled().into_iter().collect();
    assert_eq!((all.len(), bench.handled().len()), (30, 30));
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_disturbs_no_work_in_the_partitions_that_stay() {
    let bench = Arc::new(Bench::new().await);
    for n in 0..60 {
        bench.send(&format!("w{n}")).await;
    }
    let begun = Arc::new(AtomicUsize::new(0));
    let member = || {
        let (bench, begun) = (bench.clone(), begun.clone());
        tokio::spawn(async move {
            let script = move |_: &str, _| {
                begun.fetch_add(1, Ordering::Relaxed);
                Step::DoUnlessCancelled(Duration::from_secs(2))
            };
            bench.run_with(&bench.process(), &bench.config(), script).await
        })
    };
    let first = member();
    // All are in hand, and none is done, when the second comes.
    until(|| begun.load(Ordering::Relaxed) >= 60).await;
    let second = member();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Exit::Drained, Exit::Drained));
    let all: BTreeSet<String> = bench.handled().into_iter().collect();
    assert_eq!(all.len(), 60);
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_its_share_and_every_message_is_handled() {
    let bench = Arc::new(Bench::new().await);
    for n in 0..400 {
        bench.send(&format!("m{n}")).await;
    }
    let mut config = bench.config();
    config.max_in_flight = 4;
    let shares = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let member = |share: Arc<AtomicUsize>| {
        let (bench, config) = (bench.clone(), config.clone());
        tokio::spawn(async move {
            let script = move |_: &str, _| {
                share.fetch_add(1, Ordering::Relaxed);
                Step::DoSlowly(Duration::from_millis(40))
            };
            bench.run_with(&bench.process(), &config, script).await
        })
    };
    let first = member(shares[0].clone());
    until(|| shares[0].load(Ordering::Relaxed) > 4).await;
    let second = member(shares[1].clone());
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Exit::Drained, Exit::Drained));
    let all: BTreeSet<String> = bench.handled().into_iter().collect();
    assert_eq!(all.len(), 400);
    assert!(
        shares[1].load(Ordering::Relaxed) > 0,
        "the second member was never given a partition"
    );
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_a_matter_of_configuration() {
    let both = [GroupProtocol::Classic, GroupProtocol::Consumer];
    let modes = [Mode::Job { idle_exit: Duration::ZERO }, Mode::Service];
    let all = both.into_iter().flat_map(|protocol| modes.map(|mode| (protocol, mode)));
    // In the new protocol nothing is said until a member without a share asks: all at one time.
    let runs = all.map(async |(protocol, mode)| {
        let mut bench = Bench::new().await;
        bench.kafka.group_protocol = protocol;
        bench.kafka.topic_prefix = format!("{}.none.", bench.corner.name);
        let mut config = bench.config();
        config.mode = mode;
        let exit = bench.run_with(&bench.process(), &config, |_, _| Step::Do).await;
        assert_eq!(exit, Exit::Config, "{protocol:?} {mode:?}");
    });
    futures::future::join_all(runs).await;
}
