//! Uploads on the real servers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use messages::{DocumentSubmitted, DossierClosed, IngestionPayload, Message as _, Payload as _, caused_id, header, topics};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn inbox(house: &House, document_id: &str) -> stores::Blob {
    house.corner.blobs().blob("inbox", &format!("{}/{document_id}", house.tenant()))
}

fn submitted(seen: &testkit::Seen) -> DocumentSubmitted {
    let value = serde_json::to_vec(&seen.value).unwrap();
    match IngestionPayload::decode(&seen.envelope().event_type, &value).unwrap() {
        IngestionPayload::DocumentSubmitted(d) => d,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_stream_into_blob_and_one_event_comes_out() {
    let house = House::new().await;
    let body = bytes(10 * 1024 * 1024 + 17);
    let chunks: Vec<_> = body.chunks(70_001).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    let request = house
        .upload("\"k 1\"", streamed)
        .header("content-type", "text/csv")
        .header("content-disposition", "attachment; filename*=UTF-8''tasaci%C3%B3n.csv")
        .header("repr-digest", repr_digest(&body))
        .header("traceparent", TRACE);
    let answer = house.send(DOCUMENTS, request).await.is(202, "");
    let id = answer.text("document_id").to_owned();
    assert_eq!(answer.header("location"), format!("/v1/documents/{id}"));
    assert_eq!(answer.text("status_url"), answer.header("location"));
    assert_eq!(
        (answer.text("state"), answer.json["idempotent_replay"].as_bool()),
        ("accepted", Some(false))
    );
    assert_eq!(
        (answer.json["size"].as_u64(), answer.text("sha256")),
        (Some(body.len() as u64), messages::Hash32(sha256(&body)).to_string().as_str())
    );
    assert!(!answer.header("retry-after").is_empty());

    let events = house.corner.events(topics::INGESTION).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let envelope = event.envelope();
    assert_eq!(
        (event.key.as_str(), envelope.id.to_string()),
        (format!("{}/a-1", house.tenant()).as_str(), id.clone())
    );
    assert_eq!(
        (envelope.event_type.as_str(), envelope.subject.to_string()),
        (DocumentSubmitted::TYPE, format!("documents/{id}"))
    );
    assert_eq!(
        (envelope.source.as_str(), envelope.tenant.as_str()),
        ("/libertum/intake", house.tenant())
    );
    assert_eq!(event.header(header::CONTENT_TYPE), Some("application/json"));
    assert_eq!(envelope.trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    // Without tracing there is no span of our own to name: the context is handed on as it came.
    assert_eq!(event.header(header::TRACE_PARENT), Some(TRACE));
    let document = submitted(event);
    assert_eq!(document.filename.as_deref(), Some("tasación.csv"));
    assert_eq!(
        (document.declared_type.as_deref(), document.submitted_by.as_str()),
        (Some("text/csv"), "ana")
    );

    // What the event points to is what was sent.
    let blob = house.corner.blobs().blob(&document.blob.container, &document.blob.name);
    let stored: Vec<_> = blob.get(Some(&document.blob.etag)).await.unwrap().collect().await;
    let stored: Vec<u8> = stored.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
    assert!(stored == body);

    let text = house.intake.metrics.render().unwrap();
    assert!(
        text.contains("libertum_intake_requests_total{") && text.contains("code=\"202\""),
        "{text}"
    );
    let received = text
        .lines()
        .find(|l| l.starts_with("libertum_intake_received_bytes_total"))
        .expect(&text);
    assert!(received.ends_with(&format!(" {}", body.len())), "{received}");
    assert!(text.contains("libertum_intake_request_duration_seconds_bucket"), "{text}");
    assert!(!text.contains(house.tenant()), "no tenant is a label");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_the_same_document_and_the_same_event() {
    let house = House::new().await;
    let body = bytes(100_000);
    let first = house.send(DOCUMENTS, house.upload("k", body.clone())).await.is(202, "");
    let again = house.send(DOCUMENTS, house.upload("\"k\"", body.clone())).await.is(202, "");
    assert_eq!(
        (first.text("document_id"), again.json["idempotent_replay"].as_bool()),
        (again.text("document_id"), Some(true))
    );
    assert_eq!(first.text("sha256"), again.text("sha256"));
    // With a digest the answer needs no byte of the body: this one never comes.
    let head = format!(
        "POST /v1/assets/a-1/documents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\nrepr-digest: {}\r\ncontent-length: {}\r\n\r\n",
        house.token(),
        repr_digest(&body),
        body.len()
    );
    let mut raw = connect(&house).await;
    raw.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");

    let events = house.corner.events(topics::INGESTION).await;
    let ids: Vec<_> = events.iter().map(|e| e.envelope().id).collect();
    assert!(ids.iter().all(|id| id.to_string() == first.text("document_id")), "{ids:?}");
    assert!(
        events.iter().all(|e| e.value == events[0].value),
        "a repeat says what the first said"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_for_something_else_is_refused() {
    let house = House::new().await;
    let body = bytes(1000);
    house.send(DOCUMENTS, house.upload("k", body.clone())).await.is(202, "");
    let mut other = body.clone();
    other[500] ^= 1;
    let reused = [
        house.upload("k", other.clone()),
        house.upload("k", other.clone()).header("repr-digest", repr_digest(&other)),
        house.upload("k", bytes(999)),
        house.upload("k", body.clone()).query(&[("close", "true")]),
        house
            .request(reqwest::Method::POST, "/v1/assets/a-2/documents")
            .header("idempotency-key", "k")
            .body(body),
    ];
    for request in reused {
        house.send(DOCUMENTS, request).await.is(422, "idempotency-key-reused");
    }
    assert_eq!(house.corner.events(topics::INGESTION).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_at_once_under_one_key_never_mix() {
    let house = House::new().await;
    let (one, two) = (bytes(9 * 1024 * 1024), vec![7u8; 9 * 1024 * 1024]);
    let (a, b) = tokio::join!(
        house.send(DOCUMENTS, house.upload("k", one.clone())),
        house.send(DOCUMENTS, house.upload("k", two.clone()))
    );
    let won: Vec<_> = [(&a, &one), (&b, &two)]
        .into_iter()
        .filter(|(answer, _)| answer.status == 202)
        .collect();
    let [(answer, body)] = won.as_slice() else {
        panic!("{} {}", a.json, b.json)
    };
    let stored: Vec<_> = inbox(&house, answer.text("document_id")).get(None).await.unwrap().collect().await;
    let stored: Vec<u8> = stored.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
    assert!(stored == **body, "the blob is wholly the winner's");
    let loser = if a.status == 202 { b } else { a };
    assert!(
        ["request-in-flight", "idempotency-key-reused"].contains(&loser.problem()),
        "{}",
        loser.json
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_announced_is_not_kept() {
    let house = House::with(&[("BODY_IDLE_MS", "400"), ("MAX_DOCUMENT_BYTES", "5000000")]).await;
    let wrong = house.upload("digest", bytes(1000)).header("repr-digest", repr_digest(b"other"));
    house.send(DOCUMENTS, wrong).await.is(400, "digest-mismatch");
    let too_long = reqwest::Body::wrap_stream(futures::stream::iter((0..6).map(|_| Ok::<_, std::io::Error>(bytes(1_000_000)))));
    house.send(DOCUMENTS, house.upload("long", too_long)).await.is(413, "too-large");
    let nothing = reqwest::Body::wrap_stream(futures::stream::iter(Vec::<Result<Vec<u8>, std::io::Error>>::new()));
    house
        .send(DOCUMENTS, house.upload("empty chunks", nothing).header("idempotency-key", "e"))
        .await
        .is(400, "idempotency-key-missing");
    let nothing = reqwest::Body::wrap_stream(futures::stream::iter(Vec::<Result<Vec<u8>, std::io::Error>>::new()));
    house
        .send(DOCUMENTS, house.upload("empty", nothing))
        .await
        .is(400, "empty-document");
    house.send(DOCUMENTS, house.upload("empty", "")).await.is(400, "empty-document");

    // A body that ends too early, one that breaks off, and one that stalls.
    let head = |key: &str| {
        format!(
            "POST /v1/assets/a-1/documents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\ncontent-length: 1000\r\n\r\nonly this",
            house.token()
        )
    };
    let mut ends = connect(&house).await;
    ends.write_all(head("ends").as_bytes()).await.unwrap();
    ends.shutdown().await.unwrap();
    let answer = read_head(&mut ends).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let mut breaks = connect(&house).await;
    breaks.write_all(head("breaks").as_bytes()).await.unwrap();
    drop(breaks);
    let mut stalls = connect(&house).await;
    stalls.write_all(head("stalls").as_bytes()).await.unwrap();
    let answer = read_head(&mut stalls).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-stalled"), "{answer}");

    for key in ["digest", "long", "empty", "ends", "breaks", "stalls"] {
        let id = messages::door_id(house.tenant(), "POST /v1/assets/{asset_id}/documents", key).to_string();
        let found = inbox(&house, &id).info().await;
        assert!(matches!(found, Err(stores::StoreError::NotFound(_))), "{key}: {found:?}");
    }
    assert!(house.corner.events(topics::INGESTION).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_said_before_a_byte_is_sent_and_the_client_hears_it() {
    let house = House::with(&[("MAX_DOCUMENT_BYTES", "1000")]).await;
    let mut raw = connect(&house).await;
    let head = format!(
        "POST /v1/assets/a-1/documents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n",
        house.token()
    );
    raw.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "no 100 Continue first: {answer}");
    // A client that sends everything before it listens still hears the answer.
    house.send(DOCUMENTS, house.upload("k", bytes(900_000))).await.is(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_with_what_to_do() {
    let house = House::new().await;
    let post = |path: &str| house.request(reqwest::Method::POST, path).body("x");
    house
        .send(DOCUMENTS, post("/v1/assets/a-1/documents"))
        .await
        .is(400, "idempotency-key-missing");
    let keyed = |path: &str| post(path).header("idempotency-key", "k");
    house
        .send(DOCUMENTS, keyed("/v1/assets/a%20b/documents"))
        .await
        .is(400, "invalid-name");
    for query in [
        "close=maybe",
        "closed=true",
        "valuation_date=2026-01-31",
        "close=true&valuation_date=31.1.2026",
    ] {
        let request = keyed(&format!("/v1/assets/a-1/documents?{query}"));
        house.send(DOCUMENTS, request).await.is(400, "invalid-metadata");
    }
    let request = keyed("/v1/assets/a-1/documents").header("repr-digest", "md5=:AA==:");
    house.send(DOCUMENTS, request).await.is(400, "invalid-metadata");
    let request = keyed("/v1/assets/a-1/documents").header("content-encoding", "gzip");
    house.send(DOCUMENTS, request).await.is(415, "unsupported-type");
    let request = keyed("/v1/assets/a-1/documents").header("content-type", "multipart/mixed; boundary=x");
    house.send(DOCUMENTS, request).await.is(415, "unsupported-type");

    for (method, path, status, problem) in [
        ("GET", "/v1/nothing", 404, "not-found"),
        ("PUT", "/v1/assets/a-1/documents", 405, "method-not-allowed"),
        ("GET", "/metrics", 404, "not-found"),
        ("GET", "/healthz/ready", 404, "not-found"),
    ] {
        let response = house.request(method.parse().unwrap(), path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.text().await.unwrap().contains(problem));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_with_the_document_closes_behind_it() {
    let house = House::new().await;
    let close = [("close", "true"), ("valuation_date", "2026-01-31"), ("filename", "facts.json")];
    let answer = house.send(DOCUMENTS, house.upload("k", "{}").query(&close)).await.is(202, "");
    let events = house.corner.events(topics::INGESTION).await;
    let [first, second] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((first.partition, first.key.as_str()), (second.partition, second.key.as_str()));
    assert_eq!(submitted(first).filename.as_deref(), Some("facts.json"));
    let closed = second.envelope();
    assert_eq!(closed.event_type, DossierClosed::TYPE);
    assert_eq!(
        closed.id,
        caused_id(answer.text("document_id").parse().unwrap(), DossierClosed::TYPE, "assets/a-1")
    );
    assert_eq!(second.value["valuation_date"], "2026-01-31");
    assert_eq!(closed.trace.trace_id(), first.envelope().trace.trace_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kafka_down_nothing_is_promised_and_a_repeat_heals_it_without_the_bytes() {
    let mut house = House::with(&[("KAFKA_BROKERS", "127.0.0.1:1")]).await;
    let body = bytes(50_000);
    let digest = repr_digest(&body);
    let request = house.upload("k", body.clone()).header("repr-digest", &digest);
    let answer = house.send(DOCUMENTS, request).await.is(503, "broker-unavailable");
    assert!(answer.json["retryable"].as_bool().unwrap() && !answer.header("retry-after").is_empty());
    house.another(&[]).await;
    let answer = house
        .send(DOCUMENTS, house.upload("k", body).header("repr-digest", &digest))
        .await
        .is(202, "");
    assert_eq!(answer.json["idempotent_replay"], true);
    let events = house.corner.events(topics::INGESTION).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].envelope().id.to_string(), answer.text("document_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_blob_down_nothing_is_promised() {
    let house = House::with(&[("BLOB_ENDPOINT", "http://127.0.0.1:1/libertum")]).await;
    house.send(DOCUMENTS, house.upload("k", "x")).await.is(503, "storage-unavailable");
    assert!(house.corner.events(topics::INGESTION).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_is_in_flight_and_takes_nothing_new() {
    let house = House::new().await;
    let mut raw = half_an_upload(&house).await;
    house.intake.stop.cancel();
    let address = house.intake.url.trim_start_matches("http://").to_owned();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(&address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "it still takes connections");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    raw.write_all(b"secon").await.unwrap();
    let answer = read_head(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(house.intake.ended.await.unwrap().unwrap(), runtime::Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_outlasts_the_grace_is_cut_with_an_answer() {
    let house = House::new().await;
    let mut raw = half_an_upload(&house).await;
    house.intake.stop.cancel();
    let answer = read_head(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("draining"), "{answer}");
    assert_eq!(house.intake.ended.await.unwrap().unwrap(), runtime::Exit::Drained);
}

/// An upload of ten bytes, of which the intake has taken the first five.
async fn half_an_upload(house: &House) -> TcpStream {
    let mut raw = connect(house).await;
    let head = format!(
        "POST /v1/assets/a-1/documents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\ncontent-length: 10\r\n\r\nfirst",
        house.token()
    );
    raw.write_all(head.as_bytes()).await.unwrap();
    wait_until(|| {
        house
            .intake
            .metrics
            .render()
            .unwrap()
            .contains("libertum_intake_received_bytes_total")
    })
    .await;
    raw
}

async fn connect(house: &House) -> TcpStream {
    TcpStream::connect(house.intake.url.trim_start_matches("http://")).await.unwrap()
}

/// Everything that is answered until the end of the head and its body's first part.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !String::from_utf8_lossy(&all).contains("\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => all.extend_from_slice(&buffer[..n]),
                Ok(_) | Err(_) => break,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("an answer in time");
    String::from_utf8_lossy(&all).into_owned()
}

async fn wait_until(done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
