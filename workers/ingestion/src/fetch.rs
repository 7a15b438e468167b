//! From the inbox to the content-addressed store: one pass over the bytes, in constant memory.
//!
//! The bytes are counted and hashed as they pass; what does not match what was announced is never committed. A
//! document that can be read is small enough to be kept in memory on the way, within a budget that all documents of
//! the process share.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use messages::{DocumentSubmitted, Hash32, Tenant};
use sha2::{Digest as _, Sha256};
use stores::{BlobBody, Blobs, PutOptions, StoreError, StreamError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::read::{MAX_CSV, Reading, Refusal, without_bytes};
use crate::sniff::{Detected, PREFIX, detect};

/// The container of the content-addressed documents.
pub const DOCUMENTS: &str = "documents";
/// KiB of document bytes that are held in memory at one time: two of the largest that are read.
const BUDGET: usize = 2 * (MAX_CSV as usize / 1024);

/// The content-addressed name of a document's bytes.
pub fn stored_name(tenant: &Tenant, sha256: &Hash32) -> String {
    let hash = sha256.to_string();
    let (ab, cd) = (hash.get(..2).unwrap_or_default(), hash.get(2..4).unwrap_or_default());
    format!("{tenant}/sha256/{ab}/{cd}/{hash}")
}

/// The bytes that may be held in memory, for the whole process.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

/// A document that is what was announced, and is stored.
pub struct Fetched {
    pub detected: Detected,
    pub stored: String,
    pub content: Content,
}

pub enum Content {
    /// The whole document, to be read; the permit is its share of the budget.
    Bytes(Vec<u8>, Option<OwnedSemaphorePermit>),
    /// What can be said without the bytes.
    Known(Reading),
}

/// How fetching ended.
pub enum Fetch {
    Done(Fetched),
    /// The bytes are not there, or are not what was announced: no retry will mend it.
    Rejected(Refusal),
}

/// The uploaded bytes, or why there are none.
pub enum Opened {
    Body(BlobBody),
    Rejected(Refusal),
}

/// Why a pass over the bytes was broken off.
enum Broken {
    Store(StoreError),
    /// More bytes came than were announced.
    TooLong,
}

/// Fetches a document's bytes from where they were uploaded to, verifies them, and stores them by their digest.
///
/// # Errors
/// A store's, when it is not about this document.
pub async fn fetch(blobs: &Blobs, budget: &Budget, tenant: &Tenant, document: &DocumentSubmitted) -> Result<Fetch, Error> {
    let body = match open(blobs, document).await? {
        Opened::Body(body) => body,
        Opened::Rejected(refusal) => return Ok(Fetch::Rejected(refusal)),
    };
    let stored = stored_name(tenant, &document.sha256);
    let target = blobs.blob(DOCUMENTS, &stored);
    let exists = match target.info().await {
        Ok(info) => info.size == document.size,
        Err(StoreError::NotFound(_)) => false,
        Err(e) => return Err(e.into()),
    };
    let mut pass = Pass::new(budget.clone(), document.size);
    let verified = if exists {
        verify(body, &mut pass, document).await
    } else {
        let options = PutOptions {
            expected: stores::Expected {
                sha256: Some(document.sha256),
                size: Some(document.size),
            },
            ..PutOptions::default()
        };
        match target.put(watched(body, &mut pass), options).await {
            // Somebody else has stored the same bytes meanwhile; ours were verified before that was found out.
            Ok(_) | Err(StreamError::Store(StoreError::Conflict(_))) => Ok(true),
            Err(StreamError::Mismatch { .. }) => Ok(false),
            Err(StreamError::Store(StoreError::NotFound(_))) => return Err(Error::NotPrepared),
            Err(StreamError::Store(e)) => return Err(e.into()),
            Err(StreamError::Source(broken)) => Err(broken),
        }
    };
    match verified {
        Ok(true) => Ok(Fetch::Done(pass.finish(stored))),
        Ok(false) | Err(Broken::TooLong) => Ok(Fetch::Rejected(not_as_announced())),
        Err(Broken::Store(StoreError::NotFound(_) | StoreError::Conflict(_))) => Ok(Fetch::Rejected(blob_missing())),
        Err(Broken::Store(e)) => Err(e.into()),
    }
}

/// Opens the uploaded bytes, of the version that was announced.
///
/// # Errors
/// A store's, when it is not about this document.
pub async fn open(blobs: &Blobs, document: &DocumentSubmitted) -> Result<Opened, StoreError> {
    let source = blobs.blob(&document.blob.container, &document.blob.name);
    match source.get(Some(&document.blob.etag)).await {
        Ok(body) => Ok(Opened::Body(body)),
        Err(StoreError::NotFound(_)) => Ok(Opened::Rejected(blob_missing())),
        // Of a blob that is not there the service may say, too, that it is not the wanted version.
        Err(StoreError::Conflict(_)) => match source.info().await {
            Ok(_) => Ok(Opened::Rejected(blob_changed())),
            Err(StoreError::NotFound(_)) => Ok(Opened::Rejected(blob_missing())),
            Err(e) => Err(e),
        },
        Err(e) => Err(e),
    }
}

/// The bytes are other ones than the event says.
pub fn not_as_announced() -> Refusal {
    let text = "the bytes that arrived are not the ones that were announced (size or SHA-256): send the document again";
    Refusal::new("digest-mismatch", text)
}

/// The bytes are not where they were.
pub fn blob_missing() -> Refusal {
    let text = "the uploaded bytes are not there any more: send the document again";
    Refusal::new("blob-missing", text)
}

fn blob_changed() -> Refusal {
    let text = "the uploaded bytes have changed since the document was submitted: send it again";
    Refusal::new("blob-changed", text)
}

/// Whether the bytes are the ones announced, when they need not be stored again.
async fn verify(body: BlobBody, pass: &mut Pass, document: &DocumentSubmitted) -> Result<bool, Broken> {
    let mut hasher = Sha256::new();
    let mut size = 0u64;
    let mut body = std::pin::pin!(watched(body, pass));
    while let Some(bytes) = body.try_next().await? {
        size += bytes.len() as u64;
        hasher.update(&bytes);
    }
    Ok(size == document.size && Hash32(hasher.finalize().into()) == document.sha256)
}

/// The same stream, seen by `pass`.
fn watched(body: BlobBody, pass: &mut Pass) -> impl futures::Stream<Item = Result<Bytes, Broken>> + Send {
    futures::stream::try_unfold((body, pass), |(mut body, pass)| async move {
        match body.next().await {
            Some(Ok(bytes)) => {
                pass.see(&bytes).await?;
                Ok(Some((bytes, (body, pass))))
            }
            Some(Err(e)) => Err(Broken::Store(e)),
            None => Ok(None),
        }
    })
}

/// What is remembered of a document as it passes.
struct Pass {
    budget: Budget,
    announced: u64,
    seen: u64,
    detected: Option<Detected>,
    /// The beginning, and the whole when it is to be read.
    kept: Vec<u8>,
    keeping: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pass {
    fn new(budget: Budget, announced: u64) -> Self {
        Self {
            budget,
            announced,
            seen: 0,
            detected: None,
            kept: Vec::new(),
            keeping: true,
            permit: None,
        }
    }

    async fn see(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.seen += bytes.len() as u64;
        if self.seen > self.announced {
            return Err(Broken::TooLong);
        }
        if !self.keeping {
            return Ok(());
        }
        self.kept.extend_from_slice(bytes);
        if self.detected.is_none() && self.kept.len() >= PREFIX {
            let detected = detect(self.kept.get(..PREFIX).unwrap_or_default(), false);
            if without_bytes(&detected, self.announced).is_some() {
                self.keeping = false;
                self.kept = Vec::new();
            } else {
                // At most the budget: without_bytes has answered for anything larger.
                let kib = u32::try_from(self.announced / 1024 + 1).unwrap_or(u32::MAX).min(BUDGET as u32);
                // The semaphore is never closed, so a permit always comes.
                self.permit = Arc::clone(&self.budget.0).acquire_many_owned(kib).await.ok();
            }
            self.detected = Some(detected);
        }
        Ok(())
    }

    fn finish(self, stored: String) -> Fetched {
        let detected = self.detected.unwrap_or_else(|| detect(&self.kept, true));
        let content = match without_bytes(&detected, self.announced) {
            Some(reading) => Content::Known(reading),
            None => Content::Bytes(self.kept, self.permit),
        };
        Fetched { detected, stored, content }
    }
}
