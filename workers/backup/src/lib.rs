//! Backs up the database: streams `mongodump --archive --oplog` to Blob, one backup at a time, and restores it.
//!
//! Whole or not at all: the archive is committed only after mongodump has ended with 0, the manifest is written last,
//! and what has no manifest is no backup.

pub mod archive;
pub mod catalogue;
pub mod commands;
mod config;
pub mod dump;
mod error;
mod handler;
mod lock;
pub mod manifest;
mod prepare;
pub mod restore;
pub mod take;
pub mod tools;

pub use config::{Config, WorkerConfig};
pub use error::Error;
pub use handler::Backup;
pub use prepare::prepare;
