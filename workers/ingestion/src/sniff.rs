//! What the bytes are, whatever the sender called them.

use std::io::Cursor;

use file_format::FileFormat;
use serde::{Deserialize, Serialize};

use crate::read::delimiter;

/// Bytes from the beginning of a document that decide its type.
pub const PREFIX: usize = 64 * 1024;

/// How a document can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Empty,
    Json,
    Csv,
    Pdf,
    /// A ZIP archive: a workbook, or another packed thing that only its end tells.
    Zip,
    /// Microsoft's compound file: older Office documents, and encrypted newer ones.
    Compound,
    /// Stored, not read.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    pub kind: Kind,
    pub media_type: String,
}

impl Detected {
    pub fn new(kind: Kind, media_type: &str) -> Self {
        Self {
            kind,
            media_type: media_type.to_owned(),
        }
    }
}

/// Finds the type from the beginning of a document. `whole` says that there is nothing behind it.
pub fn detect(prefix: &[u8], whole: bool) -> Detected {
    if prefix.is_empty() {
        return Detected::new(Kind::Empty, "application/x-empty");
    }
    // Spreadsheets write “Unicode text” so; the reader refuses it with advice.
    if prefix.starts_with(b"\xff\xfe") || prefix.starts_with(b"\xfe\xff") {
        return Detected::new(Kind::Csv, "text/csv");
    }
    if !is_text(prefix) {
        return packed(prefix);
    }
    let text = String::from_utf8_lossy(prefix);
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if prefix.starts_with(b"%PDF-") {
        return Detected::new(Kind::Pdf, "application/pdf");
    }
    if start.starts_with('%') || start.starts_with('<') || start.starts_with("{\\rtf") {
        return Detected::new(Kind::Other, signature(prefix).as_deref().unwrap_or("text/plain"));
    }
    if start.starts_with(['{', '[']) {
        return Detected::new(Kind::Json, "application/json");
    }
    if delimiter(text.trim_start_matches('\u{feff}'), whole).is_some() {
        return Detected::new(Kind::Csv, "text/csv");
    }
    Detected::new(Kind::Other, "text/plain")
}

/// Whether there are only bytes that text has, in UTF-8 or an older encoding of one byte a letter.
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x0c) || (*b >= 0x20 && *b != 0x7f))
}

fn signature(prefix: &[u8]) -> Option<String> {
    match FileFormat::from_reader(Cursor::new(prefix)) {
        // Of a container whose end is not here the library says nothing at all: its first bytes still tell.
        Ok(FileFormat::ArbitraryBinaryData | FileFormat::PlainText | FileFormat::Empty) | Err(_) => {
            let container = CONTAINERS.iter().find(|(magic, _)| prefix.starts_with(magic));
            container.map(|(_, media_type)| (*media_type).to_owned())
        }
        Ok(format) => Some(format.media_type().to_owned()),
    }
}

const CONTAINERS: [(&[u8], &str); 3] = [
    (b"PK\x03\x04", "application/zip"),
    (b"%PDF-", "application/pdf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-cfb"),
];

/// Bytes that are not text.
fn packed(prefix: &[u8]) -> Detected {
    let media_type = binary(prefix);
    // Some scanners and mail systems write a line before a PDF; readers look for its mark in the first KiB.
    let head = prefix.get(..1024).unwrap_or(prefix);
    let (kind, media_type) = if head.windows(5).any(|w| w == b"%PDF-") {
        (Kind::Pdf, "application/pdf")
    } else if prefix.starts_with(b"PK\x03\x04") {
        (Kind::Zip, media_type.as_str())
    } else if prefix.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        (Kind::Compound, media_type.as_str())
    } else {
        (Kind::Other, media_type.as_str())
    };
    Detected::new(kind, media_type)
}

/// The media type of bytes that are not text.
fn binary(prefix: &[u8]) -> String {
    let media_type = signature(prefix).unwrap_or_else(|| "application/octet-stream".to_owned());
    if media_type == "application/zip" {
        // The list of what a ZIP holds is at its end, which is not here; the entries themselves begin with names.
        let names: [(&[u8], &str); 3] = [
            (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        ];
        if let Some((_, office)) = names.iter().find(|(folder, _)| has_zip_entry_in(prefix, folder)) {
            return (*office).to_owned();
        }
    }
    media_type
}

/// Whether a ZIP entry's header (signature `PK\x03\x04`, its name 30 bytes on) names something in the folder.
fn has_zip_entry_in(bytes: &[u8], folder: &[u8]) -> bool {
    const NAME_AT: usize = 30;
    bytes
        .windows(NAME_AT + folder.len())
        .any(|w| w.starts_with(b"PK\x03\x04") && w.ends_with(folder))
}

/// A note when the sender declared another type than the bytes have. Names that senders use for the same thing, or
/// for nothing in particular, agree.
pub fn disagreement(declared: Option<&str>, detected: &Detected) -> Option<String> {
    let declared = declared?;
    let name = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let alike: &[&str] = match detected.kind {
        // Browsers on Windows call a CSV file what Excel registered for it.
        Kind::Csv => &[
            "application/csv",
            "application/vnd.ms-excel",
            "text/plain",
            "text/tab-separated-values",
        ],
        Kind::Json => &["text/json", "text/plain"],
        Kind::Zip => &["application/zip", "application/x-zip-compressed"],
        Kind::Pdf => &["application/x-pdf"],
        Kind::Empty | Kind::Compound | Kind::Other => &[],
    };
    let json = detected.kind == Kind::Json && name.ends_with("+json");
    let agrees =
        name.is_empty() || name == "application/octet-stream" || name == detected.media_type || alike.contains(&name.as_str()) || json;
    let shown: String = declared.chars().filter(|c| !c.is_control()).take(100).collect();
    (!agrees).then(|| format!("declared as {shown}, but the bytes are {}", detected.media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_decide() {
        let table: [(&[u8], Kind, &str); 19] = [
            (b"", Kind::Empty, "application/x-empty"),
            (b"{\"a\":1}", Kind::Json, "application/json"),
            (b"\xef\xbb\xbf \n [1]", Kind::Json, "application/json"),
            (b"id;precio\n1;2\n", Kind::Csv, "text/csv"),
            (b"\xef\xbb\xbfa,b\r\n1,2\r\n", Kind::Csv, "text/csv"),
            (b"a\tb\n1\t2\n", Kind::Csv, "text/csv"),
            (b"referencia;precio;fecha_venta", Kind::Csv, "text/csv"),
            // The first two letters are the signature of a bitmap.
            (b"BM;precio\n1;2\n", Kind::Csv, "text/csv"),
            (b"id;ba\xf1os\n1;2\n", Kind::Csv, "text/csv"),
            (b"\xff\xfei\0d\0", Kind::Csv, "text/csv"),
            (b"A letter.\nWith two lines.\n", Kind::Other, "text/plain"),
            (b"%PDF-1.7\n1 0 obj\n", Kind::Pdf, "application/pdf"),
            (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n\0\0", Kind::Pdf, "application/pdf"),
            (b"{\\rtf1 x}", Kind::Other, "application/rtf"),
            (b"<?xml version=\"1.0\"?><a/>", Kind::Other, "text/xml"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Kind::Other, "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0", Kind::Other, "image/jpeg"),
            (b"\0\x01\x02\x03", Kind::Other, "application/octet-stream"),
            (b"{\"a\":\0}", Kind::Other, "application/octet-stream"),
        ];
        for (bytes, kind, media_type) in table {
            let got = detect(bytes, true);
            assert_eq!(
                (got.kind, got.media_type.as_str()),
                (kind, media_type),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn a_workbook_is_known_by_its_entries_even_when_its_end_is_not_here() {
        let mut zip = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
        zip.resize(30, 0);
        zip.extend_from_slice(b"xl/workbook.xml");
        zip.extend_from_slice(&[0; 200]);
        assert!(detect(&zip, false).media_type.ends_with("spreadsheetml.sheet"));
    }

    #[test]
    fn a_letter_cut_in_two_at_the_end_of_the_prefix_is_still_text() {
        let text = "año;precio\n1;2\n3;ñ";
        let cut = text.len() - 1;
        assert_eq!(detect(&text.as_bytes()[..cut], false).kind, Kind::Csv);
    }

    #[test]
    fn only_a_real_disagreement_is_noted() {
        let (csv, json) = (detect(b"a;b\n1;2\n", true), detect(b"{}", true));
        for fine in [
            "text/csv; charset=utf-8",
            "application/vnd.ms-excel",
            "application/octet-stream",
            "TEXT/CSV",
            "",
        ] {
            assert_eq!(disagreement(Some(fine), &csv), None, "{fine}");
        }
        assert_eq!(disagreement(None, &csv), None);
        assert_eq!(disagreement(Some("application/vnd.api+json"), &json), None);
        let note = disagreement(Some("application/pdf"), &json).unwrap();
        assert!(note.contains("application/pdf") && note.contains("application/json"), "{note}");
    }
}
