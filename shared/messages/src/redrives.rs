//! The record of dead letters that were put back: who, when, why. Topic `redrives`, one partition, so that it has one
//! order for everybody.
//!
//! Whoever wants to put letters back first writes a claim, and reads the topic up to it. A claim gets a letter when it
//! names the claim that the letter had, or none when it had none: of two that are written at one time the first wins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DecodeError, Message, Payload, decode_json, topics};

/// Somebody is about to put letters back. The event's id is the claim's, its key the topic, its tenant
/// [`PLATFORM`](crate::PLATFORM).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedriveClaimed {
    /// Whose dead letters, without the environment's prefix.
    pub topic: String,
    pub by: String,
    pub reason: Option<String>,
    /// Where the topic's partitions ended: what is put back under this claim lies behind.
    pub ends: Vec<PartitionEnd>,
    pub letters: Vec<ClaimedLetter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionEnd {
    pub partition: i32,
    pub offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimedLetter {
    /// Its place in the dead-letter topic.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970: a topic that is made anew counts from 0 again.
    pub written_ms: i64,
    /// The claim that it had; a letter of another claim stays with that.
    pub after: Option<Uuid>,
}

/// Letters of a claim are back on their topic, acknowledged by every in-sync replica. Letters of the claim that are in no
/// such event may be or not; the topic tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedriveDone {
    /// Whose dead letters, without the environment's prefix.
    pub topic: String,
    /// The id of the claim.
    pub claim: Uuid,
    pub letters: Vec<PutBack>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutBack {
    /// The letter's place in the dead-letter topic.
    pub letter: i64,
    /// Where its message lies now.
    pub partition: i32,
    pub offset: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RedrivePayload {
    Claimed(RedriveClaimed),
    Done(RedriveDone),
}

impl Message for RedriveClaimed {
    const TYPE: &'static str = "com.libertum.redrive.claimed.v1";
    const TOPIC: &'static str = topics::REDRIVES;
}
impl Message for RedriveDone {
    const TYPE: &'static str = "com.libertum.redrive.done.v1";
    const TOPIC: &'static str = topics::REDRIVES;
}

impl Payload for RedrivePayload {
    fn decode(event_type: &str, value: &[u8]) -> Result<Self, DecodeError> {
        match event_type {
            RedriveClaimed::TYPE => decode_json(value).map(Self::Claimed),
            RedriveDone::TYPE => decode_json(value).map(Self::Done),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }
    }
}
