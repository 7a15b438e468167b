//! What the write routes have in their hands: Blob, Kafka, and Redis as a cache. There is no database here, and there
//! must not be: a write is accepted whether or not the database is up.

use std::sync::Arc;
use std::time::Duration;

use bus::Producer;
use futures::StreamExt as _;
use messages::{AssetKey, Outgoing};
use stores::{Blobs, Cache, PutOptions, StoreError, StreamError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::body::BodyRules;
use crate::config::{Config, Limits};
use crate::error::{Kind, Problem};
use crate::gate::Gate;
use crate::upload::INBOX;

/// Bytes of a command's JSON body.
const MAX_COMMAND: u64 = 64 * 1024;

/// Bytes that a form may have beside the document: the metadata, two parts' headers, what stands around them.
const FORM_AROUND: u64 = 256 * 1024;

/// The state of the write routes.
pub struct Door {
    pub gate: Arc<Gate>,
    pub blobs: Blobs,
    pub cache: Cache,
    pub producer: Producer,
    pub limits: Limits,
    uploads: Semaphore,
    cut: CancellationToken,
}

impl Door {
    /// `cut` is cancelled when there is no more time for bodies.
    pub fn new(config: &Config, gate: Arc<Gate>, blobs: Blobs, cache: Cache, producer: Producer, cut: CancellationToken) -> Self {
        Self {
            gate,
            blobs,
            cache,
            producer,
            limits: config.limits,
            uploads: Semaphore::new(config.limits.max_uploads),
            cut,
        }
    }

    /// A place for one upload and its memory.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.uploads.try_acquire().map_err(|_| {
            Problem::new(
                Kind::Overloaded,
                "All places for uploads are taken. Repeat the request a little later.",
            )
        })
    }

    /// How a document's body is read.
    pub fn document_rules(&self) -> BodyRules {
        self.rules(self.limits.max_document_bytes)
    }

    /// How a form with a document in it is read.
    pub fn form_rules(&self) -> BodyRules {
        self.rules(self.limits.max_document_bytes + FORM_AROUND)
    }

    /// How a command's body is read.
    pub fn command_rules(&self) -> BodyRules {
        self.rules(MAX_COMMAND)
    }

    fn rules(&self, max: u64) -> BodyRules {
        BodyRules {
            max,
            idle: self.limits.body_idle,
            cut: self.cut.clone(),
        }
    }

    /// Publishes events one after the other, each acknowledged before the next goes out.
    ///
    /// # Errors
    /// 503; what was sent may have arrived, and is sent again under the same id.
    pub async fn publish(&self, events: &[Outgoing]) -> Result<(), Problem> {
        for event in events {
            self.producer.send(event).await?;
        }
        Ok(())
    }

    /// Leaves a mark that this asset has been heard of, so that it can be read before any worker has run. It is a help
    /// to readers and no promise: without it the asset is unknown until a worker has written it.
    pub async fn mark(&self, asset: &AssetKey) {
        let nothing = futures::stream::empty::<Result<bytes::Bytes, std::convert::Infallible>>().boxed();
        let blob = self.blobs.blob(INBOX, &mark_name(asset));
        match tokio::time::timeout(MARK, blob.put(nothing, PutOptions::default())).await {
            Ok(Ok(_) | Err(StreamError::Store(StoreError::Conflict(_)))) => {}
            Ok(Err(e)) => warn!(error = %e, "an asset's mark cannot be left"),
            Err(_) => warn!("an asset's mark cannot be left in time"),
        }
    }
}

/// How long a mark may take; the answer waits for it.
const MARK: Duration = Duration::from_secs(5);

/// The name of an asset's mark in the inbox.
pub fn mark_name(asset: &AssetKey) -> String {
    format!("{}/assets/{}", asset.tenant, asset.asset_id)
}
