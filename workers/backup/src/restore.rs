//! A backup into another database: verified before the first byte goes there, and once more on the way.

use std::io::Write as _;
use std::process::Stdio;

use futures::TryStreamExt as _;
use messages::Hash32;
use runtime::Secret;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use stores::{BlobBody, Blobs, Mongo, MongoConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use crate::Error;
use crate::dump::last_words;
use crate::manifest::{Archive, BACKUPS, Manifest};
use crate::tools::Tools;

/// Databases of the server itself, which every empty one has.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// Compressed bytes decoded at a time, so that memory stays small however well they were packed.
const DECODE: usize = 16 * 1024;

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub backup_id: String,
    /// Documents that mongorestore inserted, before it replayed the oplog.
    pub documents: u64,
    pub consistent_at: messages::ClusterTime,
}

/// Restores a backup into the database at `to`, which must be empty unless `drop` is set. With `drop` the
/// collections that the backup has are replaced; others stay.
///
/// # Errors
/// [`Error::Restore`] when the target is not empty, when the archive is not what the manifest says (nothing has been
/// written then), or when a document could not be restored.
pub async fn restore(manifest: &Manifest, blobs: &Blobs, tools: &Tools, to: &Secret, drop: bool) -> Result<Restored, Error> {
    let config = MongoConfig {
        uri: to.clone(),
        database: "admin".to_owned(),
    };
    let target = Mongo::new(&config).await?;
    let names = target.call(async { target.client().list_database_names().await }).await?;
    let filled: Vec<String> = names.into_iter().filter(|n| !OWN.contains(&n.as_str())).collect();
    if !filled.is_empty() && !drop {
        return Err(Error::Restore(format!(
            "the target is not empty, it has {}: restore into an empty one, or replace what is there with --drop",
            filled.join(", ")
        )));
    }
    let archive = &manifest.archive;
    if archive.compression != "zstd" {
        return Err(Error::Restore(format!(
            "the archive is compressed with {}, this version reads zstd",
            archive.compression
        )));
    }
    verify(archive, blobs).await?;
    let documents = load(archive, blobs, tools, to, drop).await?;
    Ok(Restored {
        backup_id: manifest.backup_id.clone(),
        documents,
        consistent_at: manifest.consistent_at,
    })
}

/// Reads the whole archive and compares it with its manifest.
async fn verify(archive: &Archive, blobs: &Blobs) -> Result<(), Error> {
    let mut body = blobs.blob(BACKUPS, &archive.name).get(None).await?;
    let mut seen = Seen::default();
    while let Some(bytes) = body.try_next().await? {
        seen.add(&bytes);
    }
    seen.check(archive)
}

#[derive(Default)]
struct Seen {
    size: u64,
    hasher: Sha256,
}

impl Seen {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    fn check(self, archive: &Archive) -> Result<(), Error> {
        let sha256 = Hash32(self.hasher.finalize().into());
        if (self.size, sha256) == (archive.size, archive.sha256) {
            return Ok(());
        }
        Err(Error::Restore(format!(
            "the archive {} is damaged: it has {} bytes with SHA-256 {sha256}, the manifest says {} bytes with {}",
            archive.name, self.size, archive.size, archive.sha256
        )))
    }
}

async fn load(archive: &Archive, blobs: &Blobs, tools: &Tools, to: &Secret, replace: bool) -> Result<u64, Error> {
    let body = blobs.blob(BACKUPS, &archive.name).get(None).await?;
    let mut arguments = vec!["--archive", "--oplogReplay", "--stopOnError"];
    if replace {
        arguments.push("--drop");
    }
    let mut tool = tools.start("mongorestore", to, &arguments, Stdio::piped(), Stdio::null())?;
    let mut stdin = tool.child.stdin.take().ok_or(Error::Source("mongorestore has no standard input"))?;
    match feed(body, archive, &mut stdin).await {
        Ok(()) => {}
        // It ended before it had read everything: what it said tells why.
        Err(Error::Pipe(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            // While the pipe is open it waits for more; closing it would tell it that this was all.
            tool.kill().await;
            return Err(error);
        }
    }
    drop(stdin);
    let status = tool.child.wait().await?;
    let said = tool.said().await;
    if !status.success() {
        return Err(Error::Ended {
            tool: "mongorestore",
            status: status.to_string(),
            said: last_words(&said),
        });
    }
    // It ends with 0 even when every document was refused: only its count tells.
    match said.iter().rev().find_map(|line| counts(line)) {
        Some((restored, 0)) => Ok(restored),
        Some((restored, refused)) => Err(Error::Restore(format!(
            "{refused} documents were refused by the target, {restored} were restored: {}",
            last_words(&said)
        ))),
        None => Err(Error::Restore(format!(
            "mongorestore did not say how much it restored: {}",
            last_words(&said)
        ))),
    }
}

/// Decompresses the archive into the tool, and compares it with its manifest once more. The caller closes the pipe.
async fn feed(mut body: BlobBody, archive: &Archive, stdin: &mut ChildStdin) -> Result<(), Error> {
    let mut seen = Seen::default();
    let mut decoder = zstd::stream::write::Decoder::new(Vec::new())?;
    while let Some(bytes) = body.try_next().await? {
        seen.add(&bytes);
        for part in bytes.chunks(DECODE) {
            decoder.write_all(part)?;
            stdin.write_all(decoder.get_ref()).await?;
            decoder.get_mut().clear();
        }
    }
    decoder.flush()?;
    stdin.write_all(decoder.get_ref()).await?;
    stdin.flush().await?;
    seen.check(archive)
}

/// The numbers of "N document(s) restored successfully. M document(s) failed to restore."
fn counts(line: &str) -> Option<(u64, u64)> {
    let (before, after) = line.split_once(" document(s) restored successfully. ")?;
    let restored = before.rsplit(char::is_whitespace).next()?.parse().ok()?;
    let refused = after.split_once(" document(s) failed to restore")?.0.parse().ok()?;
    Some((restored, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mongorestore_counts_is_read() {
        let line = "2026-11-22T02:00:00.000+0000\t1200 document(s) restored successfully. 3 document(s) failed to restore.";
        assert_eq!(counts(line), Some((1200, 3)));
        assert_eq!(counts("2026-11-22T02:00:00.000+0000\tno indexes to restore"), None);
    }
}
