//! One way to be a process: environment, telemetry, signals, health and exit codes.

mod env;
mod exit;
mod health;
mod process;
mod secret;
mod sys;
pub mod telemetry;

pub use env::{ConfigError, Env, Reader};
pub use exit::Exit;
pub use health::{Health, serve as serve_health};
pub use process::{CommonArgs, FromEnv, Process, Service, run};
pub use secret::Secret;
