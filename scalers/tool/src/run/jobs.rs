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
use tokio::process::Command;
use tokio::sync::mpsc::UnboundedSender;

use super::limits::PodLimits;
use super::logs::{forget, mark_failed, write_log};
use crate::child::BECOME;

/// A job that has not ended: its process runs, or waits for its next try.
#[derive(Debug)]
pub struct Job {
    pub worker: String,
    pub name: String,
    pub log: PathBuf,
    /// Its pod's, as it was when the job was created.
    pub limits: Arc<PodLimits>,
    /// The deadline counts from here, waits included.
    pub created: Instant,
    /// Processes that it has had.
    pub attempts: u32,
    /// Those of them that failed and count towards `backoffLimit`.
    pub failures: u32,
    pub state: State,
    /// When it was told that its deadline has passed.
    pub overdue: Option<Instant>,
}

#[derive(Debug)]
pub enum State {
    Runs(Process),
    Waits { until: Instant },
}

#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    pub started: Instant,
    /// It has said something: its program runs.
    begun: Arc<AtomicBool>,
}

impl Job {
    pub fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Runs(process) => Some(process),
            State::Waits { .. } => None,
        }
    }

    fn begun(&self) -> bool {
        self.process().is_some_and(|p| p.begun.load(Ordering::Relaxed))
    }
}

/// A job's process that has ended.
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

    /// How many of a worker's jobs have not ended, those that wait for their next try included.
    pub fn running(&self, worker: &str) -> usize {
        self.of(worker).count()
    }

    /// How many of them have not begun: no process of theirs runs that has said anything.
    pub fn pending(&self, worker: &str) -> usize {
        self.of(worker).filter(|job| !job.begun()).count()
    }

    /// How many of them wait for their next try.
    pub fn waiting(&self, worker: &str) -> usize {
        self.of(worker).filter(|job| job.process().is_none()).count()
    }

    fn of(&self, worker: &str) -> impl Iterator<Item = &Job> {
        self.running.values().filter(move |job| job.worker == worker)
    }

    /// Tells jobs that have run for longer than their deadline to end, and ends those that do not within the grace. Names
    /// and deadlines of those that were told now; of them, whose process does not run is over.
    pub fn enforce(&mut self, worker: &str) -> Vec<(String, Duration)> {
        let mut told = Vec::new();
        for job in self.running.values_mut().filter(|job| job.worker == worker) {
            let Some(deadline) = job.limits.deadline else { continue };
            let signal = match job.overdue {
                None if job.created.elapsed() >= deadline => {
                    job.overdue = Some(Instant::now());
                    told.push((job.name.clone(), deadline));
                    Signal::TERM
                }
                Some(since) if since.elapsed() >= job.limits.grace => Signal::KILL,
                _ => continue,
            };
            if let Some(process) = job.process() {
                send(process.pid, signal);
            }
        }
        told
    }

    /// How many jobs have not ended.
    pub fn total(&self) -> usize {
        self.running.len()
    }

    /// Starts a job.
    ///
    /// # Errors
    /// When the process or its log cannot be made.
    pub fn start(&mut self, worker: &str, limits: &Arc<PodLimits>) -> anyhow::Result<&Job> {
        self.next += 1;
        let name = format!("{worker}-{}", self.next);
        let log = self.log_dir.join(format!("{name}.log"));
        let process = self.spawn(worker, &name, &log, 1)?;
        let job = Job {
            worker: worker.to_owned(),
            name: name.clone(),
            log,
            limits: Arc::clone(limits),
            created: Instant::now(),
            attempts: 1,
            failures: 0,
            state: State::Runs(process),
            overdue: None,
        };
        Ok(self.running.entry(name).or_insert(job))
    }

    /// Starts a job's process once more; what it says goes on in the same log.
    ///
    /// # Errors
    /// When the process cannot be made; then the job waits as before.
    pub fn restart(&mut self, name: &str) -> anyhow::Result<&Job> {
        let job = self.running.get(name).context("there is no such job")?;
        let attempt = job.attempts.saturating_add(1);
        let process = self.spawn(&job.worker, name, &job.log, attempt)?;
        let job = self.running.get_mut(name).context("there is no such job")?;
        job.state = State::Runs(process);
        job.attempts = attempt;
        Ok(job)
    }

    /// Lets a job wait for its next try.
    pub fn retry(&mut self, name: &str, failures: u32, wait: Duration) {
        if let Some(job) = self.running.get_mut(name) {
            job.failures = failures;
            job.state = State::Waits {
                until: Instant::now() + wait,
            };
        }
    }

    /// The job that waits the shortest, and until when.
    pub fn next_try(&self) -> Option<(Instant, &str)> {
        let waiting = self.running.values().filter_map(|job| match job.state {
            State::Waits { until } => Some((until, job.name.as_str())),
            State::Runs(_) => None,
        });
        waiting.min()
    }

    /// The process is in a group of its own, so that Ctrl-C at a terminal reaches the scaler alone, which passes it on
    /// once; a second signal would tell the worker to drop its work. It must be called on the main thread: the kernel
    /// tells the child to stop when the *thread* that made it ends.
    fn spawn(&self, worker: &str, name: &str, log: &Path, attempt: u32) -> anyhow::Result<Process> {
        // Somebody may have taken it away since.
        let file = std::fs::create_dir_all(&self.log_dir).and_then(|()| std::fs::File::options().create(true).append(true).open(log));
        let file = file.with_context(|| format!("{} cannot be made", log.display()))?;
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
        let heading = (attempt > 1).then(|| format!("(attempt {attempt}, process {pid})\n"));
        let (stdout, stderr, ended) = (child.stdout.take(), child.stderr.take(), self.ended.clone());
        let job = name.to_owned();
        let begun = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&begun);
        tokio::spawn(async move {
            let logged = tokio::spawn(write_log(heading, (stdout, stderr), log_to, says));
            let status = child.wait().await;
            // What the job said last is in the pipe still; a grandchild that keeps it open is not waited for.
            let flushed = tokio::time::timeout(Duration::from_secs(1), logged).await;
            drop(flushed);
            let sent = ended.send(Ended { name: job, status });
            drop(sent);
        });
        Ok(Process {
            pid,
            started: Instant::now(),
            begun,
        })
    }

    pub fn get(&self, name: &str) -> Option<&Job> {
        self.running.get(name)
    }

    /// Takes a job off the list, and says whether its log has the name that it should: a failed one's says so. The job is
    /// over either way.
    pub fn end(&mut self, name: &str, failed: bool) -> Option<(Job, anyhow::Result<()>)> {
        let mut job = self.running.remove(name)?;
        let named = if failed { mark_failed(&mut job.log) } else { Ok(()) };
        Some((job, named))
    }

    /// Sends every process a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.values().filter_map(Job::process).for_each(|p| send(p.pid, signal));
    }

    /// Deletes the logs of a worker's ended jobs but for so many of those that succeeded and of those that failed.
    ///
    /// # Errors
    /// When the directory cannot be read, or a log not be deleted.
    pub fn forget(&self, worker: &str, keep: (usize, usize)) -> anyhow::Result<()> {
        forget(&self.log_dir, worker, keep, |path| self.running.values().any(|job| job.log == path))
    }

    /// Jobs that only wait for their next try are given up.
    pub fn give_up_waiting(&mut self) {
        self.running.retain(|_, job| job.process().is_some());
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && kill_process(pid, signal).is_err()
    {
        // It has just ended; the news of that is on its way.
    }
}

/// How a process ended: its exit code, or the signal that ended it.
pub fn how(status: &std::io::Result<ExitStatus>) -> (Option<i32>, Option<i32>) {
    match status {
        Ok(status) => (status.code(), status.signal()),
        Err(_) => (None, None),
    }
}
