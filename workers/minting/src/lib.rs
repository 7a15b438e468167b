//! Mints the token of a valued asset, exactly once.
//!
//! Safety is the contract's: a key is minted at most once, whatever is repeated, lost or replayed. This worker brings
//! each request to a final block: it writes a transaction ahead before it sends it, answers an unknown outcome by
//! sending the same bytes again, and speaks only of what is final.

pub mod commands;
pub mod config;
pub mod contract;
pub mod desk;
pub mod error;
mod fees;
mod follow;
mod handler;
mod keys;
pub mod ledger;
mod order;
mod plan;
pub mod prepare;
pub mod records;
mod refusal;
pub mod rpc;
mod section;
mod settle;
pub mod signers;

pub use config::Config;
pub use handler::Handler;
pub use keys::{mint_digest, mint_key};
