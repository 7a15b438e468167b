//! One way to keep things: MongoDB is the truth, Redis a cache of it, Blob holds the bytes.

mod blob;
mod cache;
mod error;
mod lease;
mod ledger;
mod list;
mod mongo;
pub mod records;

pub use blob::{Blob, BlobBody, BlobConfig, BlobInfo, Blobs, Expected, PutOptions, StreamError};
pub use cache::{Cache, CacheConfig};
pub use error::StoreError;
pub use lease::{LEASE_SECONDS, Lease};
pub use ledger::RedisLedger;
pub use mongo::{Mongo, MongoConfig, is_duplicate_key};
