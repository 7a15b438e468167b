//! What becomes of a message: the one place where an error is given its consequence.

use std::time::Duration;

use messages::Outgoing;

/// The events that a handled message leads to, in the order in which they are published.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Emit(pub Vec<Outgoing>);

impl Emit {
    /// Nothing to say.
    pub fn none() -> Self {
        Self(Vec::new())
    }
}

impl From<Outgoing> for Emit {
    fn from(event: Outgoing) -> Self {
        Self(vec![event])
    }
}

impl From<Vec<Outgoing>> for Emit {
    fn from(events: Vec<Outgoing>) -> Self {
        Self(events)
    }
}

/// Why a handler did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something we depend on is down: wait and try again in place, for as long as the process may live.
    #[error("a dependency is unavailable: {0:#}")]
    Unavailable(anyhow::Error),
    /// The input is wrong. The events say so to whoever sent it, and the message is done.
    #[error("rejected: {reason}")]
    Rejected { emit: Emit, reason: String },
    /// Unknown: tried a few times, then dead-lettered.
    #[error("failed: {0:#}")]
    Failed(anyhow::Error),
    /// The work is not wanted here any more; the message stays uncommitted and is no error.
    #[error("cancelled")]
    Cancelled,
}

/// What kind of failure sent a message to the dead letters; the header `dl-class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadClass {
    /// No CloudEvents envelope, an unknown type, or a value that is not what the type says.
    Decode,
    /// The handler failed until the attempts were used up.
    Handle,
    /// The handler panicked until the attempts were used up.
    Panic,
    /// The handler did not return in time until the attempts were used up.
    Timeout,
    /// No topic takes an event that the message leads to: it is too large.
    Emit,
    /// The process ended, more than once, while this message alone was in its hands.
    Poison,
}

impl DeadClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Handle => "handle",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Emit => "emit",
            Self::Poison => "poison",
        }
    }
}

/// Why a message is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    pub class: DeadClass,
    pub error: String,
    pub attempts: u32,
}

/// What the loop does with a message after an attempt at it.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    /// Its events are published, and the message is done with their acknowledgement.
    Done { emit: Emit, rejected: Option<String> },
    /// Try again in place after this long; the key waits, its neighbours do not.
    Retry { after: Duration, unavailable: bool, error: String },
    /// Write a dead letter.
    Bury(Burial),
    /// Leave it uncommitted.
    Leave,
}

/// How often, and how far apart, a message is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before a [`Failure::Failed`] is dead-lettered.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub base: Duration,
    /// No wait is longer than this.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// The wait before the attempt after `attempt` (from 0): exponential, ±20 % jitter by `random` in 0..1.
    pub(crate) fn wait(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.base.saturating_mul(2u32.saturating_pow(attempt.min(16)));
        doubled.min(self.cap).mul_f64(0.8 + 0.4 * random)
    }
}

/// Decides a message's fate. Every outcome of an attempt is matched: a new kind of failure does not compile until
/// somebody has chosen what it means. `attempt` counts from 0, and `failures` those attempts before it that failed.
pub(crate) fn decide(outcome: Attempted, attempt: u32, failures: u32, policy: &RetryPolicy, random: impl FnOnce() -> f64) -> Fate {
    match outcome {
        Attempted::Handled(Ok(emit)) => Fate::Done { emit, rejected: None },
        Attempted::Handled(Err(Failure::Rejected { emit, reason })) => Fate::Done {
            emit,
            rejected: Some(reason),
        },
        Attempted::Handled(Err(Failure::Unavailable(e))) => Fate::Retry {
            after: policy.wait(attempt, random()),
            unavailable: true,
            error: format!("{e:#}"),
        },
        Attempted::Handled(Err(Failure::Failed(e))) => again(DeadClass::Handle, format!("{e:#}"), failures, policy, random),
        Attempted::Handled(Err(Failure::Cancelled)) => Fate::Leave,
        Attempted::Panicked(text) => again(DeadClass::Panic, text, failures, policy, random),
        Attempted::TimedOut(bound) => {
            let text = format!("the handler did not return within {} s (STUCK_SECONDS)", bound.as_secs());
            again(DeadClass::Timeout, text, failures, policy, random)
        }
        // The topic may take it by then: somebody has raised its limit, or the handler leads to less.
        Attempted::TooLarge(text) => again(DeadClass::Emit, text, failures, policy, random),
        Attempted::Deadly(deaths) => Fate::Bury(Burial {
            class: DeadClass::Poison,
            error: format!("the process ended {deaths} times while this message alone was in its hands"),
            attempts: deaths,
        }),
        Attempted::Undecodable(text) => Fate::Bury(Burial {
            class: DeadClass::Decode,
            error: text,
            attempts: attempt + 1,
        }),
    }
}

/// How an attempt at a message ended.
#[derive(Debug)]
pub(crate) enum Attempted {
    Handled(Result<Emit, Failure>),
    Panicked(String),
    /// The handler was given up after this long.
    TimedOut(Duration),
    /// Handled, but what it leads to is too large for Kafka.
    TooLarge(String),
    Undecodable(String),
    /// Not begun: so often the process ended while this message alone was in its hands.
    Deadly(u32),
}

impl Attempted {
    /// The events that it led to, when it is handled.
    pub fn emit(&self) -> Option<&Emit> {
        match self {
            Self::Handled(Ok(emit) | Err(Failure::Rejected { emit, .. })) => Some(emit),
            _ => None,
        }
    }

    /// What kind of error it is, for whoever counts and traces; `None` when the message is handled.
    pub fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Handled(Ok(_)) => None,
            Self::Handled(Err(Failure::Unavailable(_))) => Some("unavailable"),
            Self::Handled(Err(Failure::Rejected { .. })) => Some("rejected"),
            Self::Handled(Err(Failure::Failed(_))) => Some("failed"),
            Self::Handled(Err(Failure::Cancelled)) => Some("cancelled"),
            Self::Panicked(_) => Some("panic"),
            Self::TimedOut(_) => Some("timeout"),
            Self::TooLarge(_) => Some("emit"),
            Self::Undecodable(_) => Some("decode"),
            Self::Deadly(_) => Some("poison"),
        }
    }
}

fn again(class: DeadClass, error: String, failures: u32, policy: &RetryPolicy, random: impl FnOnce() -> f64) -> Fate {
    if failures + 1 < policy.attempts {
        Fate::Retry {
            after: policy.wait(failures, random()),
            unavailable: false,
            error,
        }
    } else {
        Fate::Bury(Burial {
            class,
            error,
            attempts: failures + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(outcome: Attempted, attempt: u32) -> Fate {
        decide(outcome, attempt, attempt, &RetryPolicy::default(), || 0.5)
    }

    #[test]
    fn an_unavailable_dependency_is_waited_for_however_long_it_takes() {
        let down = || Attempted::Handled(Err(Failure::Unavailable(anyhow::anyhow!("down"))));
        for attempt in [0, 3, 1000, u32::MAX] {
            assert!(matches!(fate(down(), attempt), Fate::Retry { unavailable: true, after, .. } if after <= Duration::from_secs(6)));
        }
    }

    #[test]
    fn an_unknown_failure_is_tried_thrice_and_then_buried() {
        let failed = || Attempted::Handled(Err(Failure::Failed(anyhow::anyhow!("odd"))));
        assert!(matches!(fate(failed(), 0), Fate::Retry { unavailable: false, .. }));
        assert!(matches!(fate(failed(), 1), Fate::Retry { .. }));
        assert_eq!(
            fate(failed(), 2),
            Fate::Bury(Burial {
                class: DeadClass::Handle,
                error: "odd".to_owned(),
                attempts: 3
            })
        );
        assert!(matches!(
            fate(Attempted::Panicked("p".to_owned()), 2),
            Fate::Bury(Burial {
                class: DeadClass::Panic,
                ..
            })
        ));
    }

    #[test]
    fn what_takes_too_long_or_leads_to_something_too_large_is_a_failure_with_a_class_of_its_own() {
        let timeout = || Attempted::TimedOut(Duration::from_secs(900));
        assert!(matches!(fate(timeout(), 0), Fate::Retry { unavailable: false, .. }));
        let Fate::Bury(why) = fate(timeout(), 2) else {
            panic!("three times are enough")
        };
        assert_eq!((why.class, why.error.contains("900 s")), (DeadClass::Timeout, true));
        let Fate::Bury(why) = fate(Attempted::TooLarge("large".to_owned()), 2) else {
            panic!("three times are enough")
        };
        assert_eq!((why.class.as_str(), why.attempts), ("emit", 3));
    }

    #[test]
    fn attempts_that_found_something_unavailable_do_not_count_against_a_message() {
        let failed = Attempted::Handled(Err(Failure::Failed(anyhow::anyhow!("odd"))));
        let fate = decide(failed, 1000, 0, &RetryPolicy::default(), || 0.5);
        assert!(matches!(fate, Fate::Retry { unavailable: false, .. }), "{fate:?}");
    }

    #[test]
    fn what_cannot_be_read_is_buried_at_once_and_what_is_not_wanted_is_left() {
        assert!(matches!(
            fate(Attempted::Undecodable("x".to_owned()), 0),
            Fate::Bury(Burial {
                class: DeadClass::Decode,
                ..
            })
        ));
        assert_eq!(fate(Attempted::Handled(Err(Failure::Cancelled)), 9), Fate::Leave);
        let rejected = Attempted::Handled(Err(Failure::Rejected {
            emit: Emit::none(),
            reason: "r".to_owned(),
        }));
        assert!(matches!(fate(rejected, 0), Fate::Done { rejected: Some(_), .. }));
    }
}
