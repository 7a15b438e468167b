//! What can go wrong with a request that is not the facts' fault, and what the loop does about it.

use bus::Failure;
use messages::{AssetKey, Hash32};
use stores::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("asset {0} has no record: was its database restored to before its dossier was closed?")]
    NoAsset(AssetKey),
    #[error("the dossier of asset {asset} was closed {known} times, the request is for closing {asked}")]
    NotClosed { asset: AssetKey, known: i64, asked: i64 },
    #[error("the dossier of asset {asset} is not what the request is for: its facts are {known}, asked for are {asked}")]
    OtherFacts { asset: AssetKey, known: Hash32, asked: Hash32 },
    #[error("valuation {id} exists with the report {known}, and the same inputs now give {made}: the model changed without its version")]
    ReportDiffers { id: String, known: Hash32, made: Hash32 },
    #[error("a record cannot be written: {0}")]
    Record(#[from] bson::error::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // Rights are mended by an operator; to dead-letter every request until then would help nobody.
            Error::Store(StoreError::Unavailable { .. } | StoreError::Refused { .. }) => Self::Unavailable(error.into()),
            Error::Store(StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Fault { .. })
            | Error::NoAsset(_)
            | Error::NotClosed { .. }
            | Error::OtherFacts { .. }
            | Error::ReportDiffers { .. }
            | Error::Record(_) => Self::Failed(error.into()),
        }
    }
}
