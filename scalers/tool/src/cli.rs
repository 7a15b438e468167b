//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bus::KafkaConfig;
use clap::{Parser, Subcommand};
use rdkafka::error::KafkaError;
use runtime::{Env, Exit, Reader};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::check::{self, Level};
use crate::child::{BecomeArgs, become_worker};
use crate::engine::Version;
use crate::record::{self, RecordArgs};
use crate::run::{self, RunArgs};
use crate::simulate::plan::{self, PlanArgs};
use crate::simulate::{self, SimulateArgs};
use crate::topics::{self, Cluster, TopicSpec};

/// Prepares the topics of the pool, and runs its workers from zero on one machine
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the topics of topics.yaml, or compare the cluster with it
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// Say what KEDA accepts silently and ops regret; any finding ends with 1
    Check(CheckArgs),
    /// Replay a lag through KEDA's arithmetic: jobs, latency and cost before a file is applied
    Simulate(Box<SimulateArgs>),
    /// Find the cheapest settings that meet a latency, and print the change to the file
    Plan(Box<PlanArgs>),
    /// Write the offsets of a live cluster as a trace, to be replayed by simulate
    Record(RecordArgs),
    /// Start workers on lag by KEDA's rule for ScaledJobs, as processes, and let them end by themselves
    Run(RunArgs),
    #[command(name = crate::child::BECOME, hide = true)]
    Become(BecomeArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A folder of scaler files, or one file
    #[arg(value_name = "PATH", default_value = "scalers")]
    path: PathBuf,
    /// The KEDA that will read the files
    #[arg(long, value_name = "VERSION", default_value_t = Version::DEFAULT)]
    keda_version: Version,
    /// Findings as a JSON list
    #[arg(long)]
    json: bool,
    /// Print the rules instead of checking
    #[arg(long)]
    rules: bool,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Create what is missing, add partitions, set retention, and give every group its first offsets
    Apply(TopicsArgs),
    /// Say what differs; ends with 1 when something does
    Check(TopicsArgs),
}

#[derive(Debug, clap::Args)]
struct TopicsArgs {
    /// The file that says what there should be
    #[arg(long, value_name = "FILE", default_value = "scalers/topics.yaml")]
    file: PathBuf,
    /// Partitions of every topic that has more than one in the file; for tests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    partitions_override: Option<u16>,
}

impl TopicsArgs {
    fn read(&self) -> anyhow::Result<Vec<TopicSpec>> {
        let mut wanted = topics::read(&self.file).map_err(misconfigured)?;
        if let Some(n) = self.partitions_override {
            wanted.iter_mut().filter(|t| t.partitions > 1).for_each(|t| t.partitions = n);
        }
        Ok(wanted)
    }
}

/// Marks an error as one of the configuration.
pub(crate) fn misconfigured(error: anyhow::Error) -> anyhow::Error {
    Exit::Config.error().context(format!("{error:#}"))
}

/// Does what was asked and gives the exit status: 0, 1 when `check` found differences, else as the workers' table says.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Become(args) => become_worker(&args).map(|never| match never {}),
        Command::Check(args) => on_check(&args),
        Command::Simulate(args) => simulate::main(&args)
            .map_err(misconfigured)
            .map(|same| ExitCode::from(u8::from(!same))),
        Command::Plan(args) => plan::main(&args)
            .map_err(misconfigured)
            .map(|found| ExitCode::from(u8::from(!found))),
        Command::Record(args) => in_runtime(async {
            let env = Env::of_process();
            let (stop, _) = follow_signals()?;
            let looks = record::record(&args, &env, stop).await?;
            println!("{looks} looks in {}", args.out.display());
            Ok(ExitCode::SUCCESS)
        }),
        Command::Run(args) => in_runtime(async {
            let env = Env::of_process();
            let (stop, at_once) = follow_signals()?;
            tokio::select! {
                ended = run::run(args, &env, stop) => ended.map(|()| ExitCode::SUCCESS),
                // The kernel tells the jobs, once more, when this process is gone.
                () = at_once.cancelled() => Err(Exit::GraceExpired.error().context("told to stop a second time, ending at once")),
            }
        }),
        Command::Topics { command } => in_runtime(on_topics(command)),
    };
    match outcome {
        Ok(code) => code,
        Err(e) => {
            eprintln!("scalers: {e:#}");
            ExitCode::from(exit_of(&e).code())
        }
    }
}

/// What an error means: brokers that do not answer are away, the files and the environment are configuration.
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<KafkaError>()) {
        Exit::Unavailable
    } else {
        Exit::from_error(error)
    }
}

/// The main thread runs `main` itself, so that it is the one that starts processes.
fn in_runtime(main: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(main);
    // A look that is under way is not waited for.
    runtime.shutdown_background();
    outcome
}

fn on_check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.rules {
        for (id, reason, fix) in check::RULES {
            println!("{id}  {reason}\n     {fix}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let findings = check::check(&args.path, args.keda_version).map_err(misconfigured)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{finding}");
        }
        let errors = findings.iter().filter(|f| f.level == Level::Error).count();
        match findings.len() {
            0 => println!("{}: nothing found, by KEDA {}", args.path.display(), args.keda_version),
            all => println!(
                "{}: {errors} errors, {} warnings, by KEDA {}",
                args.path.display(),
                all - errors,
                args.keda_version
            ),
        }
    }
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

async fn on_topics(command: TopicsCommand) -> anyhow::Result<ExitCode> {
    let mut r = Reader::default();
    let kafka = KafkaConfig::read(&Env::of_process(), &mut r);
    let cluster = Cluster::new(&r.finish(kafka)?)?;
    match command {
        TopicsCommand::Apply(args) => {
            let wanted = args.read()?;
            let mut changes = 0;
            cluster
                .apply(&wanted, |line| {
                    changes += 1;
                    println!("{line}");
                })
                .await?;
            println!("{} topics are as {} says, {changes} changes", wanted.len(), args.file.display());
            Ok(ExitCode::SUCCESS)
        }
        TopicsCommand::Check(args) => {
            let wanted = args.read()?;
            let differences = cluster.check(&wanted).await?;
            for line in &differences {
                println!("{line}");
            }
            if differences.is_empty() {
                println!("{} topics are as {} says", wanted.len(), args.file.display());
                return Ok(ExitCode::SUCCESS);
            }
            println!("scalers topics apply --file {} changes what can be changed", args.file.display());
            Ok(ExitCode::from(1))
        }
    }
}

/// Two tokens: cancelled at the first SIGTERM or Ctrl-C, and at the second.
fn follow_signals() -> anyhow::Result<(CancellationToken, CancellationToken)> {
    let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be followed")?;
    let mut int = signal(SignalKind::interrupt()).context("SIGINT cannot be followed")?;
    let (stop, at_once) = (CancellationToken::new(), CancellationToken::new());
    let tokens = [stop.clone(), at_once.clone()];
    tokio::spawn(async move {
        for token in tokens {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            token.cancel();
        }
    });
    Ok((stop, at_once))
}
