//! Programs of the project as child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Corner;

/// How long a program that prepares something may take.
const PREPARE: Duration = Duration::from_secs(60);

/// A running program; killed with -9 when the value ends.
pub struct Program(Child);

impl Program {
    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// When the system refuses.
    #[allow(clippy::expect_used)]
    pub fn kill_dash_nine(&mut self) {
        self.0.kill().expect("a child of ours can be killed");
        self.0.wait().expect("a child of ours can be waited for");
    }

    /// Asks it to end, as `kill` does, and waits until it has.
    ///
    /// # Panics
    /// When the system refuses, or it does not end in time.
    #[allow(clippy::expect_used)]
    pub async fn end(&mut self, at_most: Duration) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("a child of ours can be signalled");
        until("the program ends when asked to", at_most, async || self.ended().is_some()).await;
        self.ended().expect("it has just ended")
    }

    /// Sends it a signal and does not wait.
    ///
    /// # Panics
    /// When the system refuses.
    #[allow(clippy::expect_used)]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("a child of ours can be signalled");
    }

    /// The most memory that it has had so far, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    #[allow(clippy::expect_used)]
    pub fn peak_memory(&self) -> usize {
        let peak = self.status("VmHWM:");
        let kib = peak.strip_suffix(" kB").and_then(|kib| kib.parse::<usize>().ok());
        kib.expect("a running process has memory") * 1024
    }

    /// Whether it would be told of this signal. One that has only just begun would be ended by it.
    ///
    /// # Panics
    /// When it has ended.
    #[allow(clippy::expect_used)]
    pub fn hears(&self, signal: Signal) -> bool {
        let caught = u64::from_str_radix(&self.status("SigCgt:"), 16).expect("a set of signals");
        caught & (1 << (signal.as_raw() - 1)) != 0
    }

    /// What the system says of it under this name.
    #[allow(clippy::expect_used)]
    fn status(&self, name: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.expect("a running process has every field").trim().to_owned()
    }

    /// Its status, when it has ended.
    ///
    /// # Panics
    /// When the system does not tell.
    #[allow(clippy::expect_used)]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours can be asked")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill_dash_nine();
        }
    }
}

/// Where cargo put a binary of this build.
///
/// # Panics
/// When it is not built.
#[allow(clippy::expect_used)]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run scripts/test, or first: cargo build --workspace --bins --examples",
        path.display()
    );
    path
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Starts a program, or `examples/NAME`; what it says is appended to `NAME.log` in the folder.
///
/// # Panics
/// When it is not built or does not start.
#[allow(clippy::expect_used)]
pub fn spawn(corner: &Corner, name: &str, args: &[&str], folder: &Path) -> Program {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join(format!("{}.log", name.trim_start_matches("examples/"))))
        .expect("a log file");
    let errors = log.try_clone().expect("a second handle of the log");
    let child = Command::new(binary(name))
        .args(args)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .expect("a binary of ours starts");
    Program(child)
}

pub(crate) fn run(corner: &Corner, name: &str, args: &[&str]) -> String {
    output(corner, Command::new(binary(name)).args(args))
}

pub(crate) fn run_script(corner: &Corner, path: &str, args: &[&str]) -> String {
    output(corner, Command::new(repository(path)).args(args))
}

#[allow(clippy::expect_used)]
fn output(corner: &Corner, command: &mut Command) -> String {
    let begun = Instant::now();
    let output = command
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .output()
        .expect("a program of ours starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && begun.elapsed() < PREPARE,
        "{:?} {:?}: {}\n{out}\n{err}",
        command.get_program(),
        command.get_args().collect::<Vec<_>>(),
        output.status
    );
    // Logs and results share standard output: the result is the last line.
    out.trim().lines().last().unwrap_or_default().to_owned()
}

/// Waits for a condition.
///
/// # Panics
/// When it does not come about in time.
pub async fn until(what: &str, at_most: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within {} s", at_most.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
