//! Real servers for tests: each test gets a name of its own in every one of them.
//!
//! The servers are those of `scripts/stack`; `scripts/test` starts them and sets the environment.
//! A development dependency: nothing in a worker's binary comes from here.

mod anvil;
mod clamd;
mod cleanup;
mod collector;
mod ledger;
mod mock_kafka;
mod mongod;
mod outcome;
mod own_stack;
mod pool;
mod ports;
mod program;
mod prometheus;
mod rights;
mod scaler;
mod topics;

pub use anvil::{Anvil, Chain};
pub use clamd::Clamd;
pub use collector::{Collector, SeenPoint, SeenSpan};
pub use ledger::{MemoryLedger, assert_keeps_books};
pub use mock_kafka::{BROKERS, MockError, MockKafka, Request};
pub use mongod::Mongod;
pub use outcome::WORKERS;
pub use own_stack::OwnStack;
pub use pool::{Pool, RECIPIENT, Submitted, UNITS};
pub use ports::addresses;
pub use program::{Program, binary as program, spawn as start_program, until};
pub use prometheus::Prometheus;
pub use rights::{On, Operation, Right, Rights};
pub use rustix::process::Signal;
pub use scaler::{Job, Scaler};
pub use topics::Seen;

use runtime::{Env, FromEnv, Reader};
use stores::{BlobConfig, Blobs, Cache, CacheConfig, Mongo, MongoConfig};
use uuid::Uuid;

/// A corner of the real servers that belongs to one test: a database, a prefix for topics and containers, a tenant.
pub struct Corner {
    /// Lower-case letters and digits, unique.
    pub name: String,
    vars: Vec<(String, String)>,
    /// What to give back at the end: servers that live on. Those of a test's own end with it.
    shared: Option<Env>,
}

impl Corner {
    /// A corner with nothing in it.
    ///
    /// # Panics
    /// When the servers' addresses are not in the environment.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        for name in ["KAFKA_BROKERS", "MONGODB_URI", "REDIS_URL", "BLOB_ENDPOINT", "EVM_RPC_URLS"] {
            assert!(
                std::env::var_os(name).is_some(),
                "{name} is not set: run scripts/test, or first: scripts/stack up && eval \"$(scripts/stack env)\""
            );
        }
        let mut corner = Self::of(std::env::vars().collect());
        corner.shared = Some(corner.env());
        corner
    }

    /// A corner of the servers that these variables lead to.
    pub(crate) fn of(mut vars: Vec<(String, String)>) -> Self {
        let id = Uuid::now_v7().simple().to_string();
        // The last digits are the random ones; the first only tell the time.
        let name: String = format!("t{}", id.chars().skip(16).collect::<String>());
        for (key, value) in [
            ("MONGODB_DATABASE", name.clone()),
            ("KAFKA_TOPIC_PREFIX", format!("{name}.")),
            ("BLOB_CONTAINER_PREFIX", format!("{name}-")),
            ("LOG_FORMAT", "json".to_owned()),
        ] {
            vars.push((key.to_owned(), value));
        }
        Self { name, vars, shared: None }
    }

    /// The environment of a process in this corner. Later settings win.
    pub fn vars(&self) -> &[(String, String)] {
        &self.vars
    }

    /// Sets a variable for the processes of this corner.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.vars.push((name.to_owned(), value.into()));
    }

    /// The same corner under settings of its own; what is in it goes with the first.
    pub fn clone_for_process(&self) -> Self {
        Self {
            name: self.name.clone(),
            vars: self.vars.clone(),
            shared: None,
        }
    }

    pub fn env(&self) -> Env {
        self.vars.iter().cloned().collect()
    }

    /// A configuration read from this corner's environment.
    ///
    /// # Panics
    /// When it is wrong; the message says how.
    pub fn config<C: FromEnv>(&self) -> C {
        self.read(C::read)
    }

    /// A part of a configuration.
    ///
    /// # Panics
    /// When it is wrong; the message says how.
    pub fn read<C>(&self, read: impl FnOnce(&Env, &mut Reader) -> Option<C>) -> C {
        let mut r = Reader::default();
        let config = read(&self.env(), &mut r);
        match r.finish(config) {
            Ok(config) => config,
            Err(e) => panic!("{e}"),
        }
    }

    /// This corner's database.
    ///
    /// # Panics
    /// When the address is malformed.
    #[allow(clippy::expect_used)]
    pub async fn mongo(&self) -> Mongo {
        Mongo::new(&self.read(MongoConfig::read))
            .await
            .expect("the stack's MONGODB_URI is well-formed")
    }

    /// This corner's containers.
    ///
    /// # Panics
    /// When the address is malformed.
    #[allow(clippy::expect_used)]
    pub fn blobs(&self) -> Blobs {
        Blobs::new(&self.read(BlobConfig::read)).expect("the stack's BLOB_ENDPOINT is well-formed")
    }

    /// The cache; its keys carry the tenant, so use this corner's name as the tenant.
    ///
    /// # Panics
    /// When the address is malformed.
    #[allow(clippy::expect_used)]
    pub fn cache(&self) -> Cache {
        Cache::new(&self.read(CacheConfig::read)).expect("the stack's REDIS_URL is well-formed")
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let Some(env) = self.shared.take() else { return };
        if std::thread::panicking() {
            eprintln!(
                "corner {} is kept, to be looked at; scripts/stack down --wipe clears all",
                self.name
            );
        } else {
            cleanup::give_back(self.name.clone(), env);
        }
    }
}
