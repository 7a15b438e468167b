//! Rules, service levels and dashboards of `k8s/platform` before a real Prometheus that reads a running pool: the door and what is true of
//! this moment by its own look, what workers count over OTLP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod life;
mod platform;
mod promql;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use life::Workers;
use messages::{BackupCompleted, Message as _, topics};
use platform::Query;
use promql::selectors;
use testkit::{Clamd, Collector, Mongod, Pool, Prometheus, addresses, until};

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

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_a_rule_or_a_panel_reads_comes_out_of_the_running_pool() {
    let at = addresses(1 + topics::WORK.len() as u16);
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

    let mut workers = Workers::start(&pool, &source, of_workers).await;
    let documents = pool.submit_dossier("casa-1").await.documents;
    life::visit(&pool, &documents[0]).await;
    // What counts from then on is an increase: a counter's first value is none.
    until("the uploads are counted", PATIENCE, async || {
        let counted = prometheus.series("libertum_intake_requests_total{code=\"202\", route=~\".*/documents\"}");
        !counted.await.is_empty()
    })
    .await;
    life::crowd(&pool).await;
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
    workers.all_run();
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
