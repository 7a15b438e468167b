//! Why a process ended. The numbers follow sysexits.h where it has a word for it; the Jobs' `podFailurePolicy`
//! and the table in README give each its rule.

use crate::ConfigError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything there was to do is done and committed.
    Drained = 0,
    /// The configuration, or a name in it, is wrong; starting again will not help.
    Config = 64,
    /// Too many dead letters: a bad deployment, not bad messages.
    DeadLetterCap = 65,
    /// A dependency stayed away.
    Unavailable = 69,
    /// A fault of ours.
    Internal = 70,
    /// The work is done, but its commit or its dead letter was not acknowledged; repeating it is safe.
    NotAcknowledged = 74,
    /// Told to stop, and the work in flight did not finish in time.
    GraceExpired = 75,
    /// The broker or a store refuses our credentials or rights.
    NotAuthorised = 77,
    /// The broker does not speak the group protocol that was asked for.
    Protocol = 78,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 9] = [
        Self::Drained,
        Self::Config,
        Self::DeadLetterCap,
        Self::Unavailable,
        Self::Internal,
        Self::NotAcknowledged,
        Self::GraceExpired,
        Self::NotAuthorised,
        Self::Protocol,
    ];

    /// The process's exit status.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Its name in logs and in README's table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Config => "configuration",
            Self::DeadLetterCap => "dead-letter cap",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::NotAcknowledged => "not acknowledged",
            Self::GraceExpired => "grace expired",
            Self::NotAuthorised => "not authorised",
            Self::Protocol => "protocol",
        }
    }

    /// What an error that reached `main` means: a wrong configuration is 64, anything else is ours.
    pub fn from_error(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| {
                if cause.is::<ConfigError>() {
                    Some(Self::Config)
                } else {
                    cause.downcast_ref::<Ended>().map(|ended| ended.0)
                }
            })
            .unwrap_or(Self::Internal)
    }
}

/// An error that already knows how the process should end; `anyhow` carries it up to `main`.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.name())]
pub(crate) struct Ended(pub Exit);

impl Exit {
    /// Turns this end into an error, to be given a context and returned with `?`.
    pub fn error(self) -> anyhow::Error {
        Ended(self).into()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_remembers_how_to_end_below_any_context() {
        let error = Err::<(), _>(Exit::Unavailable.error())
            .context("mongodb")
            .context("start")
            .unwrap_err();
        assert_eq!(Exit::from_error(&error), Exit::Unavailable);
        assert_eq!(Exit::from_error(&anyhow::anyhow!("odd")), Exit::Internal);
    }
}
