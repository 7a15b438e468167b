//! What the intake owns: the container that uploads come into.

use stores::{Blobs, StoreError};

use crate::upload::INBOX;

/// Creates it unless it exists.
///
/// # Errors
/// Blob storage's.
pub async fn prepare(blobs: &Blobs) -> Result<(), StoreError> {
    blobs.prepare_container(INBOX).await
}
