//! What can go wrong with a backup, and what the loop does about it.

use std::path::PathBuf;

use bus::Failure;
use runtime::Exit;
use stores::StoreError;

use crate::archive::ArchiveError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another process is taking a backup of {0}: it holds the lease on the lock")]
    Held(String),
    #[error("the lease on the lock was lost, somebody else may hold it: this dump was ended")]
    LeaseLost,
    #[error("{} cannot be started: {source}; set MONGO_TOOLS_DIR, or put the MongoDB Database Tools on PATH", path.display())]
    Tool { path: PathBuf, source: std::io::Error },
    #[error("{tool} ended with {status}, nothing was committed: {said}")]
    Ended { tool: &'static str, status: String, said: String },
    #[error("mongodump wrote nothing for {0} s, it was ended")]
    Stalled(u64),
    #[error("the dump took longer than BACKUP_MAX_SECONDS={0}, it was ended")]
    TooLong(u64),
    #[error("what mongodump wrote is no whole archive: {0}")]
    Archive(#[from] ArchiveError),
    #[error("{0}")]
    Source(&'static str),
    #[error("a pipe to a tool: {0}")]
    Pipe(#[from] std::io::Error),
    #[error("the manifest {name} cannot be read: {reason}")]
    Manifest { name: String, reason: String },
    #[error("{0}")]
    Restore(String),
    #[error("cancelled")]
    Cancelled,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // Rights, a missing tool, a cluster without an oplog: mended by an operator; the request waits for it.
            Error::Store(StoreError::Unavailable { .. } | StoreError::Refused { .. })
            | Error::Held(_)
            | Error::LeaseLost
            | Error::Tool { .. }
            | Error::Stalled(_)
            | Error::Source(_) => Self::Unavailable(error.into()),
            Error::Store(StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. })
            | Error::Ended { .. }
            | Error::TooLong(_)
            | Error::Archive(_)
            | Error::Pipe(_)
            | Error::Manifest { .. }
            | Error::Restore(_) => Self::Failed(error.into()),
            Error::Cancelled => Self::Cancelled,
        }
    }
}

impl Error {
    /// How a command that ends with this error ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(StoreError::Unavailable { .. }) | Self::Held(_) | Self::LeaseLost | Self::Stalled(_) => Exit::Unavailable,
            Self::Store(StoreError::Refused { .. }) => Exit::NotAuthorised,
            Self::Tool { .. } | Self::Source(_) => Exit::Config,
            Self::Cancelled => Exit::GraceExpired,
            Self::Store(StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. })
            | Self::Ended { .. }
            | Self::TooLong(_)
            | Self::Archive(_)
            | Self::Pipe(_)
            | Self::Manifest { .. }
            | Self::Restore(_) => Exit::Internal,
        }
    }
}
