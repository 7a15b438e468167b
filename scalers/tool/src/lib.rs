//! The scalers: what ops edit, read by the same rules that KEDA goes by.
//!
//! `engine` decides and `yaml` reads, without I/O; `check` judges files, `spec` takes them for the engine, `kafka` looks,
//! `topics` prepares, `run` is KEDA's loop on one machine, `simulate` the same without machine, broker or time.

pub mod check;
mod child;
mod cli;
pub mod engine;
pub mod kafka;
mod record;
pub mod run;
pub mod simulate;
pub mod spec;
pub mod topics;
pub mod yaml;

pub use cli::{Cli, run as run_cli};
