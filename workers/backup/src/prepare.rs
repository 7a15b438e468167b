//! What this worker owns: the containers `backups` and `backup-control`. Nothing in the database, which it dumps.

use stores::{Blobs, StoreError};

use crate::manifest::{BACKUPS, CONTROL};

/// Creates them. Idempotent.
///
/// # Errors
/// The store's.
pub async fn prepare(blobs: &Blobs) -> Result<(), StoreError> {
    blobs.prepare_container(BACKUPS).await?;
    blobs.prepare_container(CONTROL).await
}
