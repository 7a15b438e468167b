//! A bad deployment stops at the cap and leaves the topic as it is, on the real broker.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::{LoopConfig, RetryPolicy, breaker, dead};
use common::processes::Processes;
use common::{Bench, SERVICE, Step};
use messages::topics;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::FutureRecord;
use runtime::{Exit, Process, Service};

/// Dead letters in a row that a version may write.
const CAP: usize = 100;

async fn bench_with(messages: usize) -> Bench {
    let bench = Bench::new().await;
    let sent = (0..messages).map(|n| {
        let bench = &bench;
        async move { bench.send(&format!("m{n}")).await }
    });
    futures::future::join_all(sent).await;
    bench
}

fn impatient(bench: &Bench) -> LoopConfig {
    let mut config = bench.config();
    config.retry = RetryPolicy {
        attempts: 2,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(1),
    };
    config
}

fn version(bench: &Bench, version: &'static str) -> Process {
    let mut process = bench.process();
    process.service = Service { version, ..SERVICE };
    process
}

async fn letters(bench: &Bench) -> usize {
    bench.corner.events(&topics::dead(topics::INGESTION)).await.len()
}

async fn lag(bench: &Bench) -> i64 {
    bench.lag().await.values().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deployment_that_is_started_twenty_times_writes_one_cap_of_letters_and_leaves_the_topic_intact() {
    let bench = bench_with(400).await;
    let config = impatient(&bench);
    let calls = Arc::new(AtomicUsize::new(0));
    for start in 0..20 {
        let process = version(&bench, "bad");
        let (calls, before) = (calls.clone(), calls.load(Ordering::Relaxed));
        let seen = calls.clone();
        let script = move |_: &str, _| {
            calls.fetch_add(1, Ordering::Relaxed);
            Step::Fail
        };
        assert_eq!(
            bench.run_with(&process, &config, script).await,
            Exit::DeadLetterCap,
            "start {start}"
        );
        if start > 0 {
            assert_eq!(seen.load(Ordering::Relaxed), before, "start {start} consumed something");
            assert_eq!(process.tally.assigned.get(), 0, "start {start} joined the group");
        }
    }
    assert_eq!(letters(&bench).await, CAP);
    // Nothing is committed but what lies in the dead letters; messages behind one that stays are not either.
    assert!(lag(&bench).await >= 300, "{:?}", bench.lag().await);

    // A mended version takes what is left, and the bad one is forgotten with it.
    let stopped = breaker::trips(&bench.ledger, &bench.kafka, topics::INGESTION).await.unwrap();
    assert!(stopped.len() == 1 && stopped[0].version == "bad", "{stopped:?}");
    let mended = version(&bench, "mended");
    assert_eq!(bench.run_with(&mended, &config, |_, _| Step::Do).await, Exit::Drained);
    assert!(bench.handled().len() >= 300);
    bench.assert_no_lag().await;
    assert_eq!(breaker::trips(&bench.ledger, &bench.kafka, topics::INGESTION).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_the_same_version_goes_on() {
    let bench = bench_with(150).await;
    let config = impatient(&bench);
    let same = || version(&bench, "same");
    assert_eq!(bench.run_with(&same(), &config, |_, _| Step::Panic).await, Exit::DeadLetterCap);
    assert_eq!(bench.run_with(&same(), &config, |_, _| Step::Do).await, Exit::DeadLetterCap);
    assert!(bench.handled().is_empty());
    let stopped = breaker::reset(&bench.ledger, &bench.kafka, topics::INGESTION).await.unwrap();
    assert_eq!(stopped.len(), 1);
    assert_eq!(bench.run_with(&same(), &config, |_, _| Step::Do).await, Exit::Drained);
    assert!(bench.handled().len() >= 50);
    bench.assert_no_lag().await;
    assert_eq!(letters(&bench).await, CAP);
}

/// Each part is a process of its own, and what they know of each other is in the real ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_stopped_consumes_again_once_somebody_has_mended_what_it_needs_and_run_redrive_reset() {
    let all = Processes::new(&[]).await;
    let sent = all.send((0..CAP + 50).map(|n| format!("needs-{n}"))).await;
    assert_eq!(all.run().await, Some(65), "{}", all.read("steered.log"));
    assert_eq!((letters(&all.bench).await, all.done().len()), (CAP, 0));
    all.mend();
    let before = all.effects().len();
    assert_eq!(all.run().await, Some(65), "{}", all.read("steered.log"));
    assert_eq!(all.effects().len(), before, "a version that was stopped has begun something");

    let reset = || {
        let vars = all.bench.corner.vars().iter().cloned();
        let mut command = Command::new(testkit::program("ingestion"));
        let output = command.args(["redrive", "--reset"]).env_clear().envs(vars).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    };
    let (said, version) = (reset(), env!("CARGO_PKG_VERSION"));
    assert!(
        said.contains(&format!("ingestion consumes again; stopped were: {version} (")),
        "{said}"
    );
    let said = reset();
    assert!(said.contains("no version of ingestion was stopped"), "{said}");
    assert_eq!(all.effects().len(), before, "a reset alone consumes nothing");

    // The same version takes what was left: all that has no letter, and what is behind such a message.
    assert_eq!(all.run().await, Some(0), "{}", all.read("steered.log"));
    all.bench.assert_no_lag().await;
    let written = all.bench.corner.events(&topics::dead(topics::INGESTION)).await;
    assert_eq!(written.len(), CAP);
    let buried = written.iter().map(|l| l.key.trim_start_matches("demo/").to_owned());
    assert_eq!(all.done().into_iter().chain(buried).collect::<BTreeSet<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_come_one_process_at_a_time_are_counted_together() {
    let bench = Bench::new().await;
    let config = impatient(&bench);
    let mut ends = Vec::new();
    for start in 0..4 {
        for n in 0..40 {
            bench.send(&format!("s{start}-{n}")).await;
        }
        ends.push(bench.run_with(&version(&bench, "bad"), &config, |_, _| Step::Fail).await);
    }
    assert_eq!(ends, [Exit::Drained, Exit::Drained, Exit::DeadLetterCap, Exit::DeadLetterCap]);
    assert_eq!(letters(&bench).await, CAP);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_ledger_every_process_stops_at_the_cap_by_itself() {
    let bench = bench_with(250).await;
    bench.ledger.set_down(true);
    let config = impatient(&bench);
    for start in 1..=2 {
        let process = version(&bench, "bad");
        assert_eq!(bench.run_with(&process, &config, |_, _| Step::Fail).await, Exit::DeadLetterCap);
        assert!(letters(&bench).await <= start * CAP);
        assert!(process.tally.ledger_failures.get() > 0, "nobody was told that the ledger is down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_full_of_what_nobody_can_read_is_left_as_it_is() {
    let bench = Bench::new().await;
    let topic = bench.kafka.name(topics::INGESTION);
    let sent = (0..200).map(|n| {
        let (bench, topic) = (&bench, &topic);
        async move {
            let key = format!("demo/{n}");
            let record = FutureRecord::to(topic).key(key.as_bytes()).payload(b"{}".as_slice());
            bench.producer.send_record(record).await.unwrap();
        }
    });
    futures::future::join_all(sent).await;
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::DeadLetterCap);
    let written = bench.corner.events(&topics::dead(topics::INGESTION)).await;
    assert_eq!(written.len(), CAP);
    assert!(written.iter().all(|l| l.header(dead::header::CLASS) == Some("decode")));
    assert!(lag(&bench).await >= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_bad_messages_among_good_ones_stop_nobody() {
    let bench = bench_with(400).await;
    let bad = |asset: &str| asset.ends_with('3') || asset.ends_with('7');
    let script = move |asset: &str, _| if bad(asset) { Step::Fail } else { Step::Do };
    assert_eq!(
        bench.run_with(&version(&bench, "some"), &impatient(&bench), script).await,
        Exit::Drained
    );
    assert_eq!(letters(&bench).await, 80);
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_written_keeps_its_message_in_the_topic_and_ends_with_74() {
    let bench = bench_with(30).await;
    let dead = bench.kafka.name(&topics::dead(topics::INGESTION));
    let admin: AdminClient<DefaultClientContext> = bench.kafka.client("test").create().unwrap();
    let small = AlterConfig::new(ResourceSpecifier::Topic(&dead)).set("max.message.bytes", "100");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for altered in admin.alter_configs(&[small], &options).await.unwrap() {
        altered.unwrap();
    }
    let one_bad = |asset: &str, _| if asset == "m7" { Step::Fail } else { Step::Do };
    assert_eq!(
        bench.run_with(&bench.process(), &impatient(&bench), one_bad).await,
        Exit::NotAcknowledged
    );
    assert_eq!(letters(&bench).await, 0);
    let left = bench.corner.events(topics::INGESTION).await;
    let bad = left.iter().find(|e| e.key == "demo/m7").unwrap();
    assert!(bench.lag().await[&bad.partition] > 0, "it is committed, and in no topic of ours");
    // Mended, it is done like any other.
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    assert!(bench.handled().contains(&"m7".to_owned()));
    bench.assert_no_lag().await;
}
