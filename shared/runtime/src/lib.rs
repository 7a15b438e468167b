//! One way to be a process: environment, telemetry, signals, health, exit codes, and what outlives it.

mod env;
mod exit;
mod health;
mod ledger;
mod process;
mod secret;
mod sys;
mod tally;
pub mod telemetry;

pub use env::{ConfigError, Env, Reader};
pub use exit::Exit;
pub use health::{Health, Pulse, serve as serve_health};
pub use ledger::{Answer, Change, Entries, Ledger, LedgerDown};
pub use process::{CommonArgs, FromEnv, Process, Service, run, tls_provider};
pub use secret::Secret;
pub use tally::{Count, Tally};
