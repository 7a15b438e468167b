//! `scalers simulate` over ever longer times: looks a second, and the most memory that it takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::figures::{Figure, median};

/// Looks, one each ten seconds of a day that repeats: the jobs of four months.
const LOOKS: [u64; 3] = [10_000, 100_000, 1_000_000];
const RUNS: usize = 3;
const EACH: Duration = Duration::from_secs(10);

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let program = std::env::current_exe()?.with_file_name("scalers");
    ensure!(program.is_file(), "{} is built by scripts/bench", program.display());
    let mut all = Vec::new();
    for looks in LOOKS {
        let runs: Vec<(f64, f64)> = (0..RUNS).map(|_| run(&program, looks)).collect::<Result<_, _>>()?;
        let of = |f: fn(&(f64, f64)) -> f64| median(&runs.iter().map(f).collect::<Vec<_>>());
        all.push((looks, looks as f64 / of(|r| r.0), of(|r| r.1)));
    }
    let Some(&(_, few_rate, few_memory)) = all.first() else {
        return Ok(Vec::new());
    };
    let mut figures = Vec::new();
    for (looks, rate, memory) in all {
        let what = format!("{looks} looks of scalers/ingestion.yaml at a day's traffic, median of three");
        figures.push(Figure::told(format!("scalers.looks.{looks}"), rate, "looks/s", what.clone()));
        figures.push(Figure::told(format!("scalers.memory.{looks}"), memory, "MiB", what));
        if looks > LOOKS[0] {
            let against = format!("{} looks", LOOKS[0]);
            let slower = Figure::told(format!("scalers.looks.{looks}.ratio"), rate / few_rate, "ratio", against.clone());
            figures.push(slower.at_least(0.8));
            let larger = Figure::told(format!("scalers.memory.{looks}.ratio"), memory / few_memory, "ratio", against);
            figures.push(larger.at_most(1.1));
        }
    }
    Ok(figures)
}

/// Seconds, and the most resident memory in MiB.
fn run(program: &Path, looks: u64) -> anyhow::Result<(f64, f64)> {
    let span = EACH.as_secs() * looks.saturating_sub(1);
    let began = Instant::now();
    let mut child = Command::new(program)
        .args([
            "simulate",
            "--shape",
            "diurnal",
            "--rate",
            "0.5",
            "--per-message",
            "3s",
            "--poll",
            "10s",
            "--json",
        ])
        .args(["--for", &format!("{span}s")])
        .arg(PathBuf::from("scalers/ingestion.yaml"))
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0.0;
    let ended = loop {
        // The kernel keeps the peak, so the last reading before the end misses only the last millisecond.
        peak = high_water(&status).unwrap_or(peak);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    ensure!(ended.success(), "scalers simulate failed: {ended}");
    ensure!(peak > 0.0, "it ended before its memory could be read");
    Ok((began.elapsed().as_secs_f64(), peak))
}

fn high_water(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
