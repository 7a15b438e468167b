//! Processes that are measured: started as this program once more, their words and their resources read.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// No child may take longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// How the line begins that a child says of itself.
const WORD: &str = "bench: ";

/// What a child says of itself, in nanoseconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Said {
    pub main_ns: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    pub messages: u64,
    /// The longest time between two messages.
    pub longest_gap_ns: u64,
    pub peak_kib: u64,
}

impl Said {
    /// Says it to the parent.
    pub fn say(&self) -> anyhow::Result<()> {
        println!("{WORD}{}", serde_json::to_string(self)?);
        Ok(())
    }

    pub fn peak_mib(&self) -> f64 {
        self.peak_kib as f64 / 1024.0
    }

    pub fn seconds(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }
}

/// A child that has ended.
pub struct Ended {
    pub said: Said,
    /// When it was about to be started, and when it was gone.
    pub started_ns: u64,
    pub gone_ns: u64,
    /// Its log.
    pub lines: Vec<String>,
}

pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    started_ns: u64,
    lines: Vec<String>,
}

/// Starts this program with other arguments.
pub fn start(args: &[&str], vars: &[(&str, String)]) -> anyhow::Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdout(Stdio::piped()).stdin(Stdio::null());
    command.env("LOG_FORMAT", "json").env("METRICS_ADDR", "127.0.0.1:0");
    for (name, value) in vars {
        command.env(name, value);
    }
    let started_ns = now_ns();
    let mut child = command.spawn().context("the program could not be started once more")?;
    let out = child.stdout.take().context("a child without output")?;
    Ok(Running {
        child,
        out: BufReader::new(out),
        started_ns,
        lines: Vec::new(),
    })
}

impl Running {
    /// Waits for a line that contains this, and the other not.
    pub fn wait_for(&mut self, what: &str, but: &str) -> anyhow::Result<()> {
        while !self.lines.last().is_some_and(|line| line.contains(what) && !line.contains(but)) {
            anyhow::ensure!(self.read_line()?, "the child ended without {what:?}: {:?}", self.lines);
        }
        Ok(())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn read_line(&mut self) -> anyhow::Result<bool> {
        let mut line = String::new();
        let some = self.out.read_line(&mut line)? > 0;
        if some {
            self.lines.push(line.trim_end().to_owned());
        }
        Ok(some)
    }

    /// Seconds of a processor that it has used so far.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, which may contain anything, stands in parentheses before the third field.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is not as it should be")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> anyhow::Result<f64> { Ok(fields.next().context("/proc/PID/stat is short")?.parse()?) };
        Ok((ticks()? + ticks()?) / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Tells it to stop, as Kubernetes would.
    pub fn stop(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits until it is gone.
    pub fn end(mut self) -> anyhow::Result<Ended> {
        let deadline = Instant::now() + DEADLINE;
        while self.read_line()? {
            if Instant::now() > deadline {
                self.child.kill()?;
                anyhow::bail!("a child took longer than {} s", DEADLINE.as_secs());
            }
        }
        let status = self.child.wait()?;
        let gone_ns = now_ns();
        anyhow::ensure!(status.success(), "a child ended with {status}: {:?}", self.lines);
        let said = self
            .lines
            .iter()
            .find_map(|line| line.strip_prefix(WORD))
            .context("a child said nothing")?;
        Ok(Ended {
            said: serde_json::from_str(said)?,
            started_ns: self.started_ns,
            gone_ns,
            lines: self.lines,
        })
    }
}

pub fn run(args: &[&str], vars: &[(&str, String)]) -> anyhow::Result<Ended> {
    start(args, vars)?.end()
}

/// Nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "two processes compare their clocks")]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The most memory that this process has had resident, by the kernel's count.
pub fn peak_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
