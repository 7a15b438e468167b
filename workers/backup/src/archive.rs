//! Reads along while an archive of mongodump passes, without keeping it: which namespaces it has, whether each came
//! to its end, how many documents it has, and the time of the last oplog entry.
//!
//! The format is mongo-tools' `common/archive/spec.md`: a magic number, a header, a document for each namespace, then
//! segments, each a namespace header, documents, and a terminator. Numbers are little-endian.

use std::collections::BTreeMap;

use bson::RawDocument;
use messages::ClusterTime;
use serde::Deserialize;

const MAGIC: u32 = 0x8199_e26d;
const TERMINATOR: u32 = 0xffff_ffff;
/// The longest document that is read: 16 MiB and what the server allows itself on top of it, in an oplog entry too.
const LONGEST: u32 = 48 * 1024 * 1024;
/// The shortest document: its length and the closing zero.
const SHORTEST: u32 = 5;
/// The oplog is a namespace without a database.
const OPLOG: (&str, &str) = ("", "oplog");
/// What the collection that holds a time series' data is called, before the series' name.
const BUCKETS: &str = "system.buckets.";

/// Why an archive is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    #[error("it does not begin with an archive's magic number: is this mongodump --archive?")]
    NoArchive,
    #[error("it breaks off within a document, after {0} bytes")]
    BreaksOff(u64),
    #[error("a document of {length} bytes at byte {at}")]
    Length { length: u32, at: u64 },
    #[error("a document at byte {at} cannot be read: {reason}")]
    Malformed { at: u64, reason: String },
    #[error("{0} has no end: the dump was broken off")]
    NoEnd(String),
    #[error("it has no oplog: mongodump did not run with --oplog")]
    NoOplog,
}

impl ArchiveError {
    /// Whether it is an archive as far as it goes: then the reason for its end is not in it.
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::BreaksOff(_) | Self::NoEnd(_) => true,
            Self::NoArchive | Self::Length { .. } | Self::Malformed { .. } | Self::NoOplog => false,
        }
    }
}

/// What an archive has, once it has passed whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// By database and collection; the oplog is not among them.
    pub collections: BTreeMap<(String, String), u64>,
    pub server_version: String,
    pub tool_version: String,
    pub oplog_entries: u64,
    pub oplog_first: ClusterTime,
    pub oplog_last: ClusterTime,
    /// Bytes.
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Magic,
    Header,
    Namespaces,
    SegmentHeader,
    Documents,
}

struct Namespace {
    documents: u64,
    ended: bool,
}

/// The reader. Memory: one document at most, and only of those that are looked into.
pub struct Reader {
    expect: Expect,
    /// The bytes of a length or of a document that is looked into, as far as they have come.
    held: Vec<u8>,
    /// Bytes of the present document that pass unread.
    skip: u64,
    current: (String, String),
    namespaces: BTreeMap<(String, String), Namespace>,
    server_version: String,
    tool_version: String,
    first: Option<ClusterTime>,
    last: Option<ClusterTime>,
    read: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            expect: Expect::Magic,
            held: Vec::new(),
            skip: 0,
            current: (String::new(), String::new()),
            namespaces: BTreeMap::new(),
            server_version: String::new(),
            tool_version: String::new(),
            first: None,
            last: None,
            read: 0,
        }
    }
}

impl Reader {
    /// Reads on.
    ///
    /// # Errors
    /// When this is not an archive.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passing = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.pass(passing, &mut bytes);
                self.skip -= passing as u64;
                continue;
            }
            let wanted = self.wanted()?;
            let fits = (wanted - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(bytes.get(..fits).unwrap_or_default());
            self.pass(fits, &mut bytes);
            if self.held.len() == wanted {
                self.step()?;
            }
        }
        Ok(())
    }

    fn pass(&mut self, n: usize, bytes: &mut &[u8]) {
        *bytes = bytes.get(n..).unwrap_or_default();
        self.read += n as u64;
    }

    fn looks_into(&self) -> bool {
        self.expect != Expect::Documents || (self.current.0.as_str(), self.current.1.as_str()) == OPLOG
    }

    /// How many bytes must be held before the next step.
    fn wanted(&self) -> Result<usize, ArchiveError> {
        match length(&self.held) {
            None | Some(TERMINATOR) => Ok(4),
            Some(_) if self.expect == Expect::Magic => Ok(4),
            Some(length) if (SHORTEST..=LONGEST).contains(&length) => Ok(length as usize),
            Some(length) => Err(ArchiveError::Length { length, at: self.read }),
        }
    }

    fn step(&mut self) -> Result<(), ArchiveError> {
        let Some(length) = length(&self.held) else {
            return Ok(());
        };
        if self.expect == Expect::Magic {
            if length != MAGIC {
                return Err(ArchiveError::NoArchive);
            }
            self.expect = Expect::Header;
            self.held.clear();
            return Ok(());
        }
        if length == TERMINATOR {
            self.expect = Expect::SegmentHeader;
            self.held.clear();
            return Ok(());
        }
        if self.held.len() == 4 {
            if !(SHORTEST..=LONGEST).contains(&length) {
                return Err(ArchiveError::Length { length, at: self.read });
            }
            if !self.looks_into() {
                self.count();
                self.held.clear();
                self.skip = u64::from(length) - 4;
            }
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let read = RawDocument::from_bytes(&held)
            .map_err(|e| e.to_string())
            .and_then(|d| self.look_into(d));
        read.map_err(|reason| ArchiveError::Malformed { at: self.read, reason })?;
        // The allocation is kept for the next one, unless it is a giant's.
        self.held = held;
        self.held.clear();
        self.held.shrink_to(64 * 1024);
        Ok(())
    }

    fn look_into(&mut self, document: &RawDocument) -> Result<(), String> {
        let text = |key: &str| document.get_str(key).map(str::to_owned).map_err(|e| format!("{key}: {e}"));
        match self.expect {
            Expect::Magic => {}
            Expect::Header => {
                self.server_version = text("server_version")?;
                self.tool_version = text("tool_version")?;
                self.expect = Expect::Namespaces;
            }
            Expect::Namespaces => {
                let fresh = Namespace {
                    documents: 0,
                    // A view is announced and has no data: no segment and no end will come.
                    ended: text("metadata").is_ok_and(|json| is_view(&json)),
                };
                self.namespaces.insert((text("db")?, text("collection")?), fresh);
            }
            Expect::SegmentHeader => {
                let (db, name) = (text("db")?, text("collection")?);
                // A time series is announced under its own name, and its data come under that of its buckets.
                let series = name.strip_prefix(BUCKETS).map(|series| (db.clone(), series.to_owned()));
                self.current = match series {
                    Some(series) if self.namespaces.contains_key(&series) => series,
                    _ => (db, name),
                };
                let namespace = self.namespaces.get_mut(&self.current);
                let namespace = namespace.ok_or_else(|| format!("{}.{} was not announced", self.current.0, self.current.1))?;
                namespace.ended |= document.get_bool("EOF").map_err(|e| format!("EOF: {e}"))?;
                self.expect = Expect::Documents;
            }
            Expect::Documents => {
                let ts = document.get_timestamp("ts").map_err(|e| format!("ts of an oplog entry: {e}"))?;
                let ts = ClusterTime {
                    t: ts.time,
                    i: ts.increment,
                };
                self.first.get_or_insert(ts);
                self.last = self.last.max(Some(ts));
                self.count();
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        if let Some(namespace) = self.namespaces.get_mut(&self.current) {
            namespace.documents += 1;
        }
    }

    /// What the archive had.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn finish(self) -> Result<Summary, ArchiveError> {
        if self.expect != Expect::SegmentHeader || self.skip > 0 || !self.held.is_empty() {
            return Err(ArchiveError::BreaksOff(self.read));
        }
        if let Some(((db, collection), _)) = self.namespaces.iter().find(|(_, n)| !n.ended) {
            return Err(ArchiveError::NoEnd(format!("{db}.{collection}")));
        }
        let (oplog_first, oplog_last) = self.first.zip(self.last).ok_or(ArchiveError::NoOplog)?;
        let mut collections: BTreeMap<_, _> = self.namespaces.into_iter().map(|(name, n)| (name, n.documents)).collect();
        let oplog = (OPLOG.0.to_owned(), OPLOG.1.to_owned());
        Ok(Summary {
            oplog_entries: collections.remove(&oplog).unwrap_or_default(),
            collections,
            server_version: self.server_version,
            tool_version: self.tool_version,
            oplog_first,
            oplog_last,
            length: self.read,
        })
    }
}

fn is_view(metadata: &str) -> bool {
    #[derive(Deserialize)]
    struct Metadata {
        r#type: Option<String>,
    }
    serde_json::from_str::<Metadata>(metadata).is_ok_and(|m| m.r#type.as_deref() == Some("view"))
}

fn length(held: &[u8]) -> Option<u32> {
    held.first_chunk().map(|four| u32::from_le_bytes(*four))
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
