//! A sale, whatever it was read from: a row of a table or an object in JSON.

use serde_json::Value;

use crate::fields::COMPARABLES;
pub(super) use crate::fields::{CURRENCY, Column};

pub(super) const PRICE: &str = COMPARABLES.money;
pub(super) const COLUMNS: &[Column] = COMPARABLES.columns;

/// Makes a comparable from the text of its columns; empty text is no value.
///
/// # Errors
/// Everything that is wrong with it, each in words that begin with the column's name.
pub(super) fn comparable<'t>(text_of: impl Fn(&'static str) -> Option<&'t str>) -> Result<Value, Vec<String>> {
    COMPARABLES.row(text_of)
}
