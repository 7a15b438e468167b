//! A dead letter: the message that it carries, and its story.

use std::borrow::Cow;

use jiff::{Timestamp, ToSpan as _};
use messages::{DocumentSubmitted, Message as _, header as event};
use rdkafka::message::{Header, OwnedHeaders, Timestamp as KafkaTimestamp};
use uuid::Uuid;

use crate::dead;
use crate::source::Record;

/// Headers that a message has when it is put back, behind its own.
pub mod header {
    /// The letter: its topic, a slash, its offset.
    pub const LETTER: &str = "rd-letter";
    /// The id of the claim, which is in the topic `redrives` with the reason.
    pub const CLAIM: &str = "rd-claim";
    pub const BY: &str = "rd-by";
    /// RFC 3339.
    pub const AT: &str = "rd-at";
    /// How often the message has been put back, this time included.
    pub const COUNT: &str = "rd-count";
    pub const ALL: [&str; 5] = [LETTER, CLAIM, BY, AT, COUNT];
}

/// Uploads are deleted from the inbox after so many days.
const UPLOADS_STAY_DAYS: i64 = 35;

/// A message of a dead-letter topic that is a letter.
pub(crate) struct Letter {
    record: Record,
    /// How many of the message's headers were its own, before those that we have added.
    own: usize,
    pub offset: i64,
    pub written_ms: i64,
    /// Where the message was: the topic's whole name, partition, offset.
    pub topic: String,
    pub partition: i32,
    pub at: i64,
    pub class: String,
    pub attempts: u32,
    pub error: String,
    pub worker: String,
    first_failure: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    pub event_id: String,
    pub event_type: String,
    pub subject: String,
    event_time: Option<Timestamp>,
    /// How often the message had been put back before this letter was written.
    pub redriven: u32,
}

impl Letter {
    /// Reads a message of a dead-letter topic.
    ///
    /// # Errors
    /// Why it is not a letter of ours.
    pub fn read(record: Record) -> Result<Self, String> {
        let all: Vec<(&str, Cow<'_, str>)> = headers(&record)
            .map(|(name, value)| (name, String::from_utf8_lossy(value.unwrap_or_default())))
            .collect();
        let mut own = all.len();
        let added = block(&all, &mut own, &dead::header::ALL);
        let before = block(&all, &mut own, &header::ALL);
        let told = |name: &str| added.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_ref());
        let place = |name: &str| told(name).ok_or_else(|| format!("it has no header {name}"));
        let number = |name: &str| place(name)?.parse::<i64>().map_err(|_| format!("its header {name} is no number"));
        let said = |name: &str| told(name).unwrap_or_default().to_owned();
        let time = |name: &str| told(name).and_then(|t| t.parse().ok());
        let of_event = |name: &str| {
            let found = all.iter().take(own).find(|(n, _)| *n == name);
            found.map(|(_, v)| v.to_string()).unwrap_or_default()
        };
        let redriven = before.iter().find(|(n, _)| *n == header::COUNT);
        Ok(Self {
            own,
            offset: record.offset(),
            written_ms: millis(record.timestamp()),
            topic: place(dead::header::TOPIC)?.to_owned(),
            partition: i32::try_from(number(dead::header::PARTITION)?).map_err(|e| e.to_string())?,
            at: number(dead::header::OFFSET)?,
            class: said(dead::header::CLASS),
            attempts: said(dead::header::ATTEMPTS).parse().unwrap_or_default(),
            error: said(dead::header::ERROR),
            worker: said(dead::header::WORKER),
            first_failure: time(dead::header::FIRST_FAILURE),
            last_failure: time(dead::header::LAST_FAILURE),
            event_id: of_event(event::ID),
            event_type: of_event(event::TYPE),
            subject: of_event(event::SUBJECT),
            event_time: of_event(event::TIME).parse().ok(),
            redriven: redriven.and_then(|(_, count)| count.parse().ok()).unwrap_or_default(),
            record,
        })
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.record.value()
    }

    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.key().unwrap_or_default())
    }

    /// When the message failed last; when the letter was written, if it does not say.
    pub fn last_failure(&self) -> Timestamp {
        self.last_failure
            .or_else(|| Timestamp::from_millisecond(self.written_ms).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub fn first_failure(&self) -> Timestamp {
        self.first_failure.unwrap_or_else(|| self.last_failure())
    }

    /// Whether what it refers to may be deleted by now.
    pub fn upload_may_be_gone(&self, now: Timestamp) -> bool {
        let oldest = now.checked_sub((UPLOADS_STAY_DAYS * 24).hours());
        self.event_type == DocumentSubmitted::TYPE && self.event_time.zip(oldest.ok()).is_some_and(|(time, oldest)| time < oldest)
    }

    /// The message's own headers byte for byte, and those that say that it was put back.
    pub fn headers_again(&self, dead_topic: &str, claim: Uuid, by: &str, at: Timestamp, before: u32) -> OwnedHeaders {
        let own = headers(&self.record).take(self.own);
        let all = OwnedHeaders::new_with_capacity(self.own + header::ALL.len());
        let mut headers = own.fold(all, |all, (key, value)| all.insert(Header { key, value }));
        for (key, value) in [
            (header::LETTER, format!("{dead_topic}/{}", self.offset)),
            (header::CLAIM, claim.to_string()),
            (header::BY, by.to_owned()),
            (header::AT, at.to_string()),
            (header::COUNT, (self.redriven + before + 1).to_string()),
        ] {
            headers = headers.insert(Header { key, value: Some(&value) });
        }
        headers
    }
}

/// A letter's headers: the loop writes only those that have text for a name.
fn headers(record: &Record) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    let all = record.headers().into_iter().flatten();
    all.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
}

/// Splits a block of added headers off the end of a message's own. Only the end, and each name once: a header of the
/// message's own that happens to have such a name stays.
fn block<'a, 'h>(all: &'a [(&'h str, Cow<'h, str>)], own: &mut usize, names: &[&str]) -> &'a [(&'h str, Cow<'h, str>)] {
    let end = *own;
    let head = all.get(..end).unwrap_or_default();
    let added = |at: usize, name: &str| names.contains(&name) && !head.iter().skip(at + 1).any(|(n, _)| *n == name);
    *own = (0..end)
        .rev()
        .take_while(|at| head.get(*at).is_some_and(|(name, _)| added(*at, name)))
        .last()
        .unwrap_or(end);
    head.get(*own..).unwrap_or_default()
}

fn millis(timestamp: KafkaTimestamp) -> i64 {
    match timestamp {
        KafkaTimestamp::CreateTime(ms) | KafkaTimestamp::LogAppendTime(ms) => ms,
        KafkaTimestamp::NotAvailable => 0,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;

    fn letter(headers: &[(&str, Option<&[u8]>)]) -> Result<Letter, String> {
        Letter::read(Record::made(41, 1_700_000_000_000, headers, b"demo/a"))
    }

    fn again(letter: &Letter) -> Vec<(String, Option<Vec<u8>>)> {
        let headers = letter.headers_again("t.dead", Uuid::nil(), "ana", Timestamp::UNIX_EPOCH, 0);
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    }

    const STORY: [(&str, Option<&[u8]>); 4] = [
        (dead::header::TOPIC, Some(b"t")),
        (dead::header::PARTITION, Some(b"2")),
        (dead::header::OFFSET, Some(b"77")),
        (dead::header::CLASS, Some(b"handle")),
    ];

    #[test]
    fn the_messages_own_headers_stay_byte_for_byte_even_odd_ones() {
        let odd: &[u8] = &[0, 0xff, 0xfe];
        let own: [(&str, Option<&[u8]>); 5] = [
            ("ce_type", Some(b"x")),
            (dead::header::CLASS, Some(b"its own, of the same name")),
            ("null", None),
            ("twice", Some(odd)),
            ("twice", Some(b"")),
        ];
        let read = letter(&[&own[..], &STORY].concat()).unwrap();
        assert_eq!((read.partition, read.at, read.class.as_str(), read.offset), (2, 77, "handle", 41));
        let headers = again(&read);
        let expected: Vec<_> = own.iter().map(|(k, v)| ((*k).to_owned(), v.map(<[u8]>::to_vec))).collect();
        assert_eq!(headers.get(..5).unwrap(), expected);
        let added: Vec<&str> = headers.iter().skip(5).map(|(k, _)| k.as_str()).collect();
        assert_eq!(added, header::ALL);
    }

    #[test]
    fn a_message_that_comes_back_a_second_time_counts_on_and_carries_one_story() {
        let first = letter(&[&[("own", Some(b"1".as_slice()))], &STORY[..]].concat()).unwrap();
        let mut headers = again(&first);
        headers.extend(STORY.map(|(k, v)| (k.to_owned(), v.map(<[u8]>::to_vec))));
        let borrowed: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        let second = letter(&borrowed).unwrap();
        assert_eq!(second.redriven, 1);
        let headers = again(&second);
        assert_eq!(headers.len(), 1 + header::ALL.len());
        assert_eq!(headers.last().unwrap(), &(header::COUNT.to_owned(), Some(b"2".to_vec())));
    }

    #[test]
    fn what_is_no_letter_says_what_it_lacks() {
        assert!(letter(&[("own", None)]).err().unwrap().contains(dead::header::TOPIC));
        let mut story = STORY;
        story[2].1 = Some(b"x");
        assert!(letter(&story).err().unwrap().contains(dead::header::OFFSET));
    }

    #[test]
    fn an_upload_that_may_be_gone_is_noticed() {
        let headers = |time: &'static [u8]| {
            letter(
                &[
                    &[(event::TYPE, Some(DocumentSubmitted::TYPE.as_bytes())), (event::TIME, Some(time))],
                    &STORY[..],
                ]
                .concat(),
            )
            .unwrap()
        };
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert!(headers(b"2026-10-01T00:00:00Z").upload_may_be_gone(now));
        assert!(!headers(b"2026-11-01T00:00:00Z").upload_may_be_gone(now));
        assert!(!letter(&STORY).unwrap().upload_may_be_gone(now));
    }
}
