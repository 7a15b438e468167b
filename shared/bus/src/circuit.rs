//! What is begun while a dependency is away: nothing but a probe now and then.
//!
//! The messages wait where they are; none is dead-lettered, none loses its place, and the group's partitions stay.

use std::time::{Duration, Instant};

use crate::RetryPolicy;

/// So many answers in a row that something is unavailable, with none that is good in between, and it is believed.
const BELIEVED: u32 = 5;

/// Closed lets everything through. Open lets one message through at a time, further and further apart.
#[derive(Debug)]
pub(crate) struct Circuit {
    waits: RetryPolicy,
    /// Answers in a row that something is unavailable.
    in_a_row: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    probes: u32,
    probe_at: Instant,
}

impl Circuit {
    pub fn new(waits: RetryPolicy) -> Self {
        Self {
            waits,
            in_a_row: 0,
            open: None,
        }
    }

    /// How many messages may be in flight now, of `most`.
    pub fn limit(&self, now: Instant, most: usize) -> usize {
        match self.open {
            None => most,
            Some(open) if now >= open.probe_at => most.min(1),
            Some(_) => 0,
        }
    }

    /// A message answered that something is unavailable. `true` when that opens the circuit.
    pub fn unavailable(&mut self, now: Instant, random: f64) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        match &mut self.open {
            Some(open) => {
                // What was in flight when it opened answers early, and says nothing new.
                if now >= open.probe_at {
                    open.probes = open.probes.saturating_add(1);
                    open.probe_at = now + self.waits.wait(open.probes, random);
                }
                false
            }
            None if self.in_a_row >= BELIEVED => {
                self.open = Some(Open {
                    since: now,
                    probes: 0,
                    probe_at: now + self.waits.wait(0, random),
                });
                true
            }
            None => false,
        }
    }

    /// A message was done. How long the circuit had been open, when that closes it.
    pub fn done(&mut self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        self.in_a_row = 0;
        self.open.take().map(|open| now().saturating_duration_since(open.since))
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the next probe may begin.
    pub fn probe_at(&self) -> Option<Instant> {
        self.open.map(|open| open.probe_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(RetryPolicy::default())
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = circuit();
        for n in 1..=BELIEVED {
            assert_eq!(circuit.unavailable(now, 0.5), n == BELIEVED);
        }
        circuit
    }

    #[test]
    fn one_message_that_finds_nobody_home_stops_no_other() {
        let now = Instant::now();
        let mut circuit = circuit();
        for _ in 0..100 {
            assert!(!circuit.unavailable(now, 0.5));
            assert_eq!(circuit.done(|| now), None);
        }
        assert_eq!(circuit.limit(now, 64), 64);
    }

    #[test]
    fn open_it_lets_one_probe_through_at_a_time_and_closes_with_the_first_success() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.limit(now, 64), 0);
        let probe_at = circuit.probe_at().unwrap();
        assert_eq!(circuit.limit(probe_at, 64), 1);
        // Those that were in flight before do not put the probe off.
        assert!(!circuit.unavailable(now, 0.5));
        assert_eq!(circuit.probe_at(), Some(probe_at));
        assert!(!circuit.unavailable(probe_at, 0.5));
        assert!(circuit.probe_at().unwrap() > probe_at);
        let later = probe_at + Duration::from_secs(3);
        assert_eq!(circuit.done(|| later), Some(later - now));
        assert_eq!((circuit.limit(later, 64), circuit.is_open()), (64, false));
    }

    proptest! {
        /// However long it takes: probes come further and further apart, and never more than some seconds.
        #[test]
        fn it_neither_spins_nor_sleeps_for_ever(randoms in prop::collection::vec(0.0f64..1.0, 1..200)) {
            let mut now = Instant::now();
            let mut circuit = opened(now);
            for (n, random) in randoms.into_iter().enumerate() {
                let wait = circuit.probe_at().unwrap() - now;
                prop_assert!(wait >= Duration::from_millis(80) && wait <= Duration::from_secs(6), "{wait:?}");
                prop_assert!(n < 7 || wait >= Duration::from_secs(4), "{wait:?} after {n} probes");
                prop_assert_eq!(circuit.limit(now, 64), 0);
                now = circuit.probe_at().unwrap();
                circuit.unavailable(now, random);
            }
        }
    }
}
