//! The logs of jobs: written, cut, and deleted when there are more than are kept.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// How a failed job's log ends.
pub const FAILED: &str = ".failed.log";

/// What a process says is cut at this many bytes.
const LOG_LIMIT: usize = 16 * 1024 * 1024;

/// Gives a failed job's log the name of one; nothing when somebody has taken it away.
///
/// # Errors
/// When it cannot be renamed; then it keeps its name.
pub fn mark_failed(log: &mut PathBuf) -> anyhow::Result<()> {
    let Some(job) = log.file_stem().and_then(|stem| stem.to_str()) else {
        return Ok(());
    };
    let failed = log.with_file_name(format!("{job}{FAILED}"));
    match std::fs::rename(&log, &failed) {
        Ok(()) => *log = failed,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("{} cannot be renamed", log.display())),
    }
    Ok(())
}

/// Deletes a worker's oldest logs but for so many of jobs that succeeded and so many of jobs that failed; those in use stay.
/// What somebody else has deleted is deleted.
///
/// # Errors
/// When the directory cannot be read, or a log not be deleted.
pub fn forget(dir: &Path, worker: &str, (succeeded, failed): (usize, usize), used: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
    let prefix = format!("{worker}-");
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{} cannot be read", dir.display()))?,
    };
    let logs: Vec<(u64, bool, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| {
            let (number, failed) = number(&path, &prefix)?;
            Some((number, failed, path))
        })
        .filter(|(_, _, path)| !used(path))
        .collect();
    for (kind, keep) in [(false, succeeded), (true, failed)] {
        let mut ended: Vec<_> = logs.iter().filter(|(_, failed, _)| *failed == kind).collect();
        ended.sort();
        let old = ended.len().saturating_sub(keep);
        for (_, _, path) in ended.into_iter().take(old) {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                removed => removed.with_context(|| format!("{} cannot be deleted", path.display()))?,
            }
        }
    }
    Ok(())
}

/// The number in a log's name, and whether its job failed.
fn number(path: &Path, prefix: &str) -> Option<(u64, bool)> {
    let name = path.file_name()?.to_str()?.strip_prefix(prefix)?;
    match name.strip_suffix(FAILED) {
        Some(number) => Some((number.parse().ok()?, true)),
        None => Some((name.strip_suffix(".log")?.parse().ok()?, false)),
    }
}

/// Copies what a process says into its job's log, below a heading, up to the limit; beyond it, it is read and dropped, so
/// that the process goes on.
pub async fn write_log<O, E>(
    heading: Option<String>,
    (mut out, mut err): (Option<O>, Option<E>),
    mut log: tokio::fs::File,
    begun: Arc<AtomicBool>,
) -> std::io::Result<()>
where
    O: AsyncRead + Unpin,
    E: AsyncRead + Unpin,
{
    log.write_all(heading.unwrap_or_default().as_bytes()).await?;
    let (mut from_out, mut from_err) = (vec![0; 8192], vec![0; 8192]);
    let mut left = LOG_LIMIT;
    loop {
        let bytes: &[u8] = tokio::select! {
            n = read(&mut out, &mut from_out), if out.is_some() => match n? {
                0 => { out = None; continue; }
                n => from_out.get(..n).unwrap_or_default(),
            },
            n = read(&mut err, &mut from_err), if err.is_some() => match n? {
                0 => { err = None; continue; }
                n => from_err.get(..n).unwrap_or_default(),
            },
            else => break,
        };
        begun.store(true, Ordering::Relaxed);
        let fits = bytes.len().min(left);
        log.write_all(bytes.get(..fits).unwrap_or_default()).await?;
        if fits < bytes.len() && left > 0 {
            log.write_all(b"\n(cut here: the log is too long)\n").await?;
        }
        left -= fits;
        log.flush().await?;
    }
    log.flush().await
}

async fn read<R: AsyncRead + Unpin>(source: &mut Option<R>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match source {
        Some(source) => source.read(buffer).await,
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_jobs_that_succeeded_and_of_jobs_that_failed_as_many_logs_stay_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["1.log", "9.log", "10.log", "2.failed.log", "3.failed.log", "11.failed.log"];
        let mut all: Vec<String> = names.iter().map(|n| format!("ingestion-{n}")).collect();
        all.extend(["backup-1.log".to_owned(), "notes.txt".to_owned()]);
        for name in &all {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        forget(dir.path(), "ingestion", (1, 2), |path| path.ends_with("ingestion-1.log")).unwrap();
        let left = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = left.collect();
        left.sort();
        assert_eq!(
            left,
            [
                "backup-1.log",
                "ingestion-1.log",
                "ingestion-10.log",
                "ingestion-11.failed.log",
                "ingestion-3.failed.log",
                "notes.txt"
            ]
        );
    }

    #[test]
    fn a_log_that_somebody_took_away_is_no_error_and_one_that_cannot_be_renamed_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let before = dir.path().join("ingestion-7.log");
        let mut log = before.clone();
        mark_failed(&mut log).unwrap();
        assert_eq!(log, before);
        std::fs::write(&log, "x").unwrap();
        let failed = dir.path().join("ingestion-7.failed.log");
        std::fs::create_dir(&failed).unwrap();
        let error = format!("{:#}", mark_failed(&mut log).unwrap_err());
        assert!(log == before && error.contains("ingestion-7.log cannot be renamed"), "{error}");
        std::fs::remove_dir(&failed).unwrap();
        mark_failed(&mut log).unwrap();
        assert!(log == failed && log.is_file());
        forget(&dir.path().join("nowhere"), "ingestion", (0, 0), |_| false).unwrap();
    }
}
