//! Lists that must agree: what the project says of itself, in several places, once each.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};
use messages::topics;
use runtime::Exit;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

/// The files of the project with this ending, without what is built.
fn sources(ending: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files failed");
    let all = String::from_utf8(listed.stdout).unwrap();
    all.lines()
        .filter(|l| l.ends_with(ending))
        .map(|l| root().join(l))
        .filter(|p| p.exists())
        .collect()
}

/// The first column of the table in README that follows the heading.
fn readme_column(heading: &str) -> BTreeSet<String> {
    let readme = read("README.md");
    let section = readme
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("README has no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|l| l.starts_with("| ")).skip(1);
    rows.map(|l| l.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned())
        .collect()
}

#[test]
fn the_packages_that_the_owner_named_are_used_for_real() {
    let metadata = metadata();
    let used: BTreeSet<String> = metadata
        .packages
        .iter()
        .flat_map(|p| p.dependencies.iter())
        .filter(|d| d.kind == cargo_metadata::DependencyKind::Normal)
        .map(|d| d.rename.clone().unwrap_or_else(|| d.name.clone()))
        .collect();
    for package in [
        "tokio",
        "rdkafka",
        "redis",
        "mongodb",
        "azure_storage_blobs",
        "serde",
        "anyhow",
        "envy",
        "tracing-subscriber",
    ] {
        assert!(used.contains(package), "{package} is in no crate of ours");
        let word = package.replace('-', "_");
        let named = sources(".rs").into_iter().any(|f| {
            let text = std::fs::read_to_string(f).unwrap();
            text.contains(&format!("{word}::")) || text.contains(&format!("use {word};"))
        });
        assert!(named, "{package} is depended on, and used nowhere");
    }
}

#[test]
fn arrows_between_crates_point_one_way() {
    let metadata = metadata();
    let workers: BTreeSet<String> = metadata
        .packages
        .iter()
        .filter(|p| p.manifest_path.as_str().contains("/workers/"))
        .map(|p| p.name.to_string())
        .collect();
    assert!(workers.len() >= 4, "{workers:?}");
    for package in &metadata.packages {
        let ours = |wanted: &BTreeSet<String>| -> Vec<String> {
            let normal = package
                .dependencies
                .iter()
                .filter(|d| d.kind == cargo_metadata::DependencyKind::Normal);
            normal.map(|d| d.name.clone()).filter(|n| wanted.contains(n)).collect()
        };
        assert_eq!(ours(&workers), Vec::<String>::new(), "{} imports a worker", package.name);
        let forbidden: &[&str] = match package.name.as_str() {
            "messages" => &["runtime", "bus", "stores", "testkit"],
            "runtime" => &["messages", "bus", "stores", "testkit"],
            "bus" => &["stores", "testkit"],
            "stores" => &["bus", "testkit"],
            // Measures, on pretended brokers too, and is delivered nowhere.
            "bench" => &[],
            _ => &["testkit"],
        };
        let forbidden: BTreeSet<String> = forbidden
            .iter()
            .map(|n| (*n).to_owned())
            .filter(|n| *n != *package.name.as_str())
            .collect();
        assert_eq!(ours(&forbidden), Vec::<String>::new(), "{} points the wrong way", package.name);
    }
}

/// Where the project must know a worker, and what must stand there; docs/add-a-worker.md goes through them in turn.
fn places(worker: &str) -> Vec<(String, String)> {
    let files = ["main", "lib", "config", "error", "handler", "prepare"];
    let own = files.map(|file| (format!("workers/{worker}/src/{file}.rs"), String::new()));
    let named = [
        (format!("workers/{worker}/Cargo.toml"), format!("name = \"{worker}\"")),
        (
            format!("workers/{worker}/src/handler.rs"),
            format!("topics::{}", worker.to_uppercase()),
        ),
        (format!("scalers/{worker}.yaml"), format!("name: {worker}")),
        (format!("scalers/{worker}.yaml"), format!("topic: {worker}")),
        (format!("scalers/{worker}.yaml"), format!("consumerGroup: {worker}")),
        ("scalers/kustomization.yaml".to_owned(), format!("- path: {worker}.yaml")),
        ("scalers/topics.yaml".to_owned(), format!("name: {worker},")),
        ("scalers/topics.yaml".to_owned(), format!("name: {worker}.dead,")),
        ("docs/asyncapi.json".to_owned(), format!("\"address\": \"{worker}\"")),
        (format!("k8s/base/workers/{worker}.yaml"), format!("name: {worker}")),
        ("k8s/base/kustomization.yaml".to_owned(), format!("- workers/{worker}.yaml")),
        ("k8s/base/accounts.yaml".to_owned(), format!("name: {worker}")),
        (
            "k8s/components/azure/secrets/kustomization.yaml".to_owned(),
            format!("- {worker}.yaml"),
        ),
        (
            "k8s/overlays/staging/images/kustomization.yaml".to_owned(),
            format!("name: {worker}"),
        ),
        (
            "k8s/overlays/production/images/kustomization.yaml".to_owned(),
            format!("name: {worker}"),
        ),
        (format!("k8s/components/azure/secrets/{worker}.yaml"), format!("name: {worker}")),
        (
            "k8s/components/azure/secrets/deployment.yaml".to_owned(),
            format!("mountPath: /mnt/{worker},"),
        ),
        (
            "k8s/components/azure/replacements.yaml".to_owned(),
            format!("data.identity-{worker} }}"),
        ),
        ("k8s/overlays/staging/environment.yaml".to_owned(), format!("identity-{worker}:")),
        ("k8s/overlays/production/environment.yaml".to_owned(), format!("identity-{worker}:")),
        (
            "k8s/overlays/local/kustomization.yaml".to_owned(),
            format!("newName: libertum/{worker},"),
        ),
        ("k8s/base/prepare.yaml".to_owned(), format!("image: {worker}")),
        (
            "k8s/platform/monitoring/dashboards/worker.json".to_owned(),
            format!("\"text\": \"{worker}\""),
        ),
        ("k8s/platform/logging/collector.alloy".to_owned(), format!("\"{worker}.dead\"")),
        ("Dockerfile.worker".to_owned(), format!("AS base-{worker}")),
        (".github/workflows/drift.yml".to_owned(), format!(" {worker} ")),
        ("infra/modules/identities/main.tf".to_owned(), format!("\"{worker}\", ")),
        (".github/workflows/image.yml".to_owned(), format!(" {worker},")),
        ("infra/modules/identities/main.tf".to_owned(), format!("account = \"{worker}\"")),
        ("infra/modules/vm/files/access.json".to_owned(), format!("\"READ GROUP {worker}\"")),
        ("README.md".to_owned(), format!("| `{worker}` |")),
        ("ARCHITECTURE.md".to_owned(), worker.to_owned()),
    ];
    own.into_iter().chain(named).collect()
}

/// The places that do not know the worker.
fn ignorant(worker: &str) -> Vec<String> {
    let knows = |(file, text): &(String, String)| std::fs::read_to_string(root().join(file)).is_ok_and(|all| all.contains(text));
    let missing = places(worker).into_iter().filter(|place| !knows(place));
    missing
        .map(|(file, text)| if text.is_empty() { file } else { format!("{file}: `{text}`") })
        .collect()
}

#[test]
fn every_worker_is_known_wherever_a_worker_must_be() {
    for worker in topics::WORK {
        let missing = ignorant(worker);
        assert!(
            missing.is_empty(),
            "docs/add-a-worker.md; what {worker} lacks:\n  {}",
            missing.join("\n  ")
        );
        let main = read(&format!("workers/{worker}/src/main.rs"));
        assert!(
            main.lines().count() <= 90,
            "{worker}'s main does more than start, configure, run and end"
        );
    }
    // The list is one that a worker which nobody has added yet fails at, in every place.
    assert_eq!(ignorant("notary").len(), places("notary").len());
}

#[test]
fn topics_that_no_worker_consumes_are_prepared_too() {
    let file = read("scalers/topics.yaml");
    for topic in [topics::ASSET_EVENTS, topics::REDRIVES] {
        assert!(file.contains(&format!("name: {topic},")), "scalers/topics.yaml lacks {topic}");
    }
}

#[test]
fn every_folder_of_a_worker_has_its_topic_and_the_guide_names_every_place() {
    let guide = read("docs/add-a-worker.md");
    for entry in std::fs::read_dir(root().join("workers")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "intake" || topics::WORK.contains(&name.as_str()),
            "workers/{name} is not in messages::topics::WORK"
        );
    }
    for (file, _) in places("NAME") {
        // The crate's own files are named by themselves, under its folder.
        let named = file.strip_prefix("workers/NAME/").unwrap_or(&file);
        assert!(guide.contains(named), "docs/add-a-worker.md does not name {file}");
    }
}

#[test]
fn readme_tells_every_metric_of_a_worker_and_no_other() {
    let told = readme_column("Telemetry");
    let meters = read("shared/bus/src/meters.rs");
    let names = meters.split('"').filter(|text| {
        let measured = text.starts_with("libertum.worker.") || text.starts_with("messaging.");
        measured && !["messaging.system", "messaging.operation.name"].contains(text) && !text.ends_with(".name")
    });
    let ours: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(told, ours);
}

#[test]
fn readme_tells_every_exit_code() {
    let told = readme_column("Exit codes");
    let ours: BTreeSet<String> = Exit::ALL.iter().map(|e| e.code().to_string()).collect();
    assert_eq!(told, ours);
    let readme = read("README.md");
    for exit in Exit::ALL {
        assert!(
            readme.contains(&format!("| {} | {} |", exit.code(), exit.name())),
            "README lacks {} {}",
            exit.code(),
            exit.name()
        );
    }
}

#[test]
fn readme_tells_every_setting_and_no_other() {
    let told = readme_column("Configuration");
    let mut ours = BTreeSet::new();
    for path in sources(".rs")
        .into_iter()
        .filter(|p| p.components().any(|c| c.as_os_str() == "src"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        // Without white space, so that it does not matter where a line is broken.
        let code: String = text.split("#[cfg(test)]").next().unwrap().split_whitespace().collect();
        for call in ["required", "with_default", "optional", "required_secret", "optional_secret"] {
            for after in code.split(&format!("r.{call}")).skip(1) {
                // `r.required::<Type>(\n    "NAME", …`: the first text in the call is the variable's name.
                let Some(name) = after.split('"').nth(1) else { continue };
                if name.len() > 2 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
                    ours.insert(name.to_owned());
                }
            }
        }
    }
    assert!(ours.len() > 20, "{ours:?}");
    let untold: Vec<_> = ours.difference(&told).collect();
    let unknown: Vec<_> = told.difference(&ours).collect();
    assert!(
        untold.is_empty() && unknown.is_empty(),
        "README lacks {untold:?} and has {unknown:?}, which nothing reads"
    );
}

#[test]
fn readme_opens_with_what_doctor_wants() {
    let table = Command::new(root().join("scripts/doctor")).arg("--table").output().unwrap();
    assert!(table.status.success());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        read("README.md").contains(table.trim()),
        "README's table is not that of scripts/doctor --table"
    );
}

#[test]
fn every_script_tells_what_it_does() {
    for entry in std::fs::read_dir(root().join("scripts")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some() {
            continue;
        }
        let help = Command::new(&path).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(
            help.status.success() && text.contains(&format!("scripts/{}", path.file_name().unwrap().display())),
            "{} --help: {text}",
            path.display()
        );
    }
}
