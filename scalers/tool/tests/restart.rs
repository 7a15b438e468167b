//! `scalers run` while its broker goes away and comes back; the broker is the test's own.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use common::Bench;
use rustix::process::{Signal, kill_process};
use testkit::Corner;

/// A broker of our own on free ports; its state goes with it.
struct Broker {
    dir: tempfile::TempDir,
    base: u16,
}

impl Broker {
    fn start() -> Self {
        // Below the ports that the system hands out by itself.
        let base = (0..40)
            .map(|n| 28_100 + n * 20)
            .find(|base| (0..12).all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok()));
        let broker = Self {
            dir: tempfile::tempdir().unwrap(),
            base: base.unwrap(),
        };
        broker.stack(&["up"]);
        broker
    }

    fn stack(&self, args: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/stack");
        let output = Command::new(script)
            .args(args)
            .env_remove("KAFKA_BROKERS")
            .env_remove("KAFKA_SECURITY_PROTOCOL")
            .env("STACK_DIR", self.dir.path().join("stack"))
            .env("STACK_PORT_BASE", self.base.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/stack {args:?}: {said}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stack(&["down", "--wipe"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_and_comes_back_is_waited_for() {
    let broker = Broker::start();
    let mut corner = Corner::new();
    corner.set("KAFKA_BROKERS", format!("127.0.0.1:{}", broker.base));
    let b = Bench::of(corner).await;
    let running = b.run(&["--worker", "ingestion"]);
    b.send(1).await;
    running.next("started");
    assert_eq!(running.next("ended")["exit_code"], 0);

    broker.stack(&["down"]);
    running.next("look_failed");
    broker.stack(&["up"]);
    running.next("look_succeeded");
    b.send(2).await;
    running.next("started");
    assert_eq!(running.next("ended")["exit_code"], 0);
    assert_eq!(b.lag(), 0);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.end().0, Some(0));
}
