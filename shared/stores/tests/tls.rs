//! TLS for real: two TLS providers in the tree, with none chosen, would panic at the first connection.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runtime::Secret;
use stores::{Cache, CacheConfig};

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if self.0.kill().is_err() || self.0.wait().is_err() {
            eprintln!("the server had ended already");
        }
    }
}

fn openssl(folder: &Path, args: &str) {
    let run = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(folder)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(run.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A certificate authority, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path) -> PathBuf {
    std::fs::write(folder.join("san.cnf"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
    );
    openssl(
        folder,
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san.cnf",
    );
    folder.join("ca.pem")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn redis(folder: &Path) -> (Server, u16) {
    let port = free_port();
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let child = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-auth-clients",
            "no",
        ])
        .args([
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
        ])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is on the PATH: scripts/doctor");
    let server = Server(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "redis does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    (server, port)
}

#[tokio::test]
async fn redis_is_reached_over_tls_and_only_when_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path());
    let (_server, port) = redis(folder.path());
    let config = |ca_location| CacheConfig {
        url: Secret::new(format!("rediss://127.0.0.1:{port}/")),
        ca_location,
    };
    let trusting = Cache::new(&config(Some(ca))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while trusting.get("k").await.is_none() {
        assert!(Instant::now() < deadline, "nothing was kept over TLS");
        trusting.put("k", b"v").await;
    }
    assert_eq!(trusting.get("k").await.as_deref(), Some(b"v".as_slice()));

    let doubting = Cache::new(&config(None)).unwrap();
    assert_eq!(doubting.get("k").await, None, "a certificate of an unknown authority was taken");
}
