//! `scalers run` on the real broker, with a real worker that takes what lies on its topic.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Bench, DEADLINE, gone, pid_of};
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_started_from_zero_on_lag_and_ends_by_itself() {
    let b = Bench::new().await;
    let running = b.run(&[]);
    b.send(5).await;
    let started = running.next("started");
    assert_eq!(
        (started["worker"].as_str(), started["lag"].as_i64().unwrap() > 0),
        (Some("ingestion"), true)
    );
    let ended = running.next("ended");
    assert_eq!(
        (&ended["exit_code"], &ended["pid"], &ended["job"]),
        (&Value::from(0), &started["pid"], &started["job"])
    );
    assert_eq!(b.lag(), 0);
    let log = std::fs::read_to_string(started["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("process ended"), "{log}");

    // It starts again when there is something again, and only then.
    b.send(1).await;
    let again = running.next("started");
    assert_ne!(again["pid"], started["pid"]);
    running.next("ended");
    kill_process(running.pid(), Signal::TERM).unwrap();
    running.next("stopping");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "--poll 200ms overrides pollingInterval",
        "authenticationRef, sasl, tls",
        "minting: skipped",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(b.logs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_lets_its_jobs_finish() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let job = pid_of(&running.next("started"));
    let deadline = Instant::now() + DEADLINE;
    while b.lag() > 0 {
        assert!(Instant::now() < deadline, "the job does not work");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(running.pid(), Signal::INT).unwrap();
    assert_eq!(running.next("stopping")["running"], 1);
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(running.end().0, Some(0));
    gone(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaler_that_is_killed_takes_its_jobs_with_it() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&[]);
    let job = pid_of(&running.next("started"));
    test_kill_process(job).unwrap();
    kill_process(running.pid(), Signal::KILL).unwrap();
    assert_eq!(running.end().0, None);
    gone(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_is_started_anew_and_the_work_gets_done() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "3000");
    b.send(3).await;
    let running = b.run(&[]);
    let first = running.next("started");
    kill_process(pid_of(&first), Signal::KILL).unwrap();
    let ended = running.next("ended");
    assert_eq!((&ended["exit_code"], &ended["signal"]), (&Value::Null, &Value::from(9)));
    assert_eq!(running.next("waiting")["failures"], 1);
    running.next("started");
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(b.lag(), 0);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_program_does_not_spin() {
    let mut b = Bench::new().await;
    b.corner.set("FAIL", "1");
    b.send(1).await;
    let running = b.run(&[]);
    let waits: Vec<i64> = (0..3).map(|_| running.next("waiting")["wait_ms"].as_i64().unwrap()).collect();
    assert_eq!(waits, [1000, 2000, 4000]);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_said_before_anything_starts() {
    let b = Bench::new().await;
    let (code, said) = b.run(&["--worker", "minting"]).end();
    assert!(code == Some(64) && said.contains("cargo build -p minting"), "{code:?} {said}");
    let (code, said) = b.run(&["--worker", "nobody"]).end();
    assert!(code == Some(64) && said.contains("no file for worker nobody"), "{code:?} {said}");
}
