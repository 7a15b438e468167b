//! `scalers run` while its broker goes away and comes back; the broker is the test's own.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use common::Bench;
use rustix::process::{Signal, kill_process};
use testkit::Corner;

/// Ports of a stack, counted from its base.
const PORTS: u16 = 13;
/// Places for a stack, 20 ports apart.
const PLACES: u32 = 100;

/// A broker of our own on free ports; its state goes with it.
struct Broker {
    dir: tempfile::TempDir,
    base: u16,
}

impl Broker {
    fn start() -> Self {
        // Below the ports that the system hands out by itself. Whoever looks for a place now begins elsewhere, and a
        // broker that is away for a while must find its place free again.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let begin = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) * 7);
        let mut places = (0..PLACES).map(|n| 25_000 + u16::try_from(begin.wrapping_add(n) % PLACES).unwrap() * 20);
        let base = places.find(|base| (0..PORTS).all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok()));
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
