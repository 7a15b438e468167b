//! What the tests of the program share: running it, and sending documents as the intake does.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::io::{Cursor, Write as _};
use std::process::Stdio;
use std::time::Duration;

use bus::{KafkaConfig, Producer};
use bytes::Bytes;
use jiff::Timestamp;
use messages::{AssetKey, BlobRef, DocumentSubmitted, Outgoing, TraceParent, new_id};
use stores::{Blobs, PutOptions};
use testkit::Corner;
use tokio::process::Command;
use uuid::Uuid;
use zip::write::SimpleFileOptions;

pub struct Ran {
    pub code: Option<i32>,
    pub text: String,
    /// The most memory that the worker itself held.
    pub peak_kib: u64,
}

/// Runs the program in the corner to its end, watching the memory that it holds.
pub async fn run_measured(corner: &Corner, args: &[&str]) -> Ran {
    let child = Command::new(env!("CARGO_BIN_EXE_ingestion"))
        .args(args)
        .env_clear()
        .envs(corner.vars().iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let watch = tokio::spawn(async move {
        let mut peak = 0;
        while let Ok(text) = tokio::fs::read_to_string(&status).await {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            match line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()) {
                Some(kib) => peak = peak.max(kib),
                None => break,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peak
    });
    let output = tokio::time::timeout(Duration::from_secs(150), child.wait_with_output()).await;
    let output = output.expect("the program ends by itself").unwrap();
    Ran {
        code: output.status.code(),
        text: format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        peak_kib: watch.await.unwrap(),
    }
}

pub fn example(name: &str) -> String {
    format!("{}/../../docs/examples/dossier/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Uploads documents of one asset, and announces them.
pub struct Sender {
    pub asset: AssetKey,
    blobs: Blobs,
    producer: Producer,
}

impl Sender {
    pub fn new(corner: &Corner) -> Self {
        Self {
            asset: AssetKey::new(corner.name.parse().unwrap(), "piso-1".parse().unwrap()),
            blobs: corner.blobs(),
            producer: Producer::new(&corner.read(KafkaConfig::read), "test").unwrap(),
        }
    }

    pub async fn send(&self, bytes: Vec<u8>, filename: &str) -> Uuid {
        let bytes = Bytes::from(bytes);
        let size = bytes.len() as u64;
        let document_id = new_id();
        let name = format!("{}/{document_id}", self.asset.tenant);
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let (info, sha256) = self.blobs.blob("inbox", &name).put(stream, PutOptions::default()).await.unwrap();
        let message = DocumentSubmitted {
            document_id,
            asset_id: self.asset.asset_id.clone(),
            blob: BlobRef {
                container: "inbox".to_owned(),
                name,
                etag: info.etag,
            },
            size,
            sha256,
            declared_type: None,
            filename: Some(filename.to_owned()),
            received_at: Timestamp::now(),
            submitted_by: "ana".to_owned(),
        };
        let subject = format!("documents/{document_id}");
        let event = Outgoing::first(
            new_id(),
            "/libertum/intake",
            subject,
            &self.asset,
            Timestamp::now(),
            TraceParent::root(),
            &message,
        );
        self.producer.send(&event).await.unwrap();
        document_id
    }
}

/// The parts of the smallest workbook, but its only sheet.
pub const XLSX_PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    ),
    (
        "xl/workbook.xml",
        r#"<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Hoja1" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    ),
    (
        "xl/_rels/workbook.xml.rels",
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
    ),
];

/// A workbook of one sheet with these rows, and further parts.
pub fn workbook(rows: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let sheet = format!(
        "<?xml version=\"1.0\"?><worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>{rows}</sheetData></worksheet>"
    );
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let parts = XLSX_PARTS.iter().copied().chain([("xl/worksheets/sheet1.xml", sheet.as_str())]);
    for (name, text) in parts.chain(more.iter().copied()) {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
