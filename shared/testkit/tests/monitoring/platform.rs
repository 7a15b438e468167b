//! What `k8s/platform` tells Prometheus and the collector, as its files stand, for servers on this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use messages::topics;
use serde_json::Value;

/// A query and where it stands.
pub struct Query {
    pub place: String,
    pub text: String,
    /// The labels that a panel shows; `None`: it is a rule's.
    pub legend: Option<BTreeSet<String>>,
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/platform").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(file(folder)).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {folder}");
    files
}

/// The lines below a key of a YAML file, moved to its left edge.
fn below(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|l| l.trim() != format!("{key}:"));
    let indent = |line: &str| line.chars().take_while(|c| *c == ' ').count();
    let Some(head) = lines.next() else { return String::new() };
    let inside: Vec<_> = lines.take_while(|l| l.trim().is_empty() || indent(l) > indent(head)).collect();
    let edge = inside.iter().filter(|l| !l.trim().is_empty()).map(|l| indent(l)).min().unwrap_or(0);
    let moved = inside.iter().map(|l| l.chars().skip(edge).collect::<String>() + "\n");
    moved.collect()
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|l| format!("{}{l}\n", " ".repeat(by))).collect()
}

/// The metrics that are said to be ours.
pub fn ours() -> BTreeSet<String> {
    let table = below(&read(&file("monitoring/metrics.yaml")), "ours");
    let lines = table.lines().filter(|l| !l.trim_start().starts_with('#'));
    lines.filter_map(|l| Some(l.split_once(':')?.0.to_owned())).collect()
}

/// Every query of a panel that Prometheus answers, for each worker that it can be asked of.
pub fn panels() -> Vec<Query> {
    let mut queries = Vec::new();
    for path in files("monitoring/dashboards") {
        let board: Value = serde_json::from_str(&read(&path)).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                if target["datasource"]["type"] != "prometheus" {
                    continue;
                }
                let text = target["expr"].as_str().unwrap();
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                let shown = legend
                    .split("{{")
                    .skip(1)
                    .filter_map(|l| Some(l.split_once("}}")?.0.trim().to_owned()));
                let shown: BTreeSet<_> = shown.collect();
                let workers: &[&str] = if text.contains("$worker") { &topics::WORK } else { &["-"] };
                queries.extend(workers.iter().map(|worker| Query {
                    place: format!("{}: {} ({worker})", path.file_name().unwrap().display(), panel["title"]),
                    text: text.replace("$worker", worker),
                    legend: Some(shown.clone()),
                }));
            }
        }
    }
    queries
}

/// Writes the rules as Prometheus reads them, without the operator's words around them, to be judged every second.
fn rules(folder: &Path) {
    for path in files("monitoring/rules") {
        let groups = below(&read(&path), "spec");
        let lines = groups.lines().filter(|l| !l.trim_start().starts_with("interval:"));
        let text: Vec<_> = lines.collect();
        std::fs::write(folder.join(path.file_name().unwrap()), text.join("\n")).unwrap();
    }
}

/// What is done to the series of the pods that a PodMonitor finds, in Prometheus' words.
fn of_monitor(name: &str) -> String {
    let all = read(&file("monitoring/scrape.yaml"));
    let is_it = |d: &&str| d.contains("kind: PodMonitor\n") && d.contains(&format!("\n  name: {name}\n"));
    let monitor = all.split("\n---\n").find(is_it).unwrap_or_else(|| panic!("no PodMonitor {name}"));
    assert!(
        monitor.contains("- port: metrics\n") && !monitor.contains("path:"),
        "{name}: another way than /metrics at the port metrics is not followed here"
    );
    let words = below(monitor, "metricRelabelings");
    words
        .replace("sourceLabels:", "source_labels:")
        .replace("targetLabel:", "target_label:")
}

/// What the collector lets through to Prometheus, in Prometheus' words.
fn of_collector() -> String {
    let all = read(&file("logging/collector.alloy"));
    let component = all
        .split("\nprometheus.relabel \"workers\" {\n")
        .nth(1)
        .expect("the collector relabels");
    let component = component.split("\n}\n").next().unwrap();
    let rules = component.split("rule {").skip(1).map(|rule| {
        let pairs = rule.split('}').next().unwrap().lines().filter_map(|l| l.split_once('='));
        let pairs: Vec<_> = pairs.map(|(key, value)| format!("{}: {}", key.trim(), value.trim())).collect();
        assert!(!pairs.is_empty(), "a rule of the collector that is not read");
        format!("- {{ {} }}\n", pairs.join(", "))
    });
    rules.collect()
}

/// Prometheus' configuration for a door, workers and a collector at these addresses. The pool's topics have this prefix here and none
/// in a cluster: it is taken off.
pub fn config(folder: &Path, door: &str, workers: &[String], collector: &str, prefix: &str) -> String {
    rules(folder);
    let bare = format!(
        "- source_labels: [messaging_destination_name]\n  regex: '{}(.+)'\n  target_label: messaging_destination_name\n",
        prefix.replace('.', "\\.")
    );
    let job = |name: &str, targets: &[String], relabelings: &str| {
        let relabelings = indented(&(bare.clone() + relabelings), 6);
        format!(
            "  - job_name: {name}\n    honor_labels: {}\n    static_configs:\n      - targets: {targets:?}\n    metric_relabel_configs:\n{relabelings}",
            name == "collector"
        )
    };
    [
        "global: { scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s }\n".to_owned(),
        format!("rule_files: [{:?}]\nscrape_configs:\n", folder.join("*.yaml")),
        job("monitoring/intake", &[door.to_owned()], &of_monitor("intake")),
        job("monitoring/workers", workers, &of_monitor("workers")),
        job("collector", &[collector.trim_start_matches("http://").to_owned()], &of_collector()),
    ]
    .concat()
}
