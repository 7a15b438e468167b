//! A dependency that stays away: the loop waits, asks now and then, and loses nothing; on the real broker.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Bench, Step, metric};
use messages::topics;
use runtime::Exit;

const MESSAGES: usize = 120;
/// Messages in flight at one time.
const FLIGHT: usize = 16;

async fn bench() -> Bench {
    let bench = Bench::new().await;
    let sent = (0..MESSAGES).map(|n| {
        let bench = &bench;
        async move { bench.send(&format!("m{n}")).await }
    });
    futures::future::join_all(sent).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_dependency_is_away_only_probes_are_begun_and_then_all_is_done() {
    let bench = bench().await;
    let process = bench.process();
    let mut config = bench.config();
    config.max_in_flight = FLIGHT;
    let calls = Arc::new(AtomicUsize::new(0));
    let away = Duration::from_secs(6);
    let (until, seen, observed) = (Instant::now() + away, calls.clone(), process.clone());
    let told_open = Arc::new(AtomicBool::new(false));
    let told = told_open.clone();
    let script = move |_: &str, _| {
        if Instant::now() >= until {
            return Step::Do;
        }
        if seen.fetch_add(1, Ordering::Relaxed) > FLIGHT {
            told.store(metric(&observed, "libertum_worker_circuit") == Some(1.0), Ordering::Relaxed);
        }
        Step::Unavailable
    };
    assert_eq!(bench.run_with(&process, &config, script).await, Exit::Drained);
    let asked = calls.load(Ordering::Relaxed);
    // What was in flight when it opened, and then some probes: 100 ms, 200 ms … 5 s apart.
    assert!((FLIGHT..FLIGHT + 12).contains(&asked), "{asked} attempts in {away:?}");
    let all: BTreeSet<String> = bench.handled().into_iter().collect();
    assert_eq!((all.len(), bench.handled().len()), (MESSAGES, MESSAGES));
    assert!(bench.corner.events(&topics::dead(topics::INGESTION)).await.is_empty());
    assert!(told_open.load(Ordering::Relaxed), "nobody was told that it is open");
    assert_eq!(metric(&process, "libertum_worker_circuit"), Some(0.0), "it has closed again");
    assert_eq!(
        (process.tally.assigned.get(), process.tally.lost.get()),
        (1, 0),
        "its partitions stayed"
    );
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_a_dependency_is_away_ends_with_69_and_commits_the_frontier_only() {
    let bench = bench().await;
    let mut config = bench.config();
    config.max_in_flight = FLIGHT;
    config.max_run = Some(Duration::from_secs(4));
    let good = Arc::new(AtomicUsize::new(0));
    let script = move |_: &str, _| {
        if good.fetch_add(1, Ordering::Relaxed) < 40 {
            Step::Do
        } else {
            Step::Unavailable
        }
    };
    assert_eq!(bench.run_with(&bench.process(), &config, script).await, Exit::Unavailable);
    let done = bench.handled().len();
    assert_eq!(done, 40);
    let lag = bench.corner.lag(topics::INGESTION).await;
    assert!(lag >= (MESSAGES - done) as i64, "{lag}");
    assert!(bench.corner.events(&topics::dead(topics::INGESTION)).await.is_empty());

    // The next process finds all that was not done, in its place.
    assert_eq!(bench.run(|_, _| Step::Do).await, Exit::Drained);
    let all: BTreeSet<String> = bench.handled().into_iter().collect();
    assert_eq!(all.len(), MESSAGES);
    bench.assert_no_lag().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_a_dependency_is_away_it_ends_in_order() {
    let bench = bench().await;
    let process = bench.process();
    let (stop, calls) = (process.stop.clone(), AtomicUsize::new(0));
    let script = move |_: &str, _| {
        if calls.fetch_add(1, Ordering::Relaxed) == FLIGHT + 2 {
            stop.cancel();
        }
        Step::Unavailable
    };
    let mut config = bench.config();
    config.max_in_flight = FLIGHT;
    assert_eq!(bench.run_with(&process, &config, script).await, Exit::Drained);
    assert_eq!(bench.corner.lag(topics::INGESTION).await, MESSAGES as i64);
}
