//! From a reading to the state of a document.

use stores::records::{DocumentState, Reason};

use crate::read::{Found, Reading, Refusal};

/// What becomes of a document, before it is known under which event.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    pub state: DocumentState,
    pub reason: Option<Reason>,
    /// `None` when nothing was read.
    pub extractor: Option<String>,
    pub facts: Vec<Found>,
    pub notes: Vec<String>,
}

impl Conclusion {
    /// A document that is stored without facts, or refused.
    pub fn without_facts(state: DocumentState, refusal: Refusal) -> Self {
        Self {
            state,
            reason: Some(reason(refusal)),
            extractor: None,
            facts: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn reason(refusal: Refusal) -> Reason {
    Reason {
        code: refusal.code,
        text: refusal.text,
    }
}

/// Concludes: read whole is ingested, read in part or not at all is partial, broken or too large is rejected,
/// what its reader did not survive is quarantined.
pub fn conclude(reading: Reading) -> Conclusion {
    match reading {
        Reading::Rejected(refusal) => Conclusion::without_facts(DocumentState::Rejected, refusal),
        Reading::Quarantined(refusal) => Conclusion::without_facts(DocumentState::Quarantined, refusal),
        Reading::NeedsPassword(refusal) => Conclusion::without_facts(DocumentState::NeedsPassword, refusal),
        Reading::NotRead(refusal) => Conclusion::without_facts(DocumentState::Partial, refusal),
        Reading::Facts(facts) => {
            let (state, reason) = if facts.problems.is_empty() {
                (DocumentState::Ingested, None)
            } else {
                let reason = Reason {
                    code: "partly-read".to_owned(),
                    text: facts.problems.finish().join("\n"),
                };
                (DocumentState::Partial, Some(reason))
            };
            Conclusion {
                state,
                reason,
                extractor: Some(facts.extractor),
                facts: facts.facts,
                notes: facts.notes.finish(),
            }
        }
    }
}
