//! The worker on the real servers.
#![allow(clippy::unwrap_used)]

mod common;

use bson::doc;
use bson::serde_helpers::HumanReadable;
use bus::{Burial, Clock, Context, DeadClass, Emit, Failure, Worker as _};
use jiff::Timestamp;
use messages::{
    Address, AssetKey, AssetValued, DecodeError, Envelope, Event, Hash32, Message as _, MintRequested, MintingPayload, Outcome,
    Payload as _, Tenant, TraceParent, ValuationPayload, ValuationRequested, new_id,
};
use stores::records::{AssetRecord, AssetState, DossierSection, MintSection, MintState, ValuationRecord, ValuationStatus};
use stores::{Cache, Mongo};
use testkit::Corner;
use valuation::{Config, Valuation, prepare};

struct Bench {
    corner: Corner,
    mongo: Mongo,
    worker: Valuation,
    asset: AssetKey,
    _tenants: tempfile::NamedTempFile,
}

impl Bench {
    /// A worker for one tenant with the given settings.
    async fn new(settings: &str) -> Self {
        let mut corner = Corner::new();
        let tenant: Tenant = corner.name.parse().unwrap();
        let tenants = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(tenants.path(), format!(r#"{{"{tenant}":{settings}}}"#)).unwrap();
        corner.set("TENANTS_FILE", tenants.path().display().to_string());
        let mongo = corner.mongo().await;
        prepare(&mongo).await.unwrap();
        prepare(&mongo).await.unwrap();
        let worker = Valuation::connect(&corner.config::<Config>()).await.unwrap();
        let asset = AssetKey::new(tenant, "madrid-12".parse().unwrap());
        Self {
            corner,
            mongo,
            worker,
            asset,
            _tenants: tenants,
        }
    }

    async fn auto() -> Self {
        Self::new(&format!(r#"{{"mint":"auto","units":1000,"recipient":"{RECIPIENT}"}}"#)).await
    }

    /// Closes the dossier with the first vector's facts, as ingestion does.
    async fn close(&self, version: i64, change: impl FnOnce(&mut messages::facts::FactSheet)) -> Hash32 {
        let mut sheet = common::sheet_of(self.asset.tenant.clone(), "madrid-12");
        change(&mut sheet);
        let sha256 = Hash32([u8::try_from(version).unwrap(); 32]);
        let dossier = DossierSection {
            version,
            closed_by: new_id(),
            closed_at: Timestamp::UNIX_EPOCH,
            trace_id: TraceParent::root().trace_id(),
            sheet,
            sha256,
            missing: Vec::new(),
        };
        let facts = bson::serialize_to_bson(&HumanReadable(&dossier)).unwrap();
        let key = self.asset.to_string();
        let set = doc! { "facts": facts, "facts_version": version, "tenant": self.asset.tenant.as_str(), "asset_id": "madrid-12" };
        let assets = self.mongo.assets();
        assets
            .update_one(doc! { "_id": key }, doc! { "$set": set })
            .upsert(true)
            .await
            .unwrap();
        sha256
    }

    fn request(&self, facts_version: i64, facts_sha256: Hash32) -> Event<ValuationPayload> {
        let request = ValuationRequested {
            asset_id: self.asset.asset_id.clone(),
            facts_sha256,
            facts_version,
            closed_at: Timestamp::UNIX_EPOCH,
            requested_by: "ana".to_owned(),
        };
        Event {
            envelope: Envelope {
                id: new_id(),
                source: "/libertum/ingestion".into(),
                event_type: ValuationRequested::TYPE.into(),
                subject: "assets/madrid-12".into(),
                time: Timestamp::UNIX_EPOCH,
                tenant: self.asset.tenant.clone(),
                partition_key: self.asset.to_string().into(),
                trace: TraceParent::root(),
            },
            payload: ValuationPayload::Requested(request),
        }
    }

    async fn record(&self) -> AssetRecord {
        self.mongo
            .assets()
            .find_one(doc! { "_id": self.asset.to_string() })
            .await
            .unwrap()
            .unwrap()
            .0
    }

    async fn valuations(&self) -> Vec<ValuationRecord> {
        let mut cursor = self.mongo.valuations().find(doc! {}).await.unwrap();
        let mut all = Vec::new();
        while cursor.advance().await.unwrap() {
            all.push(cursor.deserialize_current().unwrap().0);
        }
        all
    }

    async fn minting(&self) {
        let mint = MintSection {
            state: MintState::Minting,
            reason: None,
            valuation_id: "x".to_owned(),
            evidence: Hash32([1; 32]),
            recipient: RECIPIENT.parse().unwrap(),
            units: 1,
            chain_id: 1,
            contract: Address([0; 20]),
            token_id: "0x00".to_owned(),
            tx: None,
            block: None,
            block_hash: None,
            at: Timestamp::UNIX_EPOCH,
            cause: new_id(),
            trace_id: TraceParent::root().trace_id(),
        };
        let mint = bson::serialize_to_bson(&HumanReadable(&mint)).unwrap();
        let filter = doc! { "_id": self.asset.to_string() };
        self.mongo
            .assets()
            .update_one(filter, doc! { "$set": { "mint": mint } })
            .await
            .unwrap();
    }
}

const RECIPIENT: &str = "0x00000000000000000000000000000000000000aa";

fn context(now: &str) -> Context {
    let now: Timestamp = now.parse().unwrap();
    Context::new(Valuation::NAME, Clock::new(move || now), 0)
}

fn valued(emit: &Emit) -> AssetValued {
    let event = &emit.0[0];
    match Outcome::decode(&event.envelope.event_type, &event.value) {
        Ok(Outcome::AssetValued(valued)) => valued,
        other => panic!("{other:?}"),
    }
}

fn mint(emit: &Emit) -> Option<MintRequested> {
    let event = emit.0.get(1)?;
    let decoded: Result<MintingPayload, DecodeError> = MintingPayload::decode(&event.envelope.event_type, &event.value);
    let MintingPayload::Requested(request) = decoded.unwrap();
    Some(request)
}

/// What must be the same when an event is handled again: everything but the time and the span.
fn essence(emit: &Emit) -> Vec<(uuid::Uuid, String, Vec<u8>)> {
    emit.0
        .iter()
        .map(|e| (e.envelope.id, e.envelope.event_type.to_string(), e.value.clone()))
        .collect()
}

#[tokio::test]
async fn a_closed_dossier_is_valued_and_its_mint_asked_for() {
    let b = Bench::auto().await;
    let event = b.request(1, b.close(1, |_| {}).await);
    let key = Cache::asset_key(&b.asset);
    b.corner.cache().put(&key, b"old").await;
    let emit = b.worker.handle(&event, &context("2026-06-20T10:00:00Z")).await.unwrap();
    let valued = valued(&emit);
    assert_eq!(
        (valued.value.as_str(), valued.currency.as_str(), valued.review),
        ("420235.65", "EUR", false)
    );
    let mint = mint(&emit).unwrap();
    assert_eq!(
        (mint.units, mint.recipient.to_string(), mint.evidence),
        (1000, RECIPIENT.to_owned(), valued.report_sha256)
    );
    assert_eq!(
        (mint.valuation_id.as_str(), mint.requested_by.as_str()),
        (valued.valuation_id.as_str(), "ana")
    );
    assert_eq!(emit.0[1].key(), b.asset.to_string());
    assert_eq!(emit.0[1].envelope.trace.trace_id(), event.envelope.trace.trace_id());

    let kept = b.valuations().await;
    assert_eq!(kept.len(), 1);
    assert_eq!((&kept[0].id, kept[0].report_sha256), (&valued.valuation_id, valued.report_sha256));
    let report: serde_json::Value = serde_json::from_str(&kept[0].report).unwrap();
    assert_eq!(report["inputs_sha256"].as_str().unwrap(), kept[0].inputs_sha256.to_string());
    let record = b.record().await;
    assert_eq!(record.state(), AssetState::Valued);
    assert_eq!(record.valuation.unwrap().report_sha256, Some(valued.report_sha256));
    assert_eq!(b.corner.cache().get(&key).await, None);
}

#[tokio::test]
async fn the_same_event_again_gets_the_same_answer_even_in_2035_and_after_the_mint_began() {
    let b = Bench::auto().await;
    let event = b.request(1, b.close(1, |_| {}).await);
    let first = b.worker.handle(&event, &context("2026-06-20T10:00:00Z")).await.unwrap();
    b.minting().await;
    let again = b.worker.handle(&event, &context("2035-01-01T00:00:00Z")).await.unwrap();
    assert_eq!(essence(&first), essence(&again));
    assert_eq!(b.valuations().await.len(), 1);

    // Another event for the same facts, years later: the same report, and no second mint.
    let other = b.request(1, b.close(1, |_| {}).await);
    let emit = b.worker.handle(&other, &context("2035-01-01T00:00:00Z")).await.unwrap();
    assert_eq!(valued(&emit).report_sha256, valued(&first).report_sha256);
    assert_eq!(mint(&emit), None);
    assert!(!valued(&emit).review);
    assert_eq!(b.valuations().await.len(), 1);
}

#[tokio::test]
async fn approaches_that_disagree_wait_for_a_person_whatever_the_tenant_says() {
    let b = Bench::auto().await;
    // The income says 1,079,768.89, the market 420,235.65.
    let request = b.request(1, b.close(1, |sheet| sheet.income = common::income_sheet().income).await);
    let emit = b.worker.handle(&request, &context("2026-06-20T10:00:00Z")).await.unwrap();
    assert!(valued(&emit).review);
    assert_eq!(mint(&emit), None);
    let record = b.record().await;
    assert_eq!(record.state(), AssetState::Review);
    let report: serde_json::Value = serde_json::from_str(&b.valuations().await[0].report).unwrap();
    assert_eq!(report["needs_review"], true);

    let b = Bench::auto().await;
    let agree = b.close(1, |sheet| {
        sheet.income = common::income_sheet().income;
        sheet.income.cap_rate = Some(common::fact(common::d("0.17")));
    });
    let request = b.request(1, agree.await);
    let emit = b.worker.handle(&request, &context("2026-06-20T10:00:00Z")).await.unwrap();
    assert_eq!((valued(&emit).review, mint(&emit).is_some()), (false, true));
}

#[tokio::test]
async fn income_figures_that_do_not_fit_fail_the_valuation() {
    let b = Bench::auto().await;
    let huge = b.close(1, |sheet| {
        sheet.income = common::income_sheet().income;
        sheet.income.operating_expenses[0].value.amount.amount = common::d("79228162514264337593543950335");
        sheet.income.operating_expenses[0].value.frequency = messages::facts::Frequency::Monthly;
    });
    let request = b.request(1, huge.await);
    let failure = b.worker.handle(&request, &context("2026-06-20T10:00:00Z")).await.unwrap_err();
    assert!(
        matches!(&failure, bus::Failure::Rejected { reason, .. } if reason.contains("figures-too-large")),
        "{failure:?}"
    );
    assert_eq!(b.record().await.valuation.unwrap().reason.unwrap().code, "figures-too-large");
}

#[tokio::test]
async fn without_the_tenants_word_a_person_must_post_the_mint() {
    for settings in [
        "{}",
        r#"{"mint":"auto","units":5}"#,
        r#"{"mint":"auto","recipient":"0x00000000000000000000000000000000000000aa"}"#,
    ] {
        let b = Bench::new(settings).await;
        let event = b.request(1, b.close(1, |_| {}).await);
        let emit = b.worker.handle(&event, &context("2026-06-20T10:00:00Z")).await.unwrap();
        assert_eq!((emit.0.len(), valued(&emit).review), (1, true), "{settings}");
        assert_eq!(b.record().await.state(), AssetState::Review);
    }
}

#[tokio::test]
async fn a_request_for_a_dossier_that_was_closed_again_is_done_in_silence() {
    let b = Bench::auto().await;
    let old = b.request(1, b.close(1, |_| {}).await);
    let new = b.request(
        2,
        b.close(2, |s| s.market.comparables[0].value.price.amount = common::d("410000"))
            .await,
    );
    let ctx = context("2026-06-20T10:00:00Z");
    assert_eq!(b.worker.handle(&old, &ctx).await.unwrap(), Emit::none());
    assert!(b.valuations().await.is_empty());
    b.worker.handle(&new, &ctx).await.unwrap();
    assert_eq!(b.record().await.valuation.unwrap().facts_version, 2);
    assert_eq!(b.worker.handle(&old, &ctx).await.unwrap(), Emit::none());
}

#[tokio::test]
async fn facts_that_do_not_suffice_are_rejected_with_the_reason() {
    let b = Bench::auto().await;
    let event = b.request(1, b.close(1, |s| s.market.comparables.truncate(2)).await);
    let failure = b.worker.handle(&event, &context("2026-06-20T10:00:00Z")).await.unwrap_err();
    let Failure::Rejected { emit, reason } = failure else {
        panic!("{failure}")
    };
    assert!(reason.contains("3 usable sales"), "{reason}");
    let Ok(Outcome::ValuationFailed(failed)) = Outcome::decode(&emit.0[0].envelope.event_type, &emit.0[0].value) else {
        panic!("{emit:?}")
    };
    assert_eq!(failed.code, "no-approach-applies");
    let section = b.record().await.valuation.unwrap();
    assert_eq!(
        (section.status, section.reason.unwrap().code),
        (ValuationStatus::Failed, failed.code)
    );
    assert_eq!(b.record().await.state(), AssetState::ValuationFailed);
}

#[tokio::test]
async fn what_should_not_be_is_loud() {
    let b = Bench::auto().await;
    let ctx = context("2026-06-20T10:00:00Z");
    let nothing = b.worker.handle(&b.request(1, Hash32([1; 32])), &ctx).await.unwrap_err();
    assert!(
        matches!(&nothing, Failure::Failed(e) if e.to_string().contains("has no record")),
        "{nothing}"
    );
    let sha256 = b.close(1, |_| {}).await;
    let other = b.worker.handle(&b.request(1, Hash32([9; 32])), &ctx).await.unwrap_err();
    assert!(
        matches!(&other, Failure::Failed(e) if e.to_string().contains("not what the request is for")),
        "{other}"
    );
    let early = b.worker.handle(&b.request(2, sha256), &ctx).await.unwrap_err();
    assert!(
        matches!(&early, Failure::Failed(e) if e.to_string().contains("closed 1 times")),
        "{early}"
    );

    let event = b.request(1, sha256);
    b.worker.handle(&event, &ctx).await.unwrap();
    let all = doc! { "$set": { "report_sha256": "0".repeat(64) } };
    b.mongo.valuations().update_many(doc! {}, all).await.unwrap();
    let differs = b.worker.handle(&event, &ctx).await.unwrap_err();
    assert!(
        matches!(&differs, Failure::Failed(e) if e.to_string().contains("without its version")),
        "{differs}"
    );

    let why = Burial {
        class: DeadClass::Handle,
        error: differs.to_string(),
        attempts: 3,
    };
    let emit = b.worker.buried(&event, &why, &ctx).await.unwrap();
    assert!(
        matches!(Outcome::decode(&emit.0[0].envelope.event_type, &emit.0[0].value), Ok(Outcome::ValuationFailed(f)) if f.code == "internal")
    );
    assert_eq!(b.record().await.state(), AssetState::ValuationFailed);
}

#[tokio::test]
async fn mongodb_out_of_reach_is_waited_for() {
    let mut corner = Corner::new();
    corner.set(
        "MONGODB_URI",
        "mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=300",
    );
    let worker = Valuation::connect(&corner.config::<Config>()).await.unwrap();
    let b = Bench::auto().await;
    let event = b.request(1, Hash32([1; 32]));
    let failure = worker.handle(&event, &context("2026-06-20T10:00:00Z")).await.unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
}

#[tokio::test]
async fn tenants_that_cannot_be_read_are_a_wrong_configuration() {
    let mut corner = Corner::new();
    corner.set("TENANTS_FILE", "/nowhere/tenants.json");
    let error = Valuation::connect(&corner.config::<Config>()).await.err().unwrap();
    assert!(format!("{error:#}").contains("TENANTS_FILE /nowhere/tenants.json"), "{error:#}");
    assert_eq!(runtime::Exit::from_error(&error), runtime::Exit::Config);
}
