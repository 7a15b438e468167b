//! KEDA's arithmetic for a ScaledJob with one Kafka trigger and the `default` strategy: from lag to jobs.
//!
//! As KEDA 2.20.2 does it (`pkg/scalers/kafka_scaler.go`, `pkg/scaling/scaledjob`, `pkg/scaling/executor/scale_jobs.go`,
//! <https://github.com/kedacore/keda>), odd corners included: capacity is capped at one job a partition only when the
//! lag divided by the threshold *in whole numbers* exceeds the partitions, so between P·threshold and (P+1)·threshold
//! it is P+1. Pending jobs do not count in this strategy. Nothing here does I/O.

/// What a group does where it has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
}

/// What the trigger's metadata says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// Messages a job is meant for; 1 or more.
    pub lag_threshold: i64,
    /// Jobs are created only while the lag is more than this.
    pub activation_lag_threshold: i64,
    pub offset_reset: OffsetReset,
    /// Lets jobs exceed the partitions.
    pub allow_idle_consumers: bool,
    /// Caps jobs at the partitions that have lag.
    pub limit_to_partitions_with_lag: bool,
    /// Rounds jobs up to a divisor of the partitions.
    pub ensure_even_distribution: bool,
    /// A partition without a committed offset counts as having no lag.
    pub scale_to_zero_on_invalid_offset: bool,
}

/// How many jobs there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub min: Option<i64>,
    pub max: Option<i64>,
}

/// A partition as the brokers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The group's committed offset; `None` when there is none.
    pub committed: Option<i64>,
    /// The high watermark; `None` when the brokers did not report it.
    pub end: Option<i64>,
}

/// What KEDA would do, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The sum over the partitions; may be negative when a topic was created anew.
    pub lag: i64,
    /// The lag as it counts, capped.
    pub metric: i64,
    /// Whether the trigger, or a minimum, allows jobs at all.
    pub active: bool,
    /// Jobs that the lag asks for, minimum not included.
    pub wanted: i64,
    /// Jobs to create now.
    pub create: i64,
}

impl Limits {
    /// Jobs beside the minimum that there may be. Unset it is 100, whatever the minimum.
    pub fn max_jobs(&self) -> i64 {
        match (self.min, self.max) {
            (_, None) => 100,
            (Some(min), Some(max)) if min > max => max,
            (min, Some(max)) => max - min.unwrap_or(0),
        }
    }

    /// Jobs that are kept whatever the lag.
    pub fn min_jobs(&self) -> i64 {
        match (self.min, self.max) {
            (None, _) => 0,
            (Some(min), Some(max)) if min > max => max,
            (Some(min), _) => min,
        }
    }
}

/// The lag of one partition; it is not clamped, so a partition that was created anew takes from the others.
fn lag_of(partition: Partition, trigger: &Trigger) -> i64 {
    match (partition.committed, partition.end) {
        (None, _) if trigger.scale_to_zero_on_invalid_offset => 0,
        (None, _) if trigger.offset_reset == OffsetReset::Latest => 1,
        (_, None) => 0,
        // Not end less start: what retention has deleted counts.
        (None, Some(end)) => end,
        (Some(committed), Some(end)) => end.saturating_sub(committed),
    }
}

/// The lag and what counts of it.
fn metric(partitions: &[Partition], trigger: &Trigger) -> (i64, i64) {
    let lags = || partitions.iter().map(|p| lag_of(*p, trigger));
    let lag = lags().fold(0i64, i64::saturating_add);
    let threshold = trigger.lag_threshold.max(1);
    let count = i64::try_from(partitions.len()).unwrap_or(i64::MAX);
    let mut total = lag;
    let capped = !trigger.allow_idle_consumers || trigger.limit_to_partitions_with_lag || trigger.ensure_even_distribution;
    if capped {
        let mut bound = count;
        if trigger.ensure_even_distribution {
            let divisor = (1..=count).find(|f| count % f == 0 && f.saturating_mul(threshold) >= total);
            total = divisor.unwrap_or(count).saturating_mul(threshold);
        }
        if trigger.limit_to_partitions_with_lag {
            bound = i64::try_from(lags().filter(|lag| *lag > 0).count()).unwrap_or(i64::MAX);
        }
        if total / threshold > bound {
            total = bound.saturating_mul(threshold);
        }
    }
    (lag, total.max(0))
}

/// Decides one poll. `running` counts this worker's jobs that have not ended.
pub fn decide(trigger: &Trigger, limits: Limits, partitions: &[Partition], running: i64) -> Decision {
    let (lag, metric) = metric(partitions, trigger);
    let (min, max) = (limits.min_jobs(), limits.max_jobs());
    let threshold = trigger.lag_threshold.max(1);
    let asked = metric / threshold + i64::from(metric % threshold > 0);
    let triggered = lag > trigger.activation_lag_threshold;
    // With its one trigger inactive, or nothing in the queue, KEDA asks for nothing.
    let wanted = if triggered && metric > 0 { asked.min(max) } else { 0 };
    let active = (triggered && metric > 0) || min > 0;
    let create = if !active {
        0
    } else if running < min {
        // The minimum first; the lag is heeded at the next poll.
        min - running
    } else {
        (wanted - (running - min)).max(0)
    };
    Decision {
        lag,
        metric,
        active,
        wanted,
        create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_taken_as_keda_takes_them() {
        let limits = |min, max| {
            let l = Limits { min, max };
            (l.min_jobs(), l.max_jobs())
        };
        assert_eq!(limits(None, None), (0, 100));
        assert_eq!(limits(Some(5), None), (5, 100));
        assert_eq!(limits(Some(2), Some(10)), (2, 8));
        assert_eq!(limits(Some(4), Some(4)), (4, 0));
        assert_eq!(limits(Some(9), Some(4)), (4, 4));
    }
}
