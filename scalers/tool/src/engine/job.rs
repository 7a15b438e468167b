//! One poll of a ScaledJob: from demand to jobs. KEDA only ever creates; jobs end by themselves.

use serde::{Deserialize, Serialize};

use super::strategy::Basis;
use super::{Bound, Calculation, Demand, Measured, Strategy, Version, combine};

/// How many jobs there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub min: Option<i64>,
    pub max: Option<i64>,
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

/// The jobs that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Jobs {
    /// Jobs that have not ended, pending ones included.
    pub running: i64,
    /// Those of them that no pod has begun.
    pub pending: i64,
}

/// A ScaledJob's own settings; its triggers are read beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaledJob {
    pub keda: Version,
    pub limits: Limits,
    pub calculation: Calculation,
    pub strategy: Strategy,
}

/// Which rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// No trigger could be read, so nothing is known and nothing is created.
    Blind,
    /// No trigger is active: no lag, or not more than the activation threshold.
    Inactive,
    /// Fewer run than the minimum: the minimum first, the lag at the next poll.
    Minimum,
    /// What runs covers what is wanted, by the strategy.
    Covered,
    /// `maxReplicaCount` cut it.
    Maximum,
    /// One job a partition, or a partition with lag, cut it.
    Partitions,
    /// The lag is just above partitions times threshold: one job more than partitions.
    OneTooMany,
    /// Rounded up to a divisor of the partitions.
    Even,
    /// Never more jobs than what waits.
    Queue,
    /// Lag divided by the threshold, rounded up.
    Threshold,
}

impl Rule {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Blind => "no trigger could be read",
            Self::Inactive => "no trigger is active",
            Self::Minimum => "the minimum comes first",
            Self::Covered => "running jobs cover it",
            Self::Maximum => "maxReplicaCount",
            Self::Partitions => "one job a partition",
            Self::OneTooMany => "one more than partitions (whole-number division)",
            Self::Even => "next divisor of the partitions",
            Self::Queue => "no more jobs than messages",
            Self::Threshold => "lag / threshold, rounded up",
        }
    }
}

/// What KEDA would do, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether a trigger, or a minimum, allows jobs at all.
    pub active: bool,
    /// What waits, as it counts.
    pub queue: i64,
    /// Jobs that it asks for, minimum not included.
    pub wanted: i64,
    /// Jobs to create by the strategy; may be negative.
    pub effective: i64,
    /// Jobs to create now.
    pub create: i64,
    pub rule: Rule,
}

impl ScaledJob {
    /// Decides one poll. `bound` is what cut the deciding trigger's number, as far as it has one.
    pub fn decide(&self, measured: &[Measured], bound: Bound, jobs: Jobs) -> Decision {
        let (min, max) = (self.limits.min_jobs(), self.limits.max_jobs());
        let demand = combine(self.calculation, measured, max);
        let active = demand.active || min > 0;
        let (effective, to) = if jobs.running < min {
            (min - jobs.running, min - jobs.running)
        } else {
            let basis = Basis {
                demand: demand.jobs,
                queue: demand.queue,
                running: jobs.running - min,
                pending: jobs.pending,
                max,
            };
            let e = self.strategy.effective(self.keda, basis);
            (e.jobs, e.to)
        };
        let create = if active && effective > 0 { to.min(effective).max(0) } else { 0 };
        let blind = measured.is_empty() && min == 0;
        Decision {
            active,
            queue: demand.queue,
            wanted: demand.jobs,
            effective,
            create,
            rule: if blind {
                Rule::Blind
            } else {
                rule(&demand, bound, active, jobs.running < min, effective, to)
            },
        }
    }
}

fn rule(demand: &Demand, bound: Bound, active: bool, below_min: bool, effective: i64, to: i64) -> Rule {
    match bound {
        _ if !active => Rule::Inactive,
        _ if below_min => Rule::Minimum,
        _ if demand.jobs == 0 => Rule::Inactive,
        _ if effective <= 0 => Rule::Covered,
        _ if demand.at_max => Rule::Maximum,
        _ if to < effective => Rule::Queue,
        Bound::Partitions | Bound::PartitionsWithLag => Rule::Partitions,
        Bound::OneTooMany => Rule::OneTooMany,
        Bound::Even => Rule::Even,
        Bound::None => Rule::Threshold,
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

    fn job(strategy: Strategy, keda: &str, max: i64) -> ScaledJob {
        ScaledJob {
            keda: keda.parse().unwrap(),
            limits: Limits { min: None, max: Some(max) },
            calculation: Calculation::Max,
            strategy,
        }
    }

    fn waiting(queue: f64) -> [Measured; 1] {
        [Measured {
            queue,
            target: 10.0,
            active: true,
        }]
    }

    #[test]
    fn eager_was_the_default_before_2_15() {
        let jobs = Jobs { running: 3, pending: 0 };
        let create = |keda| job(Strategy::Eager, keda, 10).decide(&waiting(40.0), Bound::None, jobs).create;
        assert_eq!((create("2.14.1"), create("2.15")), (1, 4));
    }

    #[test]
    fn accurate_near_the_maximum_ignored_pending_jobs_up_to_2_18() {
        let jobs = Jobs { running: 10, pending: 10 };
        let create = |keda| job(Strategy::Accurate, keda, 15).decide(&waiting(100.0), Bound::None, jobs).create;
        assert_eq!((create("2.18"), create("2.19")), (5, 0));
    }

    #[test]
    fn nothing_readable_creates_nothing_but_the_minimum() {
        let blind = job(Strategy::Default, "2.20.2", 5).decide(&[], Bound::None, Jobs::default());
        assert_eq!((blind.create, blind.rule), (0, Rule::Blind));
        let kept = ScaledJob {
            limits: Limits {
                min: Some(2),
                max: Some(5),
            },
            ..job(Strategy::Default, "2.20.2", 5)
        };
        assert_eq!(kept.decide(&[], Bound::None, Jobs::default()).create, 2);
    }

    #[test]
    fn the_rule_that_decided_is_named() {
        let d = |queue, max, running, bound| {
            job(Strategy::Default, "2.20.2", max)
                .decide(&waiting(queue), bound, Jobs { running, pending: 0 })
                .rule
        };
        assert_eq!(d(0.0, 5, 0, Bound::None), Rule::Inactive);
        assert_eq!(d(30.0, 5, 3, Bound::None), Rule::Covered);
        assert_eq!(d(60.0, 5, 0, Bound::None), Rule::Maximum);
        assert_eq!(d(30.0, 5, 0, Bound::Partitions), Rule::Partitions);
        assert_eq!(d(31.0, 5, 0, Bound::OneTooMany), Rule::OneTooMany);
        assert_eq!(d(25.0, 5, 0, Bound::None), Rule::Threshold);
    }
}
