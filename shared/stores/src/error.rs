//! What can go wrong at a store, divided by what the caller does about it.

/// An error of MongoDB, Redis or Blob.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Down, slow or overloaded: the same call may succeed later.
    #[error("{what} is unavailable: {source:#}")]
    Unavailable { what: &'static str, source: anyhow::Error },
    /// Our credentials or rights do not suffice.
    #[error("{what} refuses us: {source:#}")]
    Refused { what: &'static str, source: anyhow::Error },
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Somebody else was faster, or the thing has changed since it was looked at.
    #[error("{0} exists already, or has changed")]
    Conflict(String),
    /// Anything else: a fault of ours, or of the data.
    #[error("{what}: {source:#}")]
    Fault { what: &'static str, source: anyhow::Error },
}

impl StoreError {
    /// Whether waiting may help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Refused { .. } | Self::NotFound(_) | Self::Conflict(_) | Self::Fault { .. } => false,
        }
    }
}
