//! The rules about one ScaledJob or ScaledObject: what KEDA accepts silently and ops regret.

use std::path::Path;

use super::finding::{Finding, Level};
use super::{pod, triggers};
use crate::engine::{Feature, Version};
use crate::yaml::{Node, Value};

/// When workers commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    AfterWork,
    BeforeWork,
}

/// What is known of the workers, from topics.yaml or from annotations of the document.
#[derive(Debug, Clone)]
pub struct Known {
    pub partitions: Option<i64>,
    pub commits: Commits,
    /// Two at a time would do harm.
    pub exclusive: bool,
    /// The worker's own `auto.offset.reset`.
    pub offset_reset: String,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            partitions: None,
            commits: Commits::AfterWork,
            exclusive: false,
            offset_reset: "earliest".to_owned(),
        }
    }
}

/// A document that is looked at, and where findings go.
pub struct Subject<'a> {
    pub file: &'a Path,
    pub root: &'a Node,
    /// A ScaledJob; else a ScaledObject.
    pub job: bool,
    pub known: Known,
    pub keda: Version,
    /// Names of TriggerAuthentications that use workload identity.
    pub workload_identity: &'a [String],
    pub findings: Vec<Finding>,
}

impl<'a> Subject<'a> {
    pub fn at(&self, path: &str) -> Option<&'a Node> {
        self.root.at(path)
    }

    pub fn int(&self, path: &str) -> Option<i64> {
        self.at(path).and_then(Node::int)
    }

    pub fn text(&self, path: &str) -> Option<&'a str> {
        self.at(path).and_then(Node::text)
    }

    /// The most jobs or replicas that there may be.
    pub fn max(&self) -> i64 {
        self.int("spec.maxReplicaCount").unwrap_or(100)
    }

    pub fn strategy(&self) -> &'a str {
        self.text("spec.scalingStrategy.strategy").unwrap_or("default")
    }

    /// Reports at a path, or at the nearest thing above it that is there.
    pub fn report(&mut self, id: &'static str, level: Level, path: &str, message: impl Into<String>) {
        let mut above = path;
        let node = loop {
            match (self.root.at(above), above.rsplit_once('.')) {
                (Some(node), _) => break node,
                (None, Some((parent, _))) => above = parent,
                (None, None) => break self.root,
            }
        };
        let place = self.key_place(above).unwrap_or_else(|| node.place.clone());
        self.findings.push(Finding::new(id, level, self.file, &place, path, message.into()));
    }

    /// Where the key of a path stands, which is what an editor should jump to.
    fn key_place(&self, path: &str) -> Option<crate::yaml::Place> {
        let (parent, key) = path.rsplit_once('.').map_or((None, path), |(p, k)| (Some(p), k));
        let parent = parent.map_or(Some(self.root), |p| self.root.at(p))?;
        parent.entry(key).map(|(key, _)| key.place.clone())
    }

    fn error(&mut self, id: &'static str, path: &str, message: impl Into<String>) {
        self.report(id, Level::Error, path, message);
    }

    fn warn(&mut self, id: &'static str, path: &str, message: impl Into<String>) {
        self.report(id, Level::Warning, path, message);
    }
}

/// Goes through every rule.
pub fn lint(s: &mut Subject<'_>) {
    limits(s);
    if s.job {
        rollout(s);
        strategy(s);
        versions_of_jobs(s);
        exclusive(s);
        pod::lint_name_and_history(s);
        if let Some(job) = s.at("spec.jobTargetRef") {
            let file = s.file.to_owned();
            pod::lint(job, "spec.jobTargetRef", &file, s.known.exclusive, &mut s.findings);
        }
    } else {
        object(s);
    }
    triggers::lint(s);
}

fn limits(s: &mut Subject<'_>) {
    let (min, max) = (s.int("spec.minReplicaCount"), s.int("spec.maxReplicaCount"));
    match (max, s.known.partitions) {
        (None, _) => s.warn("L05", "spec.maxReplicaCount", "it is not set, so it is 100"),
        (Some(max), Some(partitions)) if max > partitions && s.text("spec.triggers.0.type") == Some("kafka") => {
            s.warn("L05", "spec.maxReplicaCount", format!("{max} jobs for {partitions} partitions"));
        }
        _ => {}
    }
    if !s.job {
        return;
    }
    match (min, max) {
        (Some(min), Some(max)) if min > max => {
            s.error(
                "L06",
                "spec.minReplicaCount",
                format!("the minimum {min} is above the maximum {max}"),
            );
        }
        (Some(min), Some(max)) if min == max && min > 0 => {
            s.warn(
                "L06",
                "spec.minReplicaCount",
                format!("minimum and maximum are both {min}: lag never adds a job"),
            );
        }
        (Some(min), None) if min > 0 => {
            let message = format!("without a maximum there may be {} jobs, 100 beside the minimum", 100 + min);
            s.warn("L06", "spec.minReplicaCount", message);
        }
        _ => {}
    }
}

fn rollout(s: &mut Subject<'_>) {
    if s.at("spec.rolloutStrategy").is_some() {
        s.warn("L08", "spec.rolloutStrategy", "it is deprecated in favour of rollout.strategy");
    }
    let old = s.text("spec.rolloutStrategy");
    if s.text("spec.rollout.strategy").or(old) != Some("gradual") {
        s.error(
            "L08",
            "spec.rollout.strategy",
            "it is not gradual, so every edit of this file kills the running jobs",
        );
    }
}

fn strategy(s: &mut Subject<'_>) {
    let strategy = s.strategy();
    let path = "spec.scalingStrategy.strategy";
    match (strategy, s.known.commits) {
        ("accurate" | "eager", Commits::AfterWork) => {
            s.error(
                "L09",
                path,
                format!("{strategy} with commits after the work counts work in hand twice, up to the maximum"),
            );
        }
        ("default", Commits::BeforeWork) => {
            s.warn(
                "L09",
                path,
                "default with commits before the work subtracts running jobs from lag that does not contain their work",
            );
        }
        ("custom", _) => custom(s),
        _ => {}
    }
    if strategy == "eager" && !s.keda.has(Feature::Eager) {
        s.error(
            "L16",
            path,
            format!(
                "eager came with KEDA {}, this is {}: default is taken",
                Feature::Eager.since(),
                s.keda
            ),
        );
    }
    let refused = (Version::new(2, 20, 0)..=Version::new(2, 20, 1)).contains(&s.keda);
    if refused && s.text(path) == Some("default") {
        s.error("L16", path, format!("KEDA {} refuses the word default; leave the key out", s.keda));
    }
}

fn custom(s: &mut Subject<'_>) {
    let path = "spec.scalingStrategy.customScalingRunningJobPercentage";
    let share = s.text(path).and_then(|text| text.parse::<f64>().ok());
    match share {
        None => s.warn(
            "L09",
            path,
            "without a percentage that is a number KEDA silently takes the default strategy",
        ),
        Some(share) if share < 1.0 => {
            let message = format!("{share} of the running jobs are subtracted, so maxReplicaCount does not hold: it caps one poll only");
            s.error("L09", path, message);
        }
        Some(_) => {}
    }
    if s.at("spec.scalingStrategy.customScalingQueueLengthDeduction").is_none() && !s.keda.has(Feature::CustomWithoutDeduction) {
        let path = "spec.scalingStrategy.customScalingQueueLengthDeduction";
        s.error("L16", path, format!("without it KEDA {} panics", s.keda));
    }
}

fn versions_of_jobs(s: &mut Subject<'_>) {
    let gates = [
        ("spec.minReplicaCount", Feature::MinReplicaCount),
        ("spec.rollout.propagationPolicy", Feature::MinReplicaCount),
        ("metadata.annotations.autoscaling.keda.sh/paused", Feature::PausedScaledJob),
    ];
    for (path, feature) in gates {
        if found(s, path) && !s.keda.has(feature) {
            s.error("L16", path, format!("it came with KEDA {}, this is {}", feature.since(), s.keda));
        }
    }
    let excluded = "scaledjob.keda.sh/job-excluded-labels";
    if annotation(s.root, excluded).is_some() && !s.keda.has(Feature::JobExcludedLabels) {
        let message = format!(
            "{excluded} came with KEDA {}, this is {}",
            Feature::JobExcludedLabels.since(),
            s.keda
        );
        s.error("L16", "metadata.annotations", message);
    }
}

fn found(s: &Subject<'_>, path: &str) -> bool {
    match path.strip_prefix("metadata.annotations.") {
        Some(name) => annotation(s.root, name).is_some(),
        None => s.at(path).is_some(),
    }
}

/// An annotation's text.
pub fn annotation<'a>(root: &'a Node, name: &str) -> Option<&'a str> {
    root.at("metadata.annotations")?.get(name)?.text()
}

fn exclusive(s: &mut Subject<'_>) {
    if !s.known.exclusive {
        return;
    }
    if s.int("spec.maxReplicaCount") != Some(1) {
        s.error("L19", "spec.maxReplicaCount", "two of these must never run, so it must be 1");
    }
    if s.strategy() != "default" {
        s.error(
            "L19",
            "spec.scalingStrategy.strategy",
            "two of these must never run, and only default subtracts all running jobs",
        );
    }
    if let Some(partitions) = s.known.partitions.filter(|p| *p != 1) {
        s.error(
            "L19",
            "spec.triggers",
            format!("two of these must never run, and the topic has {partitions} partitions"),
        );
    }
}

fn object(s: &mut Subject<'_>) {
    if s.int("spec.minReplicaCount").is_some_and(|min| min > 0)
        && s.int("spec.idleReplicaCount").is_none()
        && s.at("spec.pollingInterval").is_some()
    {
        s.warn(
            "L20",
            "spec.pollingInterval",
            "with a minimum above 0 the HPA alone decides, and it looks every 15 s",
        );
    }
    if let Some(replicas) = s.int("spec.fallback.replicas")
        && replicas > s.max()
    {
        let max = s.max();
        s.warn(
            "L20",
            "spec.fallback.replicas",
            format!("{replicas} replicas in trouble, {max} at most otherwise"),
        );
    }
    let tolerance = "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.tolerance";
    if s.at(tolerance).is_some() && !s.keda.has(Feature::HpaTolerance) {
        s.error(
            "L16",
            tolerance,
            format!("it came with KEDA {}, this is {}", Feature::HpaTolerance.since(), s.keda),
        );
    }
    let Some(partitions) = s.known.partitions else { return };
    let kafka = s.text("spec.triggers.0.type") == Some("kafka");
    let on = |key: &str| s.text(&format!("spec.triggers.0.metadata.{key}")).and_then(super::params::switch) == Some(true);
    let free = on("allowIdleConsumers") || on("ensureEvenDistributionOfPartitions");
    // From this many on, the ratio to the cap is within the HPA's tolerance.
    let stuck = (partitions as f64 / 1.1).ceil() as i64;
    if kafka && !free && s.at(tolerance).is_none() && stuck < partitions && s.max() > stuck {
        let message = format!("the metric is capped at {partitions} partitions, and from {stuck} replicas on the HPA sees no difference");
        s.warn("L17", "spec.maxReplicaCount", message);
    }
}

/// Reads what is known of the workers from the document's own annotations, over what is known otherwise.
pub fn annotated(root: &Node, known: Known) -> Known {
    let partitions = annotation(root, "libertum.io/partitions").and_then(super::params::whole);
    Known {
        partitions: partitions.or(known.partitions),
        commits: match annotation(root, "libertum.io/commits") {
            Some("before") => Commits::BeforeWork,
            Some("after") => Commits::AfterWork,
            _ => known.commits,
        },
        exclusive: annotation(root, "libertum.io/exclusive").map_or(known.exclusive, |text| text == "true"),
        offset_reset: annotation(root, "libertum.io/offset-reset").map_or(known.offset_reset, str::to_owned),
    }
}

/// Whether a value is text that is empty, or nothing.
pub fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Null) || node.text().is_some_and(|t| t.trim().is_empty())
}
