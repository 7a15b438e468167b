//! What outlives a process: small books of entries in which it leaves word for the one that comes after it.
//!
//! The port is here because neither side may know the other: the loop writes the books, a store keeps them, and a
//! worker's `main` joins the two.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

/// The entries of a book. Books are small: what is in one is read whole.
pub type Entries = BTreeMap<String, String>;

/// What a ledger answers.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Entries, LedgerDown>> + Send + 'a>>;

/// A change of one book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets an entry.
    Put(String, String),
    /// Adds to an entry that is a number; one that is not there counts as 0.
    Add(String, i64),
    /// Drops an entry, if there is one.
    Remove(String),
    /// Drops all entries.
    Clear,
}

/// Keeps books. What it forgets, or cannot say, makes work slower and never wrong: whoever asks goes on without.
pub trait Ledger: Send + Sync + 'static {
    /// Makes all changes at once, in their order, and tells what the book says then; without changes, what it says.
    ///
    /// Changes by several processes do not mix. An answer, or an error, comes within half a second.
    fn change<'a>(&'a self, book: &'a str, changes: &'a [Change]) -> Answer<'a>;
}

/// The ledger did not answer. Whether the changes were made is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ledger does not answer: {0}")]
pub struct LedgerDown(pub String);
