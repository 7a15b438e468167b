//! `scalers run` on the real broker, with a real worker that takes what lies on its topic.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, DEADLINE, gone, pid_of};
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;
use testkit::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_started_from_zero_on_lag_and_ends_by_itself() {
    let b = Bench::new().await;
    let running = b.run(&[]);
    b.send(5).await;
    let started = running.next("started");
    assert_eq!(
        (started["worker"].as_str(), started["lag"].as_i64().unwrap() > 0),
        (Some("ingestion"), true)
    );
    let ended = running.next("ended");
    assert_eq!(
        (&ended["exit_code"], &ended["pid"], &ended["job"]),
        (&Value::from(0), &started["pid"], &started["job"])
    );
    assert_eq!(b.lag(), 0);
    let log = std::fs::read_to_string(started["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("process ended"), "{log}");

    // It starts again when there is something again, and only then.
    b.send(1).await;
    let again = running.next("started");
    assert_ne!(again["pid"], started["pid"]);
    running.next("ended");
    kill_process(running.pid(), Signal::TERM).unwrap();
    running.next("stopping");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "--poll 200ms overrides pollingInterval",
        "authenticationRef, sasl, tls",
        "minting: skipped",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(b.logs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_lets_its_jobs_finish() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let job = pid_of(&running.next("started"));
    until("the job works", DEADLINE, async || b.lag() == 0).await;
    kill_process(running.pid(), Signal::INT).unwrap();
    assert_eq!(running.next("stopping")["running"], 1);
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(running.end().0, Some(0));
    gone(job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaler_that_is_killed_takes_its_jobs_with_it() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    b.send(1).await;
    let running = b.run(&[]);
    let job = pid_of(&running.next("started"));
    test_kill_process(job).unwrap();
    kill_process(running.pid(), Signal::KILL).unwrap();
    assert_eq!(running.end().0, None);
    gone(job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_is_started_anew_and_the_work_gets_done() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "3000");
    b.send(3).await;
    let running = b.run(&[]);
    let first = running.next("started");
    kill_process(pid_of(&first), Signal::KILL).unwrap();
    let ended = running.next("ended");
    assert_eq!((&ended["exit_code"], &ended["signal"]), (&Value::Null, &Value::from(9)));
    let retrying = running.next("retrying");
    assert_eq!((&retrying["job"], &retrying["failures"]), (&first["job"], &Value::from(1)));
    // One job, another process.
    let again = running.next("started");
    assert!(
        again["job"] == first["job"] && again["pid"] != first["pid"] && again["attempt"] == 2,
        "{again}"
    );
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(b.lag(), 0);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_program_is_tried_as_often_as_its_job_allows_and_does_not_spin() {
    let mut b = Bench::new().await;
    b.corner.set("FAIL", "70");
    b.send(1).await;
    let running = b.run(&[]);
    let started = running.next("started");
    // backoffLimit of k8s/base/workers/ingestion.yaml is 3: four processes, each after twice the wait.
    let waits: Vec<i64> = (0..3).map(|_| running.next("retrying")["wait_ms"].as_i64().unwrap()).collect();
    assert_eq!(waits, [200, 400, 800]);
    let failed = running.next("failed");
    assert_eq!(failed["job"], started["job"]);
    assert!(failed["reason"].as_str().unwrap().contains("backoffLimit is 3"), "{failed}");
    let log = failed["log"].as_str().unwrap();
    assert!(log.ends_with(".failed.log"), "{log}");
    assert_eq!(std::fs::read_to_string(log).unwrap().matches("process ended").count(), 4);
    // KEDA would create another at once; here it waits, ever longer.
    assert_eq!(running.next("waiting")["wait_ms"], 1000);
    let next = running.next("started");
    assert!(next["job"] != started["job"] && next["attempt"] == 1, "{next}");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_exit_code_says_that_trying_again_is_useless_fails_at_once() {
    let mut b = Bench::new().await;
    b.corner.set("FAIL", "64");
    b.send(1).await;
    let running = b.run(&[]);
    running.next("started");
    let ended = running.next("ended");
    let failed = running.next("failed");
    assert!(failed["reason"].as_str().unwrap().contains("exit code 64"), "{failed}");
    // Both name the log that is there.
    assert!(ended["log"] == failed["log"] && std::fs::exists(failed["log"].as_str().unwrap()).unwrap());
    let events = running.stop();
    assert!(events.iter().all(|e| e["event"] != "retrying"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_somebody_takes_away_stop_nothing() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let dir = own_files(&mut b);
    let pod = "kind: ScaledJob\nmetadata: { name: ingestion }\nspec: { jobTargetRef: { backoffLimit: 0 } }\n";
    std::fs::write(dir.path().join("k8s/base/workers/ingestion.yaml"), pod).unwrap();
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("minReplicaCount: 0", "minReplicaCount: 1")).unwrap();
    let running = b.run(&["--worker", "ingestion"]);
    let first = running.next("started");
    std::fs::remove_dir_all(b.log_dir()).unwrap();
    kill_process(pid_of(&first), Signal::KILL).unwrap();
    assert_eq!(running.next("failed")["job"], first["job"]);
    // Another one has its log again; this one cannot be renamed, which is said.
    let second = running.next("started");
    let log = second["log"].as_str().unwrap();
    std::fs::create_dir(log.replace(".log", ".failed.log")).unwrap();
    kill_process(pid_of(&second), Signal::KILL).unwrap();
    let ended = running.next("ended");
    assert!(ended["log"] == second["log"] && std::fs::exists(log).unwrap(), "{ended}");
    let wrong = running.next("log_failed");
    assert!(wrong["error"].as_str().unwrap().contains("cannot be renamed"), "{wrong}");
    assert_eq!(running.next("failed")["job"], second["job"]);
    // One that does not end well when all are told to stop: the others are waited for all the same.
    let third = running.next("started");
    std::fs::remove_dir_all(b.log_dir()).unwrap();
    running.stop();
    gone(pid_of(&third)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_said_before_anything_starts() {
    let b = Bench::new().await;
    let (code, said) = b.run(&["--worker", "minting"]).end();
    assert!(code == Some(64) && said.contains("cargo build -p minting"), "{code:?} {said}");
    let (code, said) = b.run(&["--worker", "nobody"]).end();
    assert!(code == Some(64) && said.contains("no file for worker nobody"), "{code:?} {said}");
}

/// A copy of our scaler file for ingestion that a test may change.
fn own_files(b: &mut Bench) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let scalers = dir.path().join("scalers");
    std::fs::create_dir(&scalers).unwrap();
    std::fs::copy(common::scalers_dir().join("ingestion.yaml"), scalers.join("ingestion.yaml")).unwrap();
    std::fs::create_dir_all(dir.path().join("k8s/base/workers")).unwrap();
    b.scalers = scalers;
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn every_look_is_decided_alike_by_simulate() {
    let mut b = Bench::new().await;
    // Long enough for several looks at running jobs.
    b.corner.set("WORK_MS", "40");
    b.corner.set("MAX_IN_FLIGHT", "1");
    let running = b.run(&[]);
    b.send(45).await;
    running.next("started");
    running.next("ended");
    let events = running.stop();
    let log = tempfile::NamedTempFile::new().unwrap();
    let looks: Vec<&Value> = events.iter().filter(|e| e["event"] == "look").collect();
    let creating = looks.iter().filter(|l| l["create"].as_i64() > Some(0)).count();
    assert!(looks.len() > 3 && creating > 0, "{looks:?}");
    let lines: Vec<String> = looks.iter().map(|e| e.to_string()).collect();
    std::fs::write(log.path(), lines.join("\n")).unwrap();
    let again = |path: &std::path::Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scalers"))
            .args(["simulate", "--decisions"])
            .arg(path)
            .arg(common::scalers_dir().join("ingestion.yaml"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = again(log.path());
    assert!(
        code == Some(0) && said.contains(&format!("{} looks of ingestion, 0 decided otherwise", looks.len())),
        "{said}"
    );
    let mut wrong = looks[0].clone();
    wrong["wanted"] = (wrong["wanted"].as_i64().unwrap() + 1).into();
    std::fs::write(log.path(), wrong.to_string()).unwrap();
    assert_eq!(again(log.path()).0, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outruns_its_pod_s_deadline_is_told_to_end() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let dir = own_files(&mut b);
    let pod = "kind: ScaledJob\nmetadata: { name: ingestion }\nspec:\n  jobTargetRef:\n    activeDeadlineSeconds: 2\n    template: { spec: { terminationGracePeriodSeconds: 20 } }\n";
    std::fs::write(dir.path().join("k8s/base/workers/ingestion.yaml"), pod).unwrap();
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let started = running.next("started");
    let deadline = running.next("deadline");
    assert_eq!((&deadline["job"], deadline["seconds"].as_i64()), (&started["job"], Some(2)));
    assert_eq!(running.next("ended")["job"], started["job"]);
    let failed = running.next("failed");
    assert!(failed["job"] == started["job"] && failed["reason"].as_str().unwrap().contains("activeDeadlineSeconds"));
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_counts_for_new_jobs_and_spares_the_running_ones() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let dir = own_files(&mut b);
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let job = pid_of(&running.next("started"));
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("lagThreshold:", "lagTreshold:")).unwrap();
    let refused = running.next("reload_failed");
    assert!(
        refused["error"].as_str().unwrap().contains("did you mean lagThreshold?"),
        "{refused}"
    );
    std::fs::write(&file, text.replace("minReplicaCount: 0", "minReplicaCount: 2")).unwrap();
    running.next("reloaded");
    // The minimum comes first: one more beside the one that runs.
    assert_ne!(pid_of(&running.next("started")), job);
    test_kill_process(job).unwrap();
    running.stop();
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_pod_counts_for_new_jobs_and_spares_the_running_ones() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let dir = own_files(&mut b);
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let old = running.next("started");
    let pod = "kind: ScaledJob\nmetadata: { name: ingestion }\nspec: { jobTargetRef: { activeDeadlineSeconds: 1 } }\n";
    std::fs::write(dir.path().join("k8s/base/workers/ingestion.yaml"), pod).unwrap();
    running.next("reloaded");
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("minReplicaCount: 0", "minReplicaCount: 2")).unwrap();
    let new = running.next("started");
    assert_eq!(running.next("deadline")["job"], new["job"]);
    running.next("ended");
    test_kill_process(pid_of(&old)).unwrap();
    let events = running.stop();
    assert!(
        events.iter().all(|e| e["event"] != "deadline" || e["job"] != old["job"]),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_brokers_the_minimum_alone_is_kept() {
    let mut b = Bench::new().await;
    b.corner.set("KAFKA_BROKERS", "127.0.0.1:1");
    let _dir = own_files(&mut b);
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("minReplicaCount: 0", "minReplicaCount: 2")).unwrap();
    let running = b.run(&["--worker", "ingestion"]);
    running.next("look_failed");
    for _ in 0..2 {
        running.next("started");
    }
    let events = running.stop();
    let look = events.iter().find(|e| e["event"] == "look").unwrap();
    assert_eq!(
        (&look["offsets"], &look["wanted"], &look["create"]),
        (&Value::from(Vec::<Value>::new()), &Value::from(0), &Value::from(2)),
        "{look}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_is_for_new_jobs_and_spares_the_running_ones() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let _dir = own_files(&mut b);
    b.send(1).await;
    let running = b.run(&["--worker", "ingestion"]);
    let old = running.next("started");
    let log = |job: &Value| std::fs::read_to_string(job["log"].as_str().unwrap()).unwrap();
    until("the old job says something", DEADLINE, async || !log(&old).is_empty()).await;
    b.replace_program("echo 'of the new build'");
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("minReplicaCount: 0", "minReplicaCount: 2")).unwrap();
    let new = running.next("started");
    let says = |job: &Value| log(job).contains("of the new build");
    until("the new job runs the new program", DEADLINE, async || says(&new)).await;
    test_kill_process(pid_of(&old)).unwrap();
    assert!(!says(&old));
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_trigger_that_counts_documents_asks_for_jobs_too() {
    let mut b = Bench::new().await;
    b.corner.set("IDLE_EXIT_MS", "600000");
    let dir = own_files(&mut b);
    let documents = b.corner.mongo().await.db().collection::<mongodb::bson::Document>("waiting");
    let waiting = (0..5).map(|n| mongodb::bson::doc! { "state": if n < 3 { "planned" } else { "done" } });
    documents.insert_many(waiting).await.unwrap();
    let file = b.scalers.join("ingestion.yaml");
    let trigger = format!(
        "    - type: mongodb\n      metadata:\n        connectionStringFromEnv: MONGODB_URI\n        dbName: {}\n        collection: waiting\n        query: '{{ \"state\": \"planned\" }}'\n        queryValue: \"2\"\n",
        b.corner.name
    );
    let text = std::fs::read_to_string(&file).unwrap() + &trigger;
    std::fs::write(&file, &text).unwrap();
    // Nothing on the topic: three documents at two a job are two jobs.
    let running = b.run(&["--worker", "ingestion"]);
    for _ in 0..2 {
        running.next("started");
    }
    let look = running.next("look");
    assert_eq!(
        (&look["others"][0]["documents"], &look["running"]),
        (&Value::from(3), &Value::from(2)),
        "{look}"
    );
    assert_eq!((&look["wanted"], &look["create"]), (&Value::from(2), &Value::from(0)), "{look}");
    // What was logged is decided alike once more.
    let events = running.stop();
    let log = dir.path().join("events.jsonl");
    std::fs::write(&log, events.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scalers"))
        .args(["simulate", "--decisions", log.to_str().unwrap(), file.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(", 0 decided otherwise"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_polling_interval_counts_at_once() {
    let mut b = Bench::new().await;
    let _dir = own_files(&mut b);
    let file = b.scalers.join("ingestion.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let every = |seconds: u32| {
        let text = text.replace("pollingInterval: 10", &format!("pollingInterval: {seconds}"));
        std::fs::write(&file, text).unwrap();
    };
    every(3600);
    b.poll = None;
    let running = b.run(&["--worker", "ingestion"]);
    running.next("look");
    every(1);
    running.next("reloaded");
    let at = |look: &Value| look["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (first, second, third) = (running.next("look"), running.next("look"), running.next("look"));
    let between = at(&third).duration_since(at(&second)).as_secs_f64();
    // A second, less what the first of the two took longer than the other.
    assert!((0.5..10.0).contains(&between), "{first} {second} {third}");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_lag_is_replayed() {
    let b = Bench::new().await;
    b.send(7).await;
    let trace = tempfile::NamedTempFile::new().unwrap();
    let run = |command: &mut std::process::Command| {
        let output = command.envs(b.corner.vars().iter().cloned()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let scalers = || std::process::Command::new(env!("CARGO_BIN_EXE_scalers"));
    let said = run(scalers()
        .args(["record", "ingestion", "--every", "100ms", "--for", "1s", "--out"])
        .arg(trace.path()));
    assert!(said.contains("looks in"), "{said}");
    let text = std::fs::read_to_string(trace.path()).unwrap();
    assert!(
        text.starts_with("time,partition,committed,latest\n") && text.lines().count() > 2,
        "{text}"
    );
    let args = ["simulate", "--json", "--trace", trace.path().to_str().unwrap()];
    let said = run(scalers().args(args).arg(common::scalers_dir().join("ingestion.yaml")));
    let outcome: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&outcome[0]["totals"]["messages"], &outcome[0]["totals"]["left"]),
        (&Value::from(7.0), &Value::from(0.0))
    );
}
