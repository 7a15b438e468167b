//! Blob: streams in, streams out, constant memory; a blob appears whole or not at all.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use azure_core::http::{ClientOptions, Etag, RequestContent, RetryOptions, StatusCode, Url, XmlFormat};
use azure_storage_blobs::models::{
    BlobClientDownloadOptions, BlobClientGetPropertiesResultHeaders, BlockBlobClientCommitBlockListOptions,
    BlockBlobClientCommitBlockListResultHeaders, BlockLookupList,
};
use azure_storage_blobs::{BlobClient, BlobServiceClient, BlobServiceClientOptions};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use messages::Hash32;
use runtime::{Env, Reader, Secret};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::StoreError;

const WHAT: &str = "blob storage";
/// How long one request may take; a block of [`BLOCK`] bytes at 0.5 MB/s fits.
const CALL: Duration = Duration::from_secs(20);
/// Bytes a block. 50,000 blocks are the service's limit, so a blob may have 200 GB.
const BLOCK: usize = 4 * 1024 * 1024;
/// Blocks on their way at one time, so that reading and writing overlap.
const IN_FLIGHT: usize = 2;

/// Where Blob is and how to be let in: a SAS, else the workload's identity.
#[derive(Debug, Clone)]
pub struct BlobConfig {
    pub endpoint: Url,
    pub sas: Option<Secret>,
    /// Put before every container's name, so that several pools, or tests, share an account; usually empty.
    pub container_prefix: String,
}

#[derive(Deserialize)]
struct Raw {
    blob_endpoint: Option<String>,
    blob_sas: Option<String>,
    blob_container_prefix: Option<String>,
}

impl BlobConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let endpoint = r.required::<Url>("BLOB_ENDPOINT", raw.blob_endpoint);
        let sas = r.optional_secret("BLOB_SAS", raw.blob_sas);
        let container_prefix = Self::read_prefix(env, r);
        Some(Self {
            endpoint: endpoint?,
            sas,
            container_prefix: container_prefix?,
        })
    }

    /// The containers' prefix alone, for an account that is named by other variables.
    pub fn read_prefix(env: &Env, r: &mut Reader) -> Option<String> {
        let raw: Raw = env.raw();
        r.with_default("BLOB_CONTAINER_PREFIX", raw.blob_container_prefix, "")
    }
}

/// The storage account. Cloning it shares the connections.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) service: Arc<BlobServiceClient>,
    pub(crate) prefix: Arc<str>,
}

/// One blob by its place.
pub struct Blob {
    pub(crate) client: BlobClient,
    pub(crate) place: String,
}

/// What the service says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    pub etag: String,
    /// Bytes.
    pub size: u64,
    pub metadata: HashMap<String, String>,
}

/// How a blob is written.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    pub content_type: Option<String>,
    /// Names are identifiers, values ASCII; the digest and size are added as `sha256` and `size`.
    pub metadata: HashMap<String, String>,
    /// What the stream was said to be. When it is not, nothing is committed.
    pub expected: Expected,
}

/// What a stream was said to be before it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    pub sha256: Option<Hash32>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A blob's bytes as they arrive.
pub type BlobBody = futures::stream::BoxStream<'static, Result<Bytes, StoreError>>;

/// Why a stream could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    /// The stream itself failed; nothing was committed.
    #[error("the upload was not received whole")]
    Source(E),
    /// The stream ended whole but is not what was expected; nothing was committed.
    #[error("the upload has {size} bytes with SHA-256 {sha256}, which is not what was announced")]
    Mismatch { size: u64, sha256: Hash32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Blobs {
    /// Makes a client; connections are made when they are needed.
    ///
    /// # Errors
    /// When the endpoint cannot be used, or there is neither a SAS nor a workload identity.
    pub fn new(config: &BlobConfig) -> anyhow::Result<Self> {
        let mut url = config.endpoint.clone();
        let credential = match &config.sas {
            Some(sas) => {
                url.set_query(Some(sas.expose().trim_start_matches('?')));
                None
            }
            None => {
                let identity = azure_identity::WorkloadIdentityCredential::new(None);
                let identity: Arc<dyn azure_core::credentials::TokenCredential> =
                    identity.context("BLOB_SAS is not set, and there is no workload identity")?;
                Some(identity)
            }
        };
        // Calls are repeated where their meaning is known (the loop, the client), not in the transport.
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            ..Default::default()
        };
        let options = BlobServiceClientOptions {
            client_options,
            ..Default::default()
        };
        let service = BlobServiceClient::new(url, credential, Some(options)).context("BLOB_ENDPOINT cannot be used")?;
        Ok(Self {
            service: Arc::new(service),
            prefix: config.container_prefix.as_str().into(),
        })
    }

    pub fn blob(&self, container: &str, name: &str) -> Blob {
        Blob {
            client: self.service.blob_client(&format!("{}{container}", self.prefix), name),
            place: format!("{container}/{name}"),
        }
    }

    /// Creates a container unless it exists.
    ///
    /// # Errors
    /// The service's.
    pub async fn prepare_container(&self, container: &str) -> Result<(), StoreError> {
        let client = self.service.blob_container_client(&format!("{}{container}", self.prefix));
        match call(container, async { client.create(None).await }).await {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl Blob {
    /// Stores a stream, hashing it as it passes, and commits it as one blob unless there is one already.
    /// Memory: at most three blocks of 4 MiB. An empty stream is stored as an empty blob.
    ///
    /// # Errors
    /// [`StreamError::Source`] when the stream fails and [`StreamError::Mismatch`] when it is not what was expected,
    /// and nothing is committed then; [`StoreError::Conflict`] when the blob exists already.
    pub async fn put<S, E>(&self, stream: S, options: PutOptions) -> Result<(BlobInfo, Hash32), StreamError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
    {
        let block_blob = self.client.block_blob_client();
        let mut hasher = Sha256::new();
        let mut size = 0u64;
        let mut ids: Vec<Vec<u8>> = Vec::new();
        // Two uploads of one name stage their blocks side by side: without names of their own they would mix.
        let upload = Uuid::now_v7().simple();
        let mut blocks = std::pin::pin!(blocks(stream));
        let mut staging = futures::stream::FuturesUnordered::new();
        while let Some(block) = blocks.next().await {
            let block = block.map_err(StreamError::Source)?;
            hasher.update(&block);
            size += block.len() as u64;
            // Equal lengths and never empty, as the service demands.
            let id = format!("{upload}{:08}", ids.len()).into_bytes();
            ids.push(id.clone());
            if staging.len() >= IN_FLIGHT
                && let Some(done) = staging.next().await
            {
                let () = done?;
            }
            let (place, block_blob) = (&self.place, &block_blob);
            staging.push(async move {
                let length = block.len() as u64;
                call(place, async { block_blob.stage_block(&id, length, block.into(), None).await })
                    .await
                    .map(|_| ())
            });
        }
        while let Some(done) = staging.next().await {
            done?;
        }
        let sha256 = Hash32(hasher.finalize().into());
        let Expected {
            sha256: digest,
            size: length,
        } = options.expected;
        if digest.is_some_and(|d| d != sha256) || length.is_some_and(|l| l != size) {
            return Err(StreamError::Mismatch { size, sha256 });
        }
        let mut metadata = options.metadata;
        metadata.insert("sha256".to_owned(), sha256.to_string());
        metadata.insert("size".to_owned(), size.to_string());
        let etag = self.commit(ids, options.content_type, &metadata).await?;
        Ok((BlobInfo { etag, size, metadata }, sha256))
    }

    async fn commit(
        &self,
        ids: Vec<Vec<u8>>,
        content_type: Option<String>,
        metadata: &HashMap<String, String>,
    ) -> Result<String, StoreError> {
        let list = BlockLookupList {
            latest: Some(ids),
            ..Default::default()
        };
        let body: RequestContent<BlockLookupList, XmlFormat> = list.try_into().map_err(|e: azure_core::Error| StoreError::Fault {
            what: WHAT,
            source: e.into(),
        })?;
        let options = BlockBlobClientCommitBlockListOptions {
            blob_content_type: content_type,
            if_none_match: Some(Etag::from("*")),
            metadata: Some(metadata.clone()),
            ..Default::default()
        };
        let client = self.client.block_blob_client();
        let response = call(&self.place, async { client.commit_block_list(body, Some(options)).await }).await?;
        etag(response.etag())
    }

    /// What the service says of the blob.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn info(&self) -> Result<BlobInfo, StoreError> {
        let response = call(&self.place, async { self.client.get_properties(None).await }).await?;
        let fault = |e: azure_core::Error| StoreError::Fault {
            what: WHAT,
            source: e.into(),
        };
        let size = response.content_length().map_err(fault)?.unwrap_or_default();
        let metadata = response.metadata().map_err(fault)?;
        Ok(BlobInfo {
            etag: etag(response.etag())?,
            size,
            metadata,
        })
    }

    /// The blob's bytes, of the given version only when `if_match` is given.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, [`StoreError::Conflict`] when it is another version.
    pub async fn get(&self, if_match: Option<&str>) -> Result<BlobBody, StoreError> {
        let options = BlobClientDownloadOptions {
            if_match: if_match.map(Etag::from),
            ..Default::default()
        };
        let place = self.place.clone();
        let response = call(&place, async { self.client.download(Some(options)).await }).await?;
        let bytes = response.body.map_err(move |e| classify(&place, e));
        // A body that stalls is a store that is unavailable.
        Ok(Box::pin(stalling(bytes.boxed())))
    }

    /// Deletes the blob; one that is not there is deleted already.
    ///
    /// # Errors
    /// The service's.
    pub async fn delete(&self) -> Result<(), StoreError> {
        match call(&self.place, async { self.client.delete(None).await }).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn etag(value: azure_core::Result<Option<Etag>>) -> Result<String, StoreError> {
    let missing = || StoreError::Fault {
        what: WHAT,
        source: anyhow!("the service sent no ETag"),
    };
    Ok(value.ok().flatten().ok_or_else(missing)?.to_string())
}

/// Cuts a stream into blocks of [`BLOCK`] bytes, the last one shorter.
fn blocks<S, E>(stream: S) -> impl Stream<Item = Result<Bytes, E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    futures::stream::try_unfold((Box::pin(stream), Bytes::new()), |(mut stream, mut pending)| async move {
        // Of exactly one block's size: a buffer that grows would end up with twice that.
        let mut block = BytesMut::with_capacity(BLOCK);
        while block.len() < BLOCK {
            if pending.is_empty() {
                match stream.as_mut().try_next().await? {
                    Some(bytes) => pending = bytes,
                    None => break,
                }
            }
            let fits = pending.len().min(BLOCK - block.len());
            block.extend_from_slice(&pending.split_to(fits));
        }
        let full = !block.is_empty();
        Ok(full.then(|| (block.freeze(), (stream, pending))))
    })
}

fn stalling(stream: BlobBody) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    futures::stream::try_unfold(stream, |mut stream| async move {
        match tokio::time::timeout(CALL, stream.try_next()).await {
            Ok(next) => Ok(next?.map(|bytes| (bytes, stream))),
            Err(_) => Err(StoreError::Unavailable {
                what: WHAT,
                source: anyhow!("a download stalled for {} s", CALL.as_secs()),
            }),
        }
    })
}

pub(crate) async fn call<T>(place: &str, action: impl Future<Output = azure_core::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL, action).await {
        Ok(result) => result.map_err(|e| classify(place, e)),
        Err(_) => Err(StoreError::Unavailable {
            what: WHAT,
            source: anyhow!("no answer within {} s", CALL.as_secs()),
        }),
    }
}

pub(crate) fn classify(place: &str, error: azure_core::Error) -> StoreError {
    match error.http_status() {
        Some(StatusCode::NotFound) => StoreError::NotFound(place.to_owned()),
        Some(StatusCode::Conflict | StatusCode::PreconditionFailed) => StoreError::Conflict(place.to_owned()),
        Some(StatusCode::Unauthorized | StatusCode::Forbidden) => StoreError::Refused {
            what: WHAT,
            source: error.into(),
        },
        Some(s) if s.is_server_error() || s == StatusCode::TooManyRequests || s == StatusCode::RequestTimeout => StoreError::Unavailable {
            what: WHAT,
            source: error.into(),
        },
        Some(_) => StoreError::Fault {
            what: WHAT,
            source: error.into(),
        },
        // No status: the request did not get an answer.
        None => StoreError::Unavailable {
            what: WHAT,
            source: error.into(),
        },
    }
}
