//! TLS and SCRAM against the real broker: who is let in, and what those see who are not (case 11).
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bus::{KafkaConfig, Producer};
use messages::{AssetKey, DossierClosed, Outgoing, TraceParent, new_id, topics};
use testkit::{Corner, OwnStack, start_program, until};

const PATIENCE: Duration = Duration::from_secs(40);

async fn send(corner: &Corner) {
    let asset = AssetKey::new("demo".parse().unwrap(), "casa-1".parse().unwrap());
    let message = DossierClosed {
        asset_id: asset.asset_id.clone(),
        requested_by: "test".to_owned(),
        valuation_date: None,
    };
    let producer = Producer::new(&corner.read(KafkaConfig::read), "test").unwrap();
    let (now, trace) = (jiff::Timestamp::now(), TraceParent::root());
    let event = Outgoing::first(new_id(), "/test", "assets/casa-1".to_owned(), &asset, now, trace, &message);
    producer.send(&event).await.unwrap();
}

/// Runs the worker as a job: its exit code, what it did, what it logged.
async fn run(corner: &Corner) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let effects = folder.path().join("effects");
    let mut own = corner.clone_for_process();
    own.set("STEERED_EFFECTS", effects.to_string_lossy());
    own.set("IDLE_EXIT_MS", "0");
    let mut worker = start_program(&own, "examples/steered", &[], folder.path());
    until("the process ends", PATIENCE, async || worker.ended().is_some()).await;
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    (worker.ended().unwrap().code(), read("effects"), read("steered.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_works_and_who_is_not_ends_with_the_reason() {
    let stack = OwnStack::start().await;
    for corner in [stack.corner_over_tls(), stack.corner_of_user("admin")] {
        corner.create_topics().await;
        send(&corner).await;
        let (code, effects, log) = run(&corner).await;
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(effects.matches("done ").count(), 1, "{effects}");
        assert_eq!(corner.lag(topics::INGESTION).await, 0);
        scalers(&corner, None);
    }

    let mut wrong = stack.corner_of_user("admin");
    wrong.set("KAFKA_SASL_PASSWORD", "guessed");
    let stranger = stack.corner_of_user("stranger");
    let mut distrustful = stack.corner_over_tls();
    let folder = tempfile::tempdir().unwrap();
    distrustful.set("KAFKA_SSL_CA_LOCATION", other_authority(folder.path()));
    let user = "check KAFKA_SASL_USERNAME, its password and its ACLs";
    for (corner, expected, advice, of_scalers) in [
        (&wrong, 77, user, "KAFKA_SASL_USERNAME"),
        (&stranger, 77, user, "topic"),
        (&distrustful, 64, "check KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CA_LOCATION"),
    ] {
        let begun = Instant::now();
        let (code, effects, log) = run(corner).await;
        assert_eq!(code, Some(expected), "{log}");
        assert!(log.contains(advice), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}: {log}", begun.elapsed());
        assert_eq!(effects, "");
        scalers(corner, Some(of_scalers));
    }
}

/// A certificate of an authority that has signed nothing here.
fn other_authority(folder: &Path) -> String {
    let file = folder.join("other.pem");
    let made = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -days 2 -subj /CN=another -out".split(' '))
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file.to_string_lossy().into_owned()
}

/// What the scalers' tool makes of the same settings: it works, or fails and says this.
fn scalers(corner: &Corner, fails: Option<&str>) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let begun = Instant::now();
    let output = Command::new(testkit::program("scalers"))
        .args(["topics", if fails.is_none() { "apply" } else { "check" }])
        .current_dir(root)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.success(), fails.is_none(), "{said}");
    assert!(begun.elapsed() < PATIENCE, "{said}");
    assert!(fails.is_none_or(|word| said.contains(word)), "{said}");
}
