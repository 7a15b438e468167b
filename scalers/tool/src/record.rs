//! `scalers record`: the offsets of a live cluster as a trace, for `scalers simulate --trace`.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bus::KafkaConfig;
use jiff::Timestamp;
use runtime::{Env, Reader};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::kafka::Group;
use crate::run::duration;

/// A trace does not grow beyond this.
const LIMIT: u64 = 1024 * 1024 * 1024;

/// What to record.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// The worker, whose topic and group have its name
    #[arg(value_name = "WORKER")]
    pub worker: String,
    /// Look this often
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub every: Duration,
    /// End after this; Ctrl-C ends it too
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub span: Duration,
    /// Where the trace goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Looks until told to stop, or the time is over. A look that fails is said, and left out.
///
/// # Errors
/// When the configuration is wrong, or the file cannot be written.
pub async fn record(args: &RecordArgs, env: &Env, stop: CancellationToken) -> anyhow::Result<u64> {
    let mut r = Reader::default();
    let kafka = KafkaConfig::read(env, &mut r);
    let group = Arc::new(Group::new(&r.finish(kafka)?, &args.worker, &args.worker)?);
    let cannot = || format!("{} cannot be written", args.out.display());
    let mut file = std::io::BufWriter::new(std::fs::File::create(&args.out).with_context(cannot)?);
    writeln!(file, "time,partition,committed,latest").with_context(cannot)?;
    let end = Instant::now() + args.span;
    let mut ticks = tokio::time::interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut looks, mut bytes) = (0u64, 0u64);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(end) => break,
            _ = ticks.tick() => {}
        }
        let looking = Arc::clone(&group);
        let partitions = match tokio::task::spawn_blocking(move || looking.partitions()).await? {
            Ok(partitions) => partitions,
            Err(e) => {
                eprintln!("{}: this look is left out: {e:#}", args.worker);
                continue;
            }
        };
        let at = Timestamp::now();
        for (n, p) in partitions.iter().enumerate() {
            let committed = p.committed.map_or_else(String::new, |c| c.to_string());
            let line = format!("{at:.3},{n},{committed},{}\n", p.end.unwrap_or(0));
            bytes += line.len() as u64;
            file.write_all(line.as_bytes()).with_context(cannot)?;
        }
        file.flush().with_context(cannot)?;
        looks += 1;
        ensure!(
            bytes < LIMIT,
            "{} is as large as a trace may be; look less often",
            args.out.display()
        );
    }
    ensure!(looks > 0, "no look succeeded, so {} is empty", args.out.display());
    Ok(looks)
}
