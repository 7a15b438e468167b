//! What stands in a document besides the facts that we know: tables, and labels with a value. For people, who see what a
//! reader saw and what to rename; nothing is concluded from it.

use messages::facts::Locator;
use serde::{Deserialize, Serialize};

use super::{csv, json, pdf, table_text, text, without_bytes, xlsx};
use crate::sniff::{Detected, Kind};

/// Sights of one document; the others are counted.
const MAX_SIGHTS: usize = 40;
/// Columns of a table that are named.
const MAX_COLUMNS: usize = 30;
/// Characters of a name or a value.
const MAX_TEXT: usize = 80;
/// Characters and words of a label; what is longer is a sentence.
const MAX_LABEL: (usize, usize) = (50, 6);

/// What was seen, bounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub sights: Vec<Sight>,
    /// How many more there are.
    pub more: u64,
}

/// One table, or one labelled value, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    #[serde(flatten)]
    pub what: What,
    pub locator: Locator,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum What {
    Table {
        columns: Vec<String>,
        /// The header not counted.
        rows: u64,
        /// Why no facts were taken from it.
        why: String,
    },
    Labelled {
        label: String,
        value: String,
    },
    /// How a text begins in which no label was seen.
    Text {
        begins: String,
    },
}

impl Seen {
    pub(super) fn table<'t>(&mut self, columns: impl Iterator<Item = &'t str>, rows: u64, why: String, locator: Locator) {
        let columns = columns.take(MAX_COLUMNS).map(short).collect();
        self.push(What::Table { columns, rows, why }, locator);
    }

    pub(super) fn labelled(&mut self, label: &str, value: &str, locator: Locator) {
        let (label, value) = (short(label), short(value));
        self.push(What::Labelled { label, value }, locator);
    }

    pub(super) fn text(&mut self, begins: &str, locator: Locator) {
        self.push(What::Text { begins: short(begins) }, locator);
    }

    fn push(&mut self, what: What, locator: Locator) {
        if self.sights.len() < MAX_SIGHTS {
            self.sights.push(Sight { what, locator });
        } else {
            self.more += 1;
        }
    }
}

/// Looks at a document. As with [`read`](super::read), strangers' bytes belong into a process of their own.
pub fn seen(detected: &Detected, bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    if without_bytes(detected, bytes.len() as u64).is_some() {
        return seen;
    }
    match detected.kind {
        Kind::Json => {
            if let Ok(text) = text(bytes) {
                json::see(text, &mut seen);
            }
        }
        Kind::Csv => {
            if let Ok((text, _)) = table_text(bytes) {
                csv::see(&text, &mut seen);
            }
        }
        Kind::Pdf => pdf::see(bytes, &mut seen),
        Kind::Zip => xlsx::see(bytes, &mut seen),
        Kind::Compound | Kind::Empty | Kind::Other => {}
    }
    seen
}

/// Whether a text may be the name of something.
pub(super) fn is_label(text: &str) -> bool {
    let (characters, words) = MAX_LABEL;
    text.starts_with(char::is_alphabetic) && text.chars().count() <= characters && text.split_whitespace().count() <= words
}

fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(kind: Kind, media_type: &str, text: &str) -> Seen {
        seen(&Detected::new(kind, media_type), text.as_bytes())
    }

    #[test]
    fn a_table_without_a_known_column_is_seen_and_one_that_is_read_is_not() {
        let seen = look(Kind::Csv, "text/csv", "color;peso\nrojo;1\nverde;2\n");
        let [Sight { what, locator }] = seen.sights.as_slice() else {
            panic!("{seen:?}")
        };
        assert!(matches!(what, What::Table { columns, rows: 2, why } if columns == &["color", "peso"] && why.contains("none")));
        assert_eq!(
            locator,
            &Locator::CsvCell {
                row: 0,
                column: String::new()
            }
        );
        let known = look(Kind::Csv, "text/csv", "campo;valor\nDirección;Calle Mayor 1\nbaños;2\n");
        assert_eq!(known, Seen::default());
    }

    #[test]
    fn the_members_of_any_json_object_are_seen_with_their_pointers() {
        let seen = look(
            Kind::Json,
            "application/json",
            r#"{"a/b": 7, "rows": [{"x": 1, "y": 2}, {"x": 3}], "none": null}"#,
        );
        let pointers: Vec<String> = seen.sights.iter().map(|s| format!("{:?}", s.locator)).collect();
        assert!(pointers[0].contains("/a~1b") && pointers[1].contains("/rows"), "{pointers:?}");
        assert!(matches!(&seen.sights[0].what, What::Labelled { value, .. } if value == "7"));
        assert!(matches!(&seen.sights[1].what, What::Table { columns, rows: 2, .. } if columns == &["x", "y"]));
        assert_eq!(seen.sights.len(), 2);
    }

    #[test]
    fn what_is_seen_has_an_end() {
        let members: Vec<String> = (0..1000).map(|n| format!("\"k{n}\": \"{}\"", "v".repeat(1000))).collect();
        let seen = look(Kind::Json, "application/json", &format!("{{{}}}", members.join(",")));
        assert_eq!((seen.sights.len(), seen.more), (MAX_SIGHTS, 960));
        assert!(serde_json::to_string(&seen).unwrap().len() < 10_000);
    }

    #[test]
    fn sentences_are_no_labels() {
        assert!(is_label("Fecha de emisión"));
        for text in ["", "1998", "- punto", "La superficie construida se mide según la norma de 2021"] {
            assert!(!is_label(text), "{text}");
        }
    }
}
