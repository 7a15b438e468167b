//! The ledger as the loop uses it: changes in their order, and never a reason to stop.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Change, Entries, Ledger, Tally};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// A ledger that promises an answer within half a second, and breaks its promise, is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Hands changes to the ledger, one after the other. Clones share the queue, which is as long as there are messages
/// in flight at most: whoever asks waits for the answer, or says one thing a second.
#[derive(Clone)]
pub(crate) struct Keeper(mpsc::UnboundedSender<Asked>);

struct Asked {
    book: Arc<str>,
    changes: Vec<Change>,
    answer: oneshot::Sender<Option<Entries>>,
}

impl Keeper {
    /// Ends with the last clone.
    pub fn start(ledger: Arc<dyn Ledger>, tally: Tally) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(keep(ledger, tally, asked));
        Self(asks)
    }

    pub fn book(&self, name: String) -> Book {
        Book {
            keeper: self.clone(),
            name: name.into(),
        }
    }
}

/// A book of the ledger.
#[derive(Clone)]
pub(crate) struct Book {
    keeper: Keeper,
    name: Arc<str>,
}

impl Book {
    /// Changes it and tells what it says then; `None` when the ledger does not. The change is in its place behind
    /// all earlier ones when this returns; the answer need not be waited for.
    pub fn change(&self, changes: Vec<Change>) -> impl Future<Output = Option<Entries>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            book: self.name.clone(),
            changes,
            answer,
        };
        let sent = self.keeper.0.send(asked).is_ok();
        async move { if sent { answered.await.ok().flatten() } else { None } }
    }
}

async fn keep(ledger: Arc<dyn Ledger>, tally: Tally, mut asked: mpsc::UnboundedReceiver<Asked>) {
    let mut down = false;
    while let Some(Asked { book, changes, answer }) = asked.recv().await {
        let said = match tokio::time::timeout(PATIENCE, ledger.change(&book, &changes)).await {
            Ok(said) => said.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no answer from the ledger within {} s", PATIENCE.as_secs())),
        };
        match &said {
            Ok(_) if down => info!("the ledger answers again"),
            Ok(_) => {}
            Err(error) => {
                tally.ledger_failures.add(1);
                if !down {
                    warn!(
                        error,
                        "going on without the ledger: deaths of processes are not counted, and dead letters only within this process"
                    );
                }
            }
        }
        down = said.is_err();
        // Who asked may not want to know.
        drop(answer.send(said.ok()));
    }
}
