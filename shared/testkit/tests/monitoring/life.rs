//! What happens in the pool, so that there is something to read: its workers, and who comes to its door.

use std::time::Instant;

use futures::channel::oneshot;
use futures::{StreamExt as _, stream};
use messages::topics;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Method};
use tempfile::TempDir;
use testkit::{Mongod, Pool, Program, program, start_program, until};

use super::PATIENCE;

/// The four workers.
pub struct Workers {
    programs: Vec<(&'static str, Program)>,
    folder: TempDir,
}

impl Workers {
    /// Each has an address where it is looked at; backups are taken of a database of the test's own.
    pub async fn start(pool: &Pool, source: &Mongod, addresses: &[String]) -> Self {
        let mut all = Self {
            programs: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, address) in topics::WORK.into_iter().zip(addresses) {
            let mut corner = pool.corner.clone_for_process();
            corner.set("METRICS_ADDR", address);
            corner.set("WORKER_MODE", "service");
            if name == "backup" {
                corner.set("MONGODB_URI", &source.uri);
                if std::env::var_os("MONGO_TOOLS_DIR").is_none() {
                    corner.set("MONGO_TOOLS_DIR", program("examples/mongodump").parent().unwrap().to_string_lossy());
                }
                for args in [&["--prepare"][..], &["request", "--slot", "auto"]] {
                    let mut before = start_program(&corner, name, args, all.folder.path());
                    until("the backup is asked for", PATIENCE, async || before.ended().is_some()).await;
                    assert!(before.ended().unwrap().success(), "backup {args:?}: {}", all.log(name));
                }
            }
            let worker = start_program(&corner, name, &[], all.folder.path());
            all.programs.push((name, worker));
        }
        all
    }

    /// None has ended.
    pub fn all_run(&mut self) {
        let ended = self.programs.iter_mut().find_map(|(name, worker)| Some((*name, worker.ended()?)));
        if let Some((name, status)) = ended {
            panic!("{name} has ended, {status}: {}", self.log(name));
        }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

/// A sender that has the door's one place for uploads, and one who finds it taken: an error of ours.
pub async fn crowd(pool: &Pool) {
    let upload = |key: &str| {
        pool.request(Method::POST, "assets/casa-2/documents")
            .header("idempotency-key", key)
            .header("content-type", "text/csv")
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (go_on, rest) = oneshot::channel::<()>();
        let first = stream::once(async { Ok::<_, std::io::Error>("campo;valor\n") });
        let then = stream::once(async {
            rest.await.unwrap();
            Ok("moneda;EUR\n")
        });
        let slow = upload("slow").body(Body::wrap_stream(first.chain(then)));
        let slow = tokio::spawn(async move { slow.send().await.unwrap().status().as_u16() });
        let mut refused = false;
        while !refused && !slow.is_finished() {
            assert!(Instant::now() < deadline, "nobody finds the place for uploads taken");
            let answer = upload("other").body("campo;valor\n").send().await.unwrap();
            refused = answer.status().as_u16() == 503;
        }
        // The other one may have been there first, or be there still: then it is the slow one that is refused, and waits
        // for the rest of its body no more.
        let waits = go_on.send(()).is_ok();
        match (slow.await.unwrap(), refused && waits) {
            (202, true) => return,
            (503, _) => {}
            (status, _) => panic!("the slow upload is answered with {status}"),
        }
    }
}

/// Refusals, and reads from the database and from the cache.
pub async fn visit(pool: &Pool, document: &str) {
    // These take the place of what a request has by itself.
    let none = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer none"))]);
    let nobody = pool.request(Method::GET, "assets/casa-1").headers(none);
    for (request, status) in [
        (nobody, 401),
        (pool.request(Method::GET, "assets/never"), 404),
        (pool.request(Method::GET, "nothing"), 404),
        (pool.request(Method::DELETE, "assets/casa-1"), 405),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    for _ in 0..2 {
        assert_ne!(pool.document(document).await, serde_json::Value::Null);
    }
}
