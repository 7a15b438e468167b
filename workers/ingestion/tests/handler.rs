//! The worker on real MongoDB, Redis and Blob.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bson::doc;
use bus::{Burial, Clock, Context, DeadClass, Emit, Failure, Worker as _};
use bytes::Bytes;
use ingestion::{Handler, Limits, NAME, PrepareConfig, Readers};
use jiff::Timestamp;
use messages::facts::FactSheet;
use messages::{
    AssetKey, BlobRef, DocumentSubmitted, DossierClosed, Envelope, Event, Hash32, IngestionPayload, Message, Outcome, Outgoing,
    Payload as _, TraceParent, ValuationPayload, new_id,
};
use sha2::{Digest as _, Sha256};
use stores::records::{AssetRecord, AssetState, DocumentRecord, DocumentState};
use stores::{Blobs, Cache, Mongo, PutOptions};
use testkit::Corner;
use uuid::Uuid;

const FICHA: &[u8] = include_bytes!("../../../docs/examples/dossier/ficha.json");
const TESTIGOS: &[u8] = include_bytes!("../../../docs/examples/dossier/testigos.csv");

struct World {
    handler: Handler,
    mongo: Mongo,
    blobs: Blobs,
    cache: Cache,
    asset: AssetKey,
    ctx: Context,
    /// Given back with the value.
    _corner: Corner,
}

/// The test is another program than the worker, whose children read documents.
fn readers() -> Readers {
    Readers::of(env!("CARGO_BIN_EXE_ingestion"), Limits::default())
}

fn at(time: &str) -> Context {
    let time: Timestamp = time.parse().unwrap();
    Context::new(NAME, Clock::new(move || time), 0)
}

impl World {
    async fn new() -> Self {
        let corner = Corner::new();
        let config: PrepareConfig = corner.config();
        ingestion::prepare(&config).await.unwrap();
        // Preparing again changes nothing.
        ingestion::prepare(&config).await.unwrap();
        let (mongo, blobs, cache) = (corner.mongo().await, corner.blobs(), corner.cache());
        Self {
            handler: Handler::new(mongo.clone(), blobs.clone(), cache.clone(), readers(), None),
            mongo,
            blobs,
            cache,
            asset: AssetKey::new(corner.name.parse().unwrap(), "piso-1".parse().unwrap()),
            ctx: at("2026-10-01T08:00:00Z"),
            _corner: corner,
        }
    }

    fn envelope(&self, event_type: &str, subject: String, time: &str) -> Envelope {
        Envelope {
            id: new_id(),
            source: "/libertum/intake".into(),
            event_type: event_type.into(),
            subject: subject.into(),
            time: time.parse().unwrap(),
            tenant: self.asset.tenant.clone(),
            partition_key: self.asset.to_string().into(),
            trace: TraceParent::root(),
        }
    }

    /// Uploads bytes as the intake does, and makes their event.
    async fn upload(&self, bytes: &[u8], declared: Option<&str>) -> Event<IngestionPayload> {
        let document_id = new_id();
        let name = format!("{}/{document_id}", self.asset.tenant);
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes))]);
        let (info, sha256) = self.blobs.blob("inbox", &name).put(stream, PutOptions::default()).await.unwrap();
        let payload = DocumentSubmitted {
            document_id,
            asset_id: self.asset.asset_id.clone(),
            blob: BlobRef {
                container: "inbox".to_owned(),
                name,
                etag: info.etag,
            },
            size: bytes.len() as u64,
            sha256,
            declared_type: declared.map(str::to_owned),
            filename: Some("datos".to_owned()),
            received_at: "2026-10-01T07:59:00Z".parse().unwrap(),
            submitted_by: "ana".to_owned(),
        };
        Event {
            envelope: self.envelope(DocumentSubmitted::TYPE, format!("documents/{document_id}"), "2026-10-01T07:59:00Z"),
            payload: IngestionPayload::DocumentSubmitted(payload),
        }
    }

    fn closing(&self, time: &str) -> Event<IngestionPayload> {
        let payload = DossierClosed {
            asset_id: self.asset.asset_id.clone(),
            requested_by: "ana".to_owned(),
            valuation_date: None,
        };
        Event {
            envelope: self.envelope(DossierClosed::TYPE, format!("assets/{}", self.asset.asset_id), time),
            payload: IngestionPayload::DossierClosed(payload),
        }
    }

    async fn handle(&self, event: &Event<IngestionPayload>) -> Result<Emit, Failure> {
        self.handler.handle(event, &self.ctx).await
    }

    async fn take(&self, bytes: &[u8]) -> Event<IngestionPayload> {
        let event = self.upload(bytes, None).await;
        self.handle(&event).await.unwrap();
        event
    }

    async fn document(&self, event: &Event<IngestionPayload>) -> DocumentRecord {
        let id = DocumentRecord::id_of(&self.asset.tenant, submitted(event).document_id);
        self.mongo.documents().find_one(doc! { "_id": id }).await.unwrap().unwrap().0
    }

    async fn asset(&self) -> AssetRecord {
        let id = self.asset.to_string();
        self.mongo.assets().find_one(doc! { "_id": id }).await.unwrap().unwrap().0
    }

    async fn sheet(&self) -> FactSheet {
        self.asset().await.facts.unwrap().sheet
    }
}

fn submitted(event: &Event<IngestionPayload>) -> &DocumentSubmitted {
    match &event.payload {
        IngestionPayload::DocumentSubmitted(document) => document,
        IngestionPayload::DossierClosed(_) => panic!("not a document"),
    }
}

fn submitted_mut(event: &mut Event<IngestionPayload>) -> &mut DocumentSubmitted {
    match &mut event.payload {
        IngestionPayload::DocumentSubmitted(document) => document,
        IngestionPayload::DossierClosed(_) => panic!("not a document"),
    }
}

fn only(emit: Emit) -> Outgoing {
    let [event] = <[Outgoing; 1]>::try_from(emit.0).unwrap_or_else(|all| panic!("{} events", all.len()));
    event
}

fn outcome(event: &Outgoing) -> Outcome {
    Outcome::decode(&event.envelope.event_type, &event.value).unwrap()
}

/// All of an event but the span, which is new each time.
fn identity(event: &Outgoing) -> (Uuid, String, Timestamp, String, Vec<u8>) {
    let e = &event.envelope;
    (e.id, e.subject.to_string(), e.time, e.trace.trace_id(), event.value.clone())
}

fn rejected(result: Result<Emit, Failure>) -> (String, String, Outgoing) {
    let Err(Failure::Rejected { emit, .. }) = result else {
        panic!("{result:?}")
    };
    let event = only(emit);
    let Outcome::DocumentRejected(verdict) = outcome(&event) else {
        panic!("{event:?}")
    };
    (verdict.0.code, verdict.0.reason, event)
}

#[tokio::test]
async fn a_dossier_becomes_a_request_for_a_valuation() {
    let world = World::new().await;
    let ficha = world.upload(FICHA, Some("application/json")).await;
    let key = Cache::asset_key(&world.asset);
    world.cache.put(&key, b"old").await;
    let event = only(world.handle(&ficha).await.unwrap());
    assert_eq!(world.cache.get(&key).await, None, "the read model was dropped");
    let Outcome::DocumentIngested(ingested) = outcome(&event) else {
        panic!("{event:?}")
    };
    assert_eq!((ingested.facts, ingested.detected_type.as_str()), (19, "application/json"));
    assert_eq!(event.envelope.trace.trace_id(), ficha.envelope.trace.trace_id());
    let testigos = world.take(TESTIGOS).await;

    let record = world.document(&testigos).await;
    assert_eq!(
        (record.state, record.facts.len(), record.reason),
        (DocumentState::Ingested, 7, None)
    );
    let states: Vec<_> = record.history.iter().map(|m| m.to).collect();
    assert_eq!(states, [DocumentState::Accepted, DocumentState::Ingested]);
    let hash = record.sha256.to_string();
    let (ab, cd) = (hash.get(..2).unwrap(), hash.get(2..4).unwrap());
    let name = format!("{}/sha256/{ab}/{cd}/{hash}", world.asset.tenant);
    assert_eq!(record.stored.as_deref(), Some(name.as_str()));
    let stored = world.blobs.blob("documents", &name).info().await.unwrap();
    assert_eq!(stored.size, TESTIGOS.len() as u64);

    let closing = world.closing("2026-10-01T08:00:00Z");
    let event = only(world.handle(&closing).await.unwrap());
    let ValuationPayload::Requested(request) = ValuationPayload::decode(&event.envelope.event_type, &event.value).unwrap();
    assert_eq!((request.facts_version, event.topic), (1, "valuation"));
    let asset = world.asset().await;
    assert_eq!(asset.documents, [submitted(&ficha).document_id, submitted(&testigos).document_id]);
    assert_eq!(asset.state(), AssetState::Closed);
    let section = asset.facts.unwrap();
    assert_eq!((section.sha256, section.closed_by), (request.facts_sha256, closing.envelope.id));
    // The digest is of the canonical JSON of what is stored: nothing was lost on the way through MongoDB.
    let canonical = serde_json_canonicalizer::to_vec(&section.sheet).unwrap();
    assert_eq!(Hash32(Sha256::digest(canonical).into()), section.sha256);
    assert_eq!(section.sheet.valuation_date.to_string(), "2026-09-30");
    assert_eq!(section.sheet.market.comparables.len(), 7);
}

#[tokio::test]
async fn an_event_that_comes_again_is_answered_the_same_and_changes_nothing() {
    let world = World::new().await;
    let (ficha, broken) = (world.upload(FICHA, None).await, world.upload(b"{\"schema\": }", None).await);
    let first = only(world.handle(&ficha).await.unwrap());
    let refused = rejected(world.handle(&broken).await);
    world.take(TESTIGOS).await;
    let (one, two) = (world.closing("2026-10-01T08:00:00Z"), world.closing("2026-10-02T08:00:00Z"));
    let closed = [only(world.handle(&one).await.unwrap()), only(world.handle(&two).await.unwrap())];
    let before = (world.asset().await, world.document(&ficha).await, world.document(&broken).await);

    // Later, when the uploads are gone.
    let ctx = at("2026-11-05T00:00:00Z");
    for event in [&ficha, &broken] {
        world.blobs.blob("inbox", &submitted(event).blob.name).delete().await.unwrap();
    }
    assert_eq!(identity(&only(world.handler.handle(&ficha, &ctx).await.unwrap())), identity(&first));
    assert_eq!(
        identity(&rejected(world.handler.handle(&broken, &ctx).await).2),
        identity(&refused.2)
    );
    for (event, emitted) in [&one, &two].into_iter().zip(&closed) {
        assert_eq!(identity(&only(world.handler.handle(event, &ctx).await.unwrap())), identity(emitted));
    }
    let after = (world.asset().await, world.document(&ficha).await, world.document(&broken).await);
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_process_that_ended_between_two_writes_is_completed_by_the_next() {
    let world = World::new().await;
    let ficha = world.take(FICHA).await;
    world
        .mongo
        .assets()
        .delete_one(doc! { "_id": world.asset.to_string() })
        .await
        .unwrap();
    world.handle(&ficha).await.unwrap();
    assert_eq!(world.asset().await.documents, [submitted(&ficha).document_id]);
}

#[tokio::test]
async fn bytes_that_are_not_what_was_announced_are_rejected_and_never_stored() {
    let world = World::new().await;
    type Change = fn(&mut DocumentSubmitted);
    let table: [(&str, Change); 5] = [
        ("digest-mismatch", |d| d.sha256 = Hash32([7; 32])),
        ("digest-mismatch", |d| d.size += 1),
        ("digest-mismatch", |d| d.size -= 1),
        ("blob-missing", |d| d.blob.name.push('x')),
        ("blob-changed", |d| d.blob.etag = "\"0x8D0000000000000\"".to_owned()),
    ];
    for (code, change) in table {
        let mut event = world.upload(FICHA, None).await;
        change(submitted_mut(&mut event));
        let (got, reason, _) = rejected(world.handle(&event).await);
        assert_eq!(got, code, "{reason}");
        let record = world.document(&event).await;
        assert_eq!((record.state, record.stored.clone()), (DocumentState::Rejected, None));
        assert_eq!(record.reason.unwrap().code, code);
        let name = format!("{}/sha256/07/07/{}", world.asset.tenant, Hash32([7; 32]));
        assert!(world.blobs.blob("documents", &name).info().await.is_err());
    }
    // Nor when the right bytes are stored already, and are only verified again.
    world.take(FICHA).await;
    let mut event = world.upload(TESTIGOS, None).await;
    let document = submitted_mut(&mut event);
    (document.sha256, document.size) = (Hash32(Sha256::digest(FICHA).into()), FICHA.len() as u64);
    assert_eq!(rejected(world.handle(&event).await).0, "digest-mismatch");
    assert_eq!(world.asset().await.documents.len(), 7, "a reader sees the rejected ones too");
}

#[tokio::test]
async fn what_is_not_read_yet_is_stored_and_says_so() {
    let world = World::new().await;
    // More than a block of the store, so that it passes through in pieces.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend((0..9_000_000u32).map(|n| (n % 251) as u8));
    let event = world.upload(&png, Some("text/csv")).await;
    let emitted = only(world.handle(&event).await.unwrap());
    let Outcome::DocumentPartial(verdict) = outcome(&emitted) else {
        panic!("{emitted:?}")
    };
    assert_eq!(verdict.0.code, "not-read-yet");
    let record = world.document(&event).await;
    assert_eq!(record.state, DocumentState::Partial);
    assert_eq!(record.detected_type.as_deref(), Some("image/png"));
    assert!(record.notes[0].contains("declared as text/csv"), "{:?}", record.notes);
    let stored = world.blobs.blob("documents", &record.stored.unwrap()).info().await.unwrap();
    assert_eq!(
        (stored.size, stored.metadata["sha256"].clone()),
        (png.len() as u64, record.sha256.to_string())
    );
}

#[tokio::test]
async fn a_broken_or_empty_document_is_rejected_in_words() {
    let world = World::new().await;
    for (bytes, code, part) in [
        (b"{\n \"schema\": \"asset-facts/1\",\n}".as_slice(), "malformed", "line 3 column 1"),
        (b"", "empty", "no bytes"),
        (b"\xef\xbb\xbfid;ba\xf1os\n1;2\n", "not-utf-8", "line 1"),
    ] {
        let event = world.upload(bytes, None).await;
        let (got, reason, _) = rejected(world.handle(&event).await);
        assert_eq!(got, code);
        assert!(reason.contains(part), "{reason}");
        assert_eq!(world.document(&event).await.reason.unwrap().text, reason);
    }
}

#[tokio::test]
async fn rows_that_cannot_be_read_make_a_document_partial_and_the_others_count() {
    let world = World::new().await;
    let text = String::from_utf8(TESTIGOS.to_vec()).unwrap().replace("436.500,00", "a convenir");
    let event = world.upload(text.as_bytes(), None).await;
    let emitted = only(world.handle(&event).await.unwrap());
    let Outcome::DocumentPartial(verdict) = outcome(&emitted) else {
        panic!("{emitted:?}")
    };
    assert_eq!(verdict.0.code, "partly-read");
    assert!(verdict.0.reason.contains("row 2 (line 3)"), "{}", verdict.0.reason);
    world.take(FICHA).await;
    let closed = only(world.handle(&world.closing("2026-10-01T08:00:00Z")).await.unwrap());
    assert_eq!(closed.topic, "valuation");
    assert_eq!(world.sheet().await.market.comparables.len(), 6);
}

#[tokio::test]
async fn an_incomplete_dossier_says_what_is_missing_and_can_be_closed_again() {
    let world = World::new().await;
    let nothing = only(world.handle(&world.closing("2026-10-01T08:00:00Z")).await.unwrap());
    let Outcome::AssetIncomplete(incomplete) = outcome(&nothing) else {
        panic!("{nothing:?}")
    };
    assert_eq!(incomplete.facts_version, 1);
    assert_eq!(world.asset().await.state(), AssetState::Incomplete);
    world.take(FICHA).await;
    let half = only(world.handle(&world.closing("2026-10-02T08:00:00Z")).await.unwrap());
    let Outcome::AssetIncomplete(incomplete) = outcome(&half) else {
        panic!("{half:?}")
    };
    let missing = &incomplete.approaches[0].missing;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("market.comparables"), "{missing:?}");
    world.take(TESTIGOS).await;
    let whole = only(world.handle(&world.closing("2026-10-03T08:00:00Z")).await.unwrap());
    let ValuationPayload::Requested(request) = ValuationPayload::decode(&whole.envelope.event_type, &whole.value).unwrap();
    assert_eq!(request.facts_version, 3);
    assert_eq!(world.asset().await.facts_version, 3);
}

#[tokio::test]
async fn the_later_document_wins_and_the_same_bytes_again_change_nothing() {
    let world = World::new().await;
    let bigger = String::from_utf8(FICHA.to_vec()).unwrap().replace("96.50", "99");
    world.take(TESTIGOS).await;
    world.take(FICHA).await;
    let later = world.take(bigger.as_bytes()).await;
    world.handle(&world.closing("2026-10-01T08:00:00Z")).await.unwrap();
    let first = world.asset().await.facts.unwrap();
    let area = first.sheet.physical.gross_internal_area.clone().unwrap();
    assert_eq!(
        (area.value.to_string().as_str(), area.provenance.document_id),
        ("99", submitted(&later).document_id)
    );
    assert_eq!(first.sheet.conflicts.len(), 1);
    assert_eq!(first.sheet.conflicts[0].path, "physical.gross_internal_area");

    world.take(FICHA).await;
    world.handle(&world.closing("2026-12-01T08:00:00Z")).await.unwrap();
    let second = world.asset().await.facts.unwrap();
    assert_eq!((second.version, second.sha256), (2, first.sha256));
    assert_eq!(world.asset().await.documents.len(), 4);
}

#[tokio::test]
async fn the_example_dossier_is_still_complete_in_2035() {
    let mut world = World::new().await;
    world.ctx = at("2035-06-01T00:00:00Z");
    world.take(FICHA).await;
    world.take(TESTIGOS).await;
    let closed = only(world.handle(&world.closing("2035-06-01T00:00:00Z")).await.unwrap());
    assert_eq!(closed.topic, "valuation");
    assert_eq!(world.sheet().await.valuation_date.to_string(), "2026-09-30");
}

#[tokio::test]
async fn a_buried_document_is_seen_to_have_failed_and_can_be_put_back() {
    let world = World::new().await;
    let event = world.upload(FICHA, None).await;
    let why = Burial {
        class: DeadClass::Handle,
        error: "odd".to_owned(),
        attempts: 3,
    };
    let emitted = only(world.handler.buried(&event, &why, &world.ctx).await.unwrap());
    assert!(matches!(outcome(&emitted), Outcome::DocumentFailed(_)));
    assert_eq!(world.document(&event).await.state, DocumentState::Failed);
    // It does not keep its dossier from being closed.
    world.take(TESTIGOS).await;
    world.handle(&world.closing("2026-10-01T08:00:00Z")).await.unwrap();
    assert_eq!(world.sheet().await.sources.len(), 1);
    let closing = world.closing("2026-10-01T08:00:00Z");
    assert_eq!(world.handler.buried(&closing, &why, &world.ctx).await.unwrap(), Emit::none());
    // The very same event, put back, is worked on and not taken for done.
    world.handle(&event).await.unwrap();
    let record = world.document(&event).await;
    let states: Vec<_> = record.history.iter().map(|m| m.to).collect();
    assert_eq!(states, [DocumentState::Accepted, DocumentState::Failed, DocumentState::Ingested]);
}

#[tokio::test]
async fn two_that_close_one_dossier_at_a_time_get_a_version_each() {
    let world = World::new().await;
    world.take(FICHA).await;
    let closings: Vec<_> = (0..3).map(|_| world.closing("2026-10-01T08:00:00Z")).collect();
    let results = futures::future::join_all(closings.iter().map(|c| world.handle(c))).await;
    let done = results.iter().filter(|r| r.is_ok()).count();
    assert!(
        results.iter().all(|r| matches!(r, Ok(_) | Err(Failure::Unavailable(_)))),
        "{results:?}"
    );
    assert!(done >= 1);
    assert_eq!(world.asset().await.facts_version, done as i64);
}

#[tokio::test]
async fn a_database_out_of_reach_is_reported_in_time_and_nothing_is_lost() {
    let mut corner = Corner::new();
    corner.set("MONGODB_URI", "mongodb://127.0.0.1:1/?directConnection=true");
    let handler = Handler::new(corner.mongo().await, corner.blobs(), corner.cache(), readers(), None);
    let world = World::new().await;
    let event = world.upload(FICHA, None).await;
    let start = Instant::now();
    let result = handler.handle(&event, &world.ctx).await;
    assert!(matches!(result, Err(Failure::Unavailable(_))), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[tokio::test]
async fn containers_that_were_not_prepared_are_waited_for() {
    let world = World::new().await;
    let mut event = world.upload(FICHA, None).await;
    let mut corner = Corner::new();
    corner.set("BLOB_CONTAINER_PREFIX", format!("{}-", corner.name));
    // The inbox is there, the content-addressed container is not.
    let blobs = corner.blobs();
    blobs.prepare_container("inbox").await.unwrap();
    let name = submitted(&event).blob.name.clone();
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(FICHA))]);
    let (info, _) = blobs.blob("inbox", &name).put(stream, PutOptions::default()).await.unwrap();
    submitted_mut(&mut event).blob.etag = info.etag;
    let handler = Handler::new(world.mongo.clone(), blobs, world.cache.clone(), readers(), None);
    let result = handler.handle(&event, &world.ctx).await;
    let Err(Failure::Unavailable(error)) = result else {
        panic!("{result:?}")
    };
    assert!(format!("{error:#}").contains("--prepare"), "{error:#}");
}

#[tokio::test]
async fn the_largest_dossier_that_is_read_fits_its_records() {
    let world = World::new().await;
    let table = |price: u32| {
        let mut text = "id;precio_eur;fecha;superficie;baños;garajes;año;ubicación;condiciones;verificado;fuente\n".to_owned();
        for n in 0..10_000 {
            let id = format!("T-{n:0>98}");
            text.push_str(&format!(
                "{id};{price};14/09/2026;98,400000000001;2;1;2001;-0,02;0,01;sí;{}\n",
                "y".repeat(300)
            ));
        }
        text
    };
    world.take(FICHA).await;
    for price in [400_000, 500_000] {
        let event = world.take(table(price).as_bytes()).await;
        assert_eq!(world.document(&event).await.facts.len(), 10_000);
    }
    let closed = only(world.handle(&world.closing("2026-10-01T08:00:00Z")).await.unwrap());
    assert_eq!(closed.topic, "valuation");
    let sheet = world.sheet().await;
    assert_eq!((sheet.market.comparables.len(), sheet.conflicts.len()), (10_000, 200));
}
