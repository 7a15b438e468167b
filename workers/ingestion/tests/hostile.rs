//! Documents made to harm their reader, among good ones: each gets a verdict, the worker and its neighbours go on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Cursor, Write as _};
use std::time::{Duration, Instant};

use bson::doc;
use common::{Sender, XLSX_PARTS, example, run_measured, workbook};
use ingestion::{Limits, Readers, Reading, detect};
use messages::{DocumentQuarantined, Message as _};
use stores::records::{DocumentRecord, DocumentState};
use testkit::Corner;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

const MIB: usize = 1024 * 1024;

/// Zeros in zlib's form (RFC 1950), by way of the same deflate that archives have.
fn zlib_of_zeros(size: usize) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file("z", options).unwrap();
    let chunk = vec![0u8; MIB];
    for _ in 0..size / MIB {
        writer.write_all(&chunk).unwrap();
    }
    let archive = writer.finish().unwrap().into_inner();
    let mut reader = zip::ZipArchive::new(Cursor::new(archive.clone())).unwrap();
    let entry = reader.by_index_raw(0).unwrap();
    let (from, length) = (entry.data_start().unwrap() as usize, entry.compressed_size() as usize);
    let mut out = vec![0x78, 0x9c];
    out.extend_from_slice(&archive[from..from + length]);
    // The sum at the end (RFC 1950): of zeros it is size mod 65521 above, 1 below.
    out.extend_from_slice(&(((size % 65_521) as u32) << 16 | 1).to_be_bytes());
    out
}

/// A PDF of these objects, numbered from 1, the first of which is its catalogue.
fn pdf(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for (number, object) in (1..).zip(objects) {
        offsets.push(out.len());
        out.extend(format!("{number} 0 obj\n").bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").bytes());
    }
    out.extend(
        format!(
            "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n",
            objects.len() + 1
        )
        .bytes(),
    );
    out
}

fn pdf_bomb() -> Vec<u8> {
    let packed = zlib_of_zeros(256 * MIB);
    let mut stream = format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", packed.len()).into_bytes();
    stream.extend_from_slice(&packed);
    stream.extend_from_slice(b"\nendstream");
    pdf(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << >> >>".to_vec(),
        stream,
    ])
}

/// A page tree that holds itself, and a stream whose length is the stream.
fn pdf_in_itself() -> Vec<u8> {
    pdf(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [2 0 R 3 0 R 2 0 R] /Count 3 /Parent 2 0 R >>".to_vec(),
        b"<< /Type /Page /Parent 3 0 R /Contents 4 0 R /Resources 3 0 R >>".to_vec(),
        b"<< /Length 4 0 R >>\nstream\nBT (x) Tj ET\nendstream".to_vec(),
    ])
}

/// Arrays in arrays, deeper than any stack.
fn pdf_deep() -> Vec<u8> {
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    pdf(&[[b"<< /Type /Catalog /Pages 2 0 R /X ".to_vec(), deep, b" >>".to_vec()].concat()])
}

/// A workbook whose sheet unpacks to this many bytes of blanks.
fn xlsx_bomb(size: usize) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, text) in XLSX_PARTS {
        writer.start_file(name, options).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.start_file("xl/worksheets/sheet1.xml", options).unwrap();
    let chunk = vec![b' '; MIB];
    for _ in 0..size / MIB {
        writer.write_all(&chunk).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn zip_in_zip() -> Vec<u8> {
    let mut inner = xlsx_bomb(64 * MIB);
    for _ in 0..3 {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file("inside.zip", options).unwrap();
        writer.write_all(&inner).unwrap();
        inner = writer.finish().unwrap().into_inner();
    }
    inner
}

/// More shared strings announced than any memory holds.
fn xlsx_of_many_strings() -> Vec<u8> {
    let strings = format!(
        "<?xml version=\"1.0\"?><sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" uniqueCount=\"{}\"></sst>",
        1u64 << 40
    );
    workbook("<row r=\"1\"><c r=\"A1\"><v>1</v></c></row>", &[("xl/sharedStrings.xml", &strings)])
}

/// A workbook that is all shared strings, none of which a cell uses.
fn xlsx_of_real_strings() -> Vec<u8> {
    let mut strings = "<?xml version=\"1.0\"?><sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">".to_owned();
    for n in 0..200_000 {
        // Not all alike, else it is a bomb by what it packs to.
        strings.push_str(&format!("<si><t>{:x}</t></si>", n * 2_654_435_761u64));
    }
    strings.push_str("</sst>");
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let sheet = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\"><v>1</v></c></row></sheetData></worksheet>";
    let parts = [("xl/worksheets/sheet1.xml", sheet), ("xl/sharedStrings.xml", strings.as_str())];
    for (name, text) in XLSX_PARTS.into_iter().chain(parts) {
        writer.start_file(name, options).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A name that becomes ten to the power of nine when it is written out, where a cell's text is looked up.
fn xlsx_of_entities() -> Vec<u8> {
    let mut entities = "<!ENTITY a0 \"ja\">".to_owned();
    for n in 1..10 {
        entities.push_str(&format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10)));
    }
    let strings = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE sst [{entities}]><sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><si><t>&a9;</t></si></sst>"
    );
    workbook(
        "<row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c></row>",
        &[("xl/sharedStrings.xml", &strings), ("../../../../tmp/escaped", "x")],
    )
}

/// A page tree that is a path, deeper than any stack.
fn pdf_of_a_deep_tree() -> Vec<u8> {
    const DEPTH: usize = 50_000;
    let mut objects = vec![b"<< /Type /Catalog /Pages 2 0 R >>".to_vec()];
    for number in 2..DEPTH {
        objects.push(format!("<< /Type /Pages /Count 1 /Parent {} 0 R /Kids [{} 0 R] >>", number - 1, number + 1).into_bytes());
    }
    objects.push(b"<< /Type /Page /Resources << >> >>".to_vec());
    pdf(&objects)
}

/// A table of objects whose predecessor is itself.
fn pdf_before_itself() -> Vec<u8> {
    let whole = pdf(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [] /Count 0 >>".to_vec(),
    ]);
    let text = String::from_utf8_lossy(&whole).into_owned();
    let table = text.rfind("xref\n0").unwrap();
    // The bytes of the mark in the second line are no text; the offsets count them.
    let table = whole.len() - (text.len() - table);
    let end = b"/Root 1 0 R >>";
    let at = whole.windows(end.len()).rposition(|w| w == end).unwrap();
    let previous = format!("/Root 1 0 R /Prev {table} >>").into_bytes();
    [&whole[..at], &previous, &whole[at + end.len()..]].concat()
}

/// A table of two lines, the second of which does not end.
fn csv_of_one_line(size: usize) -> Vec<u8> {
    let mut text = b"campo;valor\n".to_vec();
    text.resize(size, b'x');
    text
}

/// The documents, with the states and codes that they may end in.
fn hostile() -> Vec<(&'static str, Vec<u8>, DocumentState, &'static [&'static str])> {
    use DocumentState::{Ingested, Partial, Quarantined, Rejected};
    let deed = std::fs::read(example("nota-simple.pdf")).unwrap();
    let roll = std::fs::read(example("rentas.xlsx")).unwrap();
    let corner = "<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>";
    let mut sparse = String::new();
    for row in 1..=1_048_576 {
        sparse.push_str(&format!("<row r=\"{row}\"/>"));
    }
    vec![
        ("a deflate bomb in a PDF", pdf_bomb(), Quarantined, &["limits-exceeded"]),
        (
            "a deflate bomb in a workbook",
            xlsx_bomb(256 * MIB),
            Quarantined,
            &["limits-exceeded"],
        ),
        ("a cell in the last corner", workbook(corner, &[]), Partial, &["not-recognised"]),
        ("a million rows without cells", workbook(&sparse, &[]), Partial, &["not-recognised"]),
        (
            "strings without end",
            xlsx_of_many_strings(),
            Quarantined,
            &["limits-exceeded", "reader-crashed"],
        ),
        ("a PDF that holds itself", pdf_in_itself(), Rejected, &["malformed"]),
        ("a PDF deeper than the stack", pdf_deep(), Rejected, &["malformed"]),
        ("half a PDF", deed[..deed.len() / 2].to_vec(), Rejected, &["malformed"]),
        ("half a workbook", roll[..roll.len() / 2].to_vec(), Rejected, &["malformed"]),
        ("an archive in archives", zip_in_zip(), Partial, &["archive"]),
        (
            "a hundred MB in one line",
            csv_of_one_line(100 * MIB),
            Rejected,
            &["too-large-to-read"],
        ),
        (
            "a line as long as a table may be",
            csv_of_one_line(63 * MIB),
            Rejected,
            &["too-large-to-read"],
        ),
        (
            "lists in lists",
            [vec![b'['; 3 * MIB], vec![b']'; 3 * MIB]].concat(),
            Rejected,
            &["too-large-to-read"],
        ),
        ("two hundred thousand strings", xlsx_of_real_strings(), Partial, &["not-recognised"]),
        ("entities in entities", xlsx_of_entities(), Rejected, &["malformed"]),
        ("a page tree deeper than the stack", pdf_of_a_deep_tree(), Partial, &["no-text"]),
        ("a PDF before itself", pdf_before_itself(), Rejected, &["malformed"]),
        // Sent under the name of a PDF: the bytes decide.
        ("a table called PDF", std::fs::read(example("testigos.csv")).unwrap(), Ingested, &[]),
    ]
}

#[tokio::test]
async fn a_hostile_set_gets_its_verdicts_and_harms_nobody() {
    let mut corner = Corner::new();
    corner.set("IDLE_EXIT_MS", "500");
    corner.create_topics().await;
    let prepared = run_measured(&corner, &["--prepare"]).await;
    assert_eq!(prepared.code, Some(0), "{}", prepared.text);
    let sender = Sender::new(&corner);
    let hostile = hostile();
    let mut bad = Vec::new();
    let mut good = Vec::new();
    for (name, bytes, state, codes) in hostile {
        // The name is a client's word, and leads nowhere.
        bad.push((name, sender.send(bytes, "../../../../tmp/documento.pdf").await, state, codes));
        for file in ["nota-simple.pdf", "rentas.xlsx"] {
            good.push(sender.send(std::fs::read(example(file)).unwrap(), file).await);
        }
    }
    let started = Instant::now();
    let ended = run_measured(&corner, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    eprintln!(
        "{} documents in {:?}; the worker held at most {} MiB",
        bad.len() + good.len(),
        started.elapsed(),
        ended.peak_kib / 1024
    );
    // Its own buffers, two documents of the largest size, and what they become; not what they unpack to.
    assert!(ended.peak_kib < 300 * 1024, "the worker held {} KiB", ended.peak_kib);

    let mongo = corner.mongo().await;
    let record = async |id| -> DocumentRecord {
        let id = DocumentRecord::id_of(&sender.asset.tenant, id);
        mongo.documents().find_one(doc! { "_id": id }).await.unwrap().unwrap().0
    };
    for (name, id, state, codes) in &bad {
        let record = record(*id).await;
        let code = record.reason.as_ref().map(|r| r.code.clone());
        assert_eq!(record.state, *state, "{name}: {:?}", record.reason);
        assert!(code.is_none_or(|c| codes.contains(&c.as_str())), "{name}: {:?}", record.reason);
        let stored = record.stored.unwrap_or_default();
        assert!(
            stored.starts_with(&format!("{}/sha256/", sender.asset.tenant)) && !stored.contains(".."),
            "{name}: its bytes are kept: {stored}"
        );
    }
    for id in good {
        let record = record(id).await;
        assert_eq!(record.state, DocumentState::Ingested, "{:?}", record.reason);
    }
    let outcomes = corner.events(messages::topics::ASSET_EVENTS).await;
    let quarantined = outcomes.iter().filter(|e| e.envelope().event_type == DocumentQuarantined::TYPE);
    let set_aside = bad.iter().filter(|(_, _, state, _)| *state == DocumentState::Quarantined);
    assert_eq!(quarantined.count(), set_aside.count());
    assert_eq!(outcomes.len(), 3 * bad.len(), "an outcome for every document, and one only");
    assert!(corner.events(&messages::topics::dead(messages::topics::INGESTION)).await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(110));
}

#[tokio::test]
async fn a_reader_past_any_of_its_limits_is_a_verdict_and_the_next_document_is_read() {
    let mut large = "id;precio_eur;fecha;superficie\n".to_owned();
    // Known columns, so that every row is read; too many of them to be done in a second.
    while large.len() < 48 * MIB {
        large.push_str("T;1,5;2026-01-02;9,5;x\n");
    }
    let detected = detect(large.as_bytes().get(..1000).unwrap(), false);
    let usual = Limits::default();
    for (limits, part) in [
        (Limits { memory: 80 << 20, ..usual }, "memory"),
        (Limits { processor: 1, ..usual }, "processor time"),
        (Limits { clock: 1, ..usual }, "1 seconds"),
    ] {
        let readers = Readers::of(env!("CARGO_BIN_EXE_ingestion"), limits);
        let reading = readers.read(&detected, large.as_bytes()).await.unwrap();
        let Reading::Quarantined(refusal) = reading else {
            panic!("{limits:?}: {reading:?}")
        };
        assert_eq!(refusal.code, "limits-exceeded");
        assert!(refusal.text.contains(part), "{limits:?}: {}", refusal.text);
        let small = b"campo;valor\nmoneda;EUR\nba\xc3\xb1os;2\n";
        let next = readers.read(&detect(small, true), small).await.unwrap();
        assert!(matches!(next, Reading::Facts(facts) if facts.facts.len() == 2));
    }
}
