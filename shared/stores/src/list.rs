//! What lies in a container.

use azure_storage_blobs::models::BlobContainerClientListBlobsOptions;
use futures::TryStreamExt as _;

use crate::StoreError;
use crate::blob::{Blobs, call, classify};

impl Blobs {
    /// The names of all blobs in a container that begin with `prefix`, in their order. The whole list is kept in
    /// memory: about 100 bytes a blob.
    ///
    /// # Errors
    /// The service's; [`StoreError::NotFound`] when there is no such container. Never a part of the list.
    pub async fn names(&self, container: &str, prefix: &str) -> Result<Vec<String>, StoreError> {
        let client = self.service.blob_container_client(&format!("{}{container}", self.prefix));
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            ..Default::default()
        };
        let mut pager = client.list_blobs(Some(options)).map_err(|e| classify(container, e))?;
        let mut names = Vec::new();
        while let Some(item) = call(container, pager.try_next()).await? {
            names.extend(item.name);
        }
        Ok(names)
    }
}
