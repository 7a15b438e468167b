//! The rules about triggers and their parameters.

use std::collections::BTreeSet;

use super::finding::Level::{Error, Warning};
use super::lint::{Subject, is_empty};
use super::params::{self, Parameter, Scaler, nearest, partitions, switch, whole};
use crate::engine::Feature;
use crate::yaml::Node;

/// Settings of the scaler itself that people put among a trigger's parameters.
const OF_THE_SCALER: [&str; 10] = [
    "pollingInterval",
    "cooldownPeriod",
    "idleReplicaCount",
    "minReplicaCount",
    "maxReplicaCount",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "scalingStrategy",
    "rollout",
    "fallback",
];

pub fn lint(s: &mut Subject<'_>) {
    let triggers = s.at("spec.triggers").map(Node::list).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (n, trigger) in triggers.iter().enumerate() {
        let path = format!("spec.triggers.{n}");
        let Some(kind) = trigger.get("type").and_then(Node::text) else {
            continue;
        };
        around(s, trigger, &path, kind);
        if let Some(name) = trigger.get("name").and_then(Node::text)
            && !names.insert(name.to_owned())
        {
            s.report(
                "L12",
                Error,
                &format!("{path}.name"),
                format!("there are two triggers named {name}"),
            );
        }
        match params::of(kind) {
            Some(known) => parameters(s, trigger, &path, known),
            None => {
                let near = nearest(kind, params::kinds()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                s.report("L02", Error, &format!("{path}.type"), format!("there is no trigger {kind}{near}"));
            }
        }
        if kind == "kafka" {
            kafka(s, trigger, &path);
        }
    }
    if triggers.is_empty() && s.at("spec.triggers").is_some() {
        s.report("S02", Error, "spec.triggers", "there must be at least one trigger");
    }
    if s.job {
        several(s, triggers);
    }
}

/// What stands beside the parameters.
fn around(s: &mut Subject<'_>, trigger: &Node, path: &str, kind: &str) {
    if s.job && kind == "cron" {
        s.report("L14", Error, path, "a cron trigger on a ScaledJob");
    }
    if s.job && trigger.get("metricType").is_some() {
        s.report(
            "L12",
            Error,
            &format!("{path}.metricType"),
            "a ScaledJob with it never becomes ready",
        );
    }
    if s.job && trigger.get("useCachedMetrics").is_some() {
        s.report("L12", Warning, &format!("{path}.useCachedMetrics"), "a ScaledJob ignores it");
    }
    let with = trigger.at("authenticationRef.name").and_then(Node::text);
    if kind == "kafka" && with.is_some_and(|name| s.workload_identity.iter().any(|w| w == name)) {
        s.report(
            "L15",
            Warning,
            &format!("{path}.authenticationRef.name"),
            "it brings workload identity, which a kafka trigger does not use",
        );
    }
    if kind == "apache-kafka" {
        s.report(
            "L20",
            Warning,
            &format!("{path}.type"),
            "apache-kafka cannot start from zero on a topic without members; use kafka",
        );
    }
}

fn parameters(s: &mut Subject<'_>, trigger: &Node, path: &str, known: &'static Scaler) {
    let Some(metadata) = trigger.get("metadata") else { return };
    for (key, value) in metadata.map() {
        let path = format!("{path}.metadata.{}", key.name);
        let Some(text) = value.text() else {
            let what = value.what();
            s.report("L01", Error, &path, format!("it is {what}, it must be text: put it in quotes"));
            continue;
        };
        let env = key.name.strip_suffix("FromEnv").and_then(|name| known.parameter(name));
        match (known.parameter(&key.name), env) {
            (Some(p), _) if !p.in_metadata && p.in_authentication => {
                s.report("L03", Error, &path, "KEDA takes it from a TriggerAuthentication only");
            }
            (Some(p), _) => value_of(s, p, text.trim(), &path),
            (None, Some(p)) if p.from_env => {
                if text.trim().is_empty() {
                    s.report("L03", Error, &path, "it names no variable");
                }
            }
            (None, Some(_)) => s.report("L02", Error, &path, "KEDA does not read this parameter from a variable"),
            (None, None) => unknown(s, known, &key.name, &path),
        }
    }
    required(s, trigger, metadata, path, known);
}

fn unknown(s: &mut Subject<'_>, known: &'static Scaler, name: &str, path: &str) {
    if OF_THE_SCALER.contains(&name) {
        s.report("L02", Error, path, format!("{name} belongs under spec; here KEDA ignores it"));
        return;
    }
    let from_env = known.parameters.iter().filter(|p| p.from_env).map(|p| format!("{}FromEnv", p.name));
    let all: Vec<String> = known
        .parameters
        .iter()
        .filter(|p| p.in_metadata)
        .map(|p| p.name.clone())
        .chain(from_env)
        .collect();
    let near = nearest(name, all.iter().map(String::as_str)).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    s.report("L02", Error, path, format!("a {} trigger has no such parameter{near}", known.kind));
}

fn value_of(s: &mut Subject<'_>, parameter: &Parameter, text: &str, path: &str) {
    if text.is_empty() {
        return;
    }
    let allowed = parameter.allowed();
    if !allowed.is_empty() && !allowed.iter().any(|a| a == text) {
        let near = nearest(text, allowed.iter().map(String::as_str)).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        s.report("L03", Error, path, format!("{text:?} is none of {}{near}", allowed.join(", ")));
    } else if parameter.is_switch() && switch(text).is_none() {
        s.report("L01", Error, path, format!("{text:?} is neither \"true\" nor \"false\""));
    } else if parameter.is_whole() {
        match whole(text) {
            None => s.report("L01", Error, path, format!("{text:?} is not a whole number as KEDA reads it")),
            Some(n) if n < 0 || (n == 0 && parameter.name.starts_with("lag")) => {
                let least = i64::from(parameter.name.starts_with("lag"));
                s.report("L03", Error, path, format!("{n}: it must be {least} or more"));
            }
            Some(_) => {}
        }
    } else if parameter.name == "partitionLimitation" && partitions(text).is_none() {
        s.report("L03", Error, path, format!("{text:?} is no list of partitions such as 1-4,8"));
    }
}

fn required(s: &mut Subject<'_>, trigger: &Node, metadata: &Node, path: &str, known: &'static Scaler) {
    let filled = |name: &str| metadata.get(name).is_some_and(|v| !is_empty(v));
    for p in known.parameters.iter().filter(|p| !p.optional && p.default.is_none()) {
        let elsewhere = p.in_authentication && trigger.get("authenticationRef").is_some();
        if !filled(&p.name) && !filled(&format!("{}FromEnv", p.name)) && !elsewhere {
            s.report(
                "L03",
                Error,
                &format!("{path}.metadata.{}", p.name),
                format!("a {} trigger needs it", known.kind),
            );
        }
    }
}

fn kafka(s: &mut Subject<'_>, trigger: &Node, path: &str) {
    let of = |name: &str| {
        trigger
            .get("metadata")
            .and_then(|m| m.get(name))
            .and_then(Node::text)
            .map(str::trim)
            .filter(|t| !t.is_empty())
    };
    let on = |name: &str| of(name).and_then(switch) == Some(true);
    let key = |name: &str| format!("{path}.metadata.{name}");
    if of("topic").is_none() && of("topicFromEnv").is_none() {
        s.report(
            "L03",
            Error,
            &key("topic"),
            "without a topic every topic that the group has read counts, or every topic there is",
        );
    }
    let (limit, even) = ("limitToPartitionsWithLag", "ensureEvenDistributionOfPartitions");
    if on(limit) && on("allowIdleConsumers") {
        s.report("L04", Error, &key(limit), "it cannot stand beside allowIdleConsumers");
    }
    if on(limit) && on(even) {
        s.report("L04", Error, &key(limit), format!("it cannot stand beside {even}"));
    }
    if s.job {
        if of("activationLagThreshold").and_then(whole).is_some_and(|n| n > 0) {
            s.report("L07", Error, &key("activationLagThreshold"), "that many messages wait for ever");
        }
        if on("excludePersistentLag") {
            s.report(
                "L10",
                Error,
                &key("excludePersistentLag"),
                "lag that a job works on for longer than a poll does not count",
            );
        }
    }
    let policy = of("offsetResetPolicy").unwrap_or("latest").to_owned();
    if ["latest", "earliest"].contains(&policy.as_str()) && (policy == "latest" || policy != s.known.offset_reset) {
        let message = format!("it is {policy}; the workers' auto.offset.reset is {}", s.known.offset_reset);
        s.report("L11", Warning, &key("offsetResetPolicy"), message);
    }
    if of("version").is_none() {
        s.report("L21", Warning, &key("version"), "it is not set, so 1.0.0");
    }
    if on(even)
        && let Some(p) = s.known.partitions.filter(|p| *p > 2 && (2..*p).all(|d| p % d != 0))
    {
        s.report(
            "L17",
            Warning,
            &key(even),
            format!("{p} partitions have no divisor, so it is 1 job or {p}"),
        );
    }
    let gates = [
        (limit, on(limit), Feature::LimitToPartitionsWithLag),
        (even, on(even), Feature::EnsureEven),
        ("fullMetadata", of("fullMetadata").is_some(), Feature::FullMetadata),
        (
            "scaleToZeroOnInvalidOffset",
            on("scaleToZeroOnInvalidOffset") && policy == "earliest",
            Feature::ZeroOnInvalidEarliest,
        ),
    ];
    for (name, used, feature) in gates {
        if used && !s.keda.has(feature) {
            let message = format!("it came with KEDA {}, this is {}", feature.since(), s.keda);
            s.report("L16", Error, &key(name), message);
        }
    }
}

/// Several triggers on a ScaledJob.
fn several(s: &mut Subject<'_>, triggers: &[Node]) {
    if triggers.len() < 2 {
        return;
    }
    let calculation = s.text("spec.scalingStrategy.multipleScalersCalculation").unwrap_or("max");
    let path = "spec.scalingStrategy.multipleScalersCalculation";
    let thresholds: BTreeSet<i64> = triggers.iter().map(threshold).collect();
    if calculation == "max" && thresholds.len() > 1 {
        s.report(
            "L13",
            Warning,
            path,
            format!("max over triggers with thresholds {thresholds:?}: the longest queue wins, not the most jobs"),
        );
    }
    if calculation == "min" {
        s.report("L13", Warning, path, "min goes by the triggers' order when one of them has nothing");
    }
}

fn threshold(trigger: &Node) -> i64 {
    let of = |name: &str| {
        trigger
            .get("metadata")
            .and_then(|m| m.get(name))
            .and_then(Node::text)
            .and_then(whole)
    };
    of("lagThreshold").or_else(|| of("queryValue")).unwrap_or(10)
}
