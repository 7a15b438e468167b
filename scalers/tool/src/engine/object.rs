//! A ScaledObject: KEDA moves between nothing and something, the HPA between one and the maximum.
//!
//! Times are seconds on the caller's clock.

use std::collections::VecDeque;

use super::{Feature, Version};

/// How far from the target the HPA leaves things as they are.
const TOLERANCE: f64 = 0.1;

/// A ScaledObject's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledObject {
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub idle: Option<i64>,
    pub cooldown: f64,
    pub initial_cooldown: f64,
    pub fallback: Option<Fallback>,
    pub hpa: Hpa,
}

/// `spec.fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    pub failure_threshold: u32,
    pub replicas: i64,
    pub behavior: FallbackBehavior,
}

/// `spec.fallback.behavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FallbackBehavior {
    #[default]
    Static,
    CurrentReplicas,
    CurrentReplicasIfHigher,
    CurrentReplicasIfLower,
}

impl Fallback {
    /// What a trigger counts as once it has failed more often in a row than the threshold.
    pub fn metric(&self, target: f64, current: i64) -> f64 {
        let replicas = match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => self.replicas.max(current),
            FallbackBehavior::CurrentReplicasIfLower => self.replicas.min(current),
        };
        target * replicas as f64
    }

    /// Whether it applies after so many failures in a row.
    pub fn applies(&self, failures: u32) -> bool {
        self.replicas != 0 && failures > self.failure_threshold
    }
}

/// What the triggers said at a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// One is active, a fallback counted.
    pub active: bool,
    /// One failed, and no fallback stands in for it.
    pub error: bool,
}

/// What KEDA remembers of a ScaledObject.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectState {
    pub replicas: i64,
    pub last_active: Option<f64>,
    pub created: f64,
}

impl ScaledObject {
    /// KEDA's own step at a poll (`RequestScale`): the new number of replicas, without the HPA's part.
    pub fn step(&self, now: f64, health: Health, state: &mut ObjectState) -> i64 {
        let current = state.replicas;
        let min = self.min.unwrap_or(0);
        let falls_asleep = health.error && self.fallback.is_some_and(|f| f.replicas == 0);
        if health.active {
            let asleep = current == 0 || self.idle.is_some_and(|idle| current <= idle && current < min);
            if asleep {
                state.replicas = min.max(1);
            }
            // Another trigger's failure keeps the time from being noted.
            if !health.error && (current > 0 || asleep) {
                state.last_active = Some(now);
            }
        } else if !health.error || falls_asleep {
            let floor = match self.idle {
                Some(idle) if current > idle => Some(idle),
                None if current > 0 && min == 0 => Some(0),
                _ => None,
            };
            if let Some(floor) = floor {
                if self.cooled(now, state) {
                    // At once, from however many.
                    state.replicas = floor;
                }
            } else if self.idle.is_none() && current < min {
                state.replicas = min;
            }
        }
        state.replicas
    }

    fn cooled(&self, now: f64, state: &ObjectState) -> bool {
        match state.last_active {
            Some(at) => at + self.cooldown < now,
            None => state.created + self.initial_cooldown <= now,
        }
    }

    /// The fewest and the most that the HPA sets.
    pub fn hpa_limits(&self) -> (i64, i64) {
        (self.min.unwrap_or(0).max(1), self.max.unwrap_or(100))
    }
}

/// The HPA's wish from one metric: nothing changes within the tolerance, else metric over target, rounded up.
pub fn hpa_step(metric: f64, target: f64, current: i64, tolerance: Option<f64>) -> i64 {
    let ratio = metric / (target * current as f64);
    if current > 0 && (1.0 - ratio).abs() <= tolerance.unwrap_or(TOLERANCE) {
        return current;
    }
    (metric / target).ceil() as i64
}

/// One direction of `horizontalPodAutoscalerConfig.behavior`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behavior {
    /// The window over which the most cautious wish counts, in seconds.
    pub stabilization: f64,
    /// The most of the current pods that one period may add or take, in percent.
    pub percent: Option<f64>,
    /// The same in pods; of both the larger change counts.
    pub pods: Option<i64>,
    pub period: f64,
    pub tolerance: Option<f64>,
}

impl Behavior {
    /// Kubernetes' default for more: at once, twice as many or four more each 15 s.
    pub const UP: Self = Self {
        stabilization: 0.0,
        percent: Some(100.0),
        pods: Some(4),
        period: 15.0,
        tolerance: None,
    };
    /// Kubernetes' default for fewer: after five minutes, all at once.
    pub const DOWN: Self = Self {
        stabilization: 300.0,
        percent: Some(100.0),
        pods: None,
        period: 15.0,
        tolerance: None,
    };

    fn most(&self, current: i64) -> i64 {
        let percent = self.percent.map(|p| (current as f64 * p / 100.0).ceil() as i64);
        percent.max(self.pods).unwrap_or(i64::MAX)
    }
}

/// The HPA over time: its wishes are held back by the windows, its steps by the policies.
#[derive(Debug, Clone, PartialEq)]
pub struct Hpa {
    pub up: Behavior,
    pub down: Behavior,
    wishes: VecDeque<(f64, i64)>,
    steps: VecDeque<(f64, i64)>,
}

impl Hpa {
    pub fn new(up: Behavior, down: Behavior) -> Self {
        Self {
            up,
            down,
            wishes: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    /// The number of replicas after a synchronisation. `wish` is the largest of [`hpa_step`] over the metrics.
    pub fn sync(&mut self, now: f64, wish: i64, current: i64, (min, max): (i64, i64)) -> i64 {
        let wish = wish.clamp(min, max);
        let keep = self.up.stabilization.max(self.down.stabilization);
        self.wishes.push_back((now, wish));
        while self.wishes.front().is_some_and(|(at, _)| *at < now - keep) {
            self.wishes.pop_front();
        }
        let within = |window: f64| self.wishes.iter().filter(move |(at, _)| *at >= now - window).map(|(_, w)| *w);
        let least_up = within(self.up.stabilization).min().unwrap_or(wish);
        let most_down = within(self.down.stabilization).max().unwrap_or(wish);
        let settled = if current < least_up { least_up } else { current.min(most_down) };
        let changed = |period: f64, up: bool| -> i64 {
            let recent = self.steps.iter().filter(|(at, step)| *at > now - period && (*step > 0) == up);
            recent.map(|(_, step)| step.abs()).sum()
        };
        let next = if settled > current {
            let before = changed(self.up.period, true);
            let start = current - before;
            settled.min(start.saturating_add(self.up.most(start)).max(current))
        } else {
            let before = changed(self.down.period, false);
            let start = current + before;
            settled.max(start.saturating_sub(self.down.most(start)).min(current))
        }
        .clamp(min, max);
        if next != current {
            self.steps.push_back((now, next - current));
        }
        while self
            .steps
            .front()
            .is_some_and(|(at, _)| *at < now - self.up.period.max(self.down.period))
        {
            self.steps.pop_front();
        }
        next
    }

    /// The tolerances of the two directions, as far as this KEDA passes them on.
    pub fn wish(&self, keda: Version, metric: f64, target: f64, current: i64) -> i64 {
        let own = |b: &Behavior| b.tolerance.filter(|_| keda.has(Feature::HpaTolerance));
        let up = metric > target * current as f64;
        hpa_step(metric, target, current, own(if up { &self.up } else { &self.down }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(min: Option<i64>, idle: Option<i64>, fallback: Option<Fallback>) -> ScaledObject {
        ScaledObject {
            min,
            max: None,
            idle,
            cooldown: 300.0,
            initial_cooldown: 0.0,
            fallback,
            hpa: Hpa::new(Behavior::UP, Behavior::DOWN),
        }
    }

    fn step(object: &ScaledObject, active: bool, error: bool, replicas: i64, idle_for: Option<f64>) -> i64 {
        let mut state = ObjectState {
            replicas,
            last_active: idle_for.map(|s| 1000.0 - s),
            created: 0.0,
        };
        object.step(1000.0, Health { active, error }, &mut state)
    }

    #[test]
    fn it_wakes_to_one_or_to_the_minimum() {
        assert_eq!(step(&object(None, None, None), true, false, 0, None), 1);
        assert_eq!(step(&object(Some(3), None, None), true, false, 0, None), 3);
        assert_eq!(step(&object(Some(5), Some(0), None), true, false, 0, None), 5);
    }

    #[test]
    fn it_sleeps_only_after_more_than_the_cooldown_and_then_from_any_number() {
        let plain = object(None, None, None);
        assert_eq!(step(&plain, false, false, 7, Some(300.0)), 7);
        assert_eq!(step(&plain, false, false, 7, Some(301.0)), 0);
        assert_eq!(step(&object(Some(5), Some(0), None), false, false, 10, None), 0);
        assert_eq!(step(&object(Some(5), None, None), false, false, 2, None), 5);
    }

    #[test]
    fn a_failing_trigger_changes_nothing_until_the_fallback_applies() {
        let none = object(None, None, None);
        assert_eq!(step(&none, false, true, 3, Some(9_000.0)), 3);
        let fallback = Fallback {
            failure_threshold: 3,
            replicas: 2,
            behavior: FallbackBehavior::Static,
        };
        assert!(!fallback.applies(3) && fallback.applies(4));
        // Past the threshold its number counts as activity, so it wakes from zero.
        assert_eq!(step(&object(None, None, Some(fallback)), true, false, 0, None), 1);
        assert_eq!(hpa_step(fallback.metric(10.0, 1), 10.0, 1, None), 2);
        // With 0 a failure is plain inactivity.
        let zero = Fallback { replicas: 0, ..fallback };
        assert!(!zero.applies(100));
        assert_eq!(step(&object(None, None, Some(zero)), false, true, 3, Some(301.0)), 0);
        assert_eq!(step(&object(None, None, Some(zero)), false, true, 3, Some(10.0)), 3);
    }

    #[test]
    fn the_fallback_goes_by_its_behavior() {
        let metric = |behavior, current| {
            Fallback {
                failure_threshold: 3,
                replicas: 10,
                behavior,
            }
            .metric(10.0, current)
        };
        assert_eq!(metric(FallbackBehavior::Static, 4), 100.0);
        assert_eq!(metric(FallbackBehavior::CurrentReplicas, 6), 60.0);
        assert_eq!(metric(FallbackBehavior::CurrentReplicasIfHigher, 4), 100.0);
        assert_eq!(metric(FallbackBehavior::CurrentReplicasIfHigher, 12), 120.0);
        assert_eq!(metric(FallbackBehavior::CurrentReplicasIfLower, 12), 100.0);
    }

    #[test]
    fn the_hpa_doubles_and_waits_five_minutes_before_it_takes_away() {
        let mut hpa = Hpa::new(Behavior::UP, Behavior::DOWN);
        let mut now = 0.0;
        let mut replicas = 1;
        let mut seen = Vec::new();
        for wish in [24, 24, 24, 24] {
            replicas = hpa.sync(now, wish, replicas, (1, 24));
            seen.push(replicas);
            now += 15.0;
        }
        assert_eq!(seen, [5, 10, 20, 24]);
        while now < 345.0 {
            assert_eq!(hpa.sync(now, 2, 24, (1, 24)), 24, "at {now} s");
            now += 15.0;
        }
        assert_eq!(hpa.sync(360.0, 2, 24, (1, 24)), 2);
    }

    #[test]
    fn a_tolerance_of_its_own_reaches_the_last_replica_from_2_18() {
        let up = Behavior {
            tolerance: Some(0.0),
            ..Behavior::UP
        };
        let hpa = Hpa::new(up, Behavior::DOWN);
        assert_eq!(hpa.wish("2.17".parse().unwrap(), 192_000.0, 3_000.0, 63), 63);
        assert_eq!(hpa.wish("2.18".parse().unwrap(), 192_000.0, 3_000.0, 63), 64);
    }
}
