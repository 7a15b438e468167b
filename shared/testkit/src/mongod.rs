//! A replica set of a test's own, to be dumped, restored into, stopped and wiped.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use tempfile::TempDir;

/// How long it may take to listen, and then to become primary.
const START: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(5);

/// The real mongod on a free port, a replica set of one; ends with the value.
pub struct Mongod {
    child: Child,
    pub uri: String,
    pub client: Client,
    _folder: TempDir,
}

impl Mongod {
    /// An empty replica set that takes writes.
    ///
    /// # Panics
    /// When there is no mongod, or it does not start.
    #[allow(clippy::expect_used)]
    pub async fn start() -> Self {
        let program = std::env::var_os("MONGOD").expect("MONGOD is not set: run scripts/test, or first: eval \"$(scripts/stack env)\"");
        let folder = tempfile::tempdir().expect("a folder for the test");
        // The port is free when this asks; another test could take it before mongod does, and then this one fails loudly.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        drop(listener);
        let child = Command::new(&program)
            .args(["--quiet", "--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--dbpath"])
            .arg(folder.path())
            .args([
                "--replSet",
                "test",
                "--oplogSize",
                "256",
                "--wiredTigerCacheSizeGB",
                "0.25",
                "--nounixsocket",
            ])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
        let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let mut options = ClientOptions::parse(&uri).await.expect("a well-formed address");
        options.server_selection_timeout = Some(CALL);
        let client = Client::with_options(options).expect("well-formed options");
        let server = Self {
            child,
            uri,
            client,
            _folder: folder,
        };
        server.initiate(port).await;
        server
    }

    #[allow(clippy::expect_used)]
    async fn initiate(&self, port: u16) {
        let admin = self.client.database("admin");
        let deadline = Instant::now() + START;
        let config = doc! { "_id": "test", "members": [{ "_id": 0, "host": format!("127.0.0.1:{port}") }] };
        loop {
            match admin.run_command(doc! { "replSetInitiate": &config }).await {
                Ok(_) => break,
                // 23 AlreadyInitialized: the answer to an earlier call was lost.
                Err(e) if e.to_string().contains("AlreadyInitialized") => break,
                Err(e) => assert!(Instant::now() < deadline, "mongod does not answer: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await.expect("mongod answers");
            if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                return;
            }
            assert!(Instant::now() < deadline, "mongod does not become primary");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Its data is thrown away: there is nothing to shut down in order.
        if self.child.kill().is_err() || self.child.wait().is_err() {
            eprintln!("mongod had ended already");
        }
    }
}
