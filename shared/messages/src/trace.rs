//! W3C Trace Context: one trace id from the HTTP request to the mined block.

use std::fmt;
use std::str::FromStr;

/// A `traceparent` of version 00 (<https://www.w3.org/TR/trace-context/>): 16 bytes of trace id, 8 of span id, flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Starts a trace of its own, sampled.
    pub fn root() -> Self {
        let id = uuid::Uuid::now_v7();
        Self {
            trace_id: id.as_u128(),
            span_id: span_id(),
            flags: 1,
        }
    }

    /// The place with this trace id, span id and flags. `None` when an id is zero, which the standard forbids.
    pub fn at((trace_id, span_id, flags): (u128, u64, u8)) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, flags })
    }

    /// Its trace id, span id and flags.
    pub fn place(self) -> (u128, u64, u8) {
        (self.trace_id, self.span_id, self.flags)
    }

    /// The trace id, 32 lower-case hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// Eight bytes that are never all zero, which the standard forbids.
fn span_id() -> u64 {
    let (_, low) = uuid::Uuid::now_v7().as_u64_pair();
    low.max(1)
}

/// The text is not a `traceparent`; the standard says to start a new trace then.
#[derive(Debug, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct NotATraceParent;

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        text.as_bytes().try_into()
    }
}

impl TryFrom<&[u8]> for TraceParent {
    type Error = NotATraceParent;

    fn try_from(text: &[u8]) -> Result<Self, NotATraceParent> {
        // Every message brings one: the places are fixed, so nothing is searched for.
        let (head, rest) = text.split_first_chunk::<55>().ok_or(NotATraceParent)?;
        let field = |at: usize, digits: usize| head.get(at..at + digits).and_then(hex).ok_or(NotATraceParent);
        let (version, flags) = (field(0, 2)?, field(53, 2)?);
        let (high, low, span_id) = (field(3, 16)?, field(19, 16)?, field(36, 16)?);
        let trace_id = u128::from(high) << 64 | u128::from(low);
        let parted = [head[2], head[35], head[52]] == *b"---";
        // Later versions may carry more fields behind these four; version 00 may not.
        let ended = rest.is_empty() || (version != 0 && rest.starts_with(b"-"));
        if version == 0xff || !parted || !ended || trace_id == 0 || span_id == 0 {
            return Err(NotATraceParent);
        }
        let flags = u8::try_from(flags).map_err(|_| NotATraceParent)?;
        Ok(Self { trace_id, span_id, flags })
    }
}

/// What a hexadecimal digit stands for; more than 15 for what is none.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The number that up to sixteen hexadecimal digits stand for. Which ones they are nobody can foretell, so it does not
/// branch on them.
fn hex(digits: &[u8]) -> Option<u64> {
    let mut wrong = 0;
    let number = digits.iter().fold(0, |number, digit| {
        let value = DIGITS[usize::from(*digit)];
        wrong |= value;
        number << 4 | u64::from(value & 0xf)
    });
    (wrong < 16).then_some(number)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_wire() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let given: TraceParent = text.parse().unwrap();
        assert_eq!(given.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(TraceParent::at(given.place()), Some(given));
        assert_eq!(given.to_string(), text);
        assert_eq!(TraceParent::root().to_string().len(), text.len());
        assert_eq!(TraceParent::at((0, 1, 1)), None);
        let later: TraceParent = format!("cc-{}-what-else", text.split_once('-').unwrap().1).parse().unwrap();
        assert_eq!(later, given, "a later version may say more");
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "00-0af7651916cd43dd8448eb211c80319c.b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }
}
