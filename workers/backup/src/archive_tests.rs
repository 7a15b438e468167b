#![allow(clippy::unwrap_used)]

use bson::{Timestamp, doc};

use super::*;

fn bytes(document: &bson::Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

fn archive(end_of_last: bool) -> Vec<u8> {
    let mut a = MAGIC.to_le_bytes().to_vec();
    a.extend(bytes(
        &doc! { "concurrent_collections": 1, "version": "0.1", "server_version": "6.0.5", "tool_version": "100.18.0" },
    ));
    for (db, collection, kind) in [
        ("app", "assets", "collection"),
        ("app", "shown", "view"),
        ("app", "prices", "timeseries"),
        ("", "oplog", ""),
    ] {
        let metadata = format!(r#"{{"indexes":[],"type":"{kind}"}}"#);
        a.extend(bytes(&doc! { "db": db, "collection": collection, "metadata": metadata, "size": 0 }));
    }
    a.extend(TERMINATOR.to_le_bytes());
    let mut segment = |db: &str, collection: &str, eof: bool, documents: &[bson::Document]| {
        a.extend(bytes(&doc! { "db": db, "collection": collection, "EOF": eof, "CRC": 0i64 }));
        documents.iter().for_each(|d| a.extend(bytes(d)));
        a.extend(TERMINATOR.to_le_bytes());
    };
    segment("app", "assets", false, &[doc! { "_id": 1, "text": "x".repeat(1000) }]);
    segment("app", "assets", false, &[doc! { "_id": 2 }, doc! { "_id": 3 }]);
    segment("app", "assets", true, &[]);
    segment("app", "system.buckets.prices", false, &[doc! { "_id": 1 }]);
    segment("app", "system.buckets.prices", true, &[]);
    let entry = |t, i| doc! { "ts": Timestamp { time: t, increment: i }, "op": "n" };
    segment("", "oplog", false, &[entry(7, 1), entry(7, 2), entry(9, 1)]);
    if end_of_last {
        segment("", "oplog", true, &[]);
    }
    a
}

fn read(archive: &[u8], piece: usize) -> Result<Summary, ArchiveError> {
    let mut reader = Reader::default();
    for piece in archive.chunks(piece) {
        reader.feed(piece)?;
    }
    reader.finish()
}

#[test]
fn an_archive_is_read_alike_however_it_is_cut() {
    let archive = archive(true);
    for piece in [1, 3, 4, 5, 17, 1000, archive.len()] {
        let summary = read(&archive, piece).unwrap();
        let counts: Vec<(&str, u64)> = summary.collections.iter().map(|((_, name), n)| (name.as_str(), *n)).collect();
        assert_eq!(counts, [("assets", 3), ("prices", 1), ("shown", 0)]);
        assert_eq!(summary.oplog_entries, 3);
        assert_eq!(summary.oplog_first, ClusterTime { t: 7, i: 1 });
        assert_eq!(summary.oplog_last, ClusterTime { t: 9, i: 1 });
        assert_eq!((summary.server_version.as_str(), summary.length), ("6.0.5", archive.len() as u64));
    }
}

#[test]
fn an_archive_that_breaks_off_anywhere_is_refused() {
    let whole = archive(true);
    for end in 0..whole.len() {
        assert!(read(&whole[..end], 4096).is_err(), "cut at byte {end} of {}", whole.len());
    }
    assert_eq!(read(&archive(false), 4096), Err(ArchiveError::NoEnd(".oplog".to_owned())));
}

#[test]
fn what_is_no_archive_is_refused_without_keeping_it() {
    assert_eq!(read(b"PK\x03\x04 and more", 4096), Err(ArchiveError::NoArchive));
    let mut giant = MAGIC.to_le_bytes().to_vec();
    giant.extend(0x7fff_ffffu32.to_le_bytes());
    assert!(matches!(read(&giant, 4096), Err(ArchiveError::Length { length: 0x7fff_ffff, .. })));
}
