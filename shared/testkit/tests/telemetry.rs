//! What the pool tells of itself: one trace from the upload to the mint, the metrics of jobs that live for a second,
//! one line at the end of each.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Collector, Corner, Pool, Program, SeenSpan, WORKERS, start_program, until};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "5ce6a4d1f4c24f2fb2f4d3f9f3c8e001";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// The lines of a log that say this.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let parsed = log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    parsed.filter(|l| l["message"] == message).collect()
}

async fn ended(program: &mut Program) {
    until("the worker ends by itself", PATIENCE, async || program.ended().is_some()).await;
    assert!(program.ended().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_upload_to_the_mint_and_short_jobs_deliver_their_metrics() {
    let collector = Collector::start().await;
    let pool = Pool::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]).await;
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    pool.upload("casa-1", ("ficha.json", "application/json"), false, "").await;
    pool.upload("casa-1", ("testigos.csv", "text/csv"), true, &parent).await;
    let deadline = Instant::now() + PATIENCE;
    let mut runs = 0;
    while pool.asset("casa-1").await["state"] != "minted" {
        assert!(Instant::now() < deadline, "not minted in time");
        for name in WORKERS {
            ended(&mut pool.worker(name)).await;
        }
        runs += 1;
    }
    let of_trace = || -> Vec<SeenSpan> { collector.spans().into_iter().filter(|s| s.trace_id == TRACE).collect() };
    let services = || -> BTreeSet<String> { of_trace().into_iter().map(|s| s.service).collect() };
    let all = BTreeSet::from(["intake", "ingestion", "valuation", "minting"].map(str::to_owned));
    until("spans of every worker have come", PATIENCE, async || services() == all).await;
    assert_a_tree(&of_trace());
    for name in WORKERS {
        assert_delivered(&collector, &pool, name);
        let log = pool.log(name);
        assert_eq!(lines(&log, "process started").len(), runs, "{log}");
        let ends = lines(&log, "process ended");
        assert_eq!(ends.len(), runs, "{log}");
        let done: u64 = ends.iter().map(|l| l["messages.done"].as_u64().unwrap()).sum();
        assert_eq!(done as f64, collector.total(name, "libertum.worker.messages", &[("fate", "done")]));
        assert!(
            ends.iter()
                .all(|l| l["exit.code"] == 0 && l["commits"].is_u64() && l["elapsed_ms"].is_u64())
        );
        let in_trace = |l: &&str| l.contains(&format!("\"trace_id\":\"{TRACE}\""));
        assert!(log.lines().any(|l| in_trace(&l)), "no line of {name} carries the trace id:\n{log}");
    }
}

/// Every span but the client's has its parent among the others, and each worker handles below the span that sent.
fn assert_a_tree(spans: &[SeenSpan]) {
    let by_id = |id: &str| spans.iter().find(|s| s.span_id == id);
    for span in spans.iter().filter(|s| s.parent != CLIENT_SPAN) {
        let parent = by_id(&span.parent).unwrap_or_else(|| panic!("{span:?} has no parent among {spans:#?}"));
        let expected = match span.kind {
            5 => 4,
            4 if parent.service == "intake" => 2,
            4 => 5,
            kind => panic!("a span of kind {kind} inside the trace: {span:?}"),
        };
        assert_eq!(parent.kind, expected, "{span:?} below {parent:?}");
    }
    let minted = spans.iter().find(|s| s.service == "minting" && s.kind == 5).unwrap();
    assert!(
        minted.name.starts_with("process ") && minted.name.ends_with("minting"),
        "{minted:?}"
    );
    for key in [
        "messaging.destination.partition.id",
        "messaging.kafka.offset",
        "messaging.consumer.group.name",
    ] {
        assert!(minted.attributes.contains_key(key), "{minted:?}");
    }
    // From the mint back to the upload.
    let mut at = minted;
    let mut way = vec![at.service.as_str()];
    while let Some(parent) = by_id(&at.parent) {
        way.push(parent.service.as_str());
        at = parent;
    }
    way.dedup();
    assert_eq!(way, ["minting", "valuation", "ingestion", "intake"]);
    assert_eq!(at.parent, CLIENT_SPAN);
}

fn assert_delivered(collector: &Collector, pool: &Pool, worker: &str) {
    let points: Vec<_> = collector.points().into_iter().filter(|p| p.service == worker).collect();
    for name in [
        "messaging.client.consumed.messages",
        "messaging.client.sent.messages",
        "messaging.process.duration",
        "libertum.worker.messages",
        "libertum.worker.commits",
        "libertum.worker.rebalances",
        "libertum.worker.cold_start",
        "libertum.worker.in_flight",
        "libertum.worker.frontier_lag",
        "libertum.worker.oldest_unfinished",
    ] {
        assert!(points.iter().any(|p| p.name == name), "{worker} did not deliver {name}");
    }
    for point in &points {
        assert_ne!(point.delta, Some(false), "a total of a process that is gone: {point:?}");
        let said: Vec<_> = point.resource.iter().chain(&point.attributes).collect();
        let personal = said
            .iter()
            .find(|(key, value)| key.contains("instance") || key.contains("pod") || key.contains("tenant") || **value == pool.corner.name);
        assert_eq!(personal, None, "{point:?}");
    }
    assert!(collector.total(worker, "libertum.worker.messages", &[("fate", "done")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_and_fails_no_job() {
    // It takes connections, and that is all it does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut corner = Corner::new();
    corner.create_topics().await;
    corner.set("IDLE_EXIT_MS", "0");
    corner.set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", silent.local_addr().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let mut worker = start_program(&corner, "valuation", &[], folder.path());
    ended(&mut worker).await;
    let log = std::fs::read_to_string(folder.path().join("valuation.log")).unwrap();
    assert!(log.contains("the collector did not take the last telemetry in time"), "{log}");
    let ends = lines(&log, "process ended");
    assert_eq!(ends.len(), 1, "{log}");
    assert_eq!(ends[0]["exit.code"], 0);
    let time = |line: &Value| -> jiff::Timestamp { line["timestamp"].as_str().unwrap().parse().unwrap() };
    let start = time(&lines(&log, "process started")[0]);
    let took = time(&ends[0]).duration_since(start);
    assert!(took < jiff::SignedDuration::from_secs(10), "{took}: {log}");
}
