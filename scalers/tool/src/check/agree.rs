//! Whether scaler files, topics.yaml, kustomization.yaml, pods and the workers' names agree.

use std::path::Path;

use messages::topics::{BACKUP, WORK, dead};

use super::finding::{Finding, Level};
use super::lint::Known;
use super::params::nearest;
use super::{Document, Folder, pod};
use crate::topics::TopicSpec;
use crate::yaml::{Node, Place, parse};

/// Workers of which two at a time would do harm.
const EXCLUSIVE: [&str; 1] = [BACKUP];

/// What the folder knows about a document's worker. Ours commit after the work, and start at the first message.
pub fn known(folder: &Folder, document: &Document) -> Known {
    let topic = topic_of(document).and_then(|name| find(folder, name));
    Known {
        partitions: topic.map(|t| i64::from(t.partitions)),
        exclusive: ours(folder) && EXCLUSIVE.contains(&document.name.as_str()),
        ..Known::default()
    }
}

fn find<'f>(folder: &'f Folder, name: &str) -> Option<&'f TopicSpec> {
    folder.topics.as_ref()?.1.topics.iter().find(|t| t.name == name)
}

fn topic_of(document: &Document) -> Option<&str> {
    document.root.at("spec.triggers.0.metadata.topic")?.text()
}

/// Whether this is a pool of the workers that this program knows: it prepares one of their topics.
fn ours(folder: &Folder) -> bool {
    WORK.iter().any(|worker| find(folder, worker).is_some())
}

pub fn check(folder: &Folder, findings: &mut Vec<Finding>) {
    listed(folder, findings);
    if folder.topics.is_none() {
        return;
    }
    for document in folder.documents.iter().filter(|d| d.scales()) {
        one(folder, document, findings);
    }
    if ours(folder) {
        for worker in WORK {
            complete(folder, worker, findings);
        }
    }
}

fn error(id: &'static str, file: &Path, place: &Place, key: &str, message: String) -> Finding {
    Finding::new(id, Level::Error, file, place, key, message)
}

fn one(folder: &Folder, document: &Document, findings: &mut Vec<Finding>) {
    let (file, root) = (&document.file, &document.root);
    let metadata = root.at("spec.triggers.0.metadata");
    let place = |path: &str| root.at(path).unwrap_or(root).place.clone();
    for trigger in root.at("spec.triggers").map(Node::list).unwrap_or_default() {
        let Some(node) = trigger.at("metadata.topic") else { continue };
        let Some(name) = node.text() else { continue };
        if find(folder, name).is_none() {
            let topics = folder.topics.iter().flat_map(|(_, file)| &file.topics);
            let near = nearest(name, topics.map(|t| t.name.as_str())).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let message = format!("topics.yaml has no topic {name}{near}");
            findings.push(error("A01", file, &node.place, "spec.triggers.0.metadata.topic", message));
        }
    }
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let metadata_text = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Node::text);
    for (key, value) in [
        ("metadata.name", Some(document.name.as_str())),
        ("spec.triggers.0.metadata.topic", metadata_text("topic")),
        ("spec.triggers.0.metadata.consumerGroup", metadata_text("consumerGroup")),
    ] {
        if let Some(value) = value.filter(|v| *v != stem && ours(folder)) {
            let message = format!("it is {value}, and the file says {stem}");
            findings.push(error("A04", file, &place(key), key, message));
        }
    }
    let kafka = root.at("spec.triggers.0.type").and_then(Node::text) == Some("kafka");
    if ours(folder) && kafka && metadata_text("bootstrapServersFromEnv") != Some("KAFKA_BROKERS") {
        let key = "spec.triggers.0.metadata.bootstrapServersFromEnv";
        findings.push(error(
            "A07",
            file,
            &place("spec.triggers.0.metadata"),
            key,
            "it is not KAFKA_BROKERS".to_owned(),
        ));
    }
    if let Some(name) = topic_of(document) {
        dead_letters(folder, file, name, &place("spec.triggers.0.metadata.topic"), findings);
    }
    joined(folder, document, findings);
}

fn dead_letters(folder: &Folder, file: &Path, topic: &str, place: &Place, findings: &mut Vec<Finding>) {
    if find(folder, topic).is_none() {
        return;
    }
    let name = dead(topic);
    match find(folder, &name) {
        None => findings.push(error(
            "A02",
            file,
            place,
            "spec.triggers.0.metadata.topic",
            format!("topics.yaml has no topic {name}"),
        )),
        Some(t) if t.partitions != 1 => {
            let message = format!(
                "{name} has {} partitions, it should have 1: a person reads it in order",
                t.partitions
            );
            findings.push(error("A02", file, place, "spec.triggers.0.metadata.topic", message));
        }
        Some(_) => {}
    }
}

/// The pod that the file is a patch of.
fn joined(folder: &Folder, document: &Document, findings: &mut Vec<Finding>) {
    let bases = folder.dir.join("../k8s/base/workers");
    if document.root.at("spec.jobTargetRef").is_some() || document.kind != "ScaledJob" || !bases.is_dir() {
        return;
    }
    let base = bases.join(format!("{}.yaml", document.name));
    let read = std::fs::read_to_string(&base).ok().map(|text| parse(&text));
    let root = match read {
        None => {
            let message = format!("{} is not there", base.display());
            findings.push(error("A06", &document.file, &document.root.place, "metadata.name", message));
            return;
        }
        Some(Err(e)) => {
            let place = Place {
                line: e.line,
                column: e.column,
                bytes: 0..0,
            };
            findings.push(error("S01", &base, &place, "", e.what));
            return;
        }
        Some(Ok(roots)) => roots.into_iter().find(|r| r.get("kind").and_then(Node::text) == Some("ScaledJob")),
    };
    let job = root.as_ref().and_then(|r| r.at("spec.jobTargetRef"));
    let named = root.as_ref().and_then(|r| r.at("metadata.name")).and_then(Node::text);
    match job {
        Some(job) if named == Some(document.name.as_str()) => {
            let exclusive = EXCLUSIVE.contains(&document.name.as_str());
            pod::lint(job, "spec.jobTargetRef", &base, exclusive, findings);
        }
        _ => {
            let message = format!("it has no ScaledJob {} with a jobTargetRef", document.name);
            findings.push(error("A06", &base, &Place::default(), "metadata.name", message));
        }
    }
}

fn complete(folder: &Folder, worker: &str, findings: &mut Vec<Finding>) {
    let Some((file, _)) = &folder.topics else { return };
    if find(folder, worker).is_none() {
        findings.push(error(
            "A03",
            file,
            &Place::default(),
            "topics",
            format!("worker {worker} has no topic"),
        ));
    }
    if !folder.documents.iter().any(|d| d.scales() && d.name == worker) {
        let wanted = folder.dir.join(format!("{worker}.yaml"));
        findings.push(error(
            "A03",
            &wanted,
            &Place::default(),
            "",
            format!("worker {worker} has no scaler file"),
        ));
    }
}

/// kustomization.yaml lists every scaler file, and only files that are there.
fn listed(folder: &Folder, findings: &mut Vec<Finding>) {
    let Some((file, root)) = &folder.kustomization else { return };
    let mut named = Vec::new();
    for key in ["patches", "resources", "components"] {
        for item in root.get(key).map(Node::list).unwrap_or_default() {
            let path = item.text().or_else(|| item.get("path").and_then(Node::text));
            if let Some(path) = path {
                named.push(path);
                if !folder.dir.join(path).exists() {
                    findings.push(error("A05", file, &item.place, key, format!("{path} is not there")));
                }
            }
        }
    }
    for document in &folder.documents {
        let name = document.file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if !named.contains(&name) {
            let message = format!("{name} is not listed");
            findings.push(error("A05", file, &root.place, "patches", message));
        }
    }
}
