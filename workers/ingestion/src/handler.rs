//! The worker: a document to take in, or a dossier to close.

use bus::{Burial, Context, Emit, Failure, Worker};
use messages::{AssetKey, DocumentSubmitted, DossierClosed, Envelope, Event, IngestionPayload};
use opentelemetry::metrics::Meter;
use stores::records::{DocumentRecord, DocumentState};
use stores::{Blobs, Cache, Mongo};
use tracing::{error, info, warn};

use crate::child::Readers;
use crate::conclude::{Conclusion, conclude};
use crate::documents::{self, MAX_DOCUMENTS};
use crate::error::Error;
use crate::fetch::{Budget, Content, Fetch, fetch};
use crate::read::{Reading, Refusal};
use crate::scan::{Patience, Scanned, Scanner};
use crate::sniff::{Detected, disagreement};
use crate::{Config, close};

/// The worker's word.
pub const NAME: &str = messages::topics::INGESTION;

pub struct Handler {
    mongo: Mongo,
    blobs: Blobs,
    cache: Cache,
    budget: Budget,
    readers: Readers,
    scanner: Option<Scanner>,
}

impl Handler {
    /// Makes the clients; connections are made when the first message needs them.
    ///
    /// # Errors
    /// When an address is malformed.
    pub async fn connect(config: &Config, meter: Meter) -> anyhow::Result<Self> {
        let mongo = Mongo::new(&config.mongo).await?;
        let scanner = config
            .clamd
            .as_ref()
            .map(|clamd| Scanner::new(clamd.as_str(), Patience::default(), &meter));
        if scanner.is_none() {
            warn!("CLAMD_ADDR is not set: documents are not scanned for malware");
        }
        Ok(Self::new(
            mongo,
            Blobs::new(&config.blob)?,
            Cache::new(&config.cache)?,
            Readers::default(),
            scanner,
        ))
    }

    pub fn new(mongo: Mongo, blobs: Blobs, cache: Cache, readers: Readers, scanner: Option<Scanner>) -> Self {
        Self {
            mongo,
            blobs,
            cache,
            budget: Budget::default(),
            readers,
            scanner,
        }
    }

    async fn submitted(&self, envelope: &Envelope, document: &DocumentSubmitted, ctx: &Context) -> Result<Emit, Failure> {
        let asset = AssetKey::new(envelope.tenant.clone(), document.asset_id.clone());
        let record = self.settle(envelope, document, &asset, ctx).await?;
        documents::emit(&record, envelope, ctx)
    }

    /// The document's record as this event leaves it, or left it when it came before.
    async fn settle(
        &self,
        envelope: &Envelope,
        document: &DocumentSubmitted,
        asset: &AssetKey,
        ctx: &Context,
    ) -> Result<DocumentRecord, Error> {
        let id = DocumentRecord::id_of(&envelope.tenant, document.document_id);
        let before = documents::find(&self.mongo, &id).await?;
        if let Some(record) = before.as_ref().filter(|r| documents::is_settled_by(r, envelope.id)) {
            // The process may have ended right behind the first write.
            self.publish(asset, document).await?;
            return Ok(record.clone());
        }
        if before.is_none() && documents::count(&self.mongo, asset).await? >= MAX_DOCUMENTS {
            let text = format!("the asset has {MAX_DOCUMENTS} documents already, which is the most that one may have");
            let conclusion = Conclusion::without_facts(DocumentState::Rejected, Refusal::new("too-many-documents", text));
            // No record: an asset's records are what is bounded here.
            return Ok(documents::record(before, envelope, document, (None, None), conclusion, ctx));
        }
        let (found, conclusion) = match self.scanned(document).await? {
            Some(refused) => ((None, None), refused),
            None => self.taken_in(envelope, document).await?,
        };
        let record = documents::record(before, envelope, document, found, conclusion, ctx);
        documents::write(&self.mongo, &record).await?;
        self.publish(asset, document).await?;
        info!(
            document.id = %record.document_id,
            document.state = ?record.state,
            document.type = record.detected_type.as_deref().unwrap_or_default(),
            document.bytes = record.size,
            facts = record.facts.len(),
            "document settled"
        );
        Ok(record)
    }

    /// What the scanner makes of the document, when it does not let it through.
    async fn scanned(&self, document: &DocumentSubmitted) -> Result<Option<Conclusion>, Error> {
        let Some(scanner) = &self.scanner else { return Ok(None) };
        Ok(match scanner.scan(&self.blobs, document).await? {
            Scanned::Clean => None,
            Scanned::Quarantined(refusal) => Some(Conclusion::without_facts(DocumentState::Quarantined, refusal)),
            Scanned::Rejected(refusal) => Some(Conclusion::without_facts(DocumentState::Rejected, refusal)),
        })
    }

    /// Stores the document and reads it: its type, where it is stored, and what it says.
    async fn taken_in(
        &self,
        envelope: &Envelope,
        document: &DocumentSubmitted,
    ) -> Result<((Option<String>, Option<String>), Conclusion), Error> {
        let fetched = match fetch(&self.blobs, &self.budget, &envelope.tenant, document).await? {
            Fetch::Rejected(refusal) => return Ok(((None, None), Conclusion::without_facts(DocumentState::Rejected, refusal))),
            Fetch::Done(fetched) => fetched,
        };
        let reading = self.reading(&fetched.detected, fetched.content).await?;
        let mut conclusion = conclude(reading);
        conclusion
            .notes
            .extend(disagreement(document.declared_type.as_deref(), &fetched.detected));
        Ok(((Some(fetched.detected.media_type), Some(fetched.stored)), conclusion))
    }

    /// Reads a document where it can do no harm.
    async fn reading(&self, detected: &Detected, content: Content) -> Result<Reading, Error> {
        match content {
            Content::Known(reading) => Ok(reading),
            Content::Bytes(bytes, permit) => {
                let reading = self.readers.read(detected, &bytes).await;
                drop(permit);
                reading
            }
        }
    }

    /// What follows the document's record: its place in the asset's list, and the cache.
    async fn publish(&self, asset: &AssetKey, document: &DocumentSubmitted) -> Result<(), Error> {
        documents::link(&self.mongo, asset, document.document_id).await?;
        self.cache.delete(&Cache::document_key(&asset.tenant, document.document_id)).await;
        self.cache.delete(&Cache::asset_key(asset)).await;
        Ok(())
    }

    async fn closed(&self, envelope: &Envelope, dossier: &DossierClosed, ctx: &Context) -> Result<Emit, Failure> {
        let asset = AssetKey::new(envelope.tenant.clone(), dossier.asset_id.clone());
        let closing = close::close(&self.mongo, &asset, envelope, dossier, ctx).await?;
        self.cache.delete(&Cache::asset_key(&asset)).await;
        Ok(closing.emit(envelope, dossier, ctx))
    }

    /// A document that we failed to take in: its record says so, so that nobody waits for it.
    async fn failed(&self, envelope: &Envelope, document: &DocumentSubmitted, why: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        let id = DocumentRecord::id_of(&envelope.tenant, document.document_id);
        let before = documents::find(&self.mongo, &id).await.map_err(Error::from)?;
        let text = format!(
            "we failed to take in this document, {} times; its bytes are kept, and it can be tried again",
            why.attempts
        );
        let conclusion = Conclusion::without_facts(DocumentState::Failed, Refusal::new("failed", text));
        let found = before
            .as_ref()
            .map(|r| (r.detected_type.clone(), r.stored.clone()))
            .unwrap_or_default();
        let record = documents::record(before, envelope, document, found, conclusion, ctx);
        documents::write(&self.mongo, &record).await.map_err(Error::from)?;
        let asset = AssetKey::new(envelope.tenant.clone(), document.asset_id.clone());
        self.publish(&asset, document).await?;
        documents::emit(&record, envelope, ctx)
    }
}

impl Worker for Handler {
    const NAME: &'static str = NAME;
    type Payload = IngestionPayload;

    async fn handle(&self, event: &Event<IngestionPayload>, ctx: &Context) -> Result<Emit, Failure> {
        match &event.payload {
            IngestionPayload::DocumentSubmitted(document) => self.submitted(&event.envelope, document, ctx).await,
            IngestionPayload::DossierClosed(dossier) => self.closed(&event.envelope, dossier, ctx).await,
        }
    }

    async fn buried(&self, event: &Event<IngestionPayload>, why: &Burial, ctx: &Context) -> Result<Emit, Failure> {
        match &event.payload {
            IngestionPayload::DocumentSubmitted(document) => self.failed(&event.envelope, document, why, ctx).await,
            IngestionPayload::DossierClosed(dossier) => {
                // There is no outcome that says so: a dossier that was not closed is still open, and can be closed again.
                error!(asset.id = %dossier.asset_id, attempts = why.attempts, "closing a dossier failed, it stays open");
                Ok(Emit::none())
            }
        }
    }
}
