//! From a document's bytes to what it says, behind one function.
//!
//! [`read`] knows no network, no store and no clock, and its answer is plain data: it can run in this process, in a
//! command for people, or in a child process with limits of its own.

mod comparable;
mod csv;
mod dialect;
mod headers;
mod json;

use messages::facts::Locator;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sniff::{Detected, Kind};

pub(crate) use dialect::delimiter;

/// Bytes of a JSON document that is read; it is held in memory and walked level by level.
pub const MAX_JSON: u64 = 8 * 1024 * 1024;
/// Bytes of a CSV document that is read.
pub const MAX_CSV: u64 = 64 * 1024 * 1024;
/// Rows of a CSV document, the header not counted.
pub const MAX_ROWS: u64 = 200_000;
/// Columns of a CSV document.
pub const MAX_COLUMNS: usize = 10_000;
/// Bytes of one CSV field.
pub const MAX_FIELD: usize = 1024 * 1024;
/// Comparables of one document, and of one dossier: with their provenance they must fit a 16 MiB record.
pub const MAX_COMPARABLES: usize = 10_000;
/// Objects and lists within each other in a JSON document.
pub const MAX_DEPTH: usize = 64;
/// Lines of a list of problems; the rest is counted.
const MAX_LINES: usize = 50;

/// A fact as a document states it, before it is known which document that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// A path into the fact sheet; `market.comparables[]` for a row of that list.
    pub path: String,
    /// Checked against [`crate::fields`].
    pub value: Value,
    pub locator: Locator,
}

/// A list of short texts that does not grow without end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    lines: Vec<String>,
    more: u64,
}

impl Lines {
    pub fn push(&mut self, line: impl Into<String>) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line.into());
        } else {
            self.more += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, and last how many more there were.
    pub fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The reader's name and version.
    pub extractor: String,
    pub facts: Vec<Found>,
    /// What could not be read, each with its place, in words.
    pub problems: Lines,
    /// What was not looked at.
    pub notes: Lines,
}

impl Facts {
    fn by(extractor: &str) -> Self {
        Self {
            extractor: extractor.to_owned(),
            facts: Vec::new(),
            problems: Lines::default(),
            notes: Lines::default(),
        }
    }
}

/// A code for a program and a text for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: String,
    pub text: String,
}

impl Refusal {
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }

    fn malformed(text: impl Into<String>) -> Self {
        Self::new("malformed", text)
    }

    fn too_large(text: impl Into<String>) -> Self {
        Self::new("too-large-to-read", text)
    }
}

/// How reading a document ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reading {
    Facts(Facts),
    /// A sound document that we do not know how to read.
    NotRead(Refusal),
    /// A document that is broken, or past a limit.
    Rejected(Refusal),
}

/// The most bytes of a kind that are read; `None` for a kind that is stored only.
pub fn limit(kind: Kind) -> Option<u64> {
    match kind {
        Kind::Json => Some(MAX_JSON),
        Kind::Csv => Some(MAX_CSV),
        Kind::Empty | Kind::Other => None,
    }
}

/// What can be said of a document from its kind and size alone, before its bytes are held in memory; `None`: read it.
pub fn without_bytes(detected: &Detected, size: u64) -> Option<Reading> {
    match (detected.kind, limit(detected.kind)) {
        (Kind::Empty, _) => Some(Reading::Rejected(Refusal::new("empty", "the file has no bytes"))),
        (_, None) => Some(Reading::NotRead(Refusal::new(
            "not-read-yet",
            format!(
                "the document is stored, but files of the type {} are not read yet: no facts were taken from it",
                detected.media_type
            ),
        ))),
        (_, Some(limit)) if size > limit => Some(Reading::Rejected(Refusal::too_large(format!(
            "the file has {size} bytes; of the type {} at most {limit} are read: send it in parts",
            detected.media_type
        )))),
        (_, Some(_)) => None,
    }
}

/// Reads a whole document. Never panics, whatever the bytes are.
pub fn read(detected: &Detected, bytes: &[u8]) -> Reading {
    if let Some(reading) = without_bytes(detected, bytes.len() as u64) {
        return reading;
    }
    let read = match detected.kind {
        Kind::Json => text(bytes).and_then(json::read),
        Kind::Csv => text(bytes).and_then(csv::read),
        Kind::Empty | Kind::Other => return Reading::NotRead(Refusal::new("not-read-yet", "files of this type are not read yet")),
    };
    read.unwrap_or_else(Reading::Rejected)
}

/// The bytes as UTF-8, without the byte order mark that spreadsheets write.
fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let refused = |line: usize| {
        Refusal::new(
            "not-utf-8",
            format!("line {line} is not UTF-8: save the file as UTF-8 (in Excel: “CSV UTF-8”) and send it again"),
        )
    };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(refused(1));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        refused(1 + before.iter().filter(|b| **b == b'\n').count())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_said_with_its_line() {
        let csv = Detected::new(Kind::Csv, "text/csv");
        for bytes in [b"id;ba\xf1os\n1;2\n".as_slice(), b"a;b\n1;2\n3;\xe9\n", b"\xff\xfea\0;\0b\0"] {
            let Reading::Rejected(refusal) = read(&csv, bytes) else {
                panic!("{bytes:?} was read")
            };
            assert_eq!(refusal.code, "not-utf-8");
            assert!(refusal.text.contains("line"), "{}", refusal.text);
        }
    }

    #[test]
    fn a_list_of_problems_has_an_end() {
        let mut lines = Lines::default();
        for n in 0..1000 {
            lines.push(format!("problem {n}"));
        }
        let lines = lines.finish();
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(lines.last().unwrap(), "and 950 more");
    }

    #[test]
    fn size_and_kind_decide_before_a_byte_is_held() {
        assert!(
            matches!(without_bytes(&Detected::new(Kind::Json, "application/json"), MAX_JSON + 1),
            Some(Reading::Rejected(r)) if r.code == "too-large-to-read")
        );
        assert!(without_bytes(&Detected::new(Kind::Csv, "text/csv"), MAX_CSV).is_none());
        assert!(matches!(without_bytes(&Detected::new(Kind::Other, "application/pdf"), 5 << 30),
            Some(Reading::NotRead(r)) if r.code == "not-read-yet" && r.text.contains("application/pdf")));
        assert!(matches!(
            without_bytes(&Detected::new(Kind::Empty, "application/x-empty"), 0),
            Some(Reading::Rejected(_))
        ));
    }
}
