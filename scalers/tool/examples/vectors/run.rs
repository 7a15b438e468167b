//! One vector: its inputs into the engine, and of what comes out the figures that it expects.

use anyhow::{Context as _, bail, ensure};
use scalers::engine::{
    Bound, Jobs, Kafka, Limits, Measured, Memory, OffsetReset, Partition, ScaledJob, Strategy, Version, combine, hpa_step,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
pub struct Vector {
    pub id: String,
    #[serde(default)]
    pub desc: String,
    inputs: Map<String, Value>,
    pub expected: Figures,
}

impl Vector {
    pub fn expected_json(&self) -> String {
        Value::Object(self.expected.0.clone()).to_string()
    }
}

/// Figures by name; `3` and `3.0` are the same.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Figures(pub Map<String, Value>);

impl PartialEq for Figures {
    fn eq(&self, other: &Self) -> bool {
        fn same(a: &Value, b: &Value) -> bool {
            match (a, b) {
                (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
                (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
                _ => a == b,
            }
        }
        self.0.len() == other.0.len() && self.0.iter().all(|(k, v)| other.0.get(k).is_some_and(|o| same(v, o)))
    }
}

/// What an input may be called, in every kind of vector.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    #[serde(rename = "partitions[committed,latest]")]
    offsets: Option<Vec<(i64, Option<i64>)>>,
    #[serde(rename = "triggers[lag,thr,active]")]
    triggers: Option<Vec<(f64, f64, bool)>>,
    partition: Option<Vec<(i64, Option<i64>)>>,
    #[serde(rename = "lagThreshold", alias = "thr")]
    threshold: Option<f64>,
    activation: Option<i64>,
    reset: Option<String>,
    #[serde(default)]
    running: i64,
    #[serde(default)]
    pending: i64,
    #[serde(alias = "strategy")]
    strat: Option<String>,
    ded: Option<i64>,
    pct: Option<f64>,
    mn: Option<i64>,
    mx: Option<i64>,
    #[serde(default, rename = "limitToLag")]
    limit_to_lag: bool,
    #[serde(default)]
    even: bool,
    #[serde(default, rename = "allowIdle")]
    allow_idle: bool,
    #[serde(default, rename = "zeroOnInvalid")]
    zero_on_invalid: bool,
    #[serde(default, alias = "old_accurate")]
    old: bool,
    calc: Option<String>,
    metric: Option<f64>,
    current: Option<i64>,
    lag: Option<i64>,
    partitions: Option<i64>,
    polls: Option<usize>,
    pod_start_polls: Option<usize>,
}

/// What goes on from vector to vector.
#[derive(Default)]
pub struct Runner {
    memory: Memory,
}

impl Runner {
    /// The figures that the vector expects, as the engine has them.
    ///
    /// # Errors
    /// When the inputs are not understood, or a figure is expected that this kind does not have.
    pub fn run(&mut self, vector: &Vector) -> anyhow::Result<Figures> {
        ensure!(!vector.expected.0.is_empty(), "nothing is expected");
        let i: Inputs = serde_json::from_value(Value::Object(vector.inputs.clone())).context("the inputs are not understood")?;
        let all = if let Some(offsets) = &i.offsets {
            poll(&i, offsets, &mut Memory::default(), false)?
        } else if let Some(offsets) = &i.partition {
            poll(&i, offsets, &mut self.memory, true)?
        } else if let Some(triggers) = &i.triggers {
            several(&i, triggers)?
        } else if i.polls.is_some() {
            closed_run(&i)?
        } else if let (Some(metric), Some(current)) = (i.metric, i.current) {
            let target = i.threshold.context("thr is missing")?;
            json!({"desired": hpa_step(metric, target, current, None)})
        } else {
            bail!("no kind of vector has these inputs")
        };
        let pick = |name: &String| {
            let figure = all.get(name).with_context(|| format!("this kind has no figure {name}"))?;
            Ok((name.clone(), figure.clone()))
        };
        Ok(Figures(vector.expected.0.keys().map(pick).collect::<anyhow::Result<_>>()?))
    }
}

fn job(i: &Inputs) -> anyhow::Result<ScaledJob> {
    Ok(ScaledJob {
        keda: if i.old { Version::new(2, 18, 3) } else { Version::DEFAULT },
        limits: Limits { min: i.mn, max: i.mx },
        calculation: i.calc.as_deref().unwrap_or("max").parse().map_err(anyhow::Error::msg)?,
        strategy: match i.strat.as_deref().unwrap_or("default") {
            "default" => Strategy::Default,
            "custom" => Strategy::Custom {
                deduction: i.ded,
                percentage: i.pct,
            },
            "accurate" => Strategy::Accurate,
            "eager" => Strategy::Eager,
            other => bail!("there is no strategy {other}"),
        },
    })
}

fn trigger(i: &Inputs, persistent: bool) -> anyhow::Result<Kafka> {
    let threshold = i.threshold.unwrap_or(10.0);
    ensure!(
        threshold.fract() == 0.0 && threshold >= 1.0,
        "lagThreshold {threshold} is no whole number from 1 on"
    );
    Ok(Kafka {
        lag_threshold: threshold as i64,
        activation_lag_threshold: i.activation.unwrap_or(0),
        offset_reset: match i.reset.as_deref().unwrap_or("latest") {
            "latest" => OffsetReset::Latest,
            "earliest" => OffsetReset::Earliest,
            other => bail!("there is no policy {other}"),
        },
        allow_idle_consumers: i.allow_idle,
        limit_to_partitions_with_lag: i.limit_to_lag,
        ensure_even_distribution: i.even,
        scale_to_zero_on_invalid_offset: i.zero_on_invalid,
        exclude_persistent_lag: persistent,
        partition_limitation: Vec::new(),
    })
}

fn jobs(i: &Inputs) -> Jobs {
    Jobs {
        running: i.running,
        pending: i.pending,
    }
}

/// A poll of one trigger. `old` says which `accurate`, and nothing of the offsets.
fn poll(i: &Inputs, offsets: &[(i64, Option<i64>)], memory: &mut Memory, persistent: bool) -> anyhow::Result<Value> {
    let partition = |&(committed, end): &(i64, Option<i64>)| Partition {
        committed: (committed >= 0).then_some(committed),
        end,
        start: None,
    };
    let partitions: Vec<Partition> = offsets.iter().map(partition).collect();
    let trigger = trigger(i, persistent)?;
    let reading = trigger.read(Version::DEFAULT, &partitions, memory);
    let decision = job(i)?.decide(&[reading.measured(&trigger)], reading.bound, jobs(i));
    Ok(json!({
        "metric": reading.metric, "active": reading.active, "trigger active": reading.active, "jobs": decision.create,
        "queueLength": decision.queue, "maxScale": decision.wanted,
    }))
}

fn several(i: &Inputs, triggers: &[(f64, f64, bool)]) -> anyhow::Result<Value> {
    let measured: Vec<Measured> = triggers
        .iter()
        .map(|&(queue, target, active)| Measured { queue, target, active })
        .collect();
    let job = job(i)?;
    let demand = combine(job.calculation, &measured, job.limits.max_jobs());
    let decision = job.decide(&measured, Bound::None, jobs(i));
    Ok(json!({
        "queueLength": demand.queue, "maxScale": demand.jobs, "active": decision.active, "jobs": decision.create,
    }))
}

/// Lag that nobody works off, jobs that take some polls to start and never end.
fn closed_run(i: &Inputs) -> anyhow::Result<Value> {
    let (lag, count) = (i.lag.context("lag is missing")?, i.partitions.context("partitions is missing")?);
    let starts = i.pod_start_polls.context("pod_start_polls is missing")?;
    let (trigger, job) = (trigger(i, false)?, job(i)?);
    let lags = (0..count).map(|n| lag / count + i64::from(n < lag % count));
    let partitions: Vec<Partition> = lags
        .map(|lag| Partition {
            committed: Some(0),
            end: Some(lag),
            start: None,
        })
        .collect();
    let reading = trigger.read(Version::DEFAULT, &partitions, &mut Memory::default());
    let mut created: Vec<i64> = Vec::new();
    for poll in 0..i.polls.unwrap_or(0) {
        let pending: i64 = created.iter().skip((poll + 1).saturating_sub(starts)).sum();
        let now = Jobs {
            running: i.running + created.iter().sum::<i64>(),
            pending: i.pending + pending,
        };
        created.push(job.decide(&[reading.measured(&trigger)], reading.bound, now).create);
    }
    let total: i64 = created.iter().sum();
    Ok(json!({"created_per_poll": created, "total": total}))
}
