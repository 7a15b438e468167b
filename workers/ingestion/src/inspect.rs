//! `ingestion inspect`: what ingestion would conclude, without any server.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::civil::Date;
use messages::facts::{Fact, Provenance};
use messages::{AssetKey, Hash32};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stores::records::DocumentFact;
use uuid::Uuid;

use crate::assemble::{Assembly, Stated};
use crate::child::Readers;
use crate::close::digest;
use crate::conclude::{Conclusion, conclude};
use crate::read::{Reading, Seen, without_bytes};
use crate::sniff::{Detected, PREFIX, detect};

/// The conclusions of one file, and what it states.
struct Inspected {
    conclusion: Value,
    stated: Stated,
    counts: bool,
}

/// A file, read.
struct Looked {
    detected: Detected,
    size: u64,
    sha256: Hash32,
    reading: Reading,
    seen: Seen,
}

/// Prints the conclusions on standard output; 0 unless a file cannot be opened.
pub fn main(files: &[PathBuf], date: Option<Date>) -> ExitCode {
    let date = date.unwrap_or_else(|| jiff::Zoned::now().date());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let inspected = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(inspect(&Readers::default(), files, date)));
    match inspected.and_then(|value| Ok(serde_json::to_string_pretty(&value)?)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("ingestion inspect: {e:#}");
            ExitCode::from(1)
        }
    }
}

/// What ingestion would conclude from each file, and from all of them as one dossier in this order.
///
/// # Errors
/// When a file cannot be opened, or no process can be started to read it.
pub async fn inspect(readers: &Readers, files: &[PathBuf], date: Date) -> anyhow::Result<Value> {
    let mut assembly = Assembly::default();
    let mut documents = Vec::new();
    for path in files {
        let inspected = file(readers, path)
            .await
            .with_context(|| format!("{} cannot be read", path.display()))?;
        documents.push(inspected.conclusion);
        if inspected.counts {
            assembly.add(inspected.stated);
        }
    }
    // Names that no event has: the sheet is the one that a dossier of these documents would have, under other names.
    let asset = AssetKey::new("inspect".parse()?, "inspect".parse()?);
    let dossier = assembly.finish(&asset, date);
    Ok(json!({
        "documents": documents,
        "dossier": {
            "complete": dossier.missing.is_empty(),
            "missing": dossier.missing,
            "notes": dossier.notes,
            "sha256": digest(&dossier.sheet)?,
            "sheet": dossier.sheet,
        },
    }))
}

async fn file(readers: &Readers, path: &Path) -> anyhow::Result<Inspected> {
    let Looked {
        detected,
        size,
        sha256,
        reading,
        seen,
    } = look(readers, path).await?;
    let Conclusion {
        state,
        reason,
        extractor,
        facts,
        notes,
    } = conclude(reading);
    // The same bytes are the same document here.
    let document_id = Uuid::from_slice(sha256.0.get(..16).unwrap_or_default())?;
    let facts: Vec<DocumentFact> = facts
        .into_iter()
        .map(|found| DocumentFact {
            path: found.path,
            fact: Fact {
                value: found.value,
                provenance: Provenance {
                    document_id,
                    document_sha256: sha256,
                    locator: found.locator,
                    extractor: extractor.clone().unwrap_or_default(),
                },
            },
        })
        .collect();
    let conclusion = json!({
        "file": path.display().to_string(),
        "bytes": size,
        "sha256": sha256,
        "detected_type": detected.media_type,
        "state": state,
        "reason": reason,
        "notes": notes,
        "facts": facts,
        "seen": seen.sights,
        "seen_more": seen.more,
    });
    Ok(Inspected {
        conclusion,
        stated: Stated {
            document_id,
            sha256,
            detected_type: detected.media_type,
            facts,
        },
        counts: state.has_facts(),
    })
}

/// Hashes a file, finds its type and reads it; a large file that is not read is not held in memory.
async fn look(readers: &Readers, path: &Path) -> anyhow::Result<Looked> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut kept = Vec::new();
    file.by_ref().take(PREFIX as u64).read_to_end(&mut kept)?;
    let detected = detect(&kept, size <= PREFIX as u64);
    let mut hasher = Sha256::new();
    if let Some(reading) = without_bytes(&detected, size) {
        hasher.update(&kept);
        let mut buffer = vec![0; PREFIX];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(buffer.get(..n).unwrap_or_default());
        }
        return Ok(Looked {
            detected,
            size,
            sha256: Hash32(hasher.finalize().into()),
            reading,
            seen: Seen::default(),
        });
    }
    file.take(size.saturating_sub(kept.len() as u64)).read_to_end(&mut kept)?;
    hasher.update(&kept);
    let reading = readers.read(&detected, &kept).await?;
    let seen = readers.seen(&detected, &kept).await?;
    Ok(Looked {
        detected,
        size: kept.len() as u64,
        sha256: Hash32(hasher.finalize().into()),
        reading,
        seen,
    })
}
