//! The scalers: what ops edit, read by the same rules that KEDA goes by.
//!
//! `engine` decides and `spec` reads, without I/O; `kafka` looks, `topics` prepares, `run` is KEDA's loop on one machine.

mod child;
mod cli;
pub mod engine;
pub mod kafka;
pub mod run;
pub mod spec;
pub mod topics;

pub use cli::{Cli, run as run_cli};
