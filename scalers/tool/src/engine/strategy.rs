//! `scalingStrategy.strategy`: what running jobs are worth (`NewScalingStrategy` in `scale_jobs.go`).

use super::{Feature, Version};

/// The strategies, with the settings of `custom`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Strategy {
    /// Demand less running: right when workers commit after the work.
    #[default]
    Default,
    /// Demand less a constant and a share of the running.
    Custom { deduction: Option<i64>, percentage: Option<f64> },
    /// Demand less pending: right when workers commit before the work.
    Accurate,
    /// As many as fit beside running and pending.
    Eager,
}

/// What a strategy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective {
    /// Jobs to create by the strategy.
    pub jobs: i64,
    /// And never more than this.
    pub to: i64,
}

/// What a strategy goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    /// Jobs wanted.
    pub demand: i64,
    /// What waits.
    pub queue: i64,
    /// Jobs that run beside the minimum.
    pub running: i64,
    pub pending: i64,
    /// Jobs beside the minimum that there may be.
    pub max: i64,
}

impl Strategy {
    /// As it is written in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Custom { .. } => "custom",
            Self::Accurate => "accurate",
            Self::Eager => "eager",
        }
    }

    pub(super) fn effective(self, keda: Version, b: Basis) -> Effective {
        let by_demand = Effective {
            jobs: b.demand - b.running,
            to: b.queue,
        };
        match self {
            // A percentage that is missing or no number falls back without a word.
            Self::Default | Self::Custom { percentage: None, .. } => by_demand,
            Self::Custom {
                deduction,
                percentage: Some(share),
            } => {
                // Truncated toward zero.
                let running = (b.running as f64 * share) as i64;
                let jobs = b.demand.saturating_sub(deduction.unwrap_or(0)).saturating_sub(running).min(b.max);
                Effective { jobs, ..by_demand }
            }
            Self::Accurate => {
                let waiting = if keda.has(Feature::AccuratePending) { b.pending } else { 0 };
                let jobs = if b.demand + b.running - waiting > b.max {
                    b.max - b.running
                } else {
                    b.demand - b.pending
                };
                Effective { jobs, ..by_demand }
            }
            // The word was not known: the default was taken.
            Self::Eager if !keda.has(Feature::Eager) => by_demand,
            Self::Eager => Effective {
                jobs: (b.max - b.running - b.pending).min(b.demand),
                to: b.max,
            },
        }
    }
}
