//! `scalers plan`: the cheapest settings that meet a latency, found by simulating them all, and the change to the file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{LoadArgs, Source, Totals, Workers, World, time};
use crate::run::duration;
use crate::spec::{self, Kind, Scaler, Trigger};
use crate::yaml::Edit;

const POLLS: [u64; 5] = [60, 30, 15, 10, 5];
const THRESHOLDS: [i64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
/// Settings whose minutes differ by less than this share cost the same.
const ALIKE: f64 = 0.01;

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

/// The three settings that are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    poll: u64,
    threshold: i64,
    max: i64,
}

#[derive(Debug, Clone)]
struct Candidate {
    settings: Settings,
    totals: Totals,
}

impl Candidate {
    fn latency(&self) -> f64 {
        self.totals.latency_p95_seconds.unwrap_or(0.0)
    }

    fn words(&self) -> String {
        let t = &self.totals;
        let whose = if t.node_minutes > 0.0 { "nodes" } else { "jobs" };
        let left = if t.left < 1.0 {
            String::new()
        } else {
            format!(", {:.0} messages left", t.left)
        };
        format!(
            "95 % within {}, {:.1} minutes of {whose}, {} jobs, {} at most at one time{left}",
            time(self.latency()),
            self.minutes(),
            t.jobs,
            t.peak_running
        )
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

/// What settings are tried on.
struct Trial<'a> {
    load: &'a LoadArgs,
    scaler: &'a Scaler,
    workers: Workers,
    source: &'a Source,
    partitions: usize,
    goal: f64,
}

impl Trial<'_> {
    fn of(&self, settings: Settings) -> Candidate {
        let mut tried = self.scaler.clone();
        tried.polling_interval = Duration::from_secs(settings.poll);
        if let Kind::Job(job) = &mut tried.kind {
            job.limits.max = Some(settings.max);
        }
        for trigger in &mut tried.triggers {
            if let Trigger::Kafka { kafka, .. } = trigger {
                kafka.lag_threshold = settings.threshold;
            }
        }
        let world = World::new(&tried, self.load.keda_version, self.workers, self.source, self.partitions);
        let totals = world.run(self.load.span.as_secs_f64(), true, self.load.price, |_| {});
        Candidate { settings, totals }
    }

    fn meets(&self, candidate: &Candidate) -> bool {
        candidate.latency() <= self.goal && candidate.totals.left < 1.0
    }

    /// A few hundred settings.
    fn all(&self, most: i64) -> Vec<Candidate> {
        let maxima: Vec<i64> = (1..=most).filter(|m| most % m == 0 || m * 4 % most == 0).collect();
        let mut all = Vec::new();
        for poll in POLLS {
            for threshold in THRESHOLDS {
                all.extend(maxima.iter().map(|max| {
                    self.of(Settings {
                        poll,
                        threshold,
                        max: *max,
                    })
                }));
            }
        }
        all
    }

    /// The same with every setting as it is today that makes no difference: nothing changes without a reason.
    fn simplest(&self, mut best: Candidate, today: Settings, most: i64) -> Candidate {
        for back in reverted(best.settings, today) {
            let tried = self.of(back.1);
            if back.1.max <= most && self.meets(&tried) && tried.minutes() <= best.minutes() * (1.0 + ALIKE) {
                best = self.simplest(tried, today, most);
                break;
            }
        }
        best
    }
}

/// Of settings, those with one of them as it is today, and that one's name; only of those that differ.
fn reverted(of: Settings, today: Settings) -> Vec<(&'static str, Settings)> {
    let each = [
        ("maxReplicaCount", Settings { max: today.max, ..of }),
        (
            "lagThreshold",
            Settings {
                threshold: today.threshold,
                ..of
            },
        ),
        ("pollingInterval", Settings { poll: today.poll, ..of }),
    ];
    each.into_iter().filter(|(_, back)| *back != of).collect()
}

/// Searches, says what it found and why, and prints the change. False when nothing meets the goal.
///
/// # Errors
/// When the file cannot be read, simulated or changed safely.
pub fn main(args: &PlanArgs) -> anyhow::Result<bool> {
    let (s, file) = (&args.load, &args.file);
    let scaler = spec::read(file, s.keda_version)?;
    ensure!(scaler.job().is_some(), "only ScaledJobs are planned");
    let at = scaler.first_kafka().context("it has no kafka trigger")?;
    let Some(Trigger::Kafka { kafka, .. }) = scaler.triggers.get(at) else {
        return Ok(false);
    };
    let source = s.source(&scaler.worker)?;
    let partitions = s.partitions(file, &scaler, &source);
    let most = args.quota.unwrap_or(i64::MAX).min(i64::try_from(partitions).unwrap_or(i64::MAX));
    ensure!(most >= 1, "--quota must be 1 or more");
    let trial = Trial {
        load: s,
        scaler: &scaler,
        workers: s.workers.workers(s.shape, &scaler.worker)?,
        source: &source,
        partitions,
        goal: args.goal.as_secs_f64(),
    };
    let today = trial.of(Settings {
        poll: scaler.polling_interval.as_secs(),
        threshold: kafka.lag_threshold,
        max: scaler.max(),
    });
    println!("today:   {}", today.words());
    let all = trial.all(most);
    // Cheapest first; at one price fewer looks, fewer jobs at a time, longer jobs.
    let good = all.iter().filter(|c| trial.meets(c));
    let best = good.min_by(|a, b| {
        let by_cost = (a.minutes() / 0.5).round().total_cmp(&(b.minutes() / 0.5).round());
        let (a, b) = (a.settings, b.settings);
        by_cost
            .then(b.poll.cmp(&a.poll))
            .then(a.max.cmp(&b.max))
            .then(b.threshold.cmp(&a.threshold))
    });
    let Some(best) = best else {
        return nothing(&trial, &all, most);
    };
    let best = trial.simplest(best.clone(), today.settings, most);
    println!("planned: {}, the cheapest of {} settings", best.words(), all.len());
    why(&trial, &best, today.settings, most);
    let edits = [
        ("spec.pollingInterval".to_owned(), best.settings.poll.to_string()),
        ("spec.maxReplicaCount".to_owned(), best.settings.max.to_string()),
        (
            format!("spec.triggers.{at}.metadata.lagThreshold"),
            format!("\"{}\"", best.settings.threshold),
        ),
    ];
    let edits = edits.map(|(path, value)| Edit { path, value });
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let changed = Edit::apply(&edits, &text)?;
    print!("{}", diff(&file.display().to_string(), &text, &changed));
    Ok(true)
}

/// Says that no settings do it, and what would come nearest.
fn nothing(trial: &Trial<'_>, all: &[Candidate], most: i64) -> anyhow::Result<bool> {
    if let Some(fastest) = all.iter().min_by(|a, b| a.latency().total_cmp(&b.latency())) {
        let Settings { poll, threshold, max } = fastest.settings;
        println!(
            "nothing within {most} jobs does 95 % within {}; the fastest takes {} (pollingInterval {poll}, lagThreshold {threshold}, maxReplicaCount {max})",
            time(trial.goal),
            time(fastest.latency()),
        );
        println!("more partitions, a shorter --per-message or a shorter --pod-start would help");
    }
    Ok(false)
}

/// For each setting that changes: what would be if it alone stayed as it is.
fn why(trial: &Trial<'_>, best: &Candidate, today: Settings, most: i64) {
    for (name, back) in reverted(best.settings, today) {
        let kept = trial.of(back);
        let verdict = match back.max {
            max if max > most => "more jobs than there may be",
            _ if trial.meets(&kept) => "dearer",
            _ => "too slow",
        };
        println!("why {name}: as it is today it would be {verdict}: {}", kept.words());
    }
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
