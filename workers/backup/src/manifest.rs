//! What is known of a backup: written last, read by everybody, never changed.
//!
//! In the container `backups`: `v1/{cluster}/{backup_id}/{attempt}/archive.zst` and, once that is whole,
//! `v1/{cluster}/{backup_id}/manifest.json`. An archive without a manifest is a left-over of an attempt that failed.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use messages::{BackupCompleted, BackupRequested, ClusterName, ClusterTime, Hash32};
use serde::{Deserialize, Serialize};
use stores::{Blobs, PutOptions, StoreError, StreamError};

use crate::Error;

/// Where the archives and their manifests are.
pub const BACKUPS: &str = "backups";
/// Where the lock is; the dump never touches it, and a restore cannot bring an old one back.
pub const CONTROL: &str = "backup-control";
const SCHEMA: &str = "libertum.backup.manifest/v1";
/// Bytes of a manifest that are read: about 100,000 collections.
const LARGEST: usize = 16 * 1024 * 1024;

/// Readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: String,
    pub backup_id: String,
    pub cluster: ClusterName,
    pub slot: Timestamp,
    pub requested_by: String,
    /// Which of the attempts at this backup this is, as in the archive's name.
    pub attempt: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// A restore is equal to the source at this cluster time: that of the last oplog entry in the archive.
    pub consistent_at: ClusterTime,
    pub oplog: Oplog,
    pub source: Source,
    pub tool: ToolVersion,
    pub archive: Archive,
    pub collections: Vec<Collection>,
    /// The sum over the collections as they were read; the oplog, replayed, may add and take away.
    pub documents: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oplog {
    pub first: ClusterTime,
    pub last: ClusterTime,
    pub entries: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub replica_set: String,
    pub server_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolVersion {
    pub mongodump: String,
    pub worker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The blob's name in [`BACKUPS`].
    pub name: String,
    pub compression: String,
    /// Bytes, stored.
    pub size: u64,
    /// Of the stored bytes.
    pub sha256: Hash32,
    /// Bytes, as mongodump wrote them.
    pub raw_size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    pub db: String,
    pub name: String,
    pub documents: u64,
}

/// The manifest's name.
pub fn manifest_name(cluster: &ClusterName, backup_id: &str) -> String {
    format!("v1/{cluster}/{backup_id}/manifest.json")
}

/// The archive's name: of an attempt's own, so that no two ever write the same blob.
pub fn archive_name(request: &BackupRequested, attempt: &str) -> String {
    format!("v1/{}/{}/{attempt}/archive.zst", request.cluster, request.backup_id())
}

/// The lock of a cluster, in [`CONTROL`].
pub fn lock_name(cluster: &ClusterName) -> String {
    format!("{cluster}/lock")
}

impl Manifest {
    pub fn schema() -> String {
        SCHEMA.to_owned()
    }

    /// What the rest of the company is told: the same for the same manifest.
    pub fn completed(&self) -> BackupCompleted {
        BackupCompleted {
            backup_id: self.backup_id.clone(),
            cluster: self.cluster.clone(),
            slot: self.slot,
            manifest: manifest_name(&self.cluster, &self.backup_id),
            size: self.archive.size,
            sha256: self.archive.sha256,
            consistent_at: self.consistent_at,
            documents: self.documents,
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }

    /// Reads the manifest of a backup, when it has one.
    ///
    /// # Errors
    /// The store's, and [`Error::Manifest`] when it is not what we write.
    pub async fn read(blobs: &Blobs, cluster: &ClusterName, backup_id: &str) -> Result<Option<Self>, Error> {
        let name = manifest_name(cluster, backup_id);
        let mut body = match blobs.blob(BACKUPS, &name).get(None).await {
            Ok(body) => body,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut bytes = BytesMut::new();
        while let Some(part) = body.try_next().await? {
            bytes.extend_from_slice(&part);
            if bytes.len() > LARGEST {
                return Err(Error::Manifest {
                    name,
                    reason: format!("it has more than {LARGEST} bytes"),
                });
            }
        }
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(manifest) if manifest.schema == SCHEMA => Ok(Some(manifest)),
            Ok(manifest) => Err(Error::Manifest {
                name,
                reason: format!("its schema is {}, this version reads {SCHEMA}", manifest.schema),
            }),
            Err(e) => Err(Error::Manifest {
                name,
                reason: e.to_string(),
            }),
        }
    }

    /// Writes it, unless there is one already: with this the backup counts. Returns the one that counts.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub async fn write(self, blobs: &Blobs) -> Result<Self, Error> {
        let name = manifest_name(&self.cluster, &self.backup_id);
        let text = serde_json::to_vec_pretty(&self).map_err(|e| Error::Manifest {
            name: name.clone(),
            reason: e.to_string(),
        })?;
        let options = PutOptions {
            content_type: Some("application/json".to_owned()),
            ..Default::default()
        };
        let stream = futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(text))]);
        match blobs.blob(BACKUPS, &name).put(stream, options).await {
            Ok(_) => Ok(self),
            Err(StreamError::Store(StoreError::Conflict(_))) => {
                // Another attempt was faster, or this is our own repeat after a lost answer.
                let there = Self::read(blobs, &self.cluster, &self.backup_id).await?;
                there.ok_or(Error::Manifest {
                    name,
                    reason: "it was there and is not any more".to_owned(),
                })
            }
            Err(StreamError::Store(e)) => Err(e.into()),
            Err(StreamError::Source(never)) => match never {},
            Err(e @ StreamError::Mismatch { .. }) => Err(Error::Manifest {
                name,
                reason: e.to_string(),
            }),
        }
    }
}
