//! Uploads as forms, and references to files that are stored already, on the real servers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;

use futures::StreamExt as _;
use messages::{DossierClosed, Hash32, Message as _, topics};
use reqwest::Method;
use serde_json::{Value, json};
use stores::{Expected, PutOptions, StoreError};
use support::*;

const DOCUMENT_ROUTE: &str = "POST /v1/assets/{asset_id}/documents";
const TYPE: &str = "multipart/form-data; boundary=\"b 1\"";

fn part(name: &str, rest: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--b 1\r\nContent-Disposition: form-data; name=\"{name}\"{rest}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn metadata(value: &Value) -> Vec<u8> {
    part("metadata", "", value.to_string().as_bytes())
}

fn file(content: &[u8]) -> Vec<u8> {
    part("file", "; filename=\"tasaci\u{f3}n.csv\"\r\nContent-Type: text/csv", content)
}

fn end() -> Vec<u8> {
    b"--b 1--\r\n".to_vec()
}

fn form(house: &House, key: &str, parts: &[Vec<u8>]) -> reqwest::RequestBuilder {
    // In pieces, so that a boundary is cut in two somewhere.
    let chunks: Vec<_> = parts.concat().chunks(65_521).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    house.upload(key, body).header("content-type", TYPE)
}

async fn kept(house: &House, key: &str) -> bool {
    let id = messages::door_id(house.tenant(), DOCUMENT_ROUTE, key);
    let blob = house.corner.blobs().blob("inbox", &format!("{}/{id}", house.tenant()));
    match blob.info().await {
        Ok(_) => true,
        Err(StoreError::NotFound(_)) => false,
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_stored_like_the_document_itself() {
    let house = House::new().await;
    let content = bytes(9 * 1024 * 1024 + 3);
    let digest = Hash32(sha256(&content)).to_string();
    let said = json!({ "close": true, "valuation_date": "2026-01-31", "sha256": digest, "size": content.len() });
    let whole = [metadata(&said), file(&content), end()];
    let answer = house.send(DOCUMENTS, form(&house, "k", &whole)).await.is(202, "");
    assert_eq!(
        (answer.text("sha256"), answer.json["size"].as_u64()),
        (digest.as_str(), Some(content.len() as u64))
    );
    let again = house.send(DOCUMENTS, form(&house, "k", &whole)).await.is(202, "");
    assert_eq!(again.json["idempotent_replay"], true);
    let other = [metadata(&json!({})), file(&content), end()];
    house
        .send(DOCUMENTS, form(&house, "k", &other))
        .await
        .is(422, "idempotency-key-reused");

    let events = house.corner.events(topics::INGESTION).await;
    let document = &events[0].value;
    assert_eq!(
        (&document["filename"], &document["declared_type"]),
        (&json!("tasaci\u{f3}n.csv"), &json!("text/csv"))
    );
    assert_eq!(events[1].envelope().event_type, DossierClosed::TYPE);
    assert_eq!(events[1].value["valuation_date"], "2026-01-31");
    let name = document["blob"]["name"].as_str().unwrap();
    let stored: Vec<_> = house.corner.blobs().blob("inbox", name).get(None).await.unwrap().collect().await;
    let stored: Vec<u8> = stored.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
    assert!(stored == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_not_as_described_leaves_nothing_behind() {
    let house = House::with(&[("MAX_DOCUMENT_BYTES", "5000000")]).await;
    let (nothing, content) = (json!({}), bytes(100_000));
    let big = bytes(5_000_001);
    let wrong = json!({ "sha256": Hash32([7; 32]).to_string() });
    let cases: Vec<(&str, Vec<Vec<u8>>, u16, &str)> = vec![
        ("file first", vec![file(&content), metadata(&nothing), end()], 400, "invalid-body"),
        ("no file", vec![metadata(&nothing), end()], 400, "invalid-body"),
        (
            "two files",
            vec![metadata(&nothing), file(&content), file(&content), end()],
            400,
            "invalid-body",
        ),
        (
            "metadata again",
            vec![metadata(&nothing), file(&content), metadata(&nothing), end()],
            400,
            "invalid-body",
        ),
        (
            "no JSON",
            vec![part("metadata", "", b"close=true"), file(&content), end()],
            400,
            "invalid-body",
        ),
        (
            "unknown",
            vec![metadata(&json!({ "closed": true })), file(&content), end()],
            400,
            "invalid-body",
        ),
        (
            "date alone",
            vec![metadata(&json!({ "valuation_date": "2026-01-31" })), file(&content), end()],
            400,
            "invalid-metadata",
        ),
        ("no end", vec![metadata(&nothing), file(&content)], 400, "truncated-body"),
        (
            "half",
            vec![metadata(&nothing), file(&content)[..70_000].to_vec()],
            400,
            "truncated-body",
        ),
        ("empty", vec![metadata(&nothing), file(b""), end()], 400, "empty-document"),
        ("digest", vec![metadata(&wrong), file(&content), end()], 400, "digest-mismatch"),
        (
            "size",
            vec![metadata(&json!({ "size": 99_999 })), file(&content), end()],
            400,
            "truncated-body",
        ),
        ("too large", vec![metadata(&nothing), file(&big), end()], 413, "too-large"),
        (
            "announced too large",
            vec![metadata(&json!({ "size": 5_000_001 })), file(&content), end()],
            413,
            "too-large",
        ),
    ];
    for (name, parts, status, problem) in cases {
        let key = name.replace(' ', "-");
        house.send(DOCUMENTS, form(&house, &key, &parts)).await.is(status, problem);
        assert!(!kept(&house, &key).await, "{name}");
    }
    let good = [metadata(&nothing), file(&content), end()].concat();
    for kind in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=other",
    ] {
        let request = house.upload("boundary", good.clone()).header("content-type", kind);
        house.send(DOCUMENTS, request).await.is(400, "invalid-body");
    }
    let request = form(&house, "query", std::slice::from_ref(&good)).query(&[("close", "true")]);
    house.send(DOCUMENTS, request).await.is(400, "invalid-metadata");
    assert!(house.corner.events(topics::INGESTION).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_header_that_never_ends_is_answered_early_and_not_held() {
    let house = House::new().await;
    let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = taken.clone();
    let begin = futures::stream::iter([Ok::<_, std::io::Error>(b"--b 1\r\nContent-Disposition: ".to_vec())]);
    // One gibibyte, if somebody took it.
    let endless = futures::stream::iter(0..16_384).map(move |_| {
        count.fetch_add(65_536, std::sync::atomic::Ordering::Relaxed);
        Ok(vec![b'x'; 65_536])
    });
    let request = house
        .upload("k", reqwest::Body::wrap_stream(begin.chain(endless)))
        .header("content-type", TYPE);
    match request.send().await {
        Ok(answer) => assert_eq!(answer.status(), 400),
        Err(e) => assert!(e.is_request() || e.is_body(), "{e}"),
    }
    let taken = taken.load(std::sync::atomic::Ordering::Relaxed);
    assert!(taken < 64 * 1024 * 1024, "{taken} bytes were taken");
    assert!(!kept(&house, "k").await);
}

/// A file as a backend puts it into the inbox.
async fn backend_puts(house: &House, name: &str, content: &[u8]) -> String {
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(content))]);
    let options = PutOptions {
        content_type: None,
        metadata: HashMap::new(),
        expected: Expected::default(),
    };
    let (info, _) = house.corner.blobs().blob("inbox", name).put(stream, options).await.unwrap();
    info.etag
}

fn refer(house: &House, key: &str, body: &Value) -> reqwest::RequestBuilder {
    let request = house.request(Method::POST, "/v1/assets/a-1/document-references");
    request.header("idempotency-key", key).json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_file_is_queued_in_the_version_that_is_there() {
    let house = House::new().await;
    let content = bytes(5000);
    let name = format!("{}/backend/2026/acta.pdf", house.tenant());
    let etag = backend_puts(&house, &name, &content).await;
    let digest = Hash32(sha256(&content)).to_string();
    let body = json!({ "blob": { "name": name }, "sha256": digest, "size": 5000, "media_type": "application/pdf",
        "filename": "Acta.pdf", "close": true });
    let answer = house.send(REFERENCES, refer(&house, "k", &body)).await.is(202, "");
    let id = answer.text("document_id").to_owned();
    let again = house.send(REFERENCES, refer(&house, "k", &body)).await.is(202, "");
    assert_eq!(
        (again.text("document_id"), &again.json["idempotent_replay"]),
        (id.as_str(), &json!(true))
    );
    let mut other = body.clone();
    other["filename"] = json!("Otra.pdf");
    house
        .send(REFERENCES, refer(&house, "k", &other))
        .await
        .is(422, "idempotency-key-reused");
    // It can be followed at once.
    house.get(DOCUMENT, &format!("/v1/documents/{id}")).await.is(200, "");

    let events = house.corner.events(topics::INGESTION).await;
    let document = &events[0].value;
    assert_eq!(document["blob"], json!({ "container": "inbox", "name": name, "etag": etag }));
    assert_eq!(
        (
            &document["sha256"],
            &document["size"],
            &document["filename"],
            &document["declared_type"]
        ),
        (&json!(digest), &json!(5000), &json!("Acta.pdf"), &json!("application/pdf"))
    );
    assert_eq!(events[1].envelope().event_type, DossierClosed::TYPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_or_another_tenants_is_not_taken() {
    let house = House::new().await;
    let (mine, theirs) = (format!("{}/mine", house.tenant()), format!("{}-b/theirs", house.tenant()));
    backend_puts(&house, &mine, b"12345").await;
    backend_puts(&house, &theirs, b"12345").await;
    let body = |name: &str| json!({ "blob": { "name": name }, "sha256": Hash32([1; 32]).to_string(), "size": 5, "media_type": "text/csv" });
    for name in [
        &theirs,
        &format!("{}/../{theirs}", house.tenant()),
        &format!("{}/absent", house.tenant()),
    ] {
        house.send(REFERENCES, refer(&house, "k", &body(name))).await.is(404, "not-found");
    }
    let mut elsewhere = body(&mine);
    elsewhere["blob"]["container"] = json!("documents");
    house.send(REFERENCES, refer(&house, "k", &elsewhere)).await.is(404, "not-found");
    let mut larger = body(&mine);
    larger["size"] = json!(6);
    house.send(REFERENCES, refer(&house, "k", &larger)).await.is(409, "blob-mismatch");
    let mut older = body(&mine);
    older["blob"]["etag"] = json!("\"0x1\"");
    house.send(REFERENCES, refer(&house, "k", &older)).await.is(409, "blob-mismatch");
    for (field, wrong) in [
        ("sha256", json!("abc")),
        ("size", json!(0)),
        ("media_type", json!("")),
        ("blob", json!("a")),
        ("valuation_date", json!("2026-01-31")),
        ("extra", json!(1)),
    ] {
        let mut bad = body(&mine);
        bad[field] = wrong;
        house.send(REFERENCES, refer(&house, "k", &bad)).await.is(400, "invalid-body");
    }
    assert!(house.corner.events(topics::INGESTION).await.is_empty());
    house.send(REFERENCES, refer(&house, "k", &body(&mine))).await.is(202, "");
}
