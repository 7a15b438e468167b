//! Signals and stuck handlers, as processes on the real broker (cases 2, 3 and 28).
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::Bench;
use testkit::{Program, Signal, start_program, until};

const PATIENCE: Duration = Duration::from_secs(40);

/// Worker processes in a corner, and what they have written.
struct Processes {
    bench: Bench,
    folder: tempfile::TempDir,
}

impl Processes {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let mut bench = Bench::new().await;
        let folder = tempfile::tempdir().unwrap();
        let effects = folder.path().join("effects");
        bench.corner.set("STEERED_EFFECTS", effects.to_string_lossy());
        bench.corner.set("RUST_LOG", "info,bus=debug");
        bench.corner.set("IDLE_EXIT_MS", "0");
        settings.iter().for_each(|(name, value)| bench.corner.set(name, *value));
        Self { bench, folder }
    }

    fn start(&self) -> Program {
        start_program(&self.bench.corner, "examples/steered", &[], self.folder.path())
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn log(&self) -> String {
        self.read("steered.log")
    }

    /// How often this was written of assets whose id begins so.
    fn count(&self, what: &str, asset: &str) -> usize {
        let effects = self.read("effects");
        let lines = effects.lines().filter_map(|line| line.strip_prefix(what)?.split(' ').nth(2));
        lines.filter(|a| a.starts_with(asset)).count()
    }

    async fn until_begun(&self, asset: &str, times: usize) {
        until(&format!("{asset} has begun"), PATIENCE, async || {
            self.count("begun", asset) >= times
        })
        .await;
    }

    async fn until_logged(&self, text: &str) {
        until(text, PATIENCE, async || self.log().contains(text)).await;
    }

    /// Runs one more worker, as a job, and sees that nothing is left.
    async fn finish(&mut self) {
        self.bench.corner.set("WORKER_MODE", "job");
        let mut job = self.start();
        assert_eq!(exit_of(&mut job, PATIENCE).await, Some(0), "{}", self.log());
        self.bench.assert_no_lag().await;
    }
}

/// Its exit code; `None` when a signal ended it.
async fn exit_of(program: &mut Program, at_most: Duration) -> Option<i32> {
    until("the process ends", at_most, async || program.ended().is_some()).await;
    program.ended().unwrap().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_slow_handlers_finish_and_what_waits_is_left_for_the_next() {
    let mut all = Processes::new(&[("WORKER_MODE", "service"), ("GRACE_SECONDS", "20")]).await;
    let mut worker = all.start();
    for asset in ["sleep-1500-a", "sleep-1500-b", "sleep-1500-a"] {
        all.bench.send(asset).await;
    }
    all.until_begun("sleep-1500-a", 1).await;
    all.until_begun("sleep-1500-b", 1).await;
    worker.signal(Signal::TERM);
    assert_eq!(exit_of(&mut worker, Duration::from_secs(15)).await, Some(0), "{}", all.log());
    assert_eq!((all.count("done", "sleep-1500-a"), all.count("done", "sleep-1500-b")), (1, 1));
    assert_eq!(all.count("begun", ""), 2, "what waits behind its key is not begun any more");
    all.finish().await;
    assert_eq!((all.count("begun", ""), all.count("done", "")), (3, 3), "nothing is done twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_returns_ends_with_75_before_the_grace_does_and_is_done_again() {
    for stuck in ["once-1", "spin-1"] {
        let mut all = Processes::new(&[("WORKER_MODE", "service"), ("GRACE_SECONDS", "6")]).await;
        let mut worker = all.start();
        all.bench.send(stuck).await;
        all.bench.send("quick").await;
        all.until_begun(stuck, 1).await;
        until("its neighbour is done", PATIENCE, async || all.count("done", "quick") == 1).await;
        let told = Instant::now();
        worker.signal(Signal::TERM);
        assert_eq!(exit_of(&mut worker, Duration::from_secs(20)).await, Some(75), "{}", all.log());
        // Asking for the status has a step of its own on a busy machine.
        assert!(told.elapsed() < Duration::from_millis(6500), "{:?}", told.elapsed());
        assert!(all.log().contains("\"exit.code\":75"), "{}", all.log());
        all.finish().await;
        assert_eq!((all.count("done", stuck), all.count("done", "quick")), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut all = Processes::new(&[("WORKER_MODE", "service"), ("GRACE_SECONDS", "60")]).await;
    let mut worker = all.start();
    all.bench.send("once-1").await;
    all.until_begun("once-1", 1).await;
    worker.signal(Signal::TERM);
    all.until_logged("told to stop, finishing what is in flight").await;
    worker.signal(Signal::TERM);
    assert_eq!(exit_of(&mut worker, Duration::from_secs(5)).await, Some(75), "{}", all.log());
    assert_eq!(all.log().matches("process ended").count(), 1, "{}", all.log());
    all.finish().await;
    assert_eq!(all.count("done", "once-1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_it_starts_it_ends_in_order_whether_kafka_is_there_or_not() {
    // Nobody listens there, and nobody takes the port while the test has it.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("127.0.0.1:{}", nobody.local_addr().unwrap().port());
    for brokers in [None, Some(nowhere.as_str())] {
        let settings: Vec<(&str, &str)> = brokers.map(|b| ("KAFKA_BROKERS", b)).into_iter().collect();
        let all = Processes::new(&settings).await;
        let mut worker = all.start();
        all.until_logged("process started").await;
        worker.signal(Signal::TERM);
        assert_eq!(
            exit_of(&mut worker, Duration::from_secs(10)).await,
            Some(0),
            "{brokers:?} {}",
            all.log()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_before_it_listens_it_ends_by_the_signal_and_after_that_in_order() {
    let mut all = Processes::new(&[("WORKER_MODE", "service")]).await;
    all.bench.send("quick").await;
    let mut by_signal = Vec::new();
    // From the first instruction to well behind the first assignment.
    for millis in (0..20).map(|n| 2 * n * n) {
        let mut worker = all.start();
        // The moment is what is tried out, not something that is waited for.
        tokio::time::sleep(Duration::from_millis(millis)).await;
        worker.signal(Signal::TERM);
        until("the process ends", Duration::from_secs(12), async || worker.ended().is_some()).await;
        let status = worker.ended().unwrap();
        match (status.code(), status.signal()) {
            (None, Some(term)) if term == Signal::TERM.as_raw() => by_signal.push(millis),
            (code, _) => assert_eq!(code, Some(0), "after {millis} ms: {}", all.log()),
        }
    }
    assert_eq!(by_signal.first(), Some(&0), "a signal at once comes before any program can listen");
    assert!(by_signal.len() < 20, "it never listened");
    all.finish().await;
    assert_eq!(all.count("done", "quick"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_in_the_middle_of_a_rebalance_it_loses_nothing() {
    let mut all = Processes::new(&[("WORKER_MODE", "service"), ("GRACE_SECONDS", "20")]).await;
    let mut first = all.start();
    // Every partition has one in flight, so that whatever is revoked is waited for.
    for asset in 0..12 {
        all.bench.send(&format!("sleep-4000-{asset}")).await;
    }
    all.until_begun("sleep-4000", 12).await;
    let mut second = all.start();
    all.until_logged("partitions revoked").await;
    first.signal(Signal::TERM);
    assert_eq!(exit_of(&mut first, Duration::from_secs(20)).await, Some(0), "{}", all.log());
    second.signal(Signal::TERM);
    assert_eq!(exit_of(&mut second, Duration::from_secs(20)).await, Some(0), "{}", all.log());
    all.finish().await;
    for asset in 0..12 {
        assert!(all.count("done", &format!("sleep-4000-{asset}")) >= 1, "{asset} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_handler_turns_liveness_red_and_the_log_names_the_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut all = Processes::new(&[("WORKER_MODE", "service"), ("STUCK_SECONDS", "1"), ("METRICS_ADDR", &addr)]).await;
    let mut worker = all.start();
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let live = async || {
        let answer = http.get(format!("http://{addr}/healthz/live")).send().await;
        answer.ok().map(|a| a.status().as_u16())
    };
    until("it is alive", PATIENCE, async || live().await == Some(200)).await;
    // What waits can be made to let go, and does not turn it red; what keeps its thread cannot.
    all.bench.send("once-a").await;
    until("it is given up, and done then", PATIENCE, async || all.count("done", "once-a") == 1).await;
    assert_eq!(live().await, Some(200));
    all.bench.send("block-12000-a").await;
    until("it is stuck", PATIENCE, async || live().await == Some(503)).await;
    assert_eq!(all.count("done", "block"), 0);
    let log = all.log();
    let line = log.lines().find(|l| l.contains("a handler is stuck at this message")).unwrap();
    assert!(
        line.contains("\"message.partition\":") && line.contains("\"message.offset\":"),
        "{line}"
    );
    let metrics = http
        .get(format!("http://{addr}/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("libertum_worker_in_flight{"), "{metrics}");
    until("it goes on", PATIENCE, async || live().await == Some(200)).await;
    worker.signal(Signal::TERM);
    assert_eq!(exit_of(&mut worker, PATIENCE).await, Some(0), "{}", all.log());
    all.finish().await;
}
