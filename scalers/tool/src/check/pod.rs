//! The rules about what surrounds the triggers: names, histories, and the pod that a job runs.

use std::path::Path;

use super::finding::{Finding, Level};
use super::lint::Subject;
use crate::yaml::Node;

/// A Job's name gets a suffix, and becomes a label of its pods.
const LONGEST_NAME: usize = 57;

pub fn lint_name_and_history(s: &mut Subject<'_>) {
    let length = s.text("metadata.name").map_or(0, str::len);
    if length > LONGEST_NAME {
        let message = format!("{length} characters; with the suffix of a Job more than {LONGEST_NAME} do not fit a label");
        s.report("L18", Level::Warning, "metadata.name", message);
    }
    for limit in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        let path = format!("spec.{limit}");
        match s.int(&path) {
            None => s.report("L18", Level::Warning, &path, "it is not set, so 100 ended jobs stay"),
            Some(0) if limit.starts_with("failed") => {
                s.report("L18", Level::Warning, &path, "with 0 nothing is left to look at when a job fails");
            }
            Some(_) => {}
        }
    }
}

/// The rules about a Job's own settings: `job` is what stands under `jobTargetRef`.
pub fn lint(job: &Node, path: &str, file: &Path, exclusive: bool, findings: &mut Vec<Finding>) {
    let mut warn = |id, level, key: &str, message: &str| {
        let (place, key) = (job.at(key).unwrap_or(job).place.clone(), format!("{path}.{key}"));
        findings.push(Finding::new(id, level, file, &place, &key, message.to_owned()));
    };
    if job.get("ttlSecondsAfterFinished").is_none() {
        warn(
            "L18",
            Level::Warning,
            "ttlSecondsAfterFinished",
            "it is not set, so ended jobs stay until KEDA's history takes them",
        );
    }
    if job.get("activeDeadlineSeconds").is_none() {
        warn(
            "L18",
            Level::Warning,
            "activeDeadlineSeconds",
            "it is not set, so a job that hangs runs for ever",
        );
    }
    if job.at("template.spec.restartPolicy").and_then(Node::text) != Some("Never") {
        let message = "it is not Never, so a failed container starts again in the same pod and its log is lost";
        warn("L18", Level::Warning, "template.spec.restartPolicy", message);
    }
    let evict = job
        .at("template.metadata.annotations")
        .and_then(|a| a.get("cluster-autoscaler.kubernetes.io/safe-to-evict"));
    if evict.and_then(Node::text) != Some("false") {
        let message = "cluster-autoscaler.kubernetes.io/safe-to-evict is not \"false\", so the autoscaler may end running jobs";
        warn("L18", Level::Warning, "template.metadata.annotations", message);
    }
    if job.get("parallelism").and_then(Node::int).is_some_and(|n| n > 1) {
        if exclusive {
            warn("L19", Level::Error, "parallelism", "two of these must never run, so it must be 1");
        } else {
            warn(
                "L18",
                Level::Warning,
                "parallelism",
                "KEDA counts Jobs, not pods: more than 1 multiplies what it asks for",
            );
        }
    }
}
