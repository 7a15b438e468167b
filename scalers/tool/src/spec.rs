//! A scaler file as the engine takes it: a ScaledJob less its pod, or a ScaledObject.
//!
//! What KEDA would refuse or ignore is an error here, with file, line and key; `scalers check` says more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::check::{Document, documents_of, errors_of, lines, partition_list, switch, whole};
use crate::engine::{
    Behavior, Calculation, Fallback, FallbackBehavior, Hpa, Kafka, Limits, Mongodb, OffsetReset, ScaledJob, ScaledObject, Strategy, Version,
};
use crate::yaml::Node;

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    pub worker: String,
    pub polling_interval: Duration,
    pub kind: Kind,
    pub triggers: Vec<Trigger>,
    /// How many ended jobs are remembered: those with 0, and the others.
    pub history: (usize, usize),
    /// Settings that matter to KEDA in a cluster only, by name.
    pub ignored: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Job(ScaledJob),
    Object(ScaledObject),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    Kafka {
        topic: String,
        group: String,
        /// The variable that names the brokers.
        brokers_from: Option<String>,
        kafka: Kafka,
    },
    Mongodb {
        documents: DocumentsOf,
        mongodb: Mongodb,
    },
}

/// What a mongodb trigger counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocumentsOf {
    /// The variable that holds the connection string.
    pub uri_from: Option<String>,
    pub database: String,
    pub collection: String,
    /// As extended JSON.
    pub query: String,
}

impl Scaler {
    /// The ScaledJob, when it is one.
    pub fn job(&self) -> Option<&ScaledJob> {
        match &self.kind {
            Kind::Job(job) => Some(job),
            Kind::Object(_) => None,
        }
    }

    /// The most jobs or replicas that there may be.
    pub fn max(&self) -> i64 {
        match &self.kind {
            Kind::Job(job) => job.limits.max_jobs() + job.limits.min_jobs(),
            Kind::Object(object) => object.max.unwrap_or(100),
        }
    }

    /// Which of the triggers is the first kafka one.
    pub fn first_kafka(&self) -> Option<usize> {
        self.triggers.iter().position(|t| matches!(t, Trigger::Kafka { .. }))
    }

    /// The first kafka trigger: its topic and its group.
    pub fn topic(&self) -> Option<(&str, &str)> {
        self.triggers.iter().find_map(|t| match t {
            Trigger::Kafka { topic, group, .. } => Some((topic.as_str(), group.as_str())),
            Trigger::Mongodb { .. } => None,
        })
    }
}

/// Reads a file with one scaler.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn read(file: &Path, keda: Version) -> anyhow::Result<Scaler> {
    let documents = documents_of(file)?;
    let mut scaling = documents.iter().filter(|d| d.scales());
    let (Some(document), None) = (scaling.next(), scaling.next()) else {
        bail!("{} must have one ScaledJob or ScaledObject", file.display());
    };
    let errors = errors_of(document, keda);
    ensure!(errors.is_empty(), "{}", lines(&errors));
    of(document, keda).with_context(|| file.display().to_string())
}

/// Reads the files of a directory that describe workers, in the order of their names.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn read_dir(dir: &Path, keda: Version) -> anyhow::Result<Vec<Scaler>> {
    let listed = std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".yaml") && name != "topics.yaml" && name != "kustomization.yaml"
    });
    files.sort();
    ensure!(!files.is_empty(), "{} has no scaler files", dir.display());
    let one = |path: &PathBuf| {
        let scaler = read(path, keda)?;
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        ensure!(
            scaler.worker == stem,
            "{}: metadata.name is {:?}; file, worker, topic and group have one name",
            path.display(),
            scaler.worker
        );
        Ok(scaler)
    };
    files.iter().map(one).collect()
}

/// The document as the engine takes it; it has been checked.
fn of(document: &Document, keda: Version) -> anyhow::Result<Scaler> {
    let root = &document.root;
    let int = |path: &str| root.at(path).and_then(Node::int);
    let seconds = int("spec.pollingInterval").unwrap_or(30);
    let kind = match document.kind.as_str() {
        "ScaledJob" => Kind::Job(ScaledJob {
            keda,
            limits: Limits {
                min: int("spec.minReplicaCount"),
                max: int("spec.maxReplicaCount"),
            },
            calculation: match root.at("spec.scalingStrategy.multipleScalersCalculation").and_then(Node::text) {
                Some(text) => text.parse().map_err(anyhow::Error::msg)?,
                None => Calculation::Max,
            },
            strategy: strategy(root)?,
        }),
        _ => Kind::Object(object(root)?),
    };
    let mut ignored = Vec::new();
    let mut triggers = Vec::new();
    for (n, node) in root.at("spec.triggers").map(Node::list).unwrap_or_default().iter().enumerate() {
        triggers.push(trigger(node).with_context(|| format!("line {}: spec.triggers.{n}", node.place.line))?);
        let metadata = node.get("metadata");
        let set = [
            (node.get("authenticationRef").is_some(), "authenticationRef"),
            (metadata.is_some_and(|m| m.get("sasl").is_some()), "sasl"),
            (metadata.is_some_and(|m| m.get("tls").is_some()), "tls"),
        ];
        ignored.extend(set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name));
    }
    ignored.dedup();
    let history = |path: &str| int(path).and_then(|n| usize::try_from(n).ok()).unwrap_or(100);
    Ok(Scaler {
        worker: document.name.clone(),
        polling_interval: Duration::from_secs(seconds.unsigned_abs().max(1)),
        kind,
        triggers,
        history: (history("spec.successfulJobsHistoryLimit"), history("spec.failedJobsHistoryLimit")),
        ignored,
    })
}

fn strategy(root: &Node) -> anyhow::Result<Strategy> {
    let at = |key: &str| root.at("spec.scalingStrategy").and_then(|s| s.get(key));
    Ok(match at("strategy").and_then(Node::text).unwrap_or("default") {
        "default" => Strategy::Default,
        "accurate" => Strategy::Accurate,
        "eager" => Strategy::Eager,
        "custom" => Strategy::Custom {
            deduction: at("customScalingQueueLengthDeduction").and_then(Node::int),
            percentage: at("customScalingRunningJobPercentage")
                .and_then(Node::text)
                .and_then(|t| t.parse().ok()),
        },
        other => bail!("there is no strategy {other}"),
    })
}

fn trigger(node: &Node) -> anyhow::Result<Trigger> {
    let of = |name: &str| {
        let text = node.get("metadata").and_then(|m| m.get(name)).and_then(Node::text);
        text.map(str::trim).filter(|t| !t.is_empty())
    };
    let number = |name: &str, default: i64| of(name).and_then(whole).unwrap_or(default);
    let on = |name: &str| of(name).and_then(switch) == Some(true);
    match node.get("type").and_then(Node::text) {
        Some("kafka") => Ok(Trigger::Kafka {
            topic: of("topic").context("topic must stand in the file, not in a variable")?.to_owned(),
            group: of("consumerGroup")
                .context("consumerGroup must stand in the file, not in a variable")?
                .to_owned(),
            brokers_from: of("bootstrapServersFromEnv").map(str::to_owned),
            kafka: Kafka {
                lag_threshold: number("lagThreshold", 10),
                activation_lag_threshold: number("activationLagThreshold", 0),
                offset_reset: match of("offsetResetPolicy") {
                    Some("earliest") => OffsetReset::Earliest,
                    _ => OffsetReset::Latest,
                },
                allow_idle_consumers: on("allowIdleConsumers"),
                limit_to_partitions_with_lag: on("limitToPartitionsWithLag"),
                ensure_even_distribution: on("ensureEvenDistributionOfPartitions"),
                scale_to_zero_on_invalid_offset: on("scaleToZeroOnInvalidOffset"),
                exclude_persistent_lag: on("excludePersistentLag"),
                partition_limitation: of("partitionLimitation").and_then(partition_list).unwrap_or_default(),
            },
        }),
        Some("mongodb") => Ok(Trigger::Mongodb {
            documents: DocumentsOf {
                uri_from: of("connectionStringFromEnv").map(str::to_owned),
                database: of("dbName").unwrap_or_default().to_owned(),
                collection: of("collection").unwrap_or_default().to_owned(),
                query: of("query").unwrap_or_default().to_owned(),
            },
            mongodb: Mongodb {
                query_value: number("queryValue", 1),
                activation_query_value: number("activationQueryValue", 0),
            },
        }),
        Some(other) => bail!("a {other} trigger is not understood here, only kafka and mongodb are"),
        None => bail!("it has no type"),
    }
}

fn object(root: &Node) -> anyhow::Result<ScaledObject> {
    let int = |path: &str| root.at(path).and_then(Node::int);
    let seconds = |path: &str, default: i64| int(path).unwrap_or(default) as f64;
    let fallback = root.at("spec.fallback").map(|f| -> anyhow::Result<Fallback> {
        Ok(Fallback {
            failure_threshold: f
                .get("failureThreshold")
                .and_then(Node::int)
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
            replicas: f.get("replicas").and_then(Node::int).unwrap_or(0),
            behavior: match f.get("behavior").and_then(Node::text).unwrap_or("static") {
                "static" => FallbackBehavior::Static,
                "currentReplicas" => FallbackBehavior::CurrentReplicas,
                "currentReplicasIfHigher" => FallbackBehavior::CurrentReplicasIfHigher,
                "currentReplicasIfLower" => FallbackBehavior::CurrentReplicasIfLower,
                other => bail!("fallback.behavior {other} is not understood here"),
            },
        })
    });
    let direction = |name: &str, default: Behavior| {
        let path = format!("spec.advanced.horizontalPodAutoscalerConfig.behavior.{name}");
        root.at(&path).map_or(default, |node| behavior(node, default))
    };
    Ok(ScaledObject {
        min: int("spec.minReplicaCount"),
        max: int("spec.maxReplicaCount"),
        idle: int("spec.idleReplicaCount"),
        cooldown: seconds("spec.cooldownPeriod", 300),
        initial_cooldown: seconds("spec.initialCooldownPeriod", 0),
        fallback: fallback.transpose()?,
        hpa: Hpa::new(direction("scaleUp", Behavior::UP), direction("scaleDown", Behavior::DOWN)),
    })
}

/// One direction of the HPA. Of several policies of a kind the last counts; their periods are taken to be one.
fn behavior(node: &Node, default: Behavior) -> Behavior {
    let mut own = default;
    if let Some(window) = node.get("stabilizationWindowSeconds").and_then(Node::int) {
        own.stabilization = window as f64;
    }
    own.tolerance = node
        .get("tolerance")
        .and_then(|t| t.text().and_then(|t| t.parse().ok()).or(t.int().map(|n| n as f64)));
    let policies = node.get("policies").map(Node::list).unwrap_or_default();
    if !policies.is_empty() {
        (own.percent, own.pods) = (None, None);
    }
    for policy in policies {
        let value = policy.get("value").and_then(Node::int);
        match policy.get("type").and_then(Node::text) {
            Some("Percent") => own.percent = value.map(|v| v as f64),
            Some("Pods") => own.pods = value,
            _ => {}
        }
        if let Some(period) = policy.get("periodSeconds").and_then(Node::int) {
            own.period = period as f64;
        }
    }
    own
}
