//! `scalers plan`: the cheapest settings that meet a latency, found by simulating them all, and the change to the file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{LoadArgs, Source, Totals, World, time};
use crate::run::duration;
use crate::spec::{self, Kind, Scaler, Trigger};
use crate::yaml::Edit;

const POLLS: [u64; 5] = [60, 30, 15, 10, 5];
const THRESHOLDS: [i64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];

/// What to plan for; what arrives and how workers behave is told as for `simulate`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The scaler file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// 95 % of the messages are done within this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub goal: Duration,
    /// No more jobs than this at one time [default: the partitions]
    #[arg(long, value_name = "N")]
    pub quota: Option<i64>,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Clone)]
struct Candidate {
    poll: u64,
    threshold: i64,
    max: i64,
    totals: Totals,
}

impl Candidate {
    fn latency(&self) -> f64 {
        self.totals.latency_p95_seconds.unwrap_or(0.0)
    }

    /// Node minutes when nodes matter, else job minutes.
    fn minutes(&self) -> f64 {
        if self.totals.node_minutes > 0.0 {
            self.totals.node_minutes
        } else {
            self.totals.pod_minutes
        }
    }
}

/// Searches, says what it found and why, and prints the change. False when nothing meets the goal.
///
/// # Errors
/// When the file cannot be read, simulated or changed safely.
pub fn main(args: &PlanArgs) -> anyhow::Result<bool> {
    let (s, file) = (&args.load, &args.file);
    let scaler = spec::read(file, s.keda_version)?;
    ensure!(scaler.job().is_some(), "only ScaledJobs are planned");
    let at = scaler
        .triggers
        .iter()
        .position(|t| matches!(t, Trigger::Kafka { .. }))
        .context("it has no kafka trigger")?;
    let source = s.source()?;
    let partitions = s.partitions(file, &scaler, &source);
    let most = args.quota.unwrap_or(i64::MAX).min(i64::try_from(partitions).unwrap_or(i64::MAX));
    ensure!(most >= 1, "--quota must be 1 or more");
    let all = search(s, &scaler, &source, partitions, most);
    let goal = args.goal.as_secs_f64();
    // Cheapest first; at one price fewer looks, fewer jobs at a time, longer jobs.
    let good = all.iter().filter(|c| c.latency() <= goal && c.totals.left < 1.0);
    let best = good.min_by(|a, b| {
        let by_cost = (a.minutes() / 0.5).round().total_cmp(&(b.minutes() / 0.5).round());
        by_cost
            .then(b.poll.cmp(&a.poll))
            .then(a.max.cmp(&b.max))
            .then(b.threshold.cmp(&a.threshold))
    });
    let Some(best) = best else {
        if let Some(fastest) = all.iter().min_by(|a, b| a.latency().total_cmp(&b.latency())) {
            println!(
                "nothing within {most} jobs does 95 % within {}; the fastest takes {} (pollingInterval {}, lagThreshold {}, maxReplicaCount {})",
                time(goal),
                time(fastest.latency()),
                fastest.poll,
                fastest.threshold,
                fastest.max
            );
            println!("more partitions, a shorter --per-message or a shorter --pod-start would help");
        }
        return Ok(false);
    };
    println!(
        "of {} settings, the cheapest that does 95 % within {}: {} in {:.1} minutes of {}, {} jobs, {} at most at one time",
        all.len(),
        time(goal),
        time(best.latency()),
        best.minutes(),
        if best.totals.node_minutes > 0.0 { "nodes" } else { "jobs" },
        best.totals.jobs,
        best.totals.peak_running
    );
    let edits = [
        ("spec.pollingInterval".to_owned(), best.poll.to_string()),
        ("spec.maxReplicaCount".to_owned(), best.max.to_string()),
        (
            format!("spec.triggers.{at}.metadata.lagThreshold"),
            format!("\"{}\"", best.threshold),
        ),
    ];
    let edits = edits.map(|(path, value)| Edit { path, value });
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let changed = Edit::apply(&edits, &text)?;
    print!("{}", diff(&file.display().to_string(), &text, &changed));
    Ok(true)
}

fn search(s: &LoadArgs, scaler: &Scaler, source: &Source, partitions: usize, most: i64) -> Vec<Candidate> {
    let workers = s.workers.workers(s.shape);
    let mut maxima: Vec<i64> = (1..=most).filter(|m| most % m == 0 || m * 4 % most == 0).collect();
    maxima.dedup();
    let mut all = Vec::new();
    for poll in POLLS {
        for threshold in THRESHOLDS {
            for max in &maxima {
                let mut tried = scaler.clone();
                tried.polling_interval = Duration::from_secs(poll);
                if let Kind::Job(job) = &mut tried.kind {
                    job.limits.max = Some(*max);
                }
                for trigger in &mut tried.triggers {
                    if let Trigger::Kafka { kafka, .. } = trigger {
                        kafka.lag_threshold = threshold;
                    }
                }
                let world = World::new(&tried, s.keda_version, workers, source, partitions);
                let totals = world.run(s.span.as_secs_f64(), true, s.price, |_| {});
                all.push(Candidate {
                    poll,
                    threshold,
                    max: *max,
                    totals,
                });
            }
        }
    }
    all
}

/// The change as a unified diff without context.
fn diff(name: &str, before: &str, after: &str) -> String {
    if before == after {
        return "the file says so already\n".to_owned();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut out = format!("--- {name}\n+++ {name}\n");
    let (mut a, mut b) = (0, 0);
    while a < old.len() || b < new.len() {
        match (old.get(a), new.get(b)) {
            (Some(x), Some(y)) if x == y => (a, b) = (a + 1, b + 1),
            // A key that was added: the old line comes next.
            (x, Some(y)) if new.get(b + 1) == x => {
                out += &format!("@@ -{a},0 +{},1 @@\n+{y}\n", b + 1);
                b += 1;
            }
            (x, y) => {
                out += &format!("@@ -{} +{} @@\n", a + 1, b + 1);
                out += &x.map_or_else(String::new, |x| format!("-{x}\n"));
                out += &y.map_or_else(String::new, |y| format!("+{y}\n"));
                (a, b) = (a + 1, b + 1);
            }
        }
    }
    out
}
