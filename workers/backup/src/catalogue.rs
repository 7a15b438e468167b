//! Which backups there are.

use messages::ClusterName;
use stores::{Blobs, StoreError};

use crate::Error;
use crate::manifest::{BACKUPS, Manifest};

/// Every backup of a cluster that has its manifest, oldest first.
///
/// # Errors
/// The store's, and [`Error::Manifest`] for one that cannot be read: a list with a hole is worse than none.
pub async fn list(blobs: &Blobs, cluster: &ClusterName) -> Result<Vec<Manifest>, Error> {
    let prefix = format!("v1/{cluster}/");
    let names = match blobs.names(BACKUPS, &prefix).await {
        Err(StoreError::NotFound(name)) => {
            let text = format!("the container {name} does not exist: backup --prepare creates it, or the storage account is another");
            return Err(Error::Restore(text));
        }
        other => other?,
    };
    let ids = names
        .iter()
        .filter_map(|name| name.strip_prefix(&prefix)?.strip_suffix("/manifest.json"));
    let mut manifests = Vec::new();
    for id in ids {
        // Between the list and now it may have gone.
        manifests.extend(Manifest::read(blobs, cluster, id).await?);
    }
    manifests.sort_by_key(|m| (m.slot, m.finished_at));
    Ok(manifests)
}

/// One backup.
///
/// # Errors
/// [`Error::Restore`] when there is none with this id.
pub async fn find(blobs: &Blobs, cluster: &ClusterName, backup_id: &str) -> Result<Manifest, Error> {
    let found = Manifest::read(blobs, cluster, backup_id).await?;
    found.ok_or_else(|| {
        Error::Restore(format!(
            "cluster {cluster} has no backup {backup_id}: backup list shows those there are"
        ))
    })
}
