//! What the workers' topics carry: one enum a topic, one struct an event type.

use jiff::{Timestamp, civil::Date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, AssetId, ClusterName, DecodeError, Hash32, Message, PLATFORM, Payload, decode_json, door_id, topics};

/// Where a document's bytes lie (claim check: Kafka never carries them).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobRef {
    pub container: String,
    pub name: String,
    /// The version that was uploaded; a blob that has changed since is not the document.
    pub etag: String,
}

/// A document has arrived and its bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentSubmitted {
    pub document_id: Uuid,
    pub asset_id: AssetId,
    pub blob: BlobRef,
    /// Bytes.
    pub size: u64,
    pub sha256: Hash32,
    /// The media type that the client claimed; what it really is, ingestion finds out from the bytes.
    pub declared_type: Option<String>,
    pub filename: Option<String>,
    pub received_at: Timestamp,
    /// Who sent it: the `sub` of the token.
    pub submitted_by: String,
}

/// Everything that the asset's owner has to say is said: value it from what was submitted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DossierClosed {
    pub asset_id: AssetId,
    pub requested_by: String,
    /// The date as of which to value, when the documents do not name it.
    pub valuation_date: Option<Date>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum IngestionPayload {
    DocumentSubmitted(DocumentSubmitted),
    DossierClosed(DossierClosed),
}

/// A closed dossier whose facts suffice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValuationRequested {
    pub asset_id: AssetId,
    /// SHA-256 of the canonical fact sheet to value.
    pub facts_sha256: Hash32,
    /// Which closing of the asset's dossier this is, from 1.
    pub facts_version: i64,
    pub closed_at: Timestamp,
    pub requested_by: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValuationPayload {
    Requested(ValuationRequested),
}

/// A valued asset whose token is to be issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MintRequested {
    pub asset_id: AssetId,
    /// The `_id` of the valuation, `tenant/inputs_sha256`.
    pub valuation_id: String,
    /// SHA-256 of the valuation report, which the token commits to.
    pub evidence: Hash32,
    pub recipient: Address,
    /// How many units of the token are issued.
    pub units: u64,
    pub requested_by: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MintingPayload {
    Requested(MintRequested),
}

/// A cluster of the database that is to be backed up. The event's tenant is [`PLATFORM`], its key the cluster's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupRequested {
    pub cluster: ClusterName,
    /// Which backup this is: the time for which it was planned, to the second. One slot of a cluster is backed up once.
    pub slot: Timestamp,
    /// Who asked: a CronJob's name, or the `sub` of a token.
    pub requested_by: String,
}

impl BackupRequested {
    /// The backup's id within its cluster, e.g. `20261122T020000Z`: it follows from the slot, never from the clock.
    pub fn backup_id(&self) -> String {
        self.slot.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// The event's id: the same slot gives the same id, whoever asks and however often.
    pub fn event_id(&self) -> Uuid {
        door_id(PLATFORM, "backups", &format!("{}/{}", self.cluster, self.backup_id()))
    }

    /// The event's subject.
    pub fn subject(&self) -> String {
        format!("backups/{}", self.backup_id())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum BackupPayload {
    Requested(BackupRequested),
}

impl Message for BackupRequested {
    const TYPE: &'static str = "com.libertum.backup.requested.v1";
    const TOPIC: &'static str = topics::BACKUP;
}
impl Message for DocumentSubmitted {
    const TYPE: &'static str = "com.libertum.document.submitted.v1";
    const TOPIC: &'static str = topics::INGESTION;
}
impl Message for DossierClosed {
    const TYPE: &'static str = "com.libertum.dossier.closed.v1";
    const TOPIC: &'static str = topics::INGESTION;
}
impl Message for ValuationRequested {
    const TYPE: &'static str = "com.libertum.valuation.requested.v1";
    const TOPIC: &'static str = topics::VALUATION;
}
impl Message for MintRequested {
    const TYPE: &'static str = "com.libertum.mint.requested.v1";
    const TOPIC: &'static str = topics::MINTING;
}

impl Payload for IngestionPayload {
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
        match event_type {
            DocumentSubmitted::TYPE => decode_json(value).map(Self::DocumentSubmitted),
            DossierClosed::TYPE => decode_json(value).map(Self::DossierClosed),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}

impl Payload for ValuationPayload {
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
        match event_type {
            ValuationRequested::TYPE => decode_json(value).map(Self::Requested),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}

impl Payload for MintingPayload {
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
        match event_type {
            MintRequested::TYPE => decode_json(value).map(Self::Requested),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}

impl Payload for BackupPayload {
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
        match event_type {
            BackupRequested::TYPE => decode_json(value).map(Self::Requested),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(slot: &str, by: &str) -> BackupRequested {
        BackupRequested {
            cluster: "libertum".parse().unwrap(),
            slot: slot.parse().unwrap(),
            requested_by: by.to_owned(),
        }
    }

    #[test]
    fn a_slot_is_one_backup_and_one_event_whoever_asks() {
        let nightly = request("2026-11-22T02:00:00Z", "cron");
        assert_eq!(nightly.backup_id(), "20261122T020000Z");
        assert_eq!(nightly.event_id(), request("2026-11-22T03:00:00+01:00", "ana").event_id());
        assert_ne!(nightly.event_id(), request("2026-11-22T02:00:01Z", "cron").event_id());
    }
}
