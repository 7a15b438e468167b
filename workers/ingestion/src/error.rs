//! What can go wrong here, and what each means for the message.

use bus::Failure;
use stores::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content-addressed container is not there.
    #[error("the container `documents` does not exist: run `ingestion --prepare`")]
    NotPrepared,
    /// No process could be started to read a document, or it was lost.
    #[error("no process reads documents: {0}")]
    NoChild(std::io::Error),
    /// Malware cannot be looked for.
    #[error("{0}; nothing goes on unscanned: bring it back, or unset CLAMD_ADDR to go on without scanning")]
    Scanner(String),
    /// The process that reads documents does not understand us.
    #[error("the reader failed: {0}")]
    Reader(String),
    /// The dossier changed under our hands each time that we tried to close it.
    #[error("the dossier is being closed elsewhere too")]
    Contended,
    /// A value of ours could not be written.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // A refusal, or something not prepared, is mended from outside: the message must not be lost over it.
            Error::Store(StoreError::Unavailable { .. } | StoreError::Refused { .. })
            | Error::NotPrepared
            | Error::Scanner(_)
            | Error::NoChild(_)
            | Error::Contended => Self::Unavailable(error.into()),
            Error::Store(StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. })
            | Error::Reader(_)
            | Error::Unwritable(_) => Self::Failed(error.into()),
        }
    }
}
