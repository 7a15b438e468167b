//! From what several triggers measured to one demand (`pkg/scaling/scaledjob/metrics.go`).

use std::str::FromStr;

/// One trigger's number. A trigger that failed has none: KEDA leaves it out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What waits.
    pub queue: f64,
    /// How much of it one job is meant for.
    pub target: f64,
    pub active: bool,
}

/// `scalingStrategy.multipleScalersCalculation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calculation {
    /// The active trigger with the longest queue; queues are compared, not jobs.
    #[default]
    Max,
    /// The active trigger with the shortest; a queue of nothing is passed over by whatever comes later.
    Min,
    Avg,
    Sum,
}

impl FromStr for Calculation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            "min" => Ok(Self::Min),
            "avg" => Ok(Self::Avg),
            "sum" => Ok(Self::Sum),
            _ => Err("it must be max, min, avg or sum".to_owned()),
        }
    }
}

/// What all triggers together ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// What waits, rounded up.
    pub queue: i64,
    /// Jobs for it, rounded up, the maximum at most.
    pub jobs: i64,
    /// Whether any trigger lets jobs be created.
    pub active: bool,
    /// Whether the maximum cut it.
    pub at_max: bool,
}

/// Joins what triggers measured; `max` is the most jobs that there may be beside the minimum.
pub fn combine(calculation: Calculation, measured: &[Measured], max: i64) -> Demand {
    let cap = max as f64;
    let jobs_of = |m: &Measured| if m.target == 0.0 { 0.0 } else { (m.queue / m.target).min(cap) };
    let cut = measured.iter().any(|m| m.active && m.target > 0.0 && m.queue / m.target > cap);
    let (mut queue, mut jobs, mut active, mut taken) = (0.0f64, 0.0f64, false, 0u32);
    for m in measured.iter().filter(|m| m.active) {
        let take = match calculation {
            Calculation::Max => m.queue > queue,
            Calculation::Min => queue == 0.0 || m.queue < queue,
            Calculation::Avg | Calculation::Sum => {
                queue += m.queue;
                jobs += jobs_of(m);
                active = true;
                taken += 1;
                false
            }
        };
        if take {
            (queue, jobs, active) = (m.queue, jobs_of(m), true);
        }
    }
    if calculation == Calculation::Avg && taken > 0 {
        queue /= f64::from(taken);
        jobs /= f64::from(taken);
    }
    Demand {
        // Saturates where Go's conversion would wrap; no queue is that long.
        queue: queue.ceil() as i64,
        jobs: jobs.min(cap).ceil() as i64,
        active,
        at_max: cut || jobs > cap,
    }
}
