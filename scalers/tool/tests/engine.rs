//! The engine against figures that were taken from KEDA's own functions (2.20.2), and properties that must hold.
#![allow(clippy::unwrap_used)]

use scalers::engine::{Limits, OffsetReset, Partition, Trigger, decide};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vector {
    says: String,
    /// Committed (-1: nothing) and end (null: not reported).
    partitions: Vec<(i64, Option<i64>)>,
    #[serde(default = "ten")]
    lag_threshold: i64,
    #[serde(default)]
    running: i64,
    min: Option<i64>,
    max: Option<i64>,
    #[serde(default)]
    limit_to_partitions_with_lag: bool,
    #[serde(default)]
    ensure_even: bool,
    #[serde(default)]
    allow_idle_consumers: bool,
    #[serde(default)]
    scale_to_zero_on_invalid_offset: bool,
    metric: i64,
    active: bool,
    create: i64,
}

fn ten() -> i64 {
    10
}

fn plain(lag_threshold: i64) -> Trigger {
    Trigger {
        lag_threshold,
        activation_lag_threshold: 0,
        offset_reset: OffsetReset::Earliest,
        allow_idle_consumers: false,
        limit_to_partitions_with_lag: false,
        ensure_even_distribution: false,
        scale_to_zero_on_invalid_offset: false,
    }
}

fn lags(lags: &[i64]) -> Vec<Partition> {
    let partition = |lag: &i64| Partition {
        committed: Some(100),
        end: Some(100 + lag),
    };
    lags.iter().map(partition).collect()
}

fn up_to(max: i64) -> Limits {
    Limits { min: None, max: Some(max) }
}

#[test]
fn every_vector_comes_out() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(vectors.len(), 19);
    for v in vectors {
        let trigger = Trigger {
            offset_reset: OffsetReset::Latest,
            limit_to_partitions_with_lag: v.limit_to_partitions_with_lag,
            ensure_even_distribution: v.ensure_even,
            allow_idle_consumers: v.allow_idle_consumers,
            scale_to_zero_on_invalid_offset: v.scale_to_zero_on_invalid_offset,
            ..plain(v.lag_threshold)
        };
        let partitions: Vec<Partition> = v
            .partitions
            .iter()
            .map(|&(committed, end)| Partition {
                committed: (committed >= 0).then_some(committed),
                end,
            })
            .collect();
        let limits = Limits { min: v.min, max: v.max };
        let decision = decide(&trigger, limits, &partitions, v.running);
        assert_eq!(
            (decision.metric, decision.active, decision.create),
            (v.metric, v.active, v.create),
            "{}: {decision:?}",
            v.says
        );
    }
}

#[test]
fn a_group_without_offsets_counts_the_whole_log_under_earliest() {
    let partition = Partition {
        committed: None,
        end: Some(40),
    };
    assert_eq!(decide(&plain(10), up_to(12), &[partition; 2], 0).lag, 80);
}

#[test]
fn activation_is_strict_and_holds_back_every_job() {
    let trigger = Trigger {
        activation_lag_threshold: 5,
        ..plain(1)
    };
    assert_eq!(decide(&trigger, up_to(12), &lags(&[5, 0]), 0).create, 0);
    // Six messages, threshold 1, but two partitions.
    assert_eq!(decide(&trigger, up_to(12), &lags(&[6, 0]), 0).create, 2);
}

#[test]
fn the_minimum_is_kept_without_lag_and_comes_first() {
    let limits = Limits {
        min: Some(2),
        max: Some(10),
    };
    assert_eq!(decide(&plain(10), limits, &lags(&[0]), 0).create, 2);
    assert_eq!(decide(&plain(10), limits, &lags(&[500, 500]), 1).create, 1);
    assert_eq!(decide(&plain(10), limits, &lags(&[0]), 2).create, 0);
}

#[test]
fn jobs_never_exceed_a_maximum_that_the_partitions_allow() {
    for lag in 0..200 {
        for running in 0..=12 {
            let d = decide(&plain(7), up_to(12), &lags(&[lag, 0, lag, 1, 0, 0, 0, 0, 0, 0, 0, 0]), running);
            assert!(running + d.create <= 12 && d.create >= 0, "lag {lag}, {running} running: {d:?}");
        }
    }
}

#[test]
fn absurd_offsets_do_not_overflow() {
    let partition = Partition {
        committed: Some(i64::MIN),
        end: Some(i64::MAX),
    };
    assert_eq!(decide(&plain(1), up_to(3), &[partition; 3], 0).create, 3);
}
