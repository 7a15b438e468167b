//! `mongodump` and `mongorestore` as child processes: found, told their secrets in private, listened to.

use std::collections::VecDeque;
use std::io::{PipeReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use runtime::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::Error;

/// Lines of a tool's standard error that are kept, for the error and for what it counted.
const KEPT_LINES: usize = 40;
/// Bytes of such a line that are kept.
const KEPT_BYTES: usize = 2000;

/// Where the tools are: a folder, else whatever is on PATH.
#[derive(Debug, Clone)]
pub struct Tools {
    pub folder: Option<PathBuf>,
}

/// A running tool.
pub struct Tool {
    pub child: Child,
    /// What it says; complete once [`Tool::said`] has returned.
    lines: Arc<Mutex<VecDeque<String>>>,
    listener: tokio::task::JoinHandle<()>,
    /// Carries the connection string; gone when nobody has it open any more.
    _config: PipeReader,
}

impl Tools {
    fn path(&self, name: &str) -> PathBuf {
        self.folder
            .as_deref()
            .map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    /// Starts a tool on the database at `uri`. It dies with the value that is returned.
    ///
    /// The connection string goes through a pipe that the tool opens as its `--config`: it stands neither in the
    /// arguments, which every user of the machine can read, nor in a file that a kill would leave behind.
    ///
    /// # Errors
    /// [`Error::Tool`] when it cannot be started.
    pub fn start(&self, name: &'static str, uri: &Secret, arguments: &[&str], stdin: Stdio, stdout: Stdio) -> Result<Tool, Error> {
        let path = self.path(name);
        let failed = |source| Error::Tool {
            path: path.clone(),
            source,
        };
        let config = config_pipe(uri).map_err(failed)?;
        let mut child = Command::new(&path)
            .arg("--config")
            .arg(format!("/proc/{}/fd/{}", std::process::id(), config.as_raw_fd()))
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            // Its own group: Ctrl-C at a terminal is for us, and we end it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let listener = match child.stderr.take() {
            Some(stderr) => tokio::spawn(listen(stderr, lines.clone(), Masked::of(uri))),
            None => tokio::spawn(async {}),
        };
        Ok(Tool {
            child,
            lines,
            listener,
            _config: config,
        })
    }
}

impl Tool {
    /// Waits for the end of its standard error, which comes with its own, and gives its last lines.
    pub async fn said(&mut self) -> Vec<String> {
        if (&mut self.listener).await.is_err() {
            tracing::warn!("listening to a tool ended early");
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    /// Ends it now.
    pub async fn kill(&mut self) {
        if let Err(e) = self.child.kill().await {
            tracing::warn!(error = %e, "a tool could not be killed, it ends when its pipe breaks");
        }
    }
}

/// A pipe that holds the tool's configuration: YAML, of which JSON is a part.
fn config_pipe(uri: &Secret) -> std::io::Result<PipeReader> {
    let (reader, mut writer) = std::io::pipe()?;
    let text = serde_json::json!({ "uri": uri.expose() }).to_string();
    // A pipe holds 64 KiB before a write waits for a reader.
    if text.len() > 32 * 1024 {
        return Err(std::io::Error::other("the connection string is longer than 32 KiB"));
    }
    writer.write_all(text.as_bytes())?;
    Ok(reader)
}

async fn listen(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<VecDeque<String>>>, masked: Masked) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Reads to the end whatever comes: a tool that nobody listens to stands still at a full pipe.
        match stream.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        line.truncate(KEPT_BYTES);
        let text = masked.mask(String::from_utf8_lossy(&line).trim_end());
        tracing::debug!(line = text, "tool");
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

/// What must not appear in a log: the connection string, and its user and password alone.
struct Masked(Vec<String>);

impl Masked {
    fn of(uri: &Secret) -> Self {
        let uri = uri.expose();
        let mut secrets = vec![uri.to_owned()];
        let authority = uri.split_once("://").map(|(_, rest)| rest);
        if let Some((login, _)) = authority.and_then(|rest| rest.rsplit_once('@')) {
            secrets.push(login.to_owned());
            secrets.extend(login.split_once(':').map(|(_, password)| password.to_owned()));
        }
        secrets.retain(|s| !s.is_empty());
        Self(secrets)
    }

    fn mask(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, secret| line.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_shows_the_connection_string_or_its_password() {
        let masked = Masked::of(&Secret::new("mongodb://ana:s3cret@h1,h2/?replicaSet=rs".to_owned()));
        let said = masked.mask("Failed: can't connect to mongodb://ana:s3cret@h1,h2/?replicaSet=rs (ana:s3cret, s3cret)");
        assert!(!said.contains("s3cret"), "{said}");
        assert_eq!(
            Masked::of(&Secret::new("mongodb://h".to_owned())).mask("dumping app.assets"),
            "dumping app.assets"
        );
    }
}
