//! The program itself: its flags, its configuration, its health, its end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::House;

fn program(house: &House) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intake"));
    command.env_clear().envs(house.corner.vars().iter().map(|(n, v)| (n, v)));
    command.env("RUST_LOG", "info").env("HTTP_ADDR", "127.0.0.1:0").env("NO_PROXY", "*");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_says_so_and_ends_with_0_when_told_to_stop() {
    let house = House::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = program(&house)
        .env("METRICS_ADDR", free.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address = listening(&mut child);
    let ask = async |url: String| house.http.get(url).send().await.map(|r| r.status().as_u16()).unwrap_or(0);
    assert_eq!(ask(format!("http://{address}/openapi.json")).await, 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(format!("http://{free}/healthz/ready")).await != 200 {
        assert!(Instant::now() < deadline, "it never gets ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(format!("http://{free}/metrics")).await, 200);
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(ended(&mut child), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_it_with_64_and_every_mistake() {
    let house = House::new().await;
    let output = program(&house)
        .arg("--check-config")
        .env("OIDC_JWKS_URL", "http://login.example/keys")
        .env("TENANTS_FILE", "/nowhere/tenants.json")
        .env("MAX_DOCUMENT_BYTES", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(64), "{text}");
    for part in ["OIDC_JWKS_URL", "https", "/nowhere/tenants.json", "MAX_DOCUMENT_BYTES"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let good = program(&house).arg("--check-config").output().unwrap();
    assert_eq!(good.status.code(), Some(0));
    let prepared = program(&house).arg("--prepare").output().unwrap();
    assert_eq!(prepared.status.code(), Some(0), "preparing again is no mistake");
}

/// The address in the log line that says that requests are taken.
fn listening(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.take().unwrap());
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == "taking requests" {
            return line["addr"].as_str().unwrap().to_owned();
        }
    }
    panic!("it ended without taking requests")
}

fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
