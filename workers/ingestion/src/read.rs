//! From a document's bytes to what it says, behind one function.
//!
//! [`read`] knows no network, no store and no clock, and its answer is plain data: it can run in this process, in a
//! command for people, or in a child process with limits of its own.

mod csv;
mod dialect;
mod headers;
mod json;
mod pdf;
mod seen;
mod table;
mod xlsx;

use std::borrow::Cow;

use messages::facts::Locator;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sniff::{Detected, Kind};

pub(crate) use dialect::delimiter;
pub use seen::{Seen, seen};

/// Bytes of a JSON document that is read; it is held in memory and walked level by level.
pub const MAX_JSON: u64 = 8 * 1024 * 1024;
/// Bytes of a CSV document that is read.
pub const MAX_CSV: u64 = 64 * 1024 * 1024;
/// Bytes of a PDF document that is read.
pub const MAX_PDF: u64 = 64 * 1024 * 1024;
/// Bytes of a workbook that is read, as it is packed.
pub const MAX_XLSX: u64 = 32 * 1024 * 1024;
/// Bytes of any document that is read.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
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

    /// Adds the lines of another list.
    fn append(&mut self, other: Self) {
        self.more += other.more;
        other.lines.into_iter().for_each(|line| self.push(line));
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
    /// A document that is encrypted: without its password nobody can read it.
    NeedsPassword(Refusal),
    /// A document that looks like an attack, or whose reader did not survive it: for a person to look at.
    Quarantined(Refusal),
}

/// The most bytes of a kind that are read; `None` for a kind that is stored only.
pub fn limit(kind: Kind) -> Option<u64> {
    match kind {
        Kind::Json => Some(MAX_JSON),
        Kind::Csv => Some(MAX_CSV),
        Kind::Pdf => Some(MAX_PDF),
        Kind::Zip | Kind::Compound => Some(MAX_XLSX),
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
        // A bundle of scans is of use to people even so.
        (Kind::Pdf | Kind::Zip | Kind::Compound, Some(limit)) if size > limit => Some(Reading::NotRead(Refusal::too_large(format!(
            "the document is stored, but no facts were taken from it: it has {size} bytes; of the type {} at most {limit} are read",
            detected.media_type
        )))),
        (_, Some(limit)) if size > limit => Some(Reading::Rejected(Refusal::too_large(format!(
            "the file has {size} bytes; of the type {} at most {limit} are read: send it in parts",
            detected.media_type
        )))),
        (_, Some(_)) => None,
    }
}

/// Reads a whole document. PDF and workbooks go through parsers that strangers' bytes can break: call it for them in
/// a process of its own only.
pub fn read(detected: &Detected, bytes: &[u8]) -> Reading {
    if let Some(reading) = without_bytes(detected, bytes.len() as u64) {
        return reading;
    }
    let read = match detected.kind {
        Kind::Json => text(bytes).and_then(json::read),
        Kind::Csv => table_text(bytes).and_then(|(text, note)| {
            let mut reading = csv::read(&text)?;
            if let (Reading::Facts(facts), Some(note)) = (&mut reading, note) {
                facts.notes.push(note);
            }
            Ok(reading)
        }),
        Kind::Pdf => pdf::read(bytes),
        Kind::Zip => xlsx::read(bytes),
        Kind::Compound => Ok(compound(bytes)),
        Kind::Empty | Kind::Other => return Reading::NotRead(Refusal::new("not-read-yet", "files of this type are not read yet")),
    };
    read.unwrap_or_else(Reading::Rejected)
}

/// The bytes as UTF-8, without the byte order mark that spreadsheets write.
fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        not_utf8(1 + before.iter().filter(|b| **b == b'\n').count())
    })
}

fn not_utf8(line: usize) -> Refusal {
    Refusal::new(
        "not-utf-8",
        format!("line {line} is not UTF-8: save the file as UTF-8 (in Excel: “CSV UTF-8”) and send it again"),
    )
}

/// The bytes of a table as text, and a note when they were not UTF-8: spreadsheets on Windows write UTF-16 behind a
/// mark, or the Windows code page of western Europe (of which Latin-1 is a part).
fn table_text(bytes: &[u8]) -> Result<(Cow<'_, str>, Option<String>), Refusal> {
    let refused = match text(bytes) {
        Ok(text) => return Ok((Cow::Borrowed(text), None)),
        Err(refused) => refused,
    };
    let (encoding, name) = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, _)) if encoding == encoding_rs::UTF_16LE || encoding == encoding_rs::UTF_16BE => (encoding, "UTF-16"),
        // It says that it is UTF-8, and is not.
        Some(_) => return Err(refused),
        None => (encoding_rs::WINDOWS_1252, "Windows-1252"),
    };
    let (text, _, damaged) = encoding.decode(bytes);
    // The five bytes that the code page leaves out come back as control characters.
    let odd = text.chars().any(|c| matches!(c, '\u{80}'..='\u{9f}'));
    if damaged || odd {
        return Err(refused);
    }
    Ok((text, Some(format!("the file is not UTF-8: it was read as {name}"))))
}

/// Microsoft's older container: an encrypted workbook is one, too.
fn compound(bytes: &[u8]) -> Reading {
    // Names in its directory are UTF-16.
    let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    if bytes.windows(name.len()).any(|w| w == name) {
        return Reading::NeedsPassword(password());
    }
    let text = "the document is stored, but no facts were taken from it: files of this older type are not read; \
                save it as .xlsx or PDF and send that";
    Reading::NotRead(Refusal::new("not-read-yet", text))
}

fn password() -> Refusal {
    let text = "the document is encrypted and stored as it is: send it again without its password";
    Refusal::new("needs-password", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_from_windows_is_read_and_noted() {
        let csv = Detected::new(Kind::Csv, "text/csv");
        let text = "campo;valor\nDirección;Calle del Ñandú 3\nbaños;2\n";
        let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let mut wide = vec![0xff, 0xfe];
        wide.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        for (bytes, name) in [(latin, "Windows-1252"), (wide, "UTF-16")] {
            let Reading::Facts(facts) = read(&csv, &bytes) else {
                panic!("{name} was not read")
            };
            assert_eq!(facts.facts[0].value, "Calle del Ñandú 3");
            assert_eq!(facts.facts.len(), 2);
            assert!(facts.notes.finish()[0].contains(name));
        }
    }

    #[test]
    fn what_is_no_text_is_said_with_its_line() {
        let csv = Detected::new(Kind::Csv, "text/csv");
        for bytes in [
            b"a;b\n1;2\n3;\x81\n".as_slice(),
            b"\xef\xbb\xbfid;ba\xf1os\n1;2\n",
            b"\xff\xfea\0;\0b\0\x00",
        ] {
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
        assert!(matches!(without_bytes(&Detected::new(Kind::Pdf, "application/pdf"), 5 << 30),
            Some(Reading::NotRead(r)) if r.code == "too-large-to-read" && r.text.contains("application/pdf")));
        assert!(matches!(without_bytes(&Detected::new(Kind::Other, "image/png"), 5 << 30),
            Some(Reading::NotRead(r)) if r.code == "not-read-yet" && r.text.contains("image/png")));
        for kind in [Kind::Json, Kind::Csv, Kind::Pdf, Kind::Zip, Kind::Compound] {
            assert!(limit(kind).is_some_and(|l| l <= MAX_BYTES), "{kind:?}");
        }
        assert!(matches!(
            without_bytes(&Detected::new(Kind::Empty, "application/x-empty"), 0),
            Some(Reading::Rejected(_))
        ));
    }
}
