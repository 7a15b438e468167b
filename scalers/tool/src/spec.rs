//! `scalers/<worker>.yaml`: a ScaledJob less its pod. Every mistake is named with its line; an unknown key is one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};

use crate::engine::{Kafka, Limits, OffsetReset};

/// What a worker's file says, as far as it concerns one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaler {
    pub worker: String,
    pub polling_interval: Duration,
    pub limits: Limits,
    /// How many ended jobs are remembered: those with 0, and the others.
    pub history: (usize, usize),
    pub topic: String,
    pub group: String,
    /// The variable that names the brokers.
    pub brokers_from: String,
    pub trigger: Kafka,
    /// Settings that matter to KEDA in a cluster only, by name.
    pub ignored: Vec<&'static str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    /// For people and for Argo CD; they change nothing here.
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default = "thirty")]
    polling_interval: AtLeast<1>,
    min_replica_count: Option<AtLeast<0>>,
    max_replica_count: Option<AtLeast<1>>,
    #[serde(default = "hundred")]
    successful_jobs_history_limit: AtLeast<0>,
    #[serde(default = "hundred")]
    failed_jobs_history_limit: AtLeast<0>,
    #[serde(rename = "rollout")]
    _rollout: Option<Rollout>,
    #[serde(rename = "scalingStrategy")]
    _scaling_strategy: Option<ScalingStrategy>,
    triggers: Vec<FileTrigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollout {
    #[serde(rename = "strategy")]
    _strategy: RolloutStrategy,
}

/// `immediate`, KEDA's default, kills running jobs at every edit.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RolloutStrategy {
    Gradual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScalingStrategy {
    #[serde(rename = "strategy")]
    _strategy: Strategy,
}

/// The workers commit after the work; the other strategies would count work in hand twice.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    Default,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileTrigger {
    #[serde(rename = "type")]
    _kind: TriggerKind,
    metadata: KafkaMetadata,
    authentication_ref: Option<AuthenticationRef>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TriggerKind {
    Kafka,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthenticationRef {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "kind")]
    _kind: Option<String>,
}

/// The trigger's metadata: a map of text to text, which KEDA reads number by number.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KafkaMetadata {
    bootstrap_servers_from_env: Filled,
    consumer_group: Filled,
    topic: Filled,
    #[serde(default)]
    lag_threshold: Option<Text<Whole<1>>>,
    #[serde(default)]
    activation_lag_threshold: Option<Text<Whole<0>>>,
    #[serde(default)]
    offset_reset_policy: Option<Text<Reset>>,
    #[serde(default)]
    allow_idle_consumers: Option<Text<Switch>>,
    #[serde(default)]
    limit_to_partitions_with_lag: Option<Text<Switch>>,
    #[serde(default)]
    ensure_even_distribution_of_partitions: Option<Text<Switch>>,
    #[serde(default)]
    scale_to_zero_on_invalid_offset: Option<Text<Switch>>,
    #[serde(default, rename = "version")]
    _version: Option<Filled>,
    sasl: Option<Filled>,
    tls: Option<Filled>,
}

/// A value of the metadata as KEDA's schema has it: text. YAML reads `20` and `true` without quotes as something else,
/// and the API server refuses that. `parse` is called while the line is known, so that its error can name it.
struct Quoted<F>(F);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Quoted<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string; put it in quotes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.trim()).map_err(|why| E::custom(format!("{text:?}: {why}")))
    }
}

/// Text that is not empty.
struct Filled(String);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quoted(|text: &str| match text {
            "" => Err("it must not be empty".to_owned()),
            _ => Ok(Self(text.to_owned())),
        }))
    }
}

/// Something that is written as text.
struct Text<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quoted(|text: &str| text.parse().map(Self).map_err(|e: T::Err| e.to_string())))
    }
}

/// A whole number from `MIN` on, as JSON writes it: no sign, no leading nought, no exponent.
struct Whole<const MIN: i64>(i64);

impl<const MIN: i64> FromStr for Whole<MIN> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let number = text.parse().ok().filter(|n| plain && *n >= MIN);
        number
            .map(Self)
            .ok_or_else(|| format!("it must be a whole number of {MIN} or more"))
    }
}

struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Self(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Self(false)),
            _ => Err("it must be \"true\" or \"false\""),
        }
    }
}

struct Reset(OffsetReset);

impl FromStr for Reset {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Self(OffsetReset::Earliest)),
            "latest" => Ok(Self(OffsetReset::Latest)),
            _ => Err("it must be earliest or latest"),
        }
    }
}

/// A number from `MIN` on.
#[derive(Clone, Copy)]
struct AtLeast<const MIN: i64>(i64);

impl<'de, const MIN: i64> Deserialize<'de> for AtLeast<MIN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<const MIN: i64>;
        impl<const MIN: i64> Visitor<'_> for Number<MIN> {
            type Value = AtLeast<MIN>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number of {MIN} or more")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<AtLeast<MIN>, E> {
                let fits = i32::try_from(number).ok().map(i64::from).filter(|n| *n >= MIN);
                fits.map(AtLeast)
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(Number::<MIN>)
    }
}

fn thirty() -> AtLeast<1> {
    AtLeast(30)
}

fn hundred() -> AtLeast<0> {
    AtLeast(100)
}

/// Reads the text of a worker's file.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(text: &str) -> anyhow::Result<Scaler> {
    let File {
        api_version,
        kind,
        metadata,
        spec,
    } = serde_yaml_ng::from_str(text)?;
    ensure!(
        api_version == "keda.sh/v1alpha1",
        "apiVersion is {api_version:?}, it must be keda.sh/v1alpha1"
    );
    ensure!(kind == "ScaledJob", "kind is {kind:?}, it must be ScaledJob");
    let mut triggers = spec.triggers.into_iter();
    let (Some(trigger), None) = (triggers.next(), triggers.next()) else {
        bail!("spec.triggers must have exactly one trigger");
    };
    let m = trigger.metadata;
    let on = |switch: Option<Text<Switch>>| switch.is_some_and(|s| s.0.0);
    let numbers = Kafka {
        lag_threshold: m.lag_threshold.map_or(10, |n| n.0.0),
        activation_lag_threshold: m.activation_lag_threshold.map_or(0, |n| n.0.0),
        offset_reset: m.offset_reset_policy.map_or(OffsetReset::Latest, |r| r.0.0),
        allow_idle_consumers: on(m.allow_idle_consumers),
        limit_to_partitions_with_lag: on(m.limit_to_partitions_with_lag),
        ensure_even_distribution: on(m.ensure_even_distribution_of_partitions),
        scale_to_zero_on_invalid_offset: on(m.scale_to_zero_on_invalid_offset),
        ..Kafka::default()
    };
    let limited = numbers.limit_to_partitions_with_lag;
    ensure!(
        !(limited && (numbers.allow_idle_consumers || numbers.ensure_even_distribution)),
        "limitToPartitionsWithLag cannot stand beside allowIdleConsumers or ensureEvenDistributionOfPartitions"
    );
    let cluster_only = [
        (trigger.authentication_ref.is_some(), "authenticationRef"),
        (m.sasl.is_some(), "sasl"),
        (m.tls.is_some(), "tls"),
    ];
    Ok(Scaler {
        worker: metadata.name,
        polling_interval: Duration::from_secs(spec.polling_interval.0.unsigned_abs()),
        limits: Limits {
            min: spec.min_replica_count.map(|n| n.0),
            max: spec.max_replica_count.map(|n| n.0),
        },
        history: (count(spec.successful_jobs_history_limit), count(spec.failed_jobs_history_limit)),
        topic: m.topic.0,
        group: m.consumer_group.0,
        brokers_from: m.bootstrap_servers_from_env.0,
        trigger: numbers,
        ignored: cluster_only.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect(),
    })
}

fn count<const MIN: i64>(number: AtLeast<MIN>) -> usize {
    usize::try_from(number.0).unwrap_or(0)
}

/// Reads the files of a directory that describe workers, in the order of their names.
///
/// # Errors
/// What is wrong, with the file and the line.
pub fn read_dir(dir: &Path) -> anyhow::Result<Vec<Scaler>> {
    let listed = std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".yaml") && name != "topics.yaml" && name != "kustomization.yaml"
    });
    files.sort();
    ensure!(!files.is_empty(), "{} has no scaler files", dir.display());
    files.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Scaler> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let scaler = parse(&text).with_context(|| path.display().to_string())?;
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    ensure!(
        scaler.worker == stem,
        "{}: metadata.name is {:?}; file, worker, topic and group have one name",
        path.display(),
        scaler.worker
    );
    Ok(scaler)
}
