//! How a job's process is started so that it does not outlive the scaler.
//!
//! The scaler starts itself once more, which asks the kernel to be told to stop when its parent dies and then becomes
//! the worker (`exec`): the process id stays the same, and no code runs between fork and exec.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand.
pub const BECOME: &str = "become";

#[derive(Debug, clap::Args)]
pub struct BecomeArgs {
    /// The scaler's process id
    #[arg(long)]
    parent: i32,
    /// What to become
    program: OsString,
}

/// Becomes the worker.
///
/// # Errors
/// When it cannot; on success this does not return.
pub fn become_worker(args: &BecomeArgs) -> anyhow::Result<std::convert::Infallible> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("the kernel does not take a death signal")?;
    // The scaler may have died before that.
    ensure!(getppid() == Pid::from_raw(args.parent), "the scaler is gone");
    let error = std::process::Command::new(&args.program).exec();
    Err(error).with_context(|| args.program.to_string_lossy().into_owned())
}
