//! MongoDB: majority writes, every call bounded in time.

use std::future::Future;
use std::time::Duration;

use anyhow::anyhow;
use bson::serde_helpers::HumanReadable;
use bson::{Document, doc};
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, SelectionCriteria, WriteConcern};
use mongodb::{Client, Collection, Database, IndexModel};
use runtime::{Env, Reader, Secret};
use serde::Deserialize;

use crate::StoreError;
use crate::records::{AssetRecord, DocumentRecord, ValuationRecord};

/// How long a call may take, retries of the driver included.
const CALL: Duration = Duration::from_secs(10);
const WHAT: &str = "mongodb";

/// Where the database is.
#[derive(Debug, Clone)]
pub struct MongoConfig {
    pub uri: Secret,
    pub database: String,
}

#[derive(Deserialize)]
struct Raw {
    mongodb_uri: Option<String>,
    mongodb_database: Option<String>,
}

impl MongoConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: Raw = env.raw();
        let uri = r.required_secret("MONGODB_URI", raw.mongodb_uri);
        let database = r.with_default("MONGODB_DATABASE", raw.mongodb_database, "libertum");
        Some(Self {
            uri: uri?,
            database: database?,
        })
    }
}

/// The database. Cloning it shares the connections.
#[derive(Clone)]
pub struct Mongo {
    client: Client,
    db: Database,
}

impl Mongo {
    /// Makes a client; connections are made when they are needed.
    ///
    /// # Errors
    /// [`StoreError::Fault`] when the URI is malformed (the error does not quote it).
    pub async fn new(config: &MongoConfig) -> Result<Self, StoreError> {
        let malformed = |_| StoreError::Fault {
            what: WHAT,
            source: anyhow!("MONGODB_URI is not a MongoDB connection string"),
        };
        let mut options = ClientOptions::parse(config.uri.expose()).await.map_err(malformed)?;
        options.app_name.get_or_insert_with(|| "libertum".to_owned());
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        options.server_selection_timeout.get_or_insert(Duration::from_secs(5));
        options.max_pool_size.get_or_insert(32);
        let majority = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(CALL)
            .build();
        options.write_concern = Some(majority);
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary));
        let client = Client::with_options(options).map_err(malformed)?;
        let db = client.database(&config.database);
        Ok(Self { client, db })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn db(&self) -> &Database {
        &self.db
    }

    /// `assets`: one record an asset, `_id` is `tenant/asset id`. Each worker writes only its own section.
    pub fn assets(&self) -> Collection<HumanReadable<AssetRecord>> {
        self.db.collection("assets")
    }

    /// `documents`: one record a document, `_id` is `tenant/document id`.
    pub fn documents(&self) -> Collection<HumanReadable<DocumentRecord>> {
        self.db.collection("documents")
    }

    /// `valuations`: one record a set of inputs, `_id` is `tenant/inputs_sha256`.
    pub fn valuations(&self) -> Collection<HumanReadable<ValuationRecord>> {
        self.db.collection("valuations")
    }

    /// Makes a call, bounded in time.
    ///
    /// # Errors
    /// The driver's, divided by what to do about them.
    pub async fn call<T>(&self, action: impl Future<Output = mongodb::error::Result<T>>) -> Result<T, StoreError> {
        match tokio::time::timeout(CALL, action).await {
            Ok(result) => result.map_err(classify),
            Err(_) => Err(StoreError::Unavailable {
                what: WHAT,
                source: anyhow!("no answer within {} s", CALL.as_secs()),
            }),
        }
    }

    /// Creates a collection with a validator and indexes, or brings an existing one up to them. Idempotent.
    ///
    /// # Errors
    /// As [`Mongo::call`].
    pub async fn prepare(&self, name: &str, validator: Document, indexes: Vec<IndexModel>) -> Result<(), StoreError> {
        let created = self
            .call(async { self.db.create_collection(name).validator(validator.clone()).await })
            .await;
        match created {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => {
                self.call(async { self.db.run_command(doc! { "collMod": name, "validator": validator }).await })
                    .await?;
            }
            Err(e) => return Err(e),
        }
        if !indexes.is_empty() {
            self.call(async { self.db.collection::<Document>(name).create_indexes(indexes).await })
                .await?;
        }
        Ok(())
    }
}

/// Whether a write was refused because a unique index has the key already.
pub fn is_duplicate_key(error: &mongodb::error::Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(e)) => e.code == 11000,
        ErrorKind::Command(e) => e.code == 11000,
        ErrorKind::InsertMany(e) => e.write_errors.iter().flatten().any(|w| w.code == 11000),
        _ => false,
    }
}

/// Command codes that say "later": not primary, stepping down, shutting down, interrupted, network, write concern.
const TRANSIENT: [i32; 17] = [
    6, 7, 43, 50, 64, 89, 91, 112, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436,
];

fn classify(error: mongodb::error::Error) -> StoreError {
    let transient = |code: i32| TRANSIENT.contains(&code);
    let unavailable = match error.kind.as_ref() {
        ErrorKind::Io(_) | ErrorKind::ServerSelection { .. } | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } => {
            true
        }
        ErrorKind::Command(e) => transient(e.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(e)) => transient(e.code),
        ErrorKind::Write(WriteFailure::WriteError(e)) => transient(e.code),
        _ => error.contains_label("RetryableWriteError") || error.contains_label("TransientTransactionError"),
    };
    let refused = match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        // 13 Unauthorized, 18 AuthenticationFailed
        ErrorKind::Command(e) => matches!(e.code, 13 | 18),
        _ => false,
    };
    // 48 NamespaceExists
    let exists = is_duplicate_key(&error) || matches!(error.kind.as_ref(), ErrorKind::Command(e) if e.code == 48);
    if exists {
        StoreError::Conflict("a record".to_owned())
    } else if unavailable {
        StoreError::Unavailable {
            what: WHAT,
            source: error.into(),
        }
    } else if refused {
        StoreError::Refused {
            what: WHAT,
            source: error.into(),
        }
    } else {
        StoreError::Fault {
            what: WHAT,
            source: error.into(),
        }
    }
}
