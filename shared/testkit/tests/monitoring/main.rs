//! Rules, service levels and dashboards of `k8s/platform` before a real Prometheus that reads a running pool: the door and what is true of
//! this moment by its own look, what workers count over OTLP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod platform;
mod promql;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::{StreamExt as _, stream};
use messages::{BackupCompleted, Message as _, topics};
use platform::Query;
use promql::selectors;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Method};
use testkit::{Clamd, Collector, Mongod, Pool, Program, Prometheus, program, start_program, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is read, and who is said to export it.
struct Read {
    ours: BTreeSet<String>,
    /// Recorded from ours alone: they have a value here.
    recorded: BTreeSet<String>,
    queries: Vec<Query>,
}

impl Read {
    async fn of(prometheus: &Prometheus) -> Self {
        let rules = prometheus.rules().await;
        let rules = rules
            .iter()
            .map(|rule| (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap()));
        let rules: Vec<_> = rules.collect();
        let mut read = Self {
            ours: platform::ours(),
            recorded: BTreeSet::new(),
            queries: platform::panels(),
        };
        read.queries.extend(rules.iter().map(|(name, text)| Query {
            place: (*name).to_owned(),
            text: (*text).to_owned(),
            legend: None,
        }));
        // A recording may stand before one that it reads.
        for _ in &rules {
            let of_ours = rules.iter().filter(|(name, text)| name.contains(':') && read.is_ours(text));
            read.recorded = of_ours.map(|(name, _)| (*name).to_owned()).collect();
        }
        read
    }

    fn is_ours(&self, query: &str) -> bool {
        selectors(query)
            .iter()
            .all(|s| self.ours.contains(s.base()) || self.recorded.contains(&s.metric))
    }

    /// What these queries lack: series of ours that a selector asks for, a label that series are put together by, a result.
    async fn lacks(&self, prometheus: &Prometheus, queries: &[Query]) -> Vec<String> {
        let mut lacks = Vec::new();
        for Query { place, text, legend } in queries {
            for selector in selectors(text)
                .iter()
                .filter(|s| s.metric.starts_with("libertum_") || self.ours.contains(s.base()))
            {
                let series = prometheus.series(&selector.text).await;
                if series.is_empty() || !self.ours.contains(selector.base()) {
                    lacks.push(format!("{place}: nobody exports {}", selector.text));
                }
                for label in selector.labels.iter().filter(|l| series.iter().any(|s| !s.contains_key(*l))) {
                    lacks.push(format!("{place}: {} has no label {label}", selector.text));
                }
            }
            let Some(legend) = legend.as_ref().filter(|_| self.is_ours(text)) else {
                continue;
            };
            let results = prometheus.query(text).await;
            if results.is_empty() || results.iter().any(|r| legend.iter().any(|label| !r.contains_key(label))) {
                lacks.push(format!("{place}: {text} gives {results:?}"));
            }
        }
        lacks
    }
}

/// Addresses that are free now, one each.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

/// A sender that has the door's one place for uploads, and one who finds it taken: an error of ours.
async fn crowd(pool: &Pool) {
    let upload = |key: &str| {
        pool.request(Method::POST, "assets/casa-2/documents")
            .header("idempotency-key", key)
            .header("content-type", "text/csv")
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (go_on, rest) = oneshot::channel::<()>();
        let first = stream::once(async { Ok::<_, std::io::Error>("campo;valor\n") });
        let then = stream::once(async {
            rest.await.unwrap();
            Ok("moneda;EUR\n")
        });
        let slow = upload("slow").body(Body::wrap_stream(first.chain(then)));
        let slow = tokio::spawn(async move { slow.send().await.unwrap().status().as_u16() });
        let mut refused = false;
        // The other one may have been there first: then it is the slow one that is refused.
        while !refused && !slow.is_finished() {
            assert!(Instant::now() < deadline, "nobody finds the place for uploads taken");
            let answer = upload("other").body("campo;valor\n").send().await.unwrap();
            refused = answer.status().as_u16() == 503;
        }
        if refused {
            go_on.send(()).unwrap();
            assert_eq!(slow.await.unwrap(), 202);
            return;
        }
        assert_eq!(slow.await.unwrap(), 503);
    }
}

/// Refusals, and reads from the database and from the cache.
async fn visit(pool: &Pool, document: &str) {
    // These take the place of what a request has by itself.
    let none = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer none"))]);
    let nobody = pool.request(Method::GET, "assets/casa-1").headers(none);
    for (request, status) in [
        (nobody, 401),
        (pool.request(Method::GET, "assets/never"), 404),
        (pool.request(Method::GET, "nothing"), 404),
        (pool.request(Method::DELETE, "assets/casa-1"), 405),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    for _ in 0..2 {
        assert_ne!(pool.document(document).await, serde_json::Value::Null);
    }
}

/// The four workers, each with an address where it is looked at; backups are taken of a database of the test's own.
async fn workers(pool: &mut Pool, source: &Mongod, addresses: &[String]) -> Vec<Program> {
    let mut programs = Vec::new();
    for (name, address) in topics::WORK.into_iter().zip(addresses) {
        let mut corner = pool.corner.clone_for_process();
        corner.set("METRICS_ADDR", address);
        corner.set("WORKER_MODE", "service");
        let folder = tempfile::tempdir().unwrap();
        if name == "backup" {
            corner.set("MONGODB_URI", &source.uri);
            if std::env::var_os("MONGO_TOOLS_DIR").is_none() {
                corner.set("MONGO_TOOLS_DIR", program("examples/mongodump").parent().unwrap().to_string_lossy());
            }
            for args in [&["--prepare"][..], &["request", "--slot", "auto"]] {
                let mut before = start_program(&corner, name, args, folder.path());
                until("the backup is asked for", PATIENCE, async || before.ended().is_some()).await;
                assert!(before.ended().unwrap().success(), "backup {args:?}");
            }
        }
        programs.push(start_program(&corner, name, &[], folder.path()));
    }
    programs
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_a_rule_or_a_panel_reads_comes_out_of_the_running_pool() {
    let at = addresses(1 + topics::WORK.len());
    let (door, of_workers) = at.split_first().unwrap();
    let collector = Collector::start().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("MAX_UPLOADS", "1"),
        ("METRICS_ADDR", door),
    ];
    let (mut pool, clamd, source) = tokio::join!(Pool::start_with(&settings), Clamd::start(), Mongod::start());
    pool.corner.set("CLAMD_ADDR", clamd.dated("Mon Sep 29 08:27:12 2025").await);
    let folder = tempfile::tempdir().unwrap();
    let prefix = format!("{}.", pool.corner.name);
    let config = platform::config(folder.path(), door, of_workers, &collector.url, &prefix);
    let prometheus = Prometheus::start(&config).await;

    let mut running = workers(&mut pool, &source, of_workers).await;
    let documents = pool.submit_dossier("casa-1").await.documents;
    visit(&pool, &documents[0]).await;
    crowd(&pool).await;
    until("the asset is minted", PATIENCE, async || {
        pool.asset("casa-1").await["state"] == "minted"
    })
    .await;
    until("a backup is taken", PATIENCE, async || {
        let events = pool.corner.events(topics::ASSET_EVENTS).await;
        events.iter().any(|e| e.envelope().event_type == BackupCompleted::TYPE)
    })
    .await;

    let read = Read::of(&prometheus).await;
    let named: Vec<_> = read.queries.iter().flat_map(|q| selectors(&q.text)).collect();
    let unread: Vec<_> = read.ours.iter().filter(|m| !named.iter().any(|s| s.base() == *m)).collect();
    assert_eq!(unread, Vec::<&String>::new(), "metrics.yaml names what nothing reads");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lacks = read.lacks(&prometheus, &read.queries).await;
        if lacks.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{lacks:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(running.iter_mut().all(|worker| worker.ended().is_none()), "a worker has ended");
    every_rule_was_judged(&prometheus).await;
    every_metric_comes_one_way(&prometheus, &read).await;
    what_is_not_there_is_missed(&prometheus, &read).await;
}

async fn every_rule_was_judged(prometheus: &Prometheus) {
    for rule in prometheus.rules().await {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// What is looked at and delivered as well would be counted twice.
async fn every_metric_comes_one_way(prometheus: &Prometheus, read: &Read) {
    for metric in &read.ours {
        let mut series = prometheus.series(metric).await;
        series.extend(prometheus.series(&format!("{metric}_count")).await);
        let ways: BTreeSet<_> = series.iter().map(|s| s["job"].starts_with("monitoring/")).collect();
        assert_eq!(ways.len(), 1, "{metric}: {series:?}");
    }
}

/// The test itself: what a slip of the pen would make of a query is found.
async fn what_is_not_there_is_missed(prometheus: &Prometheus, read: &Read) {
    for wrong in [
        "sum(rate(libertum_intake_request_total[5m]))",
        "sum(rate(libertum_intake_requests_total{status=~\"5..\"}[5m]))",
        "sum by (status) (rate(libertum_intake_requests_total[5m]))",
        "histogram_quantile(0.9, sum by (le) (rate(libertum_worker_cold_start_bucket[1h])))",
        "max(libertum_worker_circuit{messaging_destination_name=\"mint\"})",
        "max by (worker) (label_replace(libertum_worker_circuit, \"worker\", \"$1\", \"destination\", \"(.+)\"))",
        // the instrument's name, as if nothing had been added to it
        "sum(libertum_worker_messages)",
    ] {
        let queries = [Query {
            place: "a slip".to_owned(),
            text: wrong.to_owned(),
            legend: None,
        }];
        assert_ne!(read.lacks(prometheus, &queries).await, Vec::<String>::new(), "{wrong}");
    }
}
