//! From a request to a valuation and what follows from it.

use std::path::Path;

use anyhow::Context as _;
use bus::{Burial, Context, Emit, Failure, Worker};
use messages::tenants::{MintPolicy, Tenants};
use messages::{AssetKey, AssetValued, Event, MintRequested, Outgoing, ValuationFailed, ValuationPayload, ValuationRequested, topics};
use runtime::Exit;
use stores::records::{AssetRecord, DossierSection, MintTerms, Reason, ValuationRecord, ValuationSection, ValuationStatus};
use stores::{Cache, Mongo};
use tracing::{info, warn};

use crate::Config;
use crate::appraise::{Appraisal, Impossible, appraise};
use crate::store::{self, Dossier};

/// The worker.
pub struct Valuation {
    mongo: Mongo,
    cache: Cache,
    tenants: Tenants,
}

/// What follows from a valuation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// A person decides on the mint.
    Review,
    Mint(MintTerms),
    /// The asset has its mint already; an asset is issued once.
    Nothing,
}

impl Valuation {
    /// Connects to the stores and reads the tenants.
    ///
    /// # Errors
    /// When an address is malformed or the tenants cannot be read.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let tenants = match &config.tenants_file {
            Some(path) => read_tenants(path)?,
            None => {
                warn!("TENANTS_FILE is not set, every mint waits for a person");
                Tenants::default()
            }
        };
        Ok(Self {
            mongo: Mongo::new(&config.mongo).await?,
            cache: Cache::new(&config.cache)?,
            tenants,
        })
    }

    async fn value(&self, event: &Event<ValuationPayload>, request: &ValuationRequested, ctx: &Context) -> Result<Emit, Failure> {
        let asset = AssetKey::new(event.envelope.tenant.clone(), request.asset_id.clone());
        let (record, dossier) = match store::load(&self.mongo, &asset, request).await? {
            Dossier::Current(current) => *current,
            Dossier::ClosedAgain { version } => {
                info!(%asset, asked = request.facts_version, current = version, "the dossier was closed again since, nothing to value");
                return Ok(Emit::none());
            }
        };
        match appraise(&dossier.sheet) {
            Ok(appraisal) => self.keep(event, &asset, &record, &dossier, appraisal, ctx).await,
            Err(impossible) => self.reject(event, &asset, request, &impossible, ctx).await,
        }
    }

    async fn keep(
        &self,
        event: &Event<ValuationPayload>,
        asset: &AssetKey,
        record: &AssetRecord,
        dossier: &DossierSection,
        appraisal: Appraisal,
        ctx: &Context,
    ) -> Result<Emit, Failure> {
        let next = self.next(event, asset, record, &appraisal);
        let valuation = valuation_record(asset, appraisal, ctx);
        let section = ValuationSection {
            facts_version: dossier.version,
            status: ValuationStatus::Indicative,
            reason: None,
            valuation_id: Some(valuation.id.clone()),
            value: Some(valuation.value.clone()),
            currency: Some(valuation.currency.clone()),
            report_sha256: Some(valuation.report_sha256),
            review: next == Next::Review,
            mint_request: match &next {
                Next::Mint(terms) => Some(terms.clone()),
                Next::Review | Next::Nothing => None,
            },
            at: ctx.now(),
            cause: event.envelope.id,
            trace_id: event.envelope.trace.trace_id(),
        };
        let emit = events(event, &valuation, &next, ctx);
        store::keep(&self.mongo, valuation).await?;
        if store::set_section(&self.mongo, &self.cache, asset, &section).await? {
            info!(%asset, valuation_id = section.valuation_id, value = section.value, currency = section.currency, ?next, "asset valued");
            Ok(emit)
        } else {
            info!(%asset, version = dossier.version, "a later closing was valued meanwhile, nothing to say");
            Ok(Emit::none())
        }
    }

    async fn reject(
        &self,
        event: &Event<ValuationPayload>,
        asset: &AssetKey,
        request: &ValuationRequested,
        impossible: &Impossible,
        ctx: &Context,
    ) -> Result<Emit, Failure> {
        let reason = Reason {
            code: impossible.code().to_owned(),
            text: impossible.to_string(),
        };
        let emit = self.fail(event, asset, request, reason.clone(), ctx).await?;
        Err(Failure::Rejected {
            emit,
            reason: format!("{}: {}", reason.code, reason.text),
        })
    }

    /// Says, in the record and to the world, that there is no valuation.
    async fn fail(
        &self,
        event: &Event<ValuationPayload>,
        asset: &AssetKey,
        request: &ValuationRequested,
        reason: Reason,
        ctx: &Context,
    ) -> Result<Emit, Failure> {
        let failed = ValuationFailed {
            asset_id: asset.asset_id.clone(),
            facts_sha256: request.facts_sha256,
            code: reason.code.clone(),
            reason: reason.text.clone(),
        };
        let section = ValuationSection {
            facts_version: request.facts_version,
            status: ValuationStatus::Failed,
            reason: Some(reason),
            valuation_id: None,
            value: None,
            currency: None,
            report_sha256: None,
            review: false,
            mint_request: None,
            at: ctx.now(),
            cause: event.envelope.id,
            trace_id: event.envelope.trace.trace_id(),
        };
        store::set_section(&self.mongo, &self.cache, asset, &section).await?;
        Ok(ctx.caused(&event.envelope, subject(asset), &failed).into())
    }

    /// What follows from a valuation. An event that comes again gets the answer that it got before, whatever has
    /// changed since: the mint that it asked for may be there by now, or the tenant's settings may be others.
    fn next(&self, event: &Event<ValuationPayload>, asset: &AssetKey, record: &AssetRecord, appraisal: &Appraisal) -> Next {
        if let Some(before) = record.valuation.as_ref().filter(|v| v.cause == event.envelope.id) {
            return match (&before.mint_request, before.review) {
                (Some(terms), _) => Next::Mint(terms.clone()),
                (None, true) => Next::Review,
                (None, false) => Next::Nothing,
            };
        }
        if record.mint.is_some() {
            return Next::Nothing;
        }
        if appraisal.report.needs_review {
            info!(%asset, reasons = ?appraisal.report.review_reasons, "a person must look at the valuation before anything is minted");
            return Next::Review;
        }
        let Some(settings) = self.tenants.get(&asset.tenant) else {
            return Next::Review;
        };
        match settings.mint {
            MintPolicy::Review => Next::Review,
            MintPolicy::Auto => match (settings.recipient, settings.units.map(i64::try_from)) {
                (Some(recipient), Some(Ok(units))) => Next::Mint(MintTerms { recipient, units }),
                (recipient, _) => {
                    let lacks = if recipient.is_none() { "recipient" } else { "units" };
                    warn!(%asset, lacks, "the tenant mints by itself, but its settings do not suffice: a person must post the mint");
                    Next::Review
                }
            },
        }
    }
}

impl Worker for Valuation {
    const NAME: &'static str = topics::VALUATION;
    type Payload = ValuationPayload;

    async fn handle(&self, event: &Event<ValuationPayload>, ctx: &Context) -> Result<Emit, Failure> {
        let ValuationPayload::Requested(request) = &event.payload;
        self.value(event, request, ctx).await
    }

    async fn buried(&self, event: &Event<ValuationPayload>, why: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        let ValuationPayload::Requested(request) = &event.payload;
        let asset = AssetKey::new(event.envelope.tenant.clone(), request.asset_id.clone());
        let reason = Reason {
            code: "internal".to_owned(),
            text: format!("the valuation failed {} times: {}", why.attempts, why.error),
        };
        self.fail(event, &asset, request, reason, ctx).await
    }
}

fn subject(asset: &AssetKey) -> String {
    format!("assets/{}", asset.asset_id)
}

fn valuation_record(asset: &AssetKey, appraisal: Appraisal, ctx: &Context) -> ValuationRecord {
    let Appraisal {
        report,
        text,
        report_sha256,
        approaches,
    } = appraisal;
    ValuationRecord {
        id: format!("{}/{}", asset.tenant, report.inputs_sha256),
        tenant: asset.tenant.clone(),
        asset_id: asset.asset_id.clone(),
        inputs_sha256: report.inputs_sha256,
        report: text,
        report_sha256,
        status: ValuationStatus::Indicative,
        value: report.value,
        currency: report.currency,
        approaches,
        at: ctx.now(),
    }
}

/// The events that a valuation leads to.
fn events(event: &Event<ValuationPayload>, valuation: &ValuationRecord, next: &Next, ctx: &Context) -> Emit {
    let ValuationPayload::Requested(request) = &event.payload;
    let subject = subject(&AssetKey::new(valuation.tenant.clone(), valuation.asset_id.clone()));
    let valued = AssetValued {
        asset_id: valuation.asset_id.clone(),
        valuation_id: valuation.id.clone(),
        value: valuation.value.clone(),
        currency: valuation.currency.clone(),
        report_sha256: valuation.report_sha256,
        review: *next == Next::Review,
    };
    let mut events: Vec<Outgoing> = vec![ctx.caused(&event.envelope, subject.clone(), &valued)];
    match next {
        Next::Mint(terms) => {
            let mint = MintRequested {
                asset_id: valuation.asset_id.clone(),
                valuation_id: valuation.id.clone(),
                evidence: valuation.report_sha256,
                recipient: terms.recipient,
                units: terms.units.unsigned_abs(),
                requested_by: request.requested_by.clone(),
            };
            events.push(ctx.caused(&event.envelope, subject, &mint));
        }
        Next::Review | Next::Nothing => {}
    }
    events.into()
}

/// Reads the tenants' settings.
fn read_tenants(path: &Path) -> anyhow::Result<Tenants> {
    let wrong = |why: String| Exit::Config.error().context(format!("TENANTS_FILE {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    Tenants::parse(&text)
        .map_err(|e| wrong(e.to_string()))
        .context("the tenants cannot be read")
}
