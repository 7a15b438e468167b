//! What members that come, go and die cost those who stay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bus::GroupProtocol;

use crate::child::{self, Running};
use crate::corner::{Corner, Stand};
use crate::figures::Figure;

/// How long jobs come and go.
const CHURN: Duration = Duration::from_secs(20);
/// A job begins this often, and takes part for a second.
const JOB_EVERY: Duration = Duration::from_millis(500);
/// Messages come this often.
const MESSAGE_EVERY: Duration = Duration::from_millis(2);
/// No group may take longer to do what there is.
const DEADLINE: Duration = Duration::from_secs(60);

pub fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, protocol) in [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)] {
        figures.extend(ghost(name, protocol)?);
        figures.extend(churn(name, protocol)?);
    }
    Ok(figures)
}

/// How long a killed member keeps its partitions from the one that stays, and the next one from a share.
fn ghost(name: &str, protocol: GroupProtocol) -> anyhow::Result<[Figure; 2]> {
    let mut corner = Corner::new(12)?;
    let steady = member(&mut corner, protocol)?;
    let log = [("RUST_LOG", "bus::run::events=debug")];
    let mut other = start(&corner, protocol, &log)?;
    other.wait_for("partitions assigned", "[]")?;
    other.kill()?;
    let killed = Instant::now();
    // Few enough that what is logged of them fits the pipe that nobody reads meanwhile.
    corner.fill(120, 120, 64, |_| String::new())?;
    let mut next = start(&corner, protocol, &log)?;
    next.wait_for("partitions assigned", "[]")?;
    let share = killed.elapsed();
    corner.wait_until_done(DEADLINE)?;
    let taken = killed.elapsed();
    for member in [next, steady] {
        member.stop()?;
        member.end()?;
    }
    let figure = |what: &str, value: Duration, against| Figure::told(format!("groups.{name}.{what}"), value.as_secs_f64(), "s", against);
    Ok([
        figure("ghost", taken, "until a killed member's partitions were handled by others"),
        figure("ghost.next", share, "until a member that came right after the kill had a share"),
    ])
}

/// The longest pause of a member that stays while jobs come and go.
fn churn(name: &str, protocol: GroupProtocol) -> anyhow::Result<[Figure; 3]> {
    let mut corner = Corner::new(12)?;
    let steady = member(&mut corner, protocol)?;
    let over = AtomicBool::new(false);
    let jobs = thread::scope(|scope| {
        let writing = scope.spawn(|| corner.drip(MESSAGE_EVERY, &over));
        let jobs = come_and_go(&corner, protocol);
        over.store(true, Ordering::Relaxed);
        let written = writing.join().map_err(|_| anyhow::anyhow!("the writer failed"))?;
        written.and(jobs)
    })?;
    corner.wait_until_done(DEADLINE)?;
    steady.stop()?;
    let said = steady.end()?.said;
    let with_work = jobs.iter().filter(|messages| **messages > 0).count();
    let figure = |what: &str, value: f64, unit, against: &str| Figure::told(format!("groups.{name}.{what}"), value, unit, against);
    Ok([
        figure(
            "jobs",
            jobs.len() as f64 / CHURN.as_secs_f64(),
            "1/s",
            "jobs that join, stay for a second and leave",
        ),
        figure(
            "jobs.with-work",
            with_work as f64 / jobs.len() as f64,
            "share",
            "of them, that were given messages",
        ),
        figure(
            "pause",
            said.longest_gap_ns as f64 / 1e6,
            "ms",
            "longest pause of a member that stays, a message every 2 ms",
        )
        .at_most(1000.0),
    ])
}

/// Jobs, one after the other begun; how many messages each has handled.
fn come_and_go(corner: &Corner, protocol: GroupProtocol) -> anyhow::Result<Vec<u64>> {
    let (begun, mut jobs) = (Instant::now(), Vec::new());
    while begun.elapsed() < CHURN {
        let vars = [("WORKER_MODE", "job"), ("IDLE_EXIT_MS", "60000"), ("MAX_RUN_SECONDS", "1")];
        jobs.push(start(corner, protocol, &vars)?);
        thread::sleep((JOB_EVERY * jobs.len() as u32).saturating_sub(begun.elapsed()));
    }
    jobs.into_iter().map(|job| Ok(job.end()?.said.messages)).collect()
}

/// A member that stays, and works already.
fn member(corner: &mut Corner, protocol: GroupProtocol) -> anyhow::Result<Running> {
    let group = corner.topic.clone();
    corner.stand(&group, Stand::End)?;
    let steady = start(corner, protocol, &[])?;
    corner.fill(12, 12, 64, |_| String::new())?;
    corner.wait_until_done(DEADLINE)?;
    Ok(steady)
}

fn start(corner: &Corner, protocol: GroupProtocol, more: &[(&'static str, &str)]) -> anyhow::Result<Running> {
    let mut vars = corner.vars(protocol);
    vars.push(("WORKER_MODE", "service".to_owned()));
    vars.push(("RUST_LOG", "warn".to_owned()));
    vars.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    child::start(&["worker", "--gaps"], &vars)
}
