//! `scalers check`: silent on our own files, and it finds every mistake that is planted in a right one.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use scalers::check::{Finding, RULES, check};
use scalers::engine::Version;

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A copy of our scalers and of the fixtures' documents, each a folder of its own kind.
fn folder(file: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    if fixture.exists() {
        std::fs::copy(fixture, dir.path().join(file)).unwrap();
        return dir;
    }
    for entry in std::fs::read_dir(ours()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// Plants a mistake: what the file says, what it says instead; the finding's id and a part of its message.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str);

const THRESHOLD: &str = "lagThreshold: \"20\"";
const TRIGGER: &str = "    - type: kafka\n      metadata:\n";

const MISTAKES: &[Mistake] = &[
    // What the API server refuses.
    ("ingestion.yaml", "spec:\n", "spec: [\n", "S01", ""),
    ("ingestion.yaml", "minReplicaCount: 0", "maxReplicaCount: 3", "S01", "twice"),
    ("ingestion.yaml", "maxReplicaCount: 12", "maxReplicaCount: \"12\"", "S02", "integer"),
    ("ingestion.yaml", "maxReplicaCount: 12", "maxReplicaCount: 0", "S02", "minimum"),
    ("ingestion.yaml", "pollingInterval: 10", "pollingInterval: 0", "S02", "minimum"),
    ("ingestion.yaml", "strategy: default", "strategy: fast", "S02", "fast"),
    ("ingestion.yaml", "strategy: gradual", "strategy: slowly", "S02", "slowly"),
    (
        "ingestion.yaml",
        "kind: ScaledJob",
        "kind: ScaledJobs",
        "S02",
        "did you mean ScaledJob?",
    ),
    ("ingestion.yaml", "keda.sh/v1alpha1", "keda.sh/v1", "S02", "keda.sh/v1alpha1"),
    ("ingestion.yaml", "name: ingestion\n", "name: Ingestion_1\n", "S02", "a-z"),
    (
        "feeder.yaml",
        "minReplicaCount: 0",
        "minReplicaCount: 11",
        "S02",
        "less than or equal",
    ),
    (
        "ingestion.yaml",
        "maxReplicaCount: 12",
        "maxReplicas: 12",
        "S03",
        "did you mean maxReplicaCount?",
    ),
    (
        "ingestion.yaml",
        "pollingInterval:",
        "pollInterval:",
        "S03",
        "did you mean pollingInterval?",
    ),
    ("ingestion.yaml", "  triggers:", "  trigger:", "S03", "did you mean triggers?"),
    (
        "pod.yaml",
        "activeDeadlineSeconds",
        "activeDeadlineSecond",
        "S03",
        "did you mean activeDeadlineSeconds?",
    ),
    // Parameters.
    ("ingestion.yaml", THRESHOLD, "lagThreshold: 20", "L01", "quotes"),
    ("ingestion.yaml", THRESHOLD, "lagThreshold: \"1e3\"", "L01", "whole number"),
    ("ingestion.yaml", THRESHOLD, "lagThreshold: \"010\"", "L01", "whole number"),
    ("ingestion.yaml", "tls: enable", "allowIdleConsumers: \"yes\"", "L01", "\"true\""),
    (
        "minting.yaml",
        "limitToPartitionsWithLag: \"true\"",
        "limitToPartitionsWithLag: true",
        "L01",
        "boolean",
    ),
    (
        "ingestion.yaml",
        "lagThreshold:",
        "lagTreshold:",
        "L02",
        "did you mean lagThreshold?",
    ),
    (
        "ingestion.yaml",
        "consumerGroup:",
        "consumergroup:",
        "L02",
        "did you mean consumerGroup?",
    ),
    (
        "ingestion.yaml",
        "tls: enable",
        "maxReplicaCount: \"3\"",
        "L02",
        "belongs under spec",
    ),
    ("ingestion.yaml", "type: kafka", "type: kafak", "L02", "did you mean kafka?"),
    (
        "ingestion.yaml",
        "tls: enable",
        "lagThresholdFromEnv: LAG",
        "L02",
        "from a variable",
    ),
    ("ingestion.yaml", "topic: ingestion", "topic: \"\"", "L03", "every topic"),
    ("ingestion.yaml", THRESHOLD, "lagThreshold: \"0\"", "L03", "1 or more"),
    (
        "ingestion.yaml",
        "activationLagThreshold: \"0\"",
        "activationLagThreshold: \"-1\"",
        "L03",
        "0 or more",
    ),
    (
        "ingestion.yaml",
        "offsetResetPolicy: earliest",
        "offsetResetPolicy: earlyest",
        "L03",
        "did you mean earliest?",
    ),
    ("ingestion.yaml", "tls: enable", "password: secret", "L03", "TriggerAuthentication"),
    ("ingestion.yaml", "        consumerGroup: ingestion\n", "", "L03", "needs it"),
    (
        "ingestion.yaml",
        "tls: enable",
        "partitionLimitation: \"5-1\"",
        "L03",
        "list of partitions",
    ),
    (
        "minting.yaml",
        "tls: enable",
        "allowIdleConsumers: \"true\"",
        "L04",
        "allowIdleConsumers",
    ),
    (
        "minting.yaml",
        "tls: enable",
        "ensureEvenDistributionOfPartitions: \"true\"",
        "L04",
        "ensureEven",
    ),
    // Limits, strategies, rollouts.
    (
        "ingestion.yaml",
        "maxReplicaCount: 12",
        "maxReplicaCount: 13",
        "L05",
        "13 jobs for 12 partitions",
    ),
    ("ingestion.yaml", "  maxReplicaCount: 12\n", "", "L05", "100"),
    (
        "ingestion.yaml",
        "minReplicaCount: 0",
        "minReplicaCount: 20",
        "L06",
        "above the maximum",
    ),
    ("ingestion.yaml", "minReplicaCount: 0", "minReplicaCount: 12", "L06", "never adds"),
    (
        "ingestion.yaml",
        "minReplicaCount: 0\n  maxReplicaCount: 12",
        "minReplicaCount: 5",
        "L06",
        "105",
    ),
    (
        "ingestion.yaml",
        "activationLagThreshold: \"0\"",
        "activationLagThreshold: \"5\"",
        "L07",
        "wait for ever",
    ),
    ("ingestion.yaml", "strategy: gradual", "strategy: immediate", "L08", "kills"),
    ("ingestion.yaml", "  rollout:\n    strategy: gradual\n", "", "L08", "kills"),
    (
        "ingestion.yaml",
        "  rollout:\n    strategy: gradual\n",
        "  rolloutStrategy: gradual\n",
        "L08",
        "deprecated",
    ),
    ("ingestion.yaml", "strategy: default", "strategy: accurate", "L09", "twice"),
    ("ingestion.yaml", "strategy: default", "strategy: eager", "L09", "twice"),
    (
        "ingestion.yaml",
        "strategy: default",
        "strategy: custom\n    customScalingQueueLengthDeduction: 1\n    customScalingRunningJobPercentage: \"0.5\"",
        "L09",
        "does not hold",
    ),
    (
        "ingestion.yaml",
        "strategy: default",
        "strategy: custom\n    customScalingQueueLengthDeduction: 1",
        "L09",
        "silently",
    ),
    (
        "pod.yaml",
        "libertum.io/exclusive: \"true\"",
        "libertum.io/commits: \"before\"",
        "L09",
        "does not contain",
    ),
    (
        "ingestion.yaml",
        "tls: enable",
        "excludePersistentLag: \"true\"",
        "L10",
        "longer than a poll",
    ),
    (
        "ingestion.yaml",
        "offsetResetPolicy: earliest",
        "offsetResetPolicy: latest",
        "L11",
        "auto.offset.reset is earliest",
    ),
    ("ingestion.yaml", "        offsetResetPolicy: earliest\n", "", "L11", "it is latest"),
    (
        "ingestion.yaml",
        "    - type: kafka\n",
        "    - type: kafka\n      metricType: Value\n",
        "L12",
        "never becomes ready",
    ),
    (
        "ingestion.yaml",
        "    - type: kafka\n",
        "    - type: kafka\n      useCachedMetrics: true\n",
        "L12",
        "ignores",
    ),
    (
        "ingestion.yaml",
        "  minReplicaCount: 0\n",
        "  cooldownPeriod: 60\n",
        "L12",
        "no such setting",
    ),
    (
        "ingestion.yaml",
        TRIGGER,
        "    - type: kafka\n      name: a\n      metadata:\n        bootstrapServersFromEnv: KAFKA_BROKERS\n        consumerGroup: ingestion\n        topic: ingestion\n        lagThreshold: \"20\"\n        offsetResetPolicy: earliest\n        version: \"2.8.0\"\n    - type: kafka\n      name: a\n      metadata:\n",
        "L12",
        "two triggers named a",
    ),
    (
        "minting.yaml",
        TRIGGER,
        "    - type: mongodb\n      metadata: { connectionStringFromEnv: M, dbName: l, collection: mint_items, query: \"{}\", queryValue: \"100\" }\n    - type: kafka\n      metadata:\n",
        "L13",
        "longest queue wins",
    ),
    (
        "ingestion.yaml",
        TRIGGER,
        "    - type: cron\n      metadata: { start: \"0 8 * * *\", end: \"0 9 * * *\", timezone: UTC, desiredReplicas: \"1\" }\n    - type: kafka\n      metadata:\n",
        "L14",
        "cron",
    ),
    (
        "feeder.yaml",
        "    - type: kafka\n",
        "    - type: kafka\n      authenticationRef: { name: own }\n",
        "L15",
        "workload identity",
    ),
    ("ingestion.yaml", "tls: enable", "fullMetadata: \"false\"", "L16", "2.21.0"),
    (
        "ingestion.yaml",
        "tls: enable",
        "ensureEvenDistributionOfPartitions: \"true\"",
        "L17",
        "",
    ),
    (
        "feeder.yaml",
        "libertum.io/partitions: \"10\"",
        "libertum.io/partitions: \"64\"",
        "L17",
        "",
    ),
    ("ingestion.yaml", "  failedJobsHistoryLimit: 10\n", "", "L18", "100"),
    (
        "ingestion.yaml",
        "failedJobsHistoryLimit: 10",
        "failedJobsHistoryLimit: 0",
        "L18",
        "nothing is left",
    ),
    (
        "pod.yaml",
        "    ttlSecondsAfterFinished: 600\n",
        "",
        "L18",
        "ttlSecondsAfterFinished",
    ),
    ("pod.yaml", "    activeDeadlineSeconds: 600\n", "", "L18", "hangs"),
    ("pod.yaml", "restartPolicy: Never", "restartPolicy: OnFailure", "L18", "Never"),
    (
        "pod.yaml",
        "safe-to-evict: \"false\"",
        "safe-to-evict: \"true\"",
        "L18",
        "autoscaler",
    ),
    (
        "pod.yaml",
        "name: nightly\n  annot",
        "name: nightly-0123456789-0123456789-0123456789-0123456789-0123456789\n  annot",
        "L18",
        "57",
    ),
    ("backup.yaml", "maxReplicaCount: 1", "maxReplicaCount: 2", "L19", "must never run"),
    ("backup.yaml", "strategy: default", "strategy: accurate", "L19", "only default"),
    ("pod.yaml", "parallelism: 1", "parallelism: 2", "L19", "must be 1"),
    (
        "pod.yaml",
        "libertum.io/partitions: \"1\"",
        "libertum.io/partitions: \"4\"",
        "L19",
        "4 partitions",
    ),
    ("feeder.yaml", "minReplicaCount: 0", "minReplicaCount: 2", "L20", "every 15 s"),
    ("feeder.yaml", "replicas: 2", "replicas: 20", "L20", "20 replicas"),
    ("ingestion.yaml", "        version: \"2.8.0\"\n", "", "L21", "1.0.0"),
    // Agreement.
    (
        "ingestion.yaml",
        "topic: ingestion",
        "topic: ingestionn",
        "A01",
        "did you mean ingestion?",
    ),
    (
        "topics.yaml",
        "name: minting.dead,",
        "name: mintings.dead,",
        "A02",
        "no topic minting.dead",
    ),
    (
        "topics.yaml",
        "name: minting.dead, partitions: 1",
        "name: minting.dead, partitions: 2",
        "A02",
        "2 partitions",
    ),
    (
        "topics.yaml",
        "name: valuation,",
        "name: valuations,",
        "A03",
        "worker valuation has no topic",
    ),
    (
        "ingestion.yaml",
        "consumerGroup: ingestion",
        "consumerGroup: ingest",
        "A04",
        "the file says ingestion",
    ),
    ("ingestion.yaml", "  name: ingestion\n", "  name: ingester\n", "A04", "ingester"),
    (
        "kustomization.yaml",
        "  - path: minting.yaml\n",
        "",
        "A05",
        "minting.yaml is not listed",
    ),
    ("kustomization.yaml", "minting.yaml", "mint.yaml", "A05", "mint.yaml is not there"),
    (
        "ingestion.yaml",
        "bootstrapServersFromEnv: KAFKA_BROKERS",
        "bootstrapServers: localhost:9092",
        "A07",
        "KAFKA_BROKERS",
    ),
    ("topics.yaml", "partitions: 12", "partitons: 12", "T01", "did you mean partitions?"),
    (
        "topics.yaml",
        "retentionBytes: 67108864, segmentBytes: 33554432, messagesPerHour: 6750",
        "retentionBytes: 671088640, segmentBytes: 33554432, messagesPerHour: 6750",
        "T02",
        "MiB",
    ),
    ("topics.yaml", "retentionHours: 168", "retentionHours: 48", "T03", "48 hours"),
    (
        "topics.yaml",
        "messagesPerHour: 6750",
        "messagesPerHour: 60000",
        "T04",
        "retentionBytes",
    ),
    (
        "topics.yaml",
        "promise: { outageHours: 72, messageBytes: 1024 }\n",
        "",
        "T05",
        "outage",
    ),
];

/// Mistakes that are found only under certain circumstances: the version of KEDA, the partitions, another document.
fn circumstances(file: &str, id: &str, text: &mut String, dir: &Path) {
    match (file, id) {
        ("feeder.yaml", "L15") => {
            let other = "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: { name: own }\nspec:\n  podIdentity: { provider: azure-workload }\n";
            std::fs::write(dir.join("own.yaml"), other).unwrap();
        }
        ("feeder.yaml", "L17") => *text = text.replace("maxReplicaCount: 10", "maxReplicaCount: 64"),
        ("ingestion.yaml", "L17") => {
            let topics = dir.join("topics.yaml");
            let changed = std::fs::read_to_string(&topics)
                .unwrap()
                .replacen("partitions: 12", "partitions: 13", 1);
            std::fs::write(topics, changed).unwrap();
        }
        _ => {}
    }
}

fn find(file: &str, dir: &Path, keda: Version) -> Vec<Finding> {
    check(dir, keda).unwrap_or_else(|e| panic!("{file}: {e:#}"))
}

#[test]
fn our_own_files_are_right() {
    let found = check(&ours(), Version::DEFAULT).unwrap();
    assert!(found.is_empty(), "{found:#?}");
    for fixture in ["feeder.yaml", "pod.yaml"] {
        let dir = folder(fixture);
        let found = find(fixture, dir.path(), Version::DEFAULT);
        assert!(found.is_empty(), "{fixture}: {found:#?}");
    }
}

#[test]
fn every_planted_mistake_is_found() {
    let mut missed = Vec::new();
    for (file, right, wrong, id, part) in MISTAKES {
        let dir = folder(file);
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{file} does not say {right}");
        let mut text = text.replacen(right, wrong, 1);
        circumstances(file, id, &mut text, dir.path());
        std::fs::write(&path, &text).unwrap();
        let found = find(file, dir.path(), Version::DEFAULT);
        if !found
            .iter()
            .any(|f| f.id == *id && (f.message.contains(part) || f.key.contains(part)))
        {
            let found: Vec<String> = found.iter().map(|f| format!("{} {}: {}", f.id, f.key, f.message)).collect();
            missed.push(format!("{file}: {wrong:?}: no {id} with {part:?} in {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(MISTAKES.len() >= 40);
}

#[test]
fn the_line_of_a_mistake_is_the_line_it_stands_on() {
    for (right, wrong, id) in [
        ("lagThreshold: \"20\"", "lagTreshold: \"20\"", "L02"),
        ("lagThreshold: \"20\"", "lagThreshold: 20", "L01"),
        ("maxReplicaCount: 12", "maxReplicaCount: \"12\"", "S02"),
        ("maxReplicaCount: 12", "maxReplicas: 12", "S03"),
        ("strategy: immediate", "strategy: immediate", "L08"),
    ] {
        let dir = folder("ingestion.yaml");
        let path = dir.path().join("ingestion.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text
            .replace("strategy: gradual", if id == "L08" { wrong } else { "strategy: gradual" })
            .replacen(right, wrong, 1);
        std::fs::write(&path, &text).unwrap();
        let found = find("ingestion.yaml", dir.path(), Version::DEFAULT);
        let line = text.lines().position(|l| l.contains(wrong)).unwrap() + 1;
        assert!(
            found.iter().any(|f| f.id == id && f.line == line),
            "{wrong}, line {line}: {found:#?}"
        );
    }
}

#[test]
fn every_rule_has_a_mistake_that_it_finds() {
    for (id, reason, fix) in RULES {
        // A06 wants a tree of manifests; it has a test of its own.
        let planted = id == "A06" || MISTAKES.iter().any(|m| m.3 == id);
        assert!(planted && !reason.is_empty() && !fix.is_empty(), "{id}");
    }
}

#[test]
fn a_worker_without_a_pod_is_told_and_a_pod_is_held_to_the_rules() {
    let root = tempfile::tempdir().unwrap();
    let (scalers, pods) = (root.path().join("scalers"), root.path().join("k8s/base/workers"));
    std::fs::create_dir_all(&scalers).unwrap();
    std::fs::create_dir_all(&pods).unwrap();
    let copied = folder("ingestion.yaml");
    for entry in std::fs::read_dir(copied.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, scalers.join(path.file_name().unwrap())).unwrap();
    }
    let ids = || -> Vec<(&'static str, String)> { find("", &scalers, Version::DEFAULT).into_iter().map(|f| (f.id, f.key)).collect() };
    assert_eq!(ids().iter().filter(|(id, _)| *id == "A06").count(), 4);
    let pod = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pod.yaml")).unwrap();
    for worker in messages::topics::WORK {
        std::fs::write(
            pods.join(format!("{worker}.yaml")),
            pod.replace("name: nightly", &format!("name: {worker}")),
        )
        .unwrap();
    }
    assert_eq!(ids(), []);
    std::fs::write(
        pods.join("backup.yaml"),
        pod.replace("name: nightly", "name: backup")
            .replace("parallelism: 1", "parallelism: 2"),
    )
    .unwrap();
    assert_eq!(ids(), [("L19", "spec.jobTargetRef.parallelism".to_owned())]);
}

#[test]
fn what_a_version_of_keda_does_not_know_is_told() {
    for (version, right, wrong, part) in [
        ("2.20.1", "strategy: default", "strategy: default", "refuses the word default"),
        ("2.14.1", "strategy: default", "strategy: eager", "eager came with KEDA 2.15.0"),
        ("2.17", "tls: enable", "ensureEvenDistributionOfPartitions: \"true\"", "2.18.0"),
        ("2.12", "tls: enable", "limitToPartitionsWithLag: \"true\"", "2.13.0"),
        ("2.14", "tls: enable", "scaleToZeroOnInvalidOffset: \"true\"", "2.15.0"),
        ("2.7", "minReplicaCount: 0", "minReplicaCount: 0", "2.8.0"),
        (
            "2.20.1",
            "strategy: default",
            "strategy: custom\n    customScalingRunningJobPercentage: \"1\"",
            "panics",
        ),
    ] {
        let dir = folder("ingestion.yaml");
        let path = dir.path().join("ingestion.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let found = find("", dir.path(), version.parse().unwrap());
        assert!(
            found.iter().any(|f| f.id == "L16" && f.message.contains(part)),
            "{version} {wrong}: {found:#?}"
        );
    }
}

#[test]
fn the_command_ends_with_1_for_any_finding_and_speaks_json() {
    let run = |args: &[&str], path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_scalers"))
            .arg("check")
            .arg(path)
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said.into_owned())
    };
    let (code, said) = run(&[], &ours());
    assert!(code == Some(0) && said.contains("nothing found"), "{said}");
    assert_eq!(run(&["--json"], &ours()), (Some(0), "[]\n".to_owned()));
    let dir = folder("feeder.yaml");
    let path = dir.path().join("feeder.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("replicas: 2", "replicas: 20")).unwrap();
    // A warning is enough, and one file is a path too.
    let (code, said) = run(&["--json"], &path);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &json[0]["id"], &json[0]["level"]),
        (Some(1), &"L20".into(), &"warning".into())
    );
    let (code, said) = run(&[], &path);
    assert!(code == Some(1) && said.contains("feeder.yaml:17:5: warning L20"), "{said}");
    let (code, said) = run(&[], &dir.path().join("nobody.yaml"));
    assert!(code == Some(64) && said.contains("nobody.yaml"), "{said}");
    let (code, said) = run(&["--keda-version", "4"], &path);
    assert!(code == Some(2) && said.contains("not a version of KEDA"), "{said}");
}

#[test]
fn the_promise_of_the_readme_is_the_one_that_is_checked() {
    let readme = std::fs::read_to_string(ours().join("README.md")).unwrap();
    let text = std::fs::read_to_string(ours().join("topics.yaml")).unwrap();
    let promise = scalers::topics::parse_file(&text).unwrap().promise.unwrap();
    assert!(readme.contains(&format!("an outage of {} hours", promise.outage_hours)));
}
