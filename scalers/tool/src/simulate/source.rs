//! What arrives: generated, or taken from a trace.

use clap::ValueEnum;

use super::trace::Trace;

/// The shapes that can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// `--rate` all the time.
    Steady,
    /// `--messages` at `--at`, over `--over`.
    Burst,
    /// Between nothing and twice `--rate`, once a day.
    Diurnal,
    /// `--rate`, and `--poison-share` of it is tried again and again before it is given up.
    Poison,
    /// Nothing until `--at`, then `--rate`.
    FromZero,
}

/// A generated arrival, in messages and seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generated {
    pub shape: Shape,
    pub rate: f64,
    pub messages: f64,
    pub at: f64,
    pub over: f64,
}

const DAY: f64 = 86_400.0;

impl Generated {
    /// Messages that have arrived by a time.
    fn arrived(&self, t: f64) -> f64 {
        match self.shape {
            Shape::Steady | Shape::Poison => self.rate * t,
            Shape::Burst if t < self.at => 0.0,
            Shape::Burst if self.over <= 0.0 => self.messages,
            Shape::Burst => self.messages * ((t - self.at) / self.over).min(1.0),
            Shape::Diurnal => self.rate * (t - DAY / std::f64::consts::TAU * (std::f64::consts::TAU * t / DAY).sin()),
            Shape::FromZero => self.rate * (t - self.at).max(0.0),
        }
    }
}

/// Where messages come from.
#[derive(Debug, Clone)]
pub enum Source {
    Generated(Generated),
    Trace(Trace),
}

impl Source {
    /// Calls back with (partition, messages) for what arrives after `from` and not after `to`.
    pub fn between(&self, from: f64, to: f64, partitions: usize, mut arrive: impl FnMut(usize, u64)) {
        match self {
            Self::Generated(g) => {
                let (before, after) = (whole(g.arrived(from)), whole(g.arrived(to)));
                let new = after.saturating_sub(before);
                let each = new / partitions.max(1) as u64;
                let left = new % partitions.max(1) as u64;
                for n in 0..partitions as u64 {
                    // The next message goes on where the last one went.
                    let turn = (n + partitions as u64 - before % partitions as u64) % partitions as u64;
                    let count = each + u64::from(turn < left);
                    if count > 0 {
                        arrive(n as usize, count);
                    }
                }
            }
            Self::Trace(trace) => trace.between(from, to, arrive),
        }
    }

    /// When something arrives next after a time, as far as it comes at once.
    pub fn next_jump(&self, after: f64) -> Option<f64> {
        match self {
            Self::Generated(g) => (matches!(g.shape, Shape::Burst | Shape::FromZero) && g.at > after).then_some(g.at),
            Self::Trace(trace) => trace.next_after(after),
        }
    }

    /// When nothing arrives any more, if ever.
    pub fn end(&self) -> Option<f64> {
        match self {
            Self::Generated(g) => (g.shape == Shape::Burst).then_some(g.at + g.over),
            Self::Trace(trace) => trace.end(),
        }
    }
}

fn whole(messages: f64) -> u64 {
    messages.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(shape: Shape, until: f64) -> (u64, Vec<u64>) {
        let source = Source::Generated(Generated {
            shape,
            rate: 2.5,
            messages: 5000.0,
            at: 7.0,
            over: 0.0,
        });
        let mut each = vec![0; 12];
        let mut t = 0.0;
        while t < until {
            source.between(t, t + 0.7, 12, |p, n| each[p] += n);
            t += 0.7;
        }
        (each.iter().sum(), each)
    }

    #[test]
    fn every_message_arrives_once_and_partitions_share_evenly() {
        let (burst, each) = all(Shape::Burst, 70.0);
        assert_eq!(burst, 5000);
        assert!(each.iter().all(|n| (416..=417).contains(n)), "{each:?}");
        assert_eq!(all(Shape::Steady, 700.0).0, 1750);
        let (day, _) = all(Shape::Diurnal, DAY);
        assert!((215_990..=216_020).contains(&day), "{day}");
        assert_eq!(all(Shape::FromZero, 7.0).0, 0);
    }
}
