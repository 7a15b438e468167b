//! What the topic `redrives` says of one topic's letters. No I/O.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use messages::{PartitionEnd, PutBack, RedriveClaimed, RedriveDone, RedrivePayload};
use uuid::Uuid;

/// After this nobody who has claimed letters still sends any: a claim that is older and was not done is a crash's. Its
/// maker begins no sending after a few seconds, and no sending lasts longer than the producer's time; the rest is for clocks
/// that differ.
pub(super) const CLAIM_ENDS: SignedDuration = SignedDuration::from_secs(40);

/// Somebody's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub id: Uuid,
    pub at: Timestamp,
    pub by: String,
    pub reason: Option<String>,
    pub ends: Vec<PartitionEnd>,
    /// Letters that it got, and of these those that are known to be back.
    pub letters: usize,
    pub done: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    written_ms: i64,
    claim: usize,
    /// Where its message lies, once it is known to be back.
    place: Option<(i32, i64)>,
    times: u32,
}

/// What is known of a letter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'h> {
    Nothing,
    /// Back, so often, the last time by this claim and to this place.
    PutBack {
        claim: &'h Claim,
        times: u32,
        place: (i32, i64),
    },
    /// Somebody may be sending it now.
    Claimed {
        claim: &'h Claim,
    },
    /// Somebody was about to send it, and never said that it was done.
    Unclear {
        claim: &'h Claim,
        times: u32,
    },
}

/// The record of one topic's letters.
pub(super) struct History {
    topic: String,
    claims: Vec<Claim>,
    by_id: HashMap<Uuid, usize>,
    letters: BTreeMap<i64, Held>,
    /// Letters before this are gone, and so is what there is to know of them.
    oldest: i64,
}

impl History {
    pub fn new(topic: &str, oldest: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            claims: Vec::new(),
            by_id: HashMap::new(),
            letters: BTreeMap::new(),
            oldest,
        }
    }

    /// Takes the next event of the topic in; events about other topics' letters are left out.
    pub fn take(&mut self, id: Uuid, at: Timestamp, event: RedrivePayload) {
        match event {
            RedrivePayload::Claimed(claim) if claim.topic == self.topic => self.claimed(id, at, claim),
            RedrivePayload::Done(done) if done.topic == self.topic => self.done(&done),
            RedrivePayload::Claimed(_) | RedrivePayload::Done(_) => {}
        }
    }

    fn claimed(&mut self, id: Uuid, at: Timestamp, claimed: RedriveClaimed) {
        if self.by_id.contains_key(&id) {
            // Our producer may write an event twice when an acknowledgement is lost; it is one claim.
            return;
        }
        let number = self.claims.len();
        let mut got = 0;
        for letter in &claimed.letters {
            let had = self.letters.get(&letter.offset).filter(|h| h.written_ms == letter.written_ms);
            if had.and_then(|h| self.claims.get(h.claim)).map(|c| c.id) != letter.after {
                continue;
            }
            got += 1;
            let times = had.map_or(0, |h| h.times);
            if letter.offset >= self.oldest {
                self.letters.insert(
                    letter.offset,
                    Held {
                        written_ms: letter.written_ms,
                        claim: number,
                        place: None,
                        times,
                    },
                );
            }
        }
        self.by_id.insert(id, number);
        self.claims.push(Claim {
            id,
            at,
            by: claimed.by,
            reason: claimed.reason,
            ends: claimed.ends,
            letters: got,
            done: 0,
        });
    }

    fn done(&mut self, done: &RedriveDone) {
        let Some(number) = self.by_id.get(&done.claim).copied() else {
            return;
        };
        for PutBack { letter, partition, offset } in &done.letters {
            let held = self.letters.get_mut(letter).filter(|h| h.claim == number && h.place.is_none());
            if let Some(held) = held {
                held.place = Some((*partition, *offset));
                held.times += 1;
            }
        }
        if let Some(claim) = self.claims.get_mut(number) {
            claim.done = (claim.done + done.letters.len()).min(claim.letters);
        }
    }

    /// What is known of a letter now.
    pub fn known(&self, offset: i64, written_ms: i64, now: Timestamp) -> Known<'_> {
        let held = self.letters.get(&offset).filter(|h| h.written_ms == written_ms);
        let Some((held, claim)) = held.and_then(|h| Some((h, self.claims.get(h.claim)?))) else {
            return Known::Nothing;
        };
        let times = held.times;
        match held.place {
            Some(place) => Known::PutBack { claim, times, place },
            None if now.duration_since(claim.at) < CLAIM_ENDS => Known::Claimed { claim },
            None => Known::Unclear { claim, times },
        }
    }

    /// Whether the letter is this claim's.
    pub fn is_of(&self, claim: Uuid, letter: i64) -> bool {
        let held = self.letters.get(&letter).and_then(|h| self.claims.get(h.claim));
        held.is_some_and(|c| c.id == claim)
    }

    /// Who has the letter.
    pub fn holder(&self, letter: i64) -> String {
        let held = self.letters.get(&letter).and_then(|h| self.claims.get(h.claim));
        held.map(|c| c.by.clone()).unwrap_or_default()
    }

    /// Letters of claims that have ended and were not done, by claim.
    pub fn unclear(&self, now: Timestamp) -> Vec<(&Claim, Vec<i64>)> {
        let mut unclear: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (offset, held) in &self.letters {
            if held.place.is_none() {
                unclear.entry(held.claim).or_default().push(*offset);
            }
        }
        unclear
            .into_iter()
            .filter_map(|(number, letters)| Some((self.claims.get(number)?, letters)))
            .filter(|(claim, _)| now.duration_since(claim.at) >= CLAIM_ENDS)
            .collect()
    }

    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }
}

#[cfg(test)]
mod tests {
    use messages::ClaimedLetter;

    use super::*;

    const NOON: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOON + seconds).unwrap()
    }

    fn claim(history: &mut History, seconds: i64, by: &str, letters: &[(i64, Option<Uuid>)]) -> Uuid {
        let id = Uuid::new_v5(&Uuid::nil(), format!("{by} {seconds}").as_bytes());
        let letters = letters.iter().map(|(offset, after)| ClaimedLetter {
            offset: *offset,
            written_ms: 1000 + offset,
            after: *after,
        });
        let claimed = RedriveClaimed {
            topic: "ingestion".to_owned(),
            by: by.to_owned(),
            reason: None,
            ends: Vec::new(),
            letters: letters.collect(),
        };
        history.take(id, at(seconds), RedrivePayload::Claimed(claimed));
        id
    }

    fn done(history: &mut History, claim: Uuid, letters: &[i64]) {
        let letters = letters.iter().map(|letter| PutBack {
            letter: *letter,
            partition: 3,
            offset: 100 + letter,
        });
        let done = RedriveDone {
            topic: "ingestion".to_owned(),
            claim,
            letters: letters.collect(),
        };
        history.take(Uuid::nil(), at(0), RedrivePayload::Done(done));
    }

    fn history() -> History {
        History::new("ingestion", 0)
    }

    #[test]
    fn of_two_at_one_time_the_first_has_the_letter() {
        let mut h = history();
        let ana = claim(&mut h, 0, "ana", &[(1, None), (2, None)]);
        let ben = claim(&mut h, 0, "ben", &[(2, None), (3, None)]);
        assert!(h.is_of(ana, 1) && h.is_of(ana, 2) && h.is_of(ben, 3) && !h.is_of(ben, 2));
        // What the loser does not have he cannot call done.
        done(&mut h, ben, &[2, 3]);
        assert!(matches!(h.known(2, 1002, at(1)), Known::Claimed { claim, .. } if claim.by == "ana"));
        assert!(matches!(
            h.known(3, 1003, at(1)),
            Known::PutBack {
                times: 1,
                place: (3, 103),
                ..
            }
        ));
    }

    #[test]
    fn a_claim_that_crashed_is_unclear_and_taken_over_once() {
        let mut h = history();
        let ana = claim(&mut h, 0, "ana", &[(1, None), (2, None)]);
        done(&mut h, ana, &[1]);
        assert!(matches!(h.known(2, 1002, at(39)), Known::Claimed { .. }));
        assert!(matches!(h.known(2, 1002, at(40)), Known::Unclear { .. }));
        assert!(h.unclear(at(39)).is_empty());
        let unclear = h.unclear(at(40));
        assert_eq!((unclear.len(), unclear[0].0.id, &unclear[0].1), (1, ana, &vec![2]));
        let ben = claim(&mut h, 50, "ben", &[(2, Some(ana))]);
        let eva = claim(&mut h, 50, "eva", &[(2, Some(ana))]);
        assert!(h.is_of(ben, 2) && !h.is_of(eva, 2));
        // The crashed one was only very slow: its word comes too late.
        done(&mut h, ana, &[2]);
        assert!(matches!(h.known(2, 1002, at(51)), Known::Claimed { claim, .. } if claim.by == "ben"));
    }

    #[test]
    fn again_is_one_time_more_and_only_on_purpose() {
        let mut h = history();
        let ana = claim(&mut h, 0, "ana", &[(1, None)]);
        done(&mut h, ana, &[1]);
        done(&mut h, ana, &[1]);
        assert!(matches!(h.known(1, 1001, at(1)), Known::PutBack { times: 1, .. }));
        let unaware = claim(&mut h, 2, "ben", &[(1, None)]);
        assert!(!h.is_of(unaware, 1));
        let again = claim(&mut h, 3, "ben", &[(1, Some(ana))]);
        assert!(matches!(h.known(1, 1001, at(4)), Known::Claimed { .. }));
        done(&mut h, again, &[1]);
        assert!(matches!(h.known(1, 1001, at(4)), Known::PutBack { times: 2, .. }));
    }

    #[test]
    fn letters_of_a_topic_that_was_made_anew_are_new_ones() {
        let mut h = history();
        let ana = claim(&mut h, 0, "ana", &[(1, None)]);
        done(&mut h, ana, &[1]);
        assert!(matches!(h.known(1, 9999, at(1)), Known::Nothing));
        assert!(matches!(h.known(7, 1007, at(1)), Known::Nothing));
    }

    #[test]
    fn what_is_gone_takes_no_memory_and_other_topics_are_not_ours() {
        let mut h = History::new("ingestion", 5);
        claim(&mut h, 0, "ana", &[(1, None), (4, None), (5, None)]);
        assert_eq!((h.letters.len(), h.claims()[0].letters), (1, 3));
        let mut other = History::new("valuation", 0);
        claim(&mut other, 0, "ana", &[(1, None)]);
        assert!(other.claims().is_empty() && other.letters.is_empty());
    }
}
