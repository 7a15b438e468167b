//! Jobs as processes: started, logged, told to stop, and never left behind.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc::UnboundedSender;

use crate::child::BECOME;

/// A job's log is cut at this many bytes.
const LOG_LIMIT: usize = 16 * 1024 * 1024;

/// A job that has not ended.
#[derive(Debug)]
pub struct Job {
    pub worker: String,
    pub name: String,
    pub pid: u32,
    pub log: PathBuf,
    pub started: Instant,
    /// It has said something: its program runs.
    begun: Arc<AtomicBool>,
    /// When it was told that its deadline has passed.
    pub overdue: Option<Instant>,
}

/// A job that has.
#[derive(Debug)]
pub struct Ended {
    pub name: String,
    pub status: std::io::Result<ExitStatus>,
}

/// Everything that is running. One at most per start, so its size is bounded by the workers' maxima.
pub struct Jobs {
    bin_dir: PathBuf,
    log_dir: PathBuf,
    grace_seconds: u64,
    running: BTreeMap<String, Job>,
    ended: UnboundedSender<Ended>,
    /// Makes names unique, also across runs: it begins with the time in milliseconds.
    next: u64,
}

impl Jobs {
    /// Makes the directory for logs.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(bin_dir: PathBuf, log_dir: PathBuf, grace: Duration, ended: UnboundedSender<Ended>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&log_dir).with_context(|| format!("{} cannot be made", log_dir.display()))?;
        Ok(Self {
            bin_dir,
            log_dir,
            grace_seconds: grace.as_secs(),
            running: BTreeMap::new(),
            ended,
            next: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
        })
    }

    /// How many of a worker's jobs have not ended.
    pub fn running(&self, worker: &str) -> usize {
        self.running.values().filter(|job| job.worker == worker).count()
    }

    /// How many of them have not begun: their program has not said anything yet.
    pub fn pending(&self, worker: &str) -> usize {
        let mine = self.running.values().filter(|job| job.worker == worker);
        mine.filter(|job| !job.begun.load(Ordering::Relaxed)).count()
    }

    /// Tells jobs that have run for longer than their deadline to end, and ends those that do not within the grace. The
    /// names of those that were told now.
    pub fn enforce(&mut self, worker: &str, deadline: Duration, grace: Duration) -> Vec<String> {
        let mut told = Vec::new();
        for job in self.running.values_mut().filter(|job| job.worker == worker) {
            let signal = match job.overdue {
                None if job.started.elapsed() >= deadline => {
                    job.overdue = Some(Instant::now());
                    told.push(job.name.clone());
                    Signal::TERM
                }
                Some(since) if since.elapsed() >= grace => Signal::KILL,
                _ => continue,
            };
            send(job.pid, signal);
        }
        told
    }

    /// How many jobs have not ended.
    pub fn total(&self) -> usize {
        self.running.len()
    }

    /// Starts a job. The process is in a group of its own, so that Ctrl-C at a terminal reaches the scaler alone, which
    /// passes it on once; a second signal would tell the worker to drop its work. It must be called on the main thread:
    /// the kernel tells the child to stop when the *thread* that made it ends.
    ///
    /// # Errors
    /// When the process or its log cannot be made.
    pub fn start(&mut self, worker: &str) -> anyhow::Result<&Job> {
        self.next += 1;
        let name = format!("{worker}-{}", self.next);
        let log = self.log_dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
        // By this name it is found even when its file was replaced by a newer build meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .arg(BECOME)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg(self.bin_dir.join(worker))
            .env_remove("METRICS_ADDR")
            .env("GRACE_SECONDS", self.grace_seconds.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{worker} cannot be started"))?;
        let pid = child.id().context("the process ended before it was known")?;
        let log_to = tokio::fs::File::from_std(file);
        let (stdout, stderr, ended) = (child.stdout.take(), child.stderr.take(), self.ended.clone());
        let job = name.clone();
        let begun = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&begun);
        tokio::spawn(async move {
            let logged = tokio::spawn(write_log(stdout, stderr, log_to, says));
            let status = child.wait().await;
            // What the job said last is in the pipe still; a grandchild that keeps it open is not waited for.
            let flushed = tokio::time::timeout(Duration::from_secs(1), logged).await;
            drop(flushed);
            let sent = ended.send(Ended { name: job, status });
            drop(sent);
        });
        let job = Job {
            worker: worker.to_owned(),
            name: name.clone(),
            pid,
            log,
            started: Instant::now(),
            begun,
            overdue: None,
        };
        Ok(self.running.entry(name).or_insert(job))
    }

    /// Takes a job off the list.
    pub fn end(&mut self, name: &str) -> Option<Job> {
        self.running.remove(name)
    }

    /// Sends every job a signal.
    pub fn signal(&self, signal: Signal) {
        for job in self.running.values() {
            send(job.pid, signal);
        }
    }

    /// Deletes a worker's oldest logs but for `keep`; those of running jobs stay.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn forget(&self, worker: &str, keep: usize) -> anyhow::Result<()> {
        let prefix = format!("{worker}-");
        let mut logs: Vec<(u64, PathBuf)> = std::fs::read_dir(&self.log_dir)
            .with_context(|| format!("{} cannot be read", self.log_dir.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|path| Some((number(&path, &prefix)?, path)))
            .filter(|(_, path)| !self.running.values().any(|job| job.log == *path))
            .collect();
        logs.sort();
        let old = logs.len().saturating_sub(keep);
        for (_, path) in logs.into_iter().take(old) {
            std::fs::remove_file(&path).with_context(|| format!("{} cannot be deleted", path.display()))?;
        }
        Ok(())
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && kill_process(pid, signal).is_err()
    {
        // It has just ended; the news of that is on its way.
    }
}

/// The number in a log's name.
fn number(path: &Path, prefix: &str) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(prefix)?.strip_suffix(".log")?.parse().ok()
}

/// How a process ended: its exit code, or the signal that ended it.
pub fn how(status: &std::io::Result<ExitStatus>) -> (Option<i32>, Option<i32>) {
    match status {
        Ok(status) => (status.code(), status.signal()),
        Err(_) => (None, None),
    }
}

/// Copies what a job says into its log, up to the limit; beyond it, it is read and dropped, so that the job goes on.
async fn write_log<O, E>(stdout: Option<O>, stderr: Option<E>, mut log: tokio::fs::File, begun: Arc<AtomicBool>) -> std::io::Result<()>
where
    O: AsyncRead + Unpin,
    E: AsyncRead + Unpin,
{
    let (mut out, mut err) = (stdout, stderr);
    let (mut from_out, mut from_err) = (vec![0; 8192], vec![0; 8192]);
    let mut left = LOG_LIMIT;
    loop {
        let bytes: &[u8] = tokio::select! {
            n = read(&mut out, &mut from_out), if out.is_some() => match n? {
                0 => { out = None; continue; }
                n => from_out.get(..n).unwrap_or_default(),
            },
            n = read(&mut err, &mut from_err), if err.is_some() => match n? {
                0 => { err = None; continue; }
                n => from_err.get(..n).unwrap_or_default(),
            },
            else => break,
        };
        begun.store(true, Ordering::Relaxed);
        let fits = bytes.len().min(left);
        log.write_all(bytes.get(..fits).unwrap_or_default()).await?;
        if fits < bytes.len() && left > 0 {
            log.write_all(b"\n(cut here: the log is too long)\n").await?;
        }
        left -= fits;
        log.flush().await?;
    }
    log.flush().await
}

async fn read<R: AsyncRead + Unpin>(source: &mut Option<R>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match source {
        Some(source) => source.read(buffer).await,
        None => Ok(0),
    }
}
