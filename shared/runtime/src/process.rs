//! From `main` to the exit status.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::telemetry::{self, Metrics, Traces};
use crate::{ConfigError, Env, Exit, Health, Reader, Tally, health, sys};

/// Who the process is.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// One word: the crate, the topic, the group and the image.
    pub name: &'static str,
    pub version: &'static str,
}

/// What every process has: its environment, its telemetry, its health, and the word to stop.
#[derive(Clone)]
pub struct Process {
    pub service: Service,
    pub env: Env,
    pub metrics: Metrics,
    pub traces: Traces,
    /// What has been done so far.
    pub tally: Tally,
    pub health: Health,
    /// Cancelled at the first SIGTERM or SIGINT: finish what is in flight, take nothing new.
    pub stop: CancellationToken,
    /// How long after `stop` the process may go on.
    pub grace: Duration,
    /// When `main` began.
    pub started: Instant,
    /// The line at the end has been written.
    ended: Arc<AtomicBool>,
}

/// The flags that every program of ours has.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CommonArgs {
    /// Print the configuration in force, secrets masked, and what is wrong with it; then end
    #[arg(long)]
    pub check_config: bool,
}

/// A configuration that is read from the environment.
pub trait FromEnv: Sized {
    /// Reads it, or tells `r` everything that is wrong and returns `None`.
    fn read(env: &Env, r: &mut Reader) -> Option<Self>;
}

impl Process {
    /// A process that exports nothing and follows no signals, as a test has it.
    ///
    /// # Errors
    /// When its metrics cannot be made, which only a broken build could cause.
    pub fn new(service: Service, env: Env) -> anyhow::Result<Self> {
        Ok(Self {
            service,
            env,
            metrics: Metrics::new(service.name, service.version)?,
            traces: Traces::default(),
            tally: Tally::default(),
            health: Health::default(),
            stop: CancellationToken::new(),
            grace: GRACE,
            started: Instant::now(),
            ended: Arc::default(),
        })
    }

    /// Reads the configuration and logs it once, secrets masked.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load<C: FromEnv>(&self) -> Result<C, ConfigError> {
        let (r, config) = self.read::<C>();
        let config = r.finish(config)?;
        info!(version = self.service.version, config = ?r.effective(), "process started");
        Ok(config)
    }

    /// Reads the settings of every process and those of this one, so that all are shown and all mistakes are told.
    fn read<C: FromEnv>(&self) -> (Reader, Option<C>) {
        let mut r = Reader::default();
        let common = Common::read(&self.env, &mut r);
        let own = C::read(&self.env, &mut r);
        (r, common.and(own))
    }

    /// Ends the process, with one line that says how it went.
    fn end(&self, exit: Exit) -> ! {
        if !self.ended.swap(true, Ordering::SeqCst) {
            // What a process without a loop would count is left out.
            let tally = (self.tally.loops.get() > 0).then_some(&self.tally);
            let count = |of: fn(&Tally) -> u64| tally.map(of);
            info!(
                exit.code = exit.code(),
                exit.reason = exit.name(),
                elapsed_ms = millis(self.started),
                cold_start_ms = count(|t| t.cold_start_us.get() / 1000),
                messages.received = count(|t| t.received.get()),
                messages.done = count(|t| t.done.get()),
                messages.rejected = count(|t| t.rejected.get()),
                messages.retried = count(|t| t.retried.get() + t.unavailable.get()),
                messages.dead = count(|t| t.dead.get()),
                events.published = count(|t| t.published.get()),
                commits = count(|t| t.commits.get()),
                rebalances = count(|t| t.assigned.get() + t.revoked.get() + t.lost.get()),
                "process ended"
            );
        }
        sys::exit_now(exit.code())
    }

    /// Prints the configuration in force as JSON, secrets masked.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn check_config<C: FromEnv>(&self) -> anyhow::Result<Exit> {
        let (r, config) = self.read::<C>();
        println!("{}", serde_json::to_string_pretty(r.effective())?);
        r.finish(config)?;
        Ok(Exit::Drained)
    }
}

/// The grace period unless `GRACE_SECONDS` says otherwise: Kubernetes gives 30 seconds.
const GRACE: Duration = Duration::from_secs(25);

#[derive(Deserialize)]
struct RawGrace {
    grace_seconds: Option<String>,
}

/// The settings that every process has.
struct Common {
    telemetry: telemetry::Config,
    grace: Duration,
}

impl FromEnv for Common {
    fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let telemetry = telemetry::Config::read(env, r);
        let grace = env.raw::<RawGrace>().grace_seconds;
        let grace = r.with_default::<u64>("GRACE_SECONDS", grace, &GRACE.as_secs().to_string());
        Some(Self {
            telemetry: telemetry?,
            grace: Duration::from_secs(grace?),
        })
    }
}

/// Is a process: reads the common settings, starts logs and metrics, follows signals, runs `main` and ends with
/// its outcome. A second signal, or the end of the grace period, ends the process at once with 75.
pub fn run<F, Fut>(service: Service, main: F) -> !
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<Exit>>,
{
    let started = Instant::now();
    let env = Env::of_process();
    let mut r = Reader::default();
    let common = Common::read(&env, &mut r);
    let Common { telemetry, grace } = match r.finish(common) {
        Ok(config) => config,
        Err(e) => end_before_start(service, &e.into()),
    };
    telemetry::start_logs(&telemetry);
    tls_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => end_before_start(service, &e.into()),
    };
    let telemetry_of_process = telemetry::start(&telemetry, service, runtime.handle());
    let process = match telemetry_of_process.and_then(|both| Ok((both, Process::new(service, env)?))) {
        Ok(((metrics, traces), process)) => Process {
            metrics,
            traces,
            grace,
            started,
            ..process
        },
        Err(e) => end_before_start(service, &e),
    };
    let exit = runtime.block_on(async {
        // Before anything is begun, so that whoever sees a line of ours can already tell us to stop.
        match signals() {
            Ok(signals) => drop(tokio::spawn(follow_signals(process.clone(), signals))),
            Err(e) => error!(error = format!("{e:#}"), "signals cannot be followed"),
        }
        if let Some(addr) = telemetry.metrics_addr {
            tokio::spawn(listen(addr, process.clone()));
        }
        let exit = match main(process.clone()).await {
            Ok(exit) => exit,
            Err(e) => {
                let exit = Exit::from_error(&e);
                error!(error = format!("{e:#}"), exit = exit.name(), "ended by an error");
                exit
            }
        };
        telemetry::flush(&telemetry, &process.metrics, &process.traces).await;
        exit
    });
    process.end(exit)
}

/// One TLS provider for the whole process. Two in the tree, with none chosen, would panic at the first connection.
pub fn tls_provider() {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        // Somebody, in a test binary another test, was faster: it is the same provider.
    }
}

fn end_before_start(service: Service, error: &anyhow::Error) -> ! {
    eprintln!("{}: {error:#}", service.name);
    sys::exit_now(Exit::from_error(error).code())
}

async fn listen(addr: std::net::SocketAddr, process: Process) {
    if let Err(e) = health::serve(addr, process.health, process.metrics).await {
        warn!(error = format!("{e:#}"), "no metrics listener, going on without");
    }
}

async fn follow_signals(process: Process, (mut term, mut int): (Signals, Signals)) {
    let grace = process.grace;
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    info!(grace_seconds = grace.as_secs(), "told to stop, finishing what is in flight");
    process.stop.cancel();
    tokio::select! {
        _ = term.recv() => warn!("told to stop a second time, ending at once"),
        _ = int.recv() => warn!("told to stop a second time, ending at once"),
        () = tokio::time::sleep(grace) => warn!("grace period is over, ending with work in flight"),
    }
    process.end(Exit::GraceExpired)
}

fn signals() -> anyhow::Result<(Signals, Signals)> {
    Ok((
        signal(SignalKind::terminate()).context("SIGTERM")?,
        signal(SignalKind::interrupt()).context("SIGINT")?,
    ))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
