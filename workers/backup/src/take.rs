//! One backup, from the lock to the manifest.

use std::time::Duration;

use bson::doc;
use bus::Context;
use messages::{BackupRequested, Hash32};
use runtime::Secret;
use stores::{BlobInfo, Blobs, Mongo, PutOptions, StreamError};
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

use crate::archive::Summary;
use crate::dump::{Dump, Progress};
use crate::lock::locked;
use crate::manifest::{Archive, BACKUPS, Collection, Manifest, Oplog, Source, ToolVersion, archive_name};
use crate::tools::Tools;
use crate::{Config, Error};

/// Everything that a backup needs.
pub struct Taker {
    mongo: Mongo,
    uri: Secret,
    pub blobs: Blobs,
    tools: Tools,
    lease_seconds: u8,
    limit: Duration,
}

impl Taker {
    /// Makes the clients; connections are made when they are needed.
    ///
    /// # Errors
    /// When an address is malformed.
    pub async fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            mongo: Mongo::new(&config.mongo).await?,
            uri: config.mongo.uri.clone(),
            blobs: Blobs::new(&config.blob)?,
            tools: Tools {
                folder: config.tools.clone(),
            },
            lease_seconds: config.lease_seconds,
            limit: Duration::from_secs(config.max_seconds),
        })
    }

    /// Takes the backup, unless it is there: the same request gives the same manifest, however often it comes.
    ///
    /// # Errors
    /// Then there is no manifest, and at most an archive that nobody refers to.
    pub async fn take(&self, request: &BackupRequested, ctx: &Context, progress: Progress) -> Result<Manifest, Error> {
        let backup_id = request.backup_id();
        if let Some(manifest) = Manifest::read(&self.blobs, &request.cluster, &backup_id).await? {
            info!(backup_id, "the backup is there already");
            return Ok(manifest);
        }
        let work = async {
            // Between the first look and the lock somebody else may have finished it.
            if let Some(manifest) = Manifest::read(&self.blobs, &request.cluster, &backup_id).await? {
                return Ok(manifest);
            }
            tokio::select! {
                result = self.attempt(request, ctx, progress) => result,
                () = ctx.cancel.cancelled() => Err(Error::Cancelled),
            }
        };
        locked(&self.blobs, &request.cluster, self.lease_seconds, work).await
    }

    async fn attempt(&self, request: &BackupRequested, ctx: &Context, progress: Progress) -> Result<Manifest, Error> {
        let source = self.source().await?;
        let attempt = Uuid::now_v7().simple().to_string();
        let name = archive_name(request, &attempt);
        let started_at = ctx.now();
        info!(archive = name, "dump started");
        let (dump, summary) = Dump::start(&self.tools, &self.uri, self.limit, progress)?;
        let options = PutOptions {
            content_type: Some("application/zstd".to_owned()),
            ..Default::default()
        };
        let stored = match self.blobs.blob(BACKUPS, &name).put(dump.stream(), options).await {
            Ok(stored) => stored,
            Err(e) => return Err(self.why(e).await),
        };
        let stored = Stored {
            name,
            attempt,
            stored,
            summary,
        };
        let manifest = stored.manifest(request, source, started_at, ctx).await?.write(&self.blobs).await?;
        info!(
            backup_id = manifest.backup_id,
            archive.bytes = manifest.archive.size,
            raw.bytes = manifest.archive.raw_size,
            documents = manifest.documents,
            consistent_at.t = manifest.consistent_at.t,
            "backup completed"
        );
        Ok(manifest)
    }

    /// A tool that ended badly because the database is down is the database's unavailability.
    async fn why(&self, error: StreamError<Error>) -> Error {
        match error {
            StreamError::Source(ended @ Error::Ended { .. }) => {
                warn!(error = %ended, "nothing was committed");
                match self.source().await {
                    Err(down @ Error::Store(_)) => down,
                    Ok(_) | Err(_) => ended,
                }
            }
            StreamError::Source(e) => e,
            StreamError::Store(e) => e.into(),
            e @ StreamError::Mismatch { .. } => Error::Restore(e.to_string()),
        }
    }

    /// What the database is. Only a replica set has the oplog that makes a dump consistent.
    async fn source(&self) -> Result<Source, Error> {
        let admin = self.mongo.client().database("admin");
        let hello = self.mongo.call(async { admin.run_command(doc! { "hello": 1 }).await }).await?;
        let build = self.mongo.call(async { admin.run_command(doc! { "buildInfo": 1 }).await }).await?;
        let replica_set = hello.get_str("setName").map_err(|_| {
            Error::Source("MONGODB_URI is not a member of a replica set (a mongos and a single server have no oplog to be consistent by)")
        })?;
        Ok(Source {
            replica_set: replica_set.to_owned(),
            server_version: build.get_str("version").unwrap_or("unknown").to_owned(),
        })
    }
}

/// An archive that is stored whole.
struct Stored {
    name: String,
    attempt: String,
    stored: (BlobInfo, Hash32),
    summary: oneshot::Receiver<Summary>,
}

impl Stored {
    async fn manifest(
        self,
        request: &BackupRequested,
        source: Source,
        started_at: jiff::Timestamp,
        ctx: &Context,
    ) -> Result<Manifest, Error> {
        let summary = self
            .summary
            .await
            .map_err(|_| Error::Source("the archive ended without a summary"))?;
        let (info, sha256) = self.stored;
        let collections = summary
            .collections
            .into_iter()
            .map(|((db, name), documents)| Collection { db, name, documents });
        let collections: Vec<Collection> = collections.collect();
        Ok(Manifest {
            schema: Manifest::schema(),
            backup_id: request.backup_id(),
            cluster: request.cluster.clone(),
            slot: request.slot,
            requested_by: request.requested_by.clone(),
            attempt: self.attempt,
            started_at,
            finished_at: ctx.now(),
            consistent_at: summary.oplog_last,
            oplog: Oplog {
                first: summary.oplog_first,
                last: summary.oplog_last,
                entries: summary.oplog_entries,
            },
            source,
            tool: ToolVersion {
                mongodump: summary.tool_version,
                worker: env!("CARGO_PKG_VERSION").to_owned(),
            },
            archive: Archive {
                name: self.name,
                compression: "zstd".to_owned(),
                size: info.size,
                sha256,
                raw_size: summary.length,
            },
            documents: collections.iter().map(|c| c.documents).sum(),
            collections,
        })
    }
}
