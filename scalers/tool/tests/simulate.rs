//! `scalers simulate`: what it says adds up, and the page stands alone.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn ingestion() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingestion.yaml")
}

fn run(args: &[&str], files: &[&Path]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_scalers"))
        .arg("simulate")
        .args(files)
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(args: &[&str], files: &[&Path]) -> Vec<Value> {
    let (code, said, errors) = run(&[args, &["--json"]].concat(), files);
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&said).unwrap()
}

/// Our own file with a piece changed.
fn changed(right: &str, wrong: &str) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(ingestion()).unwrap();
    assert!(text.contains(right));
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text.replace(right, wrong)).unwrap();
    file
}

#[test]
fn a_burst_from_zero_is_worked_off_by_as_many_jobs_as_partitions() {
    let outcome = &json(
        &["--messages", "5000", "--per-message", "300ms", "--pod-start", "5s"],
        &[&ingestion()],
    )[0];
    let totals = &outcome["totals"];
    let figure = |name: &str| totals[name].as_f64().unwrap();
    assert_eq!((figure("messages"), figure("left")), (5000.0, 0.0));
    assert_eq!((figure("jobs"), figure("peak_running"), figure("idle_starts")), (12.0, 12.0, 0.0));
    // 417 messages a partition at 0.3 s, after up to 10 s until the look and 5 s to start.
    let drained = figure("drain_seconds");
    assert!((130.0..142.0).contains(&drained), "{drained}");
    assert!(figure("latency_p50_seconds") < figure("latency_p99_seconds"));
    let rows = outcome["rows"].as_array().unwrap();
    let created: i64 = rows.iter().map(|r| r["created"].as_i64().unwrap()).sum();
    assert_eq!(created, 12);
    assert_eq!(rows[0]["rule"], "inactive");
}

#[test]
fn nothing_arrives_and_nothing_is_started() {
    let outcome = &json(&["--shape", "steady", "--rate", "0", "--for", "1h"], &[&ingestion()])[0];
    assert_eq!((&outcome["totals"]["jobs"], &outcome["totals"]["polls"]), (&0.into(), &361.into()));
}

#[test]
fn a_lower_maximum_takes_longer_and_the_page_shows_both() {
    let slow = changed("maxReplicaCount: 12", "maxReplicaCount: 3");
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let both = json(
        &["--partitions", "12", "--per-message", "300ms", "--html", page.to_str().unwrap()],
        &[slow.path(), &ingestion()],
    );
    let drained: Vec<f64> = both.iter().map(|o| o["totals"]["drain_seconds"].as_f64().unwrap()).collect();
    assert!(drained[0] > 3.5 * drained[1], "{drained:?}");
    let html = std::fs::read_to_string(page).unwrap();
    for part in ["Before and after", ">before<", ">after<", "<svg", "class=\"better\"", "viewport"] {
        assert!(html.contains(part), "{part}");
    }
    for foreign in ["<script", "http://", "https://", "src=", "@import", "NaN", "inf"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn a_strategy_that_counts_work_twice_shows_as_more_jobs() {
    let accurate = changed("strategy: default", "strategy: accurate");
    let of = |file: &Path| {
        let args = ["--messages", "100", "--partitions", "12", "--per-message", "2s"];
        json(&args, &[file])[0]["totals"]["jobs"].as_i64().unwrap()
    };
    let (default, accurate) = (of(&ingestion()), of(accurate.path()));
    assert_eq!(default, 5);
    assert!(accurate > default, "{accurate}");
}

#[test]
fn nodes_that_have_to_come_first_delay_and_cost() {
    let args = [
        "--per-message",
        "300ms",
        "--jobs-per-node",
        "4",
        "--warm-nodes",
        "1",
        "--node-start",
        "2m",
        "--price",
        "0.2",
    ];
    let cold = &json(&args, &[&ingestion()])[0]["totals"];
    let warm = &json(&["--per-message", "300ms"], &[&ingestion()])[0]["totals"];
    let figure = |totals: &Value, name: &str| totals[name].as_f64().unwrap();
    assert!(figure(cold, "drain_seconds") > figure(warm, "drain_seconds") + 60.0);
    assert!(figure(cold, "node_minutes") > 0.0 && figure(cold, "cost") > 0.0);
    assert_eq!(figure(warm, "node_minutes"), 0.0);
}

#[test]
fn a_trace_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.csv");
    let mut text = "time,partition,committed,latest\n".to_owned();
    for (t, end) in [(0, 10), (30, 10), (60, 250)] {
        for p in 0..3 {
            text += &format!("{t},{p},10,{}\n", end + if t == 0 { p * 5 } else { p * 5 + 7 });
        }
    }
    std::fs::write(&trace, text).unwrap();
    let outcome = &json(&["--trace", trace.to_str().unwrap(), "--per-message", "100ms"], &[&ingestion()])[0]["totals"];
    // 0 + 5 + 10 wait at first, then 7 and 240 more on each partition.
    assert_eq!(outcome["messages"], 15.0 + 3.0 * 247.0);
    let (code, _, errors) = run(&["--trace", "/nowhere.csv"], &[&ingestion()]);
    assert!(code == Some(64) && errors.contains("/nowhere.csv"), "{errors}");
}

/// A log of scalers run, a look a second: 40 messages for a worker, a second each, two jobs at once.
fn log_of(worker: &str, begun: i64, each: i64) -> Vec<String> {
    let at = |t: i64| jiff::Timestamp::from_second(1_782_000_000 + begun + t).unwrap();
    let mut lines = vec![];
    for t in 0..40 {
        let (end, running) = if t < 3 { (0, 0) } else { (20 * each, 2) };
        let committed = ((t - 5) * each).clamp(0, end);
        let running = if committed == end && t > 5 { 0 } else { running };
        lines.push(format!(
            "{{\"at\":\"{}\",\"event\":\"look\",\"worker\":\"{worker}\",\"offsets\":[[{committed},{end}],[{committed},{end}]],\
             \"running\":{running},\"pending\":0,\"metric\":0,\"wanted\":0,\"create\":0}}",
            at(t)
        ));
        if t == 3 {
            for _ in 0..2 {
                lines.push(format!(
                    "{{\"at\":\"{}\",\"event\":\"started\",\"worker\":\"{worker}\",\"attempt\":1}}",
                    at(t)
                ));
            }
        }
    }
    lines
}

#[test]
fn of_a_log_of_several_workers_the_file_s_own_is_taken() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    // The other one comes first, and is ten times as fast.
    let lines = [log_of("valuation", 0, 10), log_of("ingestion", 100, 1)].concat();
    std::fs::write(log.path(), lines.join("\n")).unwrap();
    let outcome = &json(&["--workers-from", path, "--trace", path], &[&ingestion()])[0];
    assert_eq!(outcome["totals"]["messages"], 40.0);
    let each = outcome["workers"]["per_message"].as_f64().unwrap();
    assert!((0.9..1.1).contains(&each), "{each}");
    let minting = ingestion().with_file_name("minting.yaml");
    for option in ["--workers-from", "--trace"] {
        let (code, _, errors) = run(&[option, path], &[&minting]);
        assert!(
            code == Some(64) && errors.contains("has no look of minting, only of ingestion, valuation"),
            "{option}: {errors}"
        );
    }
}

#[test]
fn a_scaled_object_wakes_scales_and_sleeps_after_its_cooldown() {
    let feeder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/feeder.yaml");
    let args = ["--partitions", "10", "--messages", "20000", "--per-message", "20ms", "--at", "1m"];
    let outcome = &json(&args, &[&feeder])[0];
    let rows = outcome["rows"].as_array().unwrap();
    let running: Vec<i64> = rows.iter().map(|r| r["running"].as_i64().unwrap()).collect();
    assert_eq!(
        (running[0], *running.iter().max().unwrap(), &rows.last().unwrap()["wanted"]),
        (0, 10, &0.into())
    );
    assert_eq!(outcome["totals"]["left"], 0.0);
    // Cooldown: three minutes after the last lag.
    let seconds = outcome["totals"]["seconds"].as_f64().unwrap();
    let drained = outcome["totals"]["drain_seconds"].as_f64().unwrap();
    assert!((seconds - 60.0 - drained - 180.0).abs() < 15.0, "{seconds} {drained}");
}

#[test]
fn rows_stay_few_however_long_it_goes_on() {
    let outcome = &json(&["--shape", "diurnal", "--rate", "0.05", "--for", "240h"], &[&ingestion()])[0];
    assert_eq!(outcome["totals"]["polls"], 86_401);
    assert!(outcome["rows"].as_array().unwrap().len() <= 1200);
    let created: i64 = outcome["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["created"].as_i64().unwrap())
        .sum();
    assert_eq!(outcome["totals"]["jobs"], created);
}

/// The most memory that a simulation of so many looks takes, in KiB.
fn peak_memory(looks: u64) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_scalers"))
        .args(["simulate", "--shape", "diurnal", "--rate", "0.5", "--poll", "10s", "--json"])
        .args(["--for", &format!("{}s", looks * 10)])
        .arg(ingestion())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        // The kernel keeps the peak: the last reading before the end is all but the whole truth.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = line.map_or(peak, |kib| kib.trim().parse().unwrap());
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn thirty_times_the_looks_take_no_more_memory() {
    let (few, many) = (peak_memory(5_000), peak_memory(150_000));
    assert!(few > 1000 && many < few + 1024, "{few} KiB for 5,000 looks, {many} KiB for 150,000");
}

#[test]
fn a_file_that_keda_would_refuse_is_refused_with_its_line() {
    let wrong = changed("lagThreshold: \"20\"", "lagTreshold: \"20\"");
    let (code, _, errors) = run(&[], &[wrong.path()]);
    assert!(
        code == Some(64) && errors.contains("did you mean lagThreshold?") && errors.contains("error L02"),
        "{errors}"
    );
}

#[test]
fn a_plan_meets_its_goal_and_its_change_keeps_every_comment() {
    let slow = changed("maxReplicaCount: 12", "maxReplicaCount: 2");
    let run = |goal: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_scalers"))
            .args([
                "plan",
                "--goal",
                goal,
                "--messages",
                "1200",
                "--per-message",
                "300ms",
                "--partitions",
                "12",
            ])
            .arg(slow.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run("60s");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("-  maxReplicaCount: 2\n+  maxReplicaCount: "), "{said}");
    for part in [
        "today:   95 % within",
        "planned: 95 % within",
        "why maxReplicaCount: as it is today it would be too slow: 95 % within",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // What it says is what the file then does.
    let text = std::fs::read_to_string(slow.path()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (minus, plus): (Vec<&str>, Vec<&str>) = (
        said.lines().filter(|l| l.starts_with('-') && !l.starts_with("---")).collect(),
        said.lines().filter(|l| l.starts_with('+') && !l.starts_with("+++")).collect(),
    );
    assert_eq!(minus.len(), plus.len());
    for (old, new) in minus.iter().zip(&plus) {
        let at = lines.iter().position(|l| *l == old.strip_prefix('-').unwrap()).unwrap();
        lines[at] = new.strip_prefix('+').unwrap().to_owned();
    }
    let planned = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(planned.path(), lines.join("\n") + "\n").unwrap();
    let args = ["--messages", "1200", "--per-message", "300ms", "--partitions", "12"];
    let latency = json(&args, &[planned.path()])[0]["totals"]["latency_p95_seconds"].as_f64().unwrap();
    assert!(latency <= 60.0, "{latency}");
    let (code, said) = run("1s");
    assert!(code == Some(1) && said.contains("the fastest takes"), "{said}");
}
