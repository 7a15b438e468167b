//! The engine against figures that were taken from KEDA's own functions (2.20.2), figures that follow from its rules, and
//! properties that must hold.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use scalers::engine::{Calculation, Jobs, Kafka, Limits, Memory, Partition, ScaledJob, Strategy, Version};

fn vectors(file: &Path) -> (bool, String) {
    let example = Path::new(env!("CARGO_BIN_EXE_scalers")).parent().unwrap().join("examples/vectors");
    assert!(example.is_file(), "{} is built by: cargo test -p scalers", example.display());
    let output = Command::new(example).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn every_vector_comes_out() {
    for (name, count) in [("vectors.json", 41), ("vectors-rules.json", 89)] {
        let (passed, said) = vectors(&file(name));
        assert!(
            passed && said.ends_with(&format!("{count} of {count} vectors pass\n")),
            "{name}: {said}"
        );
    }
}

#[test]
fn a_vector_that_is_wrong_or_not_understood_fails() {
    let text = std::fs::read_to_string(file("vectors.json")).unwrap();
    let right: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = right.clone();
    for vector in &mut wrong {
        let expected = vector["expected"].as_object_mut().unwrap();
        let name = ["jobs", "desired", "total"]
            .into_iter()
            .find(|n| expected.contains_key(*n))
            .unwrap();
        expected[name] = (expected[name].as_i64().unwrap() + 1).into();
    }
    let mut unknown = right[..1].to_vec();
    unknown[0]["inputs"]["lagTreshold"] = 5.into();
    let mut idle = right[..1].to_vec();
    idle[0]["expected"] = serde_json::json!({});
    for (vectors_of, says) in [(wrong, "0 of 41"), (unknown, "0 of 1"), (idle, "0 of 1"), (vec![], "0 of 0")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::to_string(&vectors_of).unwrap()).unwrap();
        let (passed, said) = vectors(file.path());
        assert!(!passed && said.contains(says), "{said}");
    }
}

#[test]
fn jobs_never_exceed_a_maximum_that_the_partitions_allow() {
    let trigger = Kafka {
        lag_threshold: 7,
        ..Kafka::default()
    };
    let job = ScaledJob {
        keda: Version::DEFAULT,
        limits: Limits { min: None, max: Some(12) },
        calculation: Calculation::Max,
        strategy: Strategy::Default,
    };
    for lag in 0..200 {
        for running in 0..=12 {
            let lags = [lag, 0, lag, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            let partitions = lags.map(|lag| Partition {
                committed: Some(100),
                end: Some(100 + lag),
                start: Some(0),
            });
            let reading = trigger.read(job.keda, &partitions, &mut Memory::default());
            let d = job.decide(&[reading.measured(&trigger)], reading.bound, Jobs { running, pending: 0 });
            assert!(running + d.create <= 12 && d.create >= 0, "lag {lag}, {running} running: {d:?}");
        }
    }
}
