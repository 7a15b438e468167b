//! A stand-in for mongodump, for machines that cannot have the MongoDB Database Tools. Tests only: it is never installed,
//! never on PATH, and what it makes says that it is a stand-in. It reads a real replica set and writes the real archive
//! format (mongo-tools' `common/archive/spec.md`) with the options that the worker uses; it computes no checksums, and
//! leaves out the server's own databases, views and indexes.
//!
//! `--pause-ms`: how long it pauses after every hundred documents, so that a test can interrupt it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Stdout, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Client;
use mongodb::options::ReadConcern;

const TERMINATOR: [u8; 4] = [0xff; 4];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    assert!(
        args.iter().any(|a| a == "--archive") && args.iter().any(|a| a == "--oplog"),
        "the stand-in only knows --archive --oplog"
    );
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let config = value("--config").expect("--config");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).expect("the config can be read")).expect("JSON");
    let pause = value("--pause-ms").map(|ms| Duration::from_millis(ms.parse().unwrap()));
    let client = Client::with_uri_str(config["uri"].as_str().unwrap()).await.unwrap();
    if let Err(e) = dump(&client, pause).await {
        eprintln!("Failed: {e}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn dump(client: &Client, pause: Option<Duration>) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let begin = newest(client).await?;
    let build = client.database("admin").run_command(doc! { "buildInfo": 1 }).await?;
    let mut namespaces = Vec::new();
    for db in client.list_database_names().await? {
        if ["admin", "config", "local"].contains(&db.as_str()) {
            continue;
        }
        let mut names = client.database(&db).list_collection_names().await?;
        names.retain(|n| !n.starts_with("system."));
        namespaces.extend(names.into_iter().map(|n| (db.clone(), n)));
    }
    out.write_all(&0x8199_e26d_u32.to_le_bytes())?;
    let header =
        doc! { "concurrent_collections": 1, "version": "0.1", "server_version": build.get_str("version")?, "tool_version": "stand-in" };
    write(&mut out, &header)?;
    let oplog = (String::new(), "oplog".to_owned());
    for (db, collection) in namespaces.iter().chain([&oplog]) {
        write(&mut out, &doc! { "db": db, "collection": collection, "metadata": "{}", "size": 0 })?;
    }
    out.write_all(&TERMINATOR)?;
    for (db, collection) in &namespaces {
        let source = client.database(db).collection::<RawDocumentBuf>(collection);
        let mut cursor = source.find(doc! {}).batch_size(100).read_concern(ReadConcern::local()).await?;
        let mut documents = Vec::new();
        let mut count = 0;
        while let Some(document) = cursor.try_next().await? {
            documents.push(document);
            count += 1;
            if documents.len() == 100 {
                segment(&mut out, db, collection, &std::mem::take(&mut documents))?;
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        segment(&mut out, db, collection, &documents)?;
        end(&mut out, db, collection)?;
        eprintln!("done dumping {db}.{collection} ({count} documents)");
    }
    let until = newest(client).await?;
    let source = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let mut cursor = source
        .find(doc! { "ts": { "$gte": begin, "$lte": until } })
        .read_concern(ReadConcern::local())
        .await?;
    while let Some(entry) = cursor.try_next().await? {
        segment(&mut out, "", "oplog", &[entry])?;
    }
    end(&mut out, "", "oplog")?;
    Ok(out.flush()?)
}

async fn newest(client: &Client) -> Result<Timestamp, Box<dyn std::error::Error>> {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let newest = oplog
        .find_one(doc! {})
        .sort(doc! { "$natural": -1 })
        .read_concern(ReadConcern::local())
        .await?;
    Ok(newest.ok_or("an empty oplog")?.get_timestamp("ts")?)
}

fn write(out: &mut Stdout, document: &Document) -> Result<(), Box<dyn std::error::Error>> {
    Ok(out.write_all(&document.to_vec()?)?)
}

fn segment(out: &mut Stdout, db: &str, collection: &str, documents: &[RawDocumentBuf]) -> Result<(), Box<dyn std::error::Error>> {
    if documents.is_empty() {
        return Ok(());
    }
    write(out, &doc! { "db": db, "collection": collection, "EOF": false, "CRC": 0i64 })?;
    for document in documents {
        out.write_all(document.as_bytes())?;
    }
    Ok(out.write_all(&TERMINATOR)?)
}

fn end(out: &mut Stdout, db: &str, collection: &str) -> Result<(), Box<dyn std::error::Error>> {
    write(out, &doc! { "db": db, "collection": collection, "EOF": true, "CRC": 0i64 })?;
    Ok(out.write_all(&TERMINATOR)?)
}
