//! What happens, for people as lines and for programs as JSON lines.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::table::{Row, Table};
use crate::simulate::Look;

/// When the file of events is as large as this it is put aside as `FILE.1`, over the one before.
const LIMIT: u64 = 32 * 1024 * 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What a look at the lag showed; told when it is not what it was at the last look.
    Poll {
        worker: String,
        lag: i64,
        active: bool,
        wanted: i64,
        running: usize,
    },
    /// Every look: what it saw and what was decided. For programs only; `scalers simulate --decisions` takes it again.
    Look(Look),
    /// A job's process: with attempt 1 the job is new, later ones follow failed processes of the same job.
    Started {
        worker: String,
        job: String,
        attempt: u32,
        pid: u32,
        lag: i64,
        log: PathBuf,
    },
    Ended {
        worker: String,
        job: String,
        pid: u32,
        /// `None` when a signal ended it.
        exit_code: Option<i32>,
        signal: Option<i32>,
        elapsed_ms: u64,
        /// As it is called from now on.
        log: PathBuf,
    },
    /// A job's process failed; the job goes on with another one, after a wait.
    Retrying {
        worker: String,
        job: String,
        /// Of its processes, those that count towards `backoffLimit`.
        failures: u32,
        limit: u32,
        wait_ms: u64,
    },
    /// A job has failed for good. While there is lag, another one will be created, as KEDA would.
    Failed {
        worker: String,
        job: String,
        reason: String,
        log: PathBuf,
    },
    /// A look failed; told once, until one succeeds.
    LookFailed { worker: String, error: String },
    /// A look succeeded after some that failed.
    LookSucceeded { worker: String },
    /// A job could not be started.
    StartFailed { worker: String, error: String },
    /// A job's log could not be given its name, or an old one not be deleted.
    LogFailed { worker: String, error: String },
    /// Jobs failed one after the other; the next waits.
    Waiting { worker: String, failures: u32, wait_ms: u64 },
    /// A job ran longer than its pod's `activeDeadlineSeconds`, and is told to end.
    Deadline { worker: String, job: String, seconds: u64 },
    /// The file has changed. What runs goes on; new jobs come by the new file.
    Reloaded { worker: String },
    /// The file has changed and is wrong: the one before stays in force. Told once a change.
    ReloadFailed { worker: String, error: String },
    /// Told to stop: nothing is started any more.
    Stopping { running: usize },
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where events go.
pub struct Events {
    sink: Sink,
    /// Where people look at a terminal.
    table: Option<Table>,
}

enum Sink {
    /// Lines for people on standard output.
    People,
    /// JSON lines on standard output, lines for people on standard error.
    StandardOutput,
    /// JSON lines in a file, lines for people on standard output.
    File { path: PathBuf, file: File, bytes: u64 },
}

impl Events {
    /// Opens the file of events, anew; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn to(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let sink = match path {
            None => Sink::People,
            Some(path) if path.as_os_str() == "-" => Sink::StandardOutput,
            Some(path) => Sink::File {
                file: open(&path)?,
                path,
                bytes: 0,
            },
        };
        let people = !matches!(sink, Sink::StandardOutput) && std::io::stdout().is_terminal();
        Ok(Self {
            sink,
            table: people.then(Table::default),
        })
    }

    /// Shows how all workers are doing, where somebody looks.
    pub fn show(&mut self, rows: impl FnOnce() -> Vec<Row>) {
        if let Some(table) = &mut self.table {
            table.show(rows());
        }
    }

    /// The table stays as it is; lines go below it.
    pub fn close(&mut self) {
        self.table = None;
    }

    /// Tells an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&mut self, event: &Event) -> anyhow::Result<()> {
        let at = Timestamp::now();
        // The table shows what a look changes.
        let shown = self.table.is_some() && matches!(event, Event::Poll { .. });
        if let Some(words) = words(event).filter(|_| !shown) {
            self.say(&format!("{} {words}", at.strftime("%H:%M:%S")));
        }
        let line = || serde_json::to_string(&Line { at, event }).map(|json| json + "\n");
        match &mut self.sink {
            Sink::People => {}
            Sink::StandardOutput => print!("{}", line()?),
            Sink::File { path, file, bytes } => {
                let line = line()?;
                if *bytes + line.len() as u64 > LIMIT {
                    let mut aside = path.clone().into_os_string();
                    aside.push(".1");
                    std::fs::rename(&*path, aside).with_context(|| format!("{} cannot be put aside", path.display()))?;
                    *file = open(path)?;
                    *bytes = 0;
                }
                file.write_all(line.as_bytes())
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                *bytes += line.len() as u64;
            }
        }
        Ok(())
    }

    /// A line for people.
    pub fn say(&mut self, line: &str) {
        if let Some(table) = &mut self.table {
            return table.say(line);
        }
        match self.sink {
            Sink::People | Sink::File { .. } => println!("{line}"),
            Sink::StandardOutput => eprintln!("{line}"),
        }
    }
}

fn open(path: &std::path::Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("{} cannot be written", path.display()))
}

/// For people; nothing for what is for programs only.
fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Look(_) => return None,
        Event::Poll {
            worker,
            lag,
            active: _,
            wanted,
            running,
        } => format!("{worker:<10} lag {lag}: {wanted} jobs wanted, {running} running"),
        Event::Started {
            worker,
            attempt: 1,
            pid,
            log,
            ..
        } => format!("{worker:<10} job started, process {pid}, log {}", log.display()),
        Event::Started {
            worker, job, attempt, pid, ..
        } => format!("{worker:<10} {job} tries again, process {pid}, its attempt {attempt}"),
        Event::Ended {
            worker,
            pid,
            exit_code,
            signal,
            elapsed_ms,
            ..
        } => {
            let how = match (exit_code, signal) {
                (Some(code), _) => format!("exit {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown status".to_owned(),
            };
            format!(
                "{worker:<10} job ended, process {pid}, {how}, after {:.1} s",
                *elapsed_ms as f64 / 1000.0
            )
        }
        Event::Retrying {
            worker,
            job,
            failures,
            limit,
            wait_ms,
        } => format!(
            "{worker:<10} {job} tries again in {:.1} s, {failures} of {limit} failures that it may have",
            *wait_ms as f64 / 1000.0
        ),
        Event::Failed { worker, job, reason, log } => format!("{worker:<10} {job} has failed: {reason}; log {}", log.display()),
        Event::LookFailed { worker, error } => format!("{worker:<10} the lag is not to be had, going on: {error}"),
        Event::LookSucceeded { worker } => format!("{worker:<10} the lag is to be had again"),
        Event::StartFailed { worker, error } => format!("{worker:<10} a job could not be started: {error}"),
        Event::LogFailed { worker, error } => format!("{worker:<10} the jobs' logs are not as they should be, going on: {error}"),
        Event::Waiting { worker, failures, wait_ms } => {
            format!(
                "{worker:<10} {failures} jobs failed in a row, the next waits {:.1} s",
                *wait_ms as f64 / 1000.0
            )
        }
        Event::Deadline { worker, job, seconds } => format!("{worker:<10} {job} has run for {seconds} s, its deadline, and is told to end"),
        Event::Reloaded { worker } => format!("{worker:<10} the file has changed; what runs goes on, new jobs come by the new one"),
        Event::ReloadFailed { worker, error } => {
            format!("{worker:<10} the file has changed and is wrong, the one before stays in force: {error}")
        }
        Event::Stopping { running } => format!("stopping, {running} jobs are told to end"),
    })
}
