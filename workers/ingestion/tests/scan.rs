//! The worker before the real clamd: what is found stays out, what is clean goes on, and nothing goes on unscanned.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Cursor, Write as _};
use std::process::Stdio;
use std::time::Duration;

use bson::doc;
use common::{Sender, example, run_measured, workbook};
use messages::{DocumentQuarantined, Message as _, topics};
use sha2::{Digest as _, Sha256};
use stores::StoreError;
use stores::records::{DocumentRecord, DocumentState};
use testkit::{Clamd, Collector, Corner, until};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use zip::write::SimpleFileOptions;

const MIB: usize = 1024 * 1024;
const GOOD: [&str; 4] = ["ficha.json", "testigos.csv", "nota-simple.pdf", "rentas.xlsx"];

/// The EICAR test file, in two parts so that this file is none.
fn eicar() -> Vec<u8> {
    [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR".as_bytes(),
        b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
    ]
    .concat()
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A member that unpacks to more than the scanner looks at.
fn bomb() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("b", SimpleFileOptions::default()).unwrap();
    let chunk = vec![0u8; MIB];
    for _ in 0..257 {
        writer.write_all(&chunk).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn deep() -> Vec<u8> {
    let mut inner = eicar();
    for _ in 0..20 {
        inner = archive(&[("inside.zip", &inner)]);
    }
    inner
}

/// A PDF of one page to which a file is attached.
fn pdf_with(attached: &[u8]) -> Vec<u8> {
    let hex: String = attached.iter().map(|b| format!("{b:02x}")).collect();
    let file = format!(
        "<< /Type /EmbeddedFile /Filter /ASCIIHexDecode /Length {} >>\nstream\n{hex}>\nendstream",
        hex.len() + 1
    );
    let objects: [&[u8]; 5] = [
        b"<< /Type /Catalog /Pages 2 0 R /Names << /EmbeddedFiles << /Names [(x.com) 4 0 R] >> >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        b"<< /Type /Filespec /F (x.com) /EF << /F 5 0 R >> >>",
        file.as_bytes(),
    ];
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut table = String::new();
    for (number, object) in (1..).zip(objects) {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.extend(format!("{number} 0 obj\n").bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(format!("xref\n0 6\n0000000000 65535 f \n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").bytes());
    out
}

struct World {
    corner: Corner,
    clamd: Clamd,
    sender: Sender,
}

impl World {
    async fn new() -> Self {
        let clamd = Clamd::start().await;
        let mut corner = Corner::new();
        corner.set("IDLE_EXIT_MS", "500");
        corner.set("CLAMD_ADDR", clamd.address());
        corner.create_topics().await;
        let prepared = run_measured(&corner, &["--prepare"]).await;
        assert_eq!(prepared.code, Some(0), "{}", prepared.text);
        let sender = Sender::new(&corner);
        Self { corner, clamd, sender }
    }

    async fn record(&self, id: uuid::Uuid) -> DocumentRecord {
        let id = DocumentRecord::id_of(&self.sender.asset.tenant, id);
        let mongo = self.corner.mongo().await;
        mongo.documents().find_one(doc! { "_id": id }).await.unwrap().unwrap().0
    }

    async fn settled(&self) -> u64 {
        self.corner.mongo().await.documents().count_documents(doc! {}).await.unwrap()
    }
}

#[tokio::test]
async fn what_the_scanner_finds_is_set_aside_and_never_stored() {
    let world = World::new().await;
    let marker = world.clamd.marker().to_owned();
    let row = format!("<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>{marker}</t></is></c></row>");
    let eicar = eicar();
    let named = |name: &'static str| ("malware", name);
    let limit = |name: &'static str| ("not-scanned", name);
    let documents = [
        ("the test file itself", eicar.clone(), named("Eicar")),
        ("in an archive", archive(&[("a.txt", b"x"), ("e.com", &eicar)]), named("Eicar")),
        (
            "in an archive in an archive",
            archive(&[("i.zip", &archive(&[("e.com", &eicar)]))]),
            named("Eicar"),
        ),
        ("attached to a PDF", pdf_with(&eicar), named("Eicar")),
        ("in a cell of a workbook", workbook(&row, &[]), named("Marker")),
        (
            "in a row of a table",
            format!("campo;valor\nnota;{marker}\n").into_bytes(),
            named("Marker"),
        ),
        ("behind more than is looked at", bomb(), limit("MaxScanSize")),
        ("deeper than is looked at", deep(), limit("MaxRecursion")),
    ];
    let mut bad = Vec::new();
    for (place, bytes, expected) in documents {
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        bad.push((place, world.sender.send(bytes, "documento.pdf").await, sha256, expected));
    }
    let mut good = Vec::new();
    for file in GOOD {
        good.push(world.sender.send(std::fs::read(example(file)).unwrap(), file).await);
    }
    let ended = run_measured(&world.corner, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("ClamAV 1."), "it says who scans: {}", ended.text);

    for (place, id, sha256, (code, name)) in &bad {
        let record = world.record(*id).await;
        let reason = record.reason.unwrap();
        assert_eq!((record.state, reason.code.as_str()), (DocumentState::Quarantined, *code), "{place}");
        assert!(reason.text.contains(name), "{place}: {}", reason.text);
        assert_eq!((record.stored, record.detected_type), (None, None), "{place}: nothing looked at it");
        let blobs = world.corner.blobs();
        assert!(
            blobs.blob(&record.inbox.container, &record.inbox.name).info().await.is_ok(),
            "{place}"
        );
        let hash = messages::Hash32(*sha256).to_string();
        let (ab, cd) = (hash.get(..2).unwrap(), hash.get(2..4).unwrap());
        let stored = format!("{}/sha256/{ab}/{cd}/{hash}", world.sender.asset.tenant);
        let stored = blobs.blob("documents", &stored).info().await;
        assert!(matches!(stored, Err(StoreError::NotFound(_))), "{place}: {stored:?}");
    }
    for id in good {
        assert_eq!(world.record(id).await.state, DocumentState::Ingested);
    }
    let outcomes = world.corner.events(topics::ASSET_EVENTS).await;
    let quarantined = outcomes.iter().filter(|e| e.envelope().event_type == DocumentQuarantined::TYPE);
    assert_eq!((quarantined.count(), outcomes.len()), (8, 12));
}

/// Waits for a line of the worker's log.
async fn says(log: &mut Lines<BufReader<ChildStdout>>, what: &str) {
    let found = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains(what) {
                return;
            }
        }
        panic!("the worker ended without saying: {what}");
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect(what);
}

#[tokio::test]
async fn old_signatures_are_warned_of_and_every_verdict_is_counted() {
    let mut world = World::new().await;
    let collector = Collector::start().await;
    let door = world.clamd.dated("Mon Sep 29 08:27:12 2025").await;
    world.corner.set("CLAMD_ADDR", door);
    world.corner.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone());
    let documents = [
        eicar(),
        deep(),
        b"campo;valor\nmoneda;EUR\n".to_vec(),
        b"campo;valor\nmoneda;USD\n".to_vec(),
    ];
    for bytes in documents {
        world.sender.send(bytes, "documento").await;
    }
    let ended = run_measured(&world.corner, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("the scanner's signatures are old"), "{}", ended.text);
    let points = collector.points();
    let made = points.iter().find(|p| p.name == "libertum.ingestion.signatures.made");
    assert_eq!(made.map(|p| p.value), Some(1_759_134_432.0));
    let counted = |verdict| collector.total("ingestion", "libertum.ingestion.scans", &[("verdict", verdict)]);
    let verdicts = ["clean", "found", "not_scanned", "unavailable"].map(counted);
    assert_eq!(verdicts, [2.0, 1.0, 1.0, 0.0]);
    assert_eq!(collector.total("ingestion", "libertum.ingestion.scan.duration", &[]), 4.0);
}

#[tokio::test]
async fn a_scanner_that_goes_away_in_the_middle_loses_nothing_and_lets_nothing_through() {
    const DOCUMENTS: usize = 60;
    let mut world = World::new().await;
    // One after another, so that there is a middle.
    world.corner.set("MAX_IN_FLIGHT", "1");
    for n in 0..DOCUMENTS {
        let text = format!("campo;valor\nbaños;{n}\n");
        world.sender.send(text.into_bytes(), "ficha.csv").await;
    }
    let mut worker = Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .env_clear()
        .envs(world.corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(worker.stdout.take().unwrap()).lines();
    until("some are done", Duration::from_secs(30), async || world.settled().await >= 3).await;
    world.clamd.stop().await;
    says(&mut log, "the scanner at").await;
    let done = world.settled().await;
    assert!(done < DOCUMENTS as u64, "all were done before the scanner stopped");
    // It is asked again and again meanwhile.
    says(&mut log, "beginning nothing but a probe").await;
    says(&mut log, "the scanner at").await;
    assert_eq!(world.settled().await, done, "a document went on unscanned");
    world.clamd.begin().await;
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    let status = tokio::time::timeout(Duration::from_secs(60), worker.wait()).await.unwrap().unwrap();
    rest.await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(world.settled().await, DOCUMENTS as u64);
    let outcomes = world.corner.events(topics::ASSET_EVENTS).await;
    let quarantined = outcomes.iter().filter(|e| e.envelope().event_type == DocumentQuarantined::TYPE);
    assert_eq!((outcomes.len(), quarantined.count()), (DOCUMENTS, 0));
    assert!(world.corner.events(&topics::dead(topics::INGESTION)).await.is_empty());
}
