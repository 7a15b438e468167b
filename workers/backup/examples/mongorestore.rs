//! A stand-in for mongorestore, for machines that cannot have the MongoDB Database Tools; see `mongodump.rs` beside it.
//! It reads an archive on its standard input, inserts into a real server, and has that server replay the oplog
//! (`applyOps`), as mongorestore does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use bson::{Document, doc};
use mongodb::Client;

type Fault = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    assert!(
        args.iter().any(|a| a == "--archive") && args.iter().any(|a| a == "--oplogReplay"),
        "the stand-in only knows --archive --oplogReplay [--drop]"
    );
    let config = args
        .iter()
        .position(|a| a == "--config")
        .and_then(|i| args.get(i + 1))
        .expect("--config");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).expect("the config can be read")).expect("JSON");
    let client = Client::with_uri_str(config["uri"].as_str().unwrap()).await.unwrap();
    let replace = args.iter().any(|a| a == "--drop");
    match restore(&client, replace).await {
        Ok(n) => eprintln!("{n} document(s) restored successfully. 0 document(s) failed to restore."),
        Err(e) => {
            eprintln!("Failed: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn restore(client: &Client, replace: bool) -> Result<u64, Fault> {
    let mut input = std::io::stdin().lock();
    let mut magic = [0; 4];
    input.read_exact(&mut magic)?;
    if u32::from_le_bytes(magic) != 0x8199_e26d {
        return Err("not an archive".into());
    }
    let mut open: BTreeMap<(String, String), bool> = BTreeMap::new();
    next(&mut input)?.ok_or("no header")?;
    while let Some(namespace) = next(&mut input)? {
        let name = (namespace.get_str("db")?.to_owned(), namespace.get_str("collection")?.to_owned());
        if replace && !name.0.is_empty() {
            client.database(&name.0).collection::<Document>(&name.1).drop().await?;
        }
        open.insert(name, true);
    }
    let mut restored = 0;
    let mut oplog = Vec::new();
    while open.values().any(|o| *o) {
        let header = next(&mut input)?.ok_or("an empty segment")?;
        let name = (header.get_str("db")?.to_owned(), header.get_str("collection")?.to_owned());
        let mut documents = Vec::new();
        while let Some(document) = next(&mut input)? {
            documents.push(document);
        }
        if header.get_bool("EOF")? {
            open.insert(name, false);
        } else if name.0.is_empty() {
            oplog.extend(documents);
        } else {
            restored += documents.len() as u64;
            client
                .database(&name.0)
                .collection::<Document>(&name.1)
                .insert_many(documents)
                .await?;
        }
    }
    if input.read(&mut magic)? != 0 {
        return Err("more after the end".into());
    }
    for entry in oplog {
        replay(client, entry).await?;
    }
    Ok(restored)
}

async fn replay(client: &Client, mut entry: Document) -> Result<(), Fault> {
    let namespace = entry.get_str("ns")?.to_owned();
    let own = ["config.", "admin.", "local."].iter().any(|db| namespace.starts_with(db));
    if entry.get_str("op")? == "n" || own {
        return Ok(());
    }
    // The collections here have other UUIDs than there.
    entry.remove("ui");
    client.database("admin").run_command(doc! { "applyOps": [entry] }).await?;
    Ok(())
}

/// The next document, or nothing at a terminator.
fn next(input: &mut impl std::io::Read) -> Result<Option<Document>, Fault> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let n = u32::from_le_bytes(length);
    if n == u32::MAX {
        return Ok(None);
    }
    let mut bytes = length.to_vec();
    bytes.resize(n as usize, 0);
    input.read_exact(bytes.get_mut(4..).ok_or("a short document")?)?;
    Ok(Some(Document::from_reader(bytes.as_slice())?))
}
