//! Backups of a real replica set into real Blob storage, and their restoration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backup::manifest::BACKUPS;
use backup::restore::restore;
use backup::tools::Tools;
use bson::{Document, doc};
use bus::{Failure, Worker as _};
use bytes::Bytes;
use futures::TryStreamExt as _;
use messages::{BackupCompleted, ClusterTime, Message as _};
use mongodb::Client;
use runtime::Secret;
use stores::PutOptions;
use support::{Bench, context, event, pid_in, request, signal, tools};
use testkit::{Mongod, until};

/// One write of the writer, and the cluster time at which it happened.
struct Written {
    at: ClusterTime,
    /// `None` takes the document away.
    change: (i64, Option<i64>),
}

/// Writes one after the other, each acknowledged by the majority, until told to stop: new documents, changed ones,
/// deleted ones.
async fn write(client: Client, stop: Arc<AtomicBool>) -> Vec<Written> {
    let db = client.database("app");
    let mut history = Vec::new();
    let majority = doc! { "w": "majority" };
    for n in 0i64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (command, change) = match n % 5 {
            3 => {
                let update = doc! { "q": { "_id": n - 2 }, "u": { "$set": { "value": n } } };
                (
                    doc! { "update": "counters", "updates": [update], "writeConcern": &majority },
                    (n - 2, Some(n)),
                )
            }
            4 => {
                let delete = doc! { "q": { "_id": n - 2 }, "limit": 1 };
                (
                    doc! { "delete": "counters", "deletes": [delete], "writeConcern": &majority },
                    (n - 2, None),
                )
            }
            _ => {
                let insert = doc! { "_id": n, "value": n };
                (
                    doc! { "insert": "counters", "documents": [insert], "writeConcern": &majority },
                    (n, Some(n)),
                )
            }
        };
        let answer = db.run_command(command).await.unwrap();
        assert_eq!(answer.get_i32("n").unwrap(), 1, "{answer}");
        let at = answer.get_timestamp("operationTime").unwrap();
        let at = ClusterTime {
            t: at.time,
            i: at.increment,
        };
        history.push(Written { at, change });
    }
    history
}

async fn counters(client: &Client) -> BTreeMap<i64, i64> {
    let collection = client.database("app").collection::<Document>("counters");
    let documents: Vec<Document> = collection.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    documents
        .iter()
        .map(|d| (d.get_i64("_id").unwrap(), d.get_i64("value").unwrap()))
        .collect()
}

async fn ballast(client: &Client) -> Vec<Document> {
    let collection = client.database("app").collection::<Document>("ballast");
    collection
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_the_source_at_the_time_that_the_manifest_names() {
    let bench = Bench::new().await;
    bench.fill(20_000, 400).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(bench.source.client.clone(), stop.clone()));
    until("the writer writes", Duration::from_secs(20), async || {
        counters(&bench.source.client).await.len() > 20
    })
    .await;

    let (worker, request) = (bench.worker().await, request("2026-11-22T02:00:00Z"));
    let event = event(&request);
    let emit = worker.handle(&event, &context()).await.unwrap();
    let seen = counters(&bench.source.client).await.len();
    until("the writer goes on", Duration::from_secs(20), async || {
        counters(&bench.source.client).await.len() > seen + 20
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let history = writer.await.unwrap();
    let manifest = bench.manifest(&request).await.expect("a manifest");

    let mut expected = BTreeMap::new();
    let (before, after): (Vec<_>, Vec<_>) = history.iter().partition(|w| w.at <= manifest.consistent_at);
    for written in &before {
        match written.change {
            (id, Some(value)) => expected.insert(id, value),
            (id, None) => expected.remove(&id),
        };
    }
    assert!(
        before.len() > 20 && after.len() > 20,
        "{} before, {} after: the dump lay between them",
        before.len(),
        after.len()
    );
    let during = before.iter().filter(|w| w.at > manifest.oplog.first).count();
    assert!(during > 0, "nothing was written during the dump, so the oplog had nothing to prove");
    let target = Mongod::start().await;
    let tools = Tools { folder: Some(tools()) };
    let to = Secret::new(target.uri.clone());
    let restored = restore(&manifest, &bench.corner.blobs(), &tools, &to, false).await.unwrap();
    // The server's own databases are not restored document by document.
    let ours = manifest
        .collections
        .iter()
        .filter(|c| !["admin", "config"].contains(&c.db.as_str()));
    let ours: u64 = ours.map(|c| c.documents).sum();
    assert!(
        (ours..=manifest.documents).contains(&restored.documents),
        "{restored:?}: {ours} to {}",
        manifest.documents
    );
    assert_eq!(counters(&target.client).await, expected);
    let (there, here) = (ballast(&target.client).await, ballast(&bench.source.client).await);
    assert!(
        there == here && there.len() == 20_000,
        "{} of 20,000 documents that nobody changed",
        there.len()
    );

    // The request comes again: the same event, and no second dump.
    let again = worker.handle(&event, &context()).await.unwrap();
    let [first, second] = [&emit.0[0], &again.0[0]];
    assert_eq!(
        (first.envelope.id, &first.value, first.envelope.time),
        (second.envelope.id, &second.value, second.envelope.time)
    );
    assert_eq!(first.envelope.event_type, BackupCompleted::TYPE);
    assert_eq!((first.envelope.tenant.as_str(), first.key()), ("platform", "libertum"));
    assert_eq!(bench.stored().await.len(), 2, "one archive, one manifest");
    println!(
        "{} writes before (of these {during} during the dump) and {} after {}.{} by {}",
        before.len(),
        after.len(),
        manifest.consistent_at.t,
        manifest.consistent_at.i,
        manifest.tool.mongodump
    );

    // What is there is not written over unless that is asked for; then it is as the backup has it.
    let error = restore(&manifest, &bench.corner.blobs(), &tools, &to, false).await.unwrap_err();
    assert!(error.to_string().contains("the target is not empty, it has app"), "{error}");
    let counter = target.client.database("app").collection::<Document>("counters");
    counter.insert_one(doc! { "_id": -1i64, "value": -1i64 }).await.unwrap();
    restore(&manifest, &bench.corner.blobs(), &tools, &to, true).await.unwrap();
    assert_eq!(counters(&target.client).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_killed_or_lies_commits_nothing_and_is_taken_again() {
    let mut bench = Bench::new().await;
    bench.fill(3000, 400).await;
    let request = request("2026-11-22T03:00:00Z");
    let event = event(&request);
    for name in ["TERM", "KILL"] {
        let pid = bench.slow_dump(200);
        let worker = Arc::new(bench.worker().await);
        let running = {
            let (worker, event) = (worker.clone(), event.clone());
            tokio::spawn(async move { worker.handle(&event, &context()).await })
        };
        until("mongodump runs", Duration::from_secs(30), async || pid_in(&pid).is_some()).await;
        signal(pid_in(&pid).unwrap(), name);
        std::fs::remove_file(&pid).unwrap();
        match running.await.unwrap() {
            Err(Failure::Failed(e)) => assert!(e.to_string().contains("mongodump ended with signal"), "{e:#}"),
            other => panic!("SIG{name}: {other:?}"),
        }
        assert_eq!(bench.stored().await, Vec::<String>::new(), "SIG{name}");
    }
    // A whole archive and a status that is not 0; a status of 0 and half an archive; no archive at all.
    let stand_in = support::stand_ins().join("mongodump").display().to_string();
    for (script, why) in [
        (
            format!("#!/bin/sh\n{stand_in} \"$@\"\necho 'Failed: oplog overflow' >&2\nexit 3\n"),
            "oplog overflow",
        ),
        (format!("#!/bin/sh\n{stand_in} \"$@\" | head -c 100000\n"), "no whole archive"),
        ("#!/bin/sh\necho hello\n".to_owned(), "magic number"),
    ] {
        bench.dump_script(&script);
        match bench.worker().await.handle(&event, &context()).await {
            Err(Failure::Failed(e)) => assert!(e.to_string().contains(why), "{e:#}"),
            other => panic!("{why}: {other:?}"),
        }
        assert_eq!(bench.stored().await, Vec::<String>::new(), "{why}");
    }
    bench.honest_tools();
    bench.worker().await.handle(&event, &context()).await.unwrap();
    assert_eq!(bench.stored().await.len(), 2, "one archive, one manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_at_once_take_one_backup() {
    let mut bench = Bench::new().await;
    bench.fill(2000, 400).await;
    let pid = bench.slow_dump(50);
    let (first, second) = (bench.worker().await, bench.worker().await);
    let request = request("2026-11-22T04:00:00Z");
    let event = event(&request);
    let running = {
        let event = event.clone();
        tokio::spawn(async move { first.handle(&event, &context()).await })
    };
    until("mongodump runs", Duration::from_secs(30), async || pid_in(&pid).is_some()).await;
    // The same request by another worker, and another slot of the same cluster: both wait.
    for event in [event.clone(), support::event(&support::request("2026-11-22T05:00:00Z"))] {
        match second.handle(&event, &context()).await {
            Err(Failure::Unavailable(e)) => assert!(e.to_string().contains("another process is taking a backup"), "{e:#}"),
            other => panic!("{other:?}"),
        }
    }
    let emit = running.await.unwrap().unwrap();
    let again = second.handle(&event, &context()).await.unwrap();
    assert_eq!(emit.0[0].envelope.id, again.0[0].envelope.id);
    assert_eq!(emit.0[0].value, again.0[0].value);
    assert_eq!(bench.stored().await.len(), 2, "one archive, one manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_outlasts_its_lease_keeps_it() {
    let mut bench = Bench::new().await;
    bench.fill(2000, 400).await;
    // 20 pauses of 0.9 s: longer than the 15 s that the lease has.
    let pid = bench.slow_dump(900);
    let (first, second) = (bench.worker().await, bench.worker().await);
    let running = tokio::spawn(async move { first.handle(&event(&request("2026-11-22T09:00:00Z")), &context()).await });
    until("mongodump runs", Duration::from_secs(30), async || pid_in(&pid).is_some()).await;
    let begun = Instant::now();
    let mut refused_at = Duration::ZERO;
    while !running.is_finished() {
        match second.handle(&event(&request("2026-11-22T10:00:00Z")), &context()).await {
            Err(Failure::Unavailable(_)) => refused_at = begun.elapsed(),
            other => assert!(running.is_finished(), "the lock was lost after {:?}: {other:?}", begun.elapsed()),
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "the dump does not end");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    running.await.unwrap().unwrap();
    assert!(refused_at > Duration::from_secs(16), "the last refusal came after {refused_at:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_ends_its_dump_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    bench.fill(2000, 400).await;
    let pid = bench.slow_dump(500);
    let worker = bench.worker().await;
    let event = event(&request("2026-11-22T06:00:00Z"));
    let ctx = context();
    let stop = ctx.cancel.clone();
    let running = tokio::spawn(async move { worker.handle(&event, &ctx).await });
    until("mongodump runs", Duration::from_secs(30), async || pid_in(&pid).is_some()).await;
    let pid = pid_in(&pid).unwrap();
    stop.cancel();
    assert!(matches!(running.await.unwrap(), Err(Failure::Cancelled)));
    let gone = async || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    until("mongodump is gone", Duration::from_secs(5), gone).await;
    assert_eq!(bench.stored().await, Vec::<String>::new());
    // The lock is free at once.
    bench.honest_tools();
    let event = support::event(&support::request("2026-11-22T06:00:00Z"));
    bench.worker().await.handle(&event, &context()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_refused_before_a_byte_is_written() {
    let bench = Bench::new().await;
    bench.fill(500, 400).await;
    let request = request("2026-11-22T07:00:00Z");
    bench.worker().await.handle(&event(&request), &context()).await.unwrap();
    let manifest = bench.manifest(&request).await.unwrap();
    let blobs = bench.corner.blobs();
    let blob = blobs.blob(BACKUPS, &manifest.archive.name);
    let mut bytes = blob.get(None).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap().concat();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    blob.delete().await.unwrap();
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    blob.put(stream, PutOptions::default()).await.unwrap();

    let target = Mongod::start().await;
    let keep = target.client.database("app").collection::<Document>("ballast");
    keep.insert_one(doc! { "_id": "mine" }).await.unwrap();
    let tools = Tools { folder: Some(tools()) };
    let error = restore(&manifest, &blobs, &tools, &Secret::new(target.uri.clone()), true)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(keep.count_documents(doc! {}).await.unwrap(), 1, "what was there is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_cluster_is_rejected_in_words() {
    let bench = Bench::new().await;
    let mut request = request("2026-11-22T08:00:00Z");
    request.cluster = "elsewhere".parse().unwrap();
    match bench.worker().await.handle(&event(&request), &context()).await {
        Err(Failure::Rejected { emit, reason }) => {
            assert!(reason.contains("elsewhere"), "{reason}");
            assert_eq!(emit.0[0].envelope.event_type, "com.libertum.backup.failed.v1");
        }
        other => panic!("{other:?}"),
    }
}
