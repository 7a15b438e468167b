//! A lock that the storage service keeps: one holder at a time, and it lapses by itself when its holder is gone.

use azure_storage_blobs::models::BlobClientAcquireLeaseOptions;
use uuid::Uuid;

use crate::StoreError;
use crate::blob::{Blob, PutOptions, StreamError, call};

/// The shortest and the longest lease that the service gives, in seconds
/// (<https://learn.microsoft.com/rest/api/storageservices/lease-blob>).
pub const LEASE_SECONDS: std::ops::RangeInclusive<u8> = 15..=60;

/// A lease on a blob. It ends when it is released, or `seconds` after it was last renewed.
pub struct Lease {
    blob: Blob,
    id: String,
}

impl Blob {
    /// Takes the lease on this blob, which is created, empty, when there is none. Another holder's lease is a
    /// [`StoreError::Conflict`]. Outside [`LEASE_SECONDS`] the service refuses.
    ///
    /// # Errors
    /// The service's.
    pub async fn lease(self, seconds: u8) -> Result<Lease, StoreError> {
        // Its own, never derived from what is locked for: the service lets the same id in again.
        let id = Uuid::now_v7().to_string();
        match self.acquire(seconds, &id).await {
            Err(StoreError::NotFound(_)) => {
                let empty = futures::stream::empty::<Result<bytes::Bytes, std::convert::Infallible>>();
                match self.put(empty, PutOptions::default()).await {
                    Ok(_) | Err(StreamError::Store(StoreError::Conflict(_))) => {}
                    Err(StreamError::Store(e)) => return Err(e),
                    Err(StreamError::Source(never)) => match never {},
                    Err(e @ StreamError::Mismatch { .. }) => {
                        return Err(StoreError::Fault {
                            what: "blob storage",
                            source: e.into(),
                        });
                    }
                }
                self.acquire(seconds, &id).await?;
            }
            other => other?,
        }
        Ok(Lease { blob: self, id })
    }

    /// With a proposed id, so that a repeat after a lost answer succeeds instead of locking ourselves out.
    async fn acquire(&self, seconds: u8, id: &str) -> Result<(), StoreError> {
        let options = BlobClientAcquireLeaseOptions {
            proposed_lease_id: Some(id.to_owned()),
            ..Default::default()
        };
        call(&self.place, async {
            self.client.acquire_lease(i32::from(seconds), Some(options)).await
        })
        .await
        .map(|_| ())
    }
}

impl Lease {
    /// Keeps the lease for as long again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has lapsed and somebody else has it.
    pub async fn renew(&self) -> Result<(), StoreError> {
        call(&self.blob.place, async {
            self.blob.client.renew_lease(self.id.clone(), None).await
        })
        .await
        .map(|_| ())
    }

    /// Lets the next holder in at once.
    ///
    /// # Errors
    /// The service's; the lease lapses by itself then.
    pub async fn release(self) -> Result<(), StoreError> {
        call(&self.blob.place, async {
            self.blob.client.release_lease(self.id.clone(), None).await
        })
        .await
        .map(|_| ())
    }
}
