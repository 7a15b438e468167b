//! `scalers check`: what KEDA accepts silently and ops regret, and whether the files agree with each other.

mod agree;
mod finding;
mod lint;
mod params;
mod pod;
mod schema;
mod topics;
mod triggers;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

pub use finding::{Finding, Level, RULES};
pub use lint::Commits;
pub use params::{nearest, partitions as partition_list, switch, whole};

use crate::engine::Version;
use crate::topics::TopicsFile;
use crate::yaml::{Node, Place, parse};
use lint::{Known, Subject, annotated};

/// A document of a file.
pub struct Document {
    pub file: PathBuf,
    pub kind: String,
    pub name: String,
    pub root: Node,
}

impl Document {
    /// Whether it is a ScaledJob or a ScaledObject.
    pub fn scales(&self) -> bool {
        matches!(self.kind.as_str(), "ScaledJob" | "ScaledObject")
    }
}

/// What there is at a path.
pub struct Folder {
    /// The directory, also when one file was named.
    pub dir: PathBuf,
    /// A whole folder was named, so files must agree.
    pub whole: bool,
    pub documents: Vec<Document>,
    pub topics: Option<(PathBuf, TopicsFile)>,
    pub kustomization: Option<(PathBuf, Node)>,
}

/// Checks a folder of scalers, or one file of it.
///
/// # Errors
/// When the path cannot be read or holds nothing to check.
pub fn check(path: &Path, keda: Version) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let folder = read(path, &mut findings)?;
    let identities: Vec<String> = folder
        .documents
        .iter()
        .filter(|d| uses_workload_identity(d))
        .map(|d| d.name.clone())
        .collect();
    for document in &folder.documents {
        schema::check(&document.file, &document.kind, &document.root, &mut findings);
        if document.scales() {
            let known = annotated(&document.root, agree::known(&folder, document));
            findings.extend(lint_one(document, known, keda, &identities));
        }
    }
    if folder.whole {
        agree::check(&folder, &mut findings);
    }
    if let Some((file, topics)) = &folder.topics {
        topics::check(file, topics, &mut findings);
    }
    findings.sort_by(|a, b| (&a.file, a.line, a.column, a.id, &a.key).cmp(&(&b.file, b.line, b.column, b.id, &b.key)));
    findings.dedup();
    Ok(findings)
}

/// What must be right before a document can be simulated or run: schema and parameters, not taste.
pub fn errors_of(document: &Document, keda: Version) -> Vec<Finding> {
    let mut findings = Vec::new();
    schema::check(&document.file, &document.kind, &document.root, &mut findings);
    findings.extend(lint_one(document, Known::default(), keda, &[]));
    let fatal = ["S01", "S02", "S03", "L01", "L02", "L03", "L04"];
    findings.retain(|f| f.level == Level::Error && fatal.contains(&f.id));
    findings
}

fn lint_one(document: &Document, known: Known, keda: Version, workload_identity: &[String]) -> Vec<Finding> {
    let mut subject = Subject {
        file: &document.file,
        root: &document.root,
        job: document.kind == "ScaledJob",
        known,
        keda,
        workload_identity,
        findings: Vec::new(),
    };
    lint::lint(&mut subject);
    subject.findings
}

fn uses_workload_identity(document: &Document) -> bool {
    document.kind.ends_with("TriggerAuthentication")
        && document.root.at("spec.podIdentity.provider").and_then(Node::text) == Some("azure-workload")
}

/// Reads what there is; what cannot be read is a finding.
fn read(path: &Path, findings: &mut Vec<Finding>) -> anyhow::Result<Folder> {
    let whole = path.is_dir();
    let dir = if whole {
        path
    } else {
        path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    };
    let files = if whole { yaml_files(path)? } else { vec![path.to_owned()] };
    ensure!(!files.is_empty(), "{} has no YAML files", path.display());
    let mut folder = Folder {
        dir: dir.to_owned(),
        whole,
        documents: Vec::new(),
        topics: None,
        kustomization: None,
    };
    let beside = dir.join("topics.yaml");
    let mut all = files.clone();
    if !all.contains(&beside) && beside.is_file() {
        all.push(beside);
    }
    for file in all {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        match file.file_name().and_then(|n| n.to_str()) {
            Some("topics.yaml") => match crate::topics::parse_file(&text) {
                Ok(topics) => folder.topics = Some((file, topics)),
                Err(e) => findings.push(Finding::new("T01", Level::Error, &file, &e.place, "", e.what)),
            },
            name => documents(&file, name, &text, &mut folder, findings),
        }
    }
    Ok(folder)
}

fn documents(file: &Path, name: Option<&str>, text: &str, folder: &mut Folder, findings: &mut Vec<Finding>) {
    let roots = match parse(text) {
        Ok(roots) => roots,
        Err(e) => {
            let place = Place {
                line: e.line,
                column: e.column,
                bytes: 0..0,
            };
            findings.push(Finding::new("S01", Level::Error, file, &place, "", e.what));
            return;
        }
    };
    for root in roots {
        let text_at = |path| root.at(path).and_then(Node::text).unwrap_or_default().to_owned();
        let (kind, title) = (text_at("kind"), text_at("metadata.name"));
        if name.is_some_and(|n| n.starts_with("kustomization.")) {
            folder.kustomization = Some((file.to_owned(), root));
        } else if schema::knows(&kind) {
            folder.documents.push(Document {
                file: file.to_owned(),
                kind,
                name: title,
                root,
            });
        } else if kind.is_empty() || text_at("apiVersion").starts_with("keda.sh/") {
            let near = nearest(&kind, ["ScaledJob", "ScaledObject", "TriggerAuthentication"].into_iter());
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let message = format!("{kind:?} is no kind of KEDA{near}");
            let place = root.get("kind").unwrap_or(&root).place.clone();
            findings.push(Finding::new("S02", Level::Error, file, &place, "kind", message));
        }
    }
}

/// The YAML files of a directory, by name.
fn yaml_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    files.sort();
    Ok(files)
}

/// The documents of one file, for those who run or simulate it.
///
/// # Errors
/// When it cannot be read.
pub fn documents_of(file: &Path) -> anyhow::Result<Vec<Document>> {
    let mut findings = Vec::new();
    let folder = Folder {
        dir: PathBuf::new(),
        whole: false,
        documents: Vec::new(),
        topics: None,
        kustomization: None,
    };
    let mut folder = folder;
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    documents(file, None, &text, &mut folder, &mut findings);
    ensure!(findings.is_empty(), "{}", lines(&findings));
    Ok(folder.documents)
}

/// Findings as one text.
pub fn lines(findings: &[Finding]) -> String {
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    all.join("\n")
}
