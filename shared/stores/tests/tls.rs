//! TLS for real: two TLS providers in the tree, with none chosen, would panic at the first connection.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bson::doc;
use runtime::Secret;
use stores::{Cache, CacheConfig, Mongo, MongoConfig};

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
    (listening(Server(child), port), port)
}

fn mongod(folder: &Path) -> (Server, u16) {
    let program = std::env::var_os("MONGOD").expect("MONGOD is not set: run scripts/test, or first: eval \"$(scripts/stack env)\"");
    let port = free_port();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    std::fs::write(folder.join("both.pem"), read("server.key") + &read("server.pem")).unwrap();
    std::fs::create_dir(folder.join("data")).unwrap();
    let child = Command::new(program)
        .args(["--quiet", "--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--dbpath", "data"])
        .args([
            "--tlsMode",
            "requireTLS",
            "--tlsCertificateKeyFile",
            "both.pem",
            "--tlsCAFile",
            "ca.pem",
        ])
        .args([
            "--tlsAllowConnectionsWithoutCertificates",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.25",
        ])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (listening(Server(child), port), port)
}

fn listening(server: Server, port: u16) -> Server {
    let deadline = Instant::now() + Duration::from_secs(40);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    server
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

#[tokio::test]
async fn mongodb_is_reached_over_tls_and_only_when_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path());
    let (_server, port) = mongod(folder.path());
    let ping = async |settings: &str| {
        let config = MongoConfig {
            uri: Secret::new(format!("mongodb://127.0.0.1:{port}/?directConnection=true{settings}")),
            database: "test".to_owned(),
        };
        let mongo = Mongo::new(&config).await.unwrap();
        mongo.client().database("admin").run_command(doc! { "ping": 1 }).await.map(drop)
    };
    ping(&format!("&tls=true&tlsCAFile={}", ca.display())).await.unwrap();
    let doubted = ping("&tls=true").await.unwrap_err().to_string();
    assert!(doubted.to_lowercase().contains("certificate"), "{doubted}");
    ping("").await.unwrap_err();
}
