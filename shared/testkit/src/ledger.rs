//! A ledger in memory, and what every ledger must do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use runtime::{Answer, Change, Entries, Ledger, LedgerDown};

/// A ledger for tests; clones share the books.
#[derive(Clone, Default)]
pub struct MemoryLedger(Arc<Books>);

#[derive(Default)]
struct Books {
    books: Mutex<HashMap<String, Entries>>,
    down: AtomicBool,
}

impl MemoryLedger {
    /// From now on it gives no answer, or does again.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::Relaxed);
    }

    /// What a book says, whether the ledger is down or not.
    pub fn book(&self, book: &str) -> Entries {
        let books = self.0.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.get(book).cloned().unwrap_or_default()
    }
}

impl Ledger for MemoryLedger {
    fn change<'a>(&'a self, book: &'a str, changes: &'a [Change]) -> Answer<'a> {
        Box::pin(async move {
            if self.0.down.load(Ordering::Relaxed) {
                return Err(LedgerDown("it was told to be down".to_owned()));
            }
            let mut books = self.0.books.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = books.entry(book.to_owned()).or_default();
            for change in changes {
                match change {
                    Change::Put(entry, value) => drop(entries.insert(entry.clone(), value.clone())),
                    Change::Add(entry, by) => {
                        let value = entries.entry(entry.clone()).or_insert_with(|| "0".to_owned());
                        let number: i64 = value.parse().map_err(|_| LedgerDown(format!("{entry} is not a number")))?;
                        *value = (number + by).to_string();
                    }
                    Change::Remove(entry) => drop(entries.remove(entry)),
                    Change::Clear => entries.clear(),
                }
            }
            Ok(entries.clone())
        })
    }
}

/// What every ledger must do; `book` is one that nobody else uses.
///
/// # Panics
/// When it does not.
#[allow(clippy::expect_used)]
pub async fn assert_keeps_books<L: Ledger + Clone>(ledger: L, book: &str) {
    let put = |entry: &str, value: &str| Change::Put(entry.to_owned(), value.to_owned());
    let add = |entry: &str, by| Change::Add(entry.to_owned(), by);
    let change = async |book: &str, changes: &[Change]| ledger.change(book, changes).await.expect("the ledger answers");
    let entries = |pairs: &[(&str, &str)]| -> Entries { pairs.iter().map(|(e, v)| ((*e).to_owned(), (*v).to_owned())).collect() };

    assert_eq!(
        change(book, &[]).await,
        Entries::new(),
        "a book that nobody has written in is empty"
    );
    let said = change(book, &[put("a", "1"), add("n", 2), put("a", "ñ"), add("n", -5)]).await;
    assert_eq!(
        said,
        entries(&[("a", "ñ"), ("n", "-3")]),
        "changes are made in order, and told at once"
    );
    assert_eq!(change(book, &[]).await, said, "what was written stays");

    let other = format!("{book}-other");
    assert_eq!(change(&other, &[put("b", "2")]).await, entries(&[("b", "2")]), "books do not meet");
    let removed = change(book, &[Change::Remove("a".to_owned()), Change::Remove("none".to_owned())]).await;
    assert_eq!(removed, entries(&[("n", "-3")]));
    assert_eq!(
        change(book, &[Change::Clear, put("c", "3")]).await,
        entries(&[("c", "3")]),
        "what follows a clearing stays"
    );

    let counting = (0..20).map(|_| {
        let ledger = ledger.clone();
        let book = book.to_owned();
        async move { ledger.change(&book, &[Change::Add("n".to_owned(), 1)]).await }
    });
    for counted in futures::future::join_all(counting).await {
        counted.expect("the ledger answers");
    }
    assert_eq!(change(book, &[]).await["n"], "20", "counting by several at a time loses none");
    for book in [book, &other] {
        assert_eq!(change(book, &[Change::Clear]).await, Entries::new());
    }
}
