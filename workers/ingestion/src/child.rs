//! Reading in a child process, so that no document can harm the worker.
//!
//! A parser of PDF or of workbooks can be made to loop, to ask for all memory, to overflow its stack or to abort: none
//! of these can be caught inside a process. So the worker starts itself again as `ingestion read-child` for each
//! document: the bytes go in by standard input, the [`Reading`] comes back as JSON by standard output. The child bounds
//! itself before it takes the first byte (address space, processor time, files), the parent bounds the time on the
//! clock and the size of the answer. However the child ends, the document has an answer.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::error::Error;
use crate::read::{MAX_BYTES, Reading, Refusal, Seen, read, seen};
use crate::sniff::Detected;

/// Children at one time: each may fill its address space.
const CHILDREN: usize = 2;
/// Bytes of an answer. [`crate::read::MAX_COMPARABLES`] with their places stay far below.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// Bytes of the child's standard error that are looked at.
const MAX_STDERR: u64 = 8 * 1024;
/// Files that the child may have open: its three streams, and one for the standard library to look something up.
const FILES: u64 = 4;
/// Exit code of a child that was not called as it must be, or whose answer could not be written.
const MISUSED: u8 = 64;
/// Exit code of a child that was refused memory, and could say so.
const EXHAUSTED: u8 = 65;
/// Exit code of Rust's own for a panic.
const PANICKED: i32 = 101;
/// Linux' numbers of the signals that a limit is told by.
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// What one child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Bytes of address space
    #[arg(long, default_value_t = Limits::default().memory)]
    pub memory: u64,
    /// Seconds of processor time
    #[arg(long, default_value_t = Limits::default().processor)]
    pub processor: u64,
    /// Seconds on the clock, which the parent watches
    #[arg(long, default_value_t = Limits::default().clock)]
    pub clock: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1024 * 1024 * 1024,
            processor: 60,
            clock: 120,
        }
    }
}

/// Starts a child for each document that is read.
#[derive(Debug, Clone)]
pub struct Readers {
    program: PathBuf,
    limits: Limits,
    children: Arc<Semaphore>,
}

impl Default for Readers {
    /// Children of the program that runs, even when its file was replaced meanwhile.
    fn default() -> Self {
        Self::of("/proc/self/exe", Limits::default())
    }
}

/// How a child ended.
struct Ended {
    status: ExitStatus,
    answer: Vec<u8>,
    stderr: Vec<u8>,
}

impl Readers {
    /// Children of the program `ingestion` at this path.
    pub fn of(program: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            program: program.into(),
            limits,
            children: Arc::new(Semaphore::new(CHILDREN)),
        }
    }

    /// Reads a document in a child. A child that was killed, crashed or asked for too much is an answer too:
    /// [`Reading::Quarantined`]. Dropping the future kills the child.
    ///
    /// # Errors
    /// When no child can be started, or it does not understand us.
    pub async fn read(&self, detected: &Detected, bytes: &[u8]) -> Result<Reading, Error> {
        // The semaphore is never closed.
        let _one_of_few = self.children.acquire().await.ok();
        let clock = Duration::from_secs(self.limits.clock);
        let ended = match tokio::time::timeout(clock, self.run(detected, bytes, &[])).await {
            Ok(ended) => ended?,
            Err(_) => {
                let text = format!("reading took more than {} seconds and was stopped", self.limits.clock);
                return Ok(quarantined("limits-exceeded", &text));
            }
        };
        self.judge(&ended)
    }

    /// What stands in a document besides facts that we know, for people; nothing, when its reader does not survive it.
    ///
    /// # Errors
    /// When no child can be started, or it does not understand us.
    pub async fn seen(&self, detected: &Detected, bytes: &[u8]) -> Result<Seen, Error> {
        let _one_of_few = self.children.acquire().await.ok();
        let clock = Duration::from_secs(self.limits.clock);
        match tokio::time::timeout(clock, self.run(detected, bytes, &["--seen"])).await {
            Ok(Ok(ended)) if ended.status.success() => {
                serde_json::from_slice(&ended.answer).map_err(|e| Error::Reader(format!("the child's answer: {e}")))
            }
            Ok(Err(e)) => Err(e),
            Ok(Ok(_)) | Err(_) => Ok(Seen::default()),
        }
    }

    async fn run(&self, detected: &Detected, bytes: &[u8], flags: &[&str]) -> Result<Ended, Error> {
        let detected = serde_json::to_string(detected).map_err(|e| Error::Reader(e.to_string()))?;
        let mut child = Command::new(&self.program)
            .arg("read-child")
            .args(["--memory", &self.limits.memory.to_string()])
            .args(["--processor", &self.limits.processor.to_string()])
            .args(flags)
            .arg(detected)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::NoChild)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Reader("the child has no streams".to_owned()));
        };
        let feed = async move {
            // A child that ends before it has read everything says so by how it ends.
            if let Err(e) = stdin.write_all(bytes).await {
                tracing::debug!(error = %e, "the child stopped reading");
            }
        };
        let mut answer = Vec::new();
        let mut errors = Vec::new();
        // What is past the limit stays in the pipe; closing our end of it ends the child.
        let take_answer = async { stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await };
        let take_errors = async { stderr.take(MAX_STDERR).read_to_end(&mut errors).await };
        let ((), answered, failed) = tokio::join!(feed, take_answer, take_errors);
        answered.and(failed).map_err(Error::NoChild)?;
        let status = child.wait().await.map_err(Error::NoChild)?;
        Ok(Ended {
            status,
            answer,
            stderr: errors,
        })
    }

    /// What a child's end means for the document.
    fn judge(&self, ended: &Ended) -> Result<Reading, Error> {
        if ended.answer.len() as u64 > MAX_ANSWER {
            return Ok(quarantined(
                "limits-exceeded",
                "what was read from it is more than an answer may hold",
            ));
        }
        // Where memory cannot be refused politely, Rust says so on standard error and aborts.
        let memory =
            ended.status.code() == Some(i32::from(EXHAUSTED)) || String::from_utf8_lossy(&ended.stderr).contains("memory allocation of");
        let reading = match (ended.status.code(), ended.status.signal()) {
            (Some(0), _) => return serde_json::from_slice(&ended.answer).map_err(|e| Error::Reader(format!("the child's answer: {e}"))),
            (Some(PANICKED), _) => quarantined("reader-crashed", "the reader failed on it"),
            (Some(code), _) if code != i32::from(EXHAUSTED) => return Err(Error::Reader(format!("the child ended with {code}"))),
            (None, Some(SIGXCPU | SIGKILL)) => {
                let text = format!(
                    "reading took more than {} seconds of processor time, or was killed",
                    self.limits.processor
                );
                quarantined("limits-exceeded", &text)
            }
            (Some(_) | None, _) if memory => {
                let mib = self.limits.memory / (1024 * 1024);
                quarantined("limits-exceeded", &format!("reading takes more than {mib} MiB of memory"))
            }
            (Some(_) | None, _) => quarantined("reader-crashed", "the reader crashed on it"),
        };
        warn!(
            child.exit = ended.status.code(),
            child.signal = ended.status.signal(),
            child.out_of_memory = memory,
            "a document's reader did not survive it"
        );
        Ok(reading)
    }
}

/// A verdict for a person to review: a real document can look like an attack.
fn quarantined(code: &str, why: &str) -> Reading {
    let text = format!("{why}; the document is kept aside, nothing was taken from it: look at it before sending it again in another form");
    Reading::Quarantined(Refusal::new(code, text))
}

/// The child: limits itself, reads the document from standard input and answers on standard output.
pub fn main(limits: Limits, look: bool, detected: &str) -> ExitCode {
    // What a panic says may be the document's contents: only its place is told.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        eprintln!("the reader panicked at {place}");
    }));
    match limit(limits).and_then(|()| answer(look, detected)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ingestion read-child: {e:#}");
            let io = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ExitCode::from(if io == Some(std::io::ErrorKind::OutOfMemory) {
                EXHAUSTED
            } else {
                MISUSED
            })
        }
    }
}

fn limit(limits: Limits) -> anyhow::Result<()> {
    let table = [
        (Resource::As, limits.memory),
        (Resource::Cpu, limits.processor),
        (Resource::Nofile, FILES),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ];
    for (resource, most) in table {
        let both = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, both)?;
    }
    Ok(())
}

fn answer(look: bool, detected: &str) -> anyhow::Result<()> {
    let detected: Detected = serde_json::from_str(detected)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if look {
        serde_json::to_writer(&mut out, &seen(&detected, &bytes))?;
    } else {
        serde_json::to_writer(&mut out, &read(&detected, &bytes))?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32, answer: &[u8], stderr: &str) -> Ended {
        Ended {
            status: ExitStatus::from_raw(raw),
            answer: answer.to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        }
    }

    #[test]
    fn every_end_of_a_child_is_an_answer_or_an_error_of_ours() {
        let readers = Readers::default();
        let code = |e: &Ended| match readers.judge(e) {
            Ok(Reading::Quarantined(r)) => r.code,
            Ok(other) => format!("{other:?}"),
            Err(e) => format!("error: {e}"),
        };
        assert_eq!(code(&ended(9, b"", "")), "limits-exceeded");
        assert_eq!(code(&ended(24, b"", "")), "limits-exceeded");
        assert_eq!(
            code(&ended(6, b"", "memory allocation of 17179869184 bytes failed")),
            "limits-exceeded"
        );
        assert_eq!(code(&ended(6, b"", "thread 'main' has overflowed its stack")), "reader-crashed");
        assert_eq!(code(&ended(11, b"", "")), "reader-crashed");
        assert_eq!(code(&ended(101 << 8, b"", "")), "reader-crashed");
        assert_eq!(code(&ended(65 << 8, b"", "")), "limits-exceeded");
        // What is wrong with us is not the document's fault.
        assert!(code(&ended(64 << 8, b"", "")).starts_with("error"));
        assert!(code(&ended(0, b"not json", "")).starts_with("error"));
        let fine = serde_json::to_vec(&Reading::NotRead(Refusal::new("x", "y"))).unwrap();
        assert!(code(&ended(0, &fine, "")).starts_with("NotRead"));
    }
}
