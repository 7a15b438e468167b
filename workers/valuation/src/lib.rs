//! Values an asset from its facts, reproducibly: the same fact sheet gives the same report, byte for byte.

pub mod appraise;
mod basis;
mod canonical;
pub mod command;
mod compose;
mod config;
mod decimal;
mod error;
mod handler;
mod income;
mod market;
mod parameters;
mod prepare;
mod reconcile;
pub mod report;
mod store;

pub use config::Config;
pub use error::Error;
pub use handler::Valuation;
pub use prepare::prepare;
