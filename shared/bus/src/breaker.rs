//! The cap on dead letters: a bad deployment must not drain a healthy topic into them.
//!
//! The counts are kept by group and worker version in the ledger, so that twenty starts of a worker that fails at
//! every message write one cap's worth of letters and not twenty.

use std::sync::Arc;

use runtime::{Change, Entries, Ledger, LedgerDown};

use crate::KafkaConfig;
use crate::keeper::Keeper;

/// Why a version of a worker does not consume any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    pub version: String,
    /// When, and how many letters of how many messages.
    pub why: String,
}

/// What the breaker of a worker's group says: the versions that were stopped.
///
/// # Errors
/// When the ledger does not answer.
pub async fn trips(ledger: &dyn Ledger, kafka: &KafkaConfig, worker: &str) -> Result<Vec<Trip>, LedgerDown> {
    ledger.change(&book(kafka, worker), &[]).await.map(|said| all_trips(&said))
}

/// Lets every version of a worker consume again, with counts that start anew; tells which had been stopped.
///
/// # Errors
/// When the ledger does not answer.
pub async fn reset(ledger: &dyn Ledger, kafka: &KafkaConfig, worker: &str) -> Result<Vec<Trip>, LedgerDown> {
    let stopped = trips(ledger, kafka, worker).await?;
    ledger.change(&book(kafka, worker), &[Change::Clear]).await?;
    Ok(stopped)
}

fn book(kafka: &KafkaConfig, worker: &str) -> String {
    format!("{}/breaker", kafka.name(worker))
}

fn all_trips(said: &Entries) -> Vec<Trip> {
    said.iter()
        .filter_map(|(entry, why)| {
            entry.strip_prefix("trip@").map(|version| Trip {
                version: version.to_owned(),
                why: why.clone(),
            })
        })
        .collect()
}

/// The breaker of this process.
pub(crate) struct Breaker {
    keeper: Keeper,
    book: Arc<str>,
    version: &'static str,
}

impl Breaker {
    pub fn new(keeper: Keeper, kafka: &KafkaConfig, worker: &str, version: &'static str) -> Self {
        Self {
            keeper,
            book: book(kafka, worker).into(),
            version,
        }
    }

    /// Reads what earlier processes have left; why this version must not consume, when it must not.
    pub async fn open(&self) -> Option<Trip> {
        let said = self.keeper.change(&self.book, Vec::new()).await?;
        all_trips(&said).into_iter().find(|trip| trip.version == self.version)
    }
}
