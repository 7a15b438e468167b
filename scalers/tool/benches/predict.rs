//! What `scalers simulate` foretells from the arrivals alone, against `scalers run` on the real broker.
//! `scripts/bench predict` runs it: time is measured, so it is no test.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;

use common::{Bench, Running};
use serde_json::{Value, json};
use testkit::Corner;

fn lag(look: &Value) -> i64 {
    let offsets = look["offsets"].as_array().unwrap();
    offsets.iter().map(|o| o[1].as_i64().unwrap() - o[0].as_i64().unwrap()).sum()
}

/// Sends a burst and waits until it is worked off and every job has ended: what was logged meanwhile.
async fn burst(b: &Bench, running: &Running, messages: usize) -> Vec<Value> {
    b.send(messages).await;
    let (mut events, mut begun): (Vec<Value>, bool) = (Vec::new(), false);
    loop {
        let event = running.any();
        let over = event["event"] == "look" && begun && lag(&event) == 0 && event["running"] == 0;
        begun |= event["event"] == "look" && lag(&event) > 0;
        assert!(event["event"] != "ended" || event["exit_code"] == 0, "{event}");
        events.push(event);
        if over {
            return events;
        }
    }
}

fn write(events: &[Value], file: &Path) {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

/// Seconds from the first look that sees lag to the first that sees none any more.
fn drain(looks: &[(f64, i64)]) -> f64 {
    let first = looks.iter().position(|(_, lag)| *lag > 0).unwrap();
    let last = looks.iter().skip(first).find(|(_, lag)| *lag == 0).unwrap();
    last.0 - looks[first].0
}

/// Seconds to drain, and the jobs that were created.
fn simulated(workers: &Path, trace: &Path) -> (f64, i64) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scalers"))
        .args(["simulate", "--json", "--poll", "200ms"])
        .args([Path::new("--workers-from"), workers, Path::new("--trace"), trace])
        .arg(common::scalers_dir().join("ingestion.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    print!("{said}");
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = outcomes[0]["rows"].as_array().unwrap();
    let rows: Vec<(f64, i64)> = rows
        .iter()
        .map(|r| (r["t"].as_f64().unwrap(), r["lag"].as_i64().unwrap()))
        .collect();
    (drain(&rows), outcomes[0]["totals"]["jobs"].as_i64().unwrap())
}

/// The same of a run's log.
fn real(events: &[Value]) -> (f64, i64) {
    let at = |e: &Value| e["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond() as f64 / 1000.0;
    let looks: Vec<(f64, i64)> = events.iter().filter(|e| e["event"] == "look").map(|e| (at(e), lag(e))).collect();
    let started = events.iter().filter(|e| e["event"] == "started").count();
    (drain(&looks), i64::try_from(started).unwrap())
}

/// The looks with their ends alone: nobody can tell from them what was worked off, or by how many jobs.
fn arrivals(events: &[Value]) -> Vec<Value> {
    let mut looks: Vec<Value> = events.iter().filter(|e| e["event"] == "look").cloned().collect();
    let start: Vec<Value> = looks[0]["offsets"].as_array().unwrap().iter().map(|o| o[0].clone()).collect();
    for look in &mut looks {
        for (offsets, committed) in look["offsets"].as_array_mut().unwrap().iter_mut().zip(&start) {
            offsets[0] = committed.clone();
        }
        for name in ["running", "pending", "metric", "wanted", "create"] {
            look[name] = 0.into();
        }
    }
    looks
}

/// Prints a figure; as scripts/bench writes it.
fn figure(name: &str, value: f64, unit: &str, bound: Option<f64>) -> Value {
    let holds = bound.is_none_or(|bound| value <= bound);
    let verdict = match bound {
        None => String::new(),
        Some(bound) => format!("  [<= {bound}: {}]", if holds { "holds" } else { "DOES NOT HOLD" }),
    };
    println!("{name:<44} {value:>12.3} {unit:<10} scalers run on the real broker{verdict}");
    json!({
        "name": name, "value": value, "unit": unit, "against": "scalers run on the real broker",
        "bound": bound.map(|b| format!("<= {b}")), "holds": holds,
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut b = Bench::with_partitions(Corner::new(), 4).await;
    b.corner.set("WORK_MS", "40");
    b.corner.set("MAX_IN_FLIGHT", "1");
    b.corner.set("IDLE_EXIT_MS", "1500");
    let running = b.run(&["--worker", "ingestion"]);
    let dir = tempfile::tempdir().unwrap();
    let (workers, trace) = (dir.path().join("learned.jsonl"), dir.path().join("arrivals.jsonl"));
    // Bursts to learn from how these workers behave here, one for a single job and two for several; others are foretold.
    let mut seen = burst(&b, &running, 15).await;
    for messages in [900, 300] {
        seen.extend(burst(&b, &running, messages).await);
    }
    write(&seen, &workers);
    let (mut drains, mut jobs, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for messages in [600, 1000, 400] {
        let events = burst(&b, &running, messages).await;
        write(&arrivals(&events), &trace);
        let (real, foretold) = (real(&events), simulated(&workers, &trace));
        let name = |what: &str| format!("predict.{messages}.{what}");
        figures.push(figure(&name("drain"), real.0, "s", None));
        figures.push(figure(&name("drain.foretold"), foretold.0, "s", None));
        figures.push(figure(&name("jobs"), real.1 as f64, "jobs", None));
        figures.push(figure(&name("jobs.foretold"), foretold.1 as f64, "jobs", None));
        drains.push((foretold.0 / real.0 - 1.0).abs());
        jobs.push((foretold.1 - real.1).abs());
    }
    running.stop();
    drains.sort_by(f64::total_cmp);
    jobs.sort_unstable();
    figures.push(figure("predict.drain.off", drains[1], "ratio", Some(0.15)));
    figures.push(figure("predict.jobs.off", jobs[1] as f64, "jobs", Some(1.0)));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("predict.json"), serde_json::to_string_pretty(&figures).unwrap()).unwrap();
    ExitCode::from(u8::from(figures.iter().any(|f| f["holds"] == false)))
}
