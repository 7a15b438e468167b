//! The topics. A worker's name is its topic, its consumer group and its scaler file.

/// Documents to take in, and dossiers to close.
pub const INGESTION: &str = "ingestion";
/// Closed dossiers to value.
pub const VALUATION: &str = "valuation";
/// Valued assets to mint.
pub const MINTING: &str = "minting";
/// Backups to take.
pub const BACKUP: &str = "backup";
/// Outcomes for the rest of the company; no worker of ours consumes it.
pub const ASSET_EVENTS: &str = "asset-events";
/// Who put which dead letters back, and when: one partition, so that there is one order.
pub const REDRIVES: &str = "redrives";

/// The topics that a worker consumes, in the order of the flow.
pub const WORK: [&str; 4] = [INGESTION, VALUATION, MINTING, BACKUP];

/// Where a topic's dead letters go.
pub fn dead(topic: &str) -> String {
    format!("{topic}.dead")
}
