//! Ids that come out the same however often the same thing happens.

use uuid::Uuid;

/// Our own UUIDv5 namespace; changing it would give every event of the past a new identity.
const NAMESPACE: Uuid = Uuid::from_u128(0x6c1b_74f2_09de_5d0b_9a4e_3f1f_b0a7_5e21);

/// Parts are joined by the ASCII unit separator, which no part may contain, so ("a", "bc") and ("ab", "c") differ.
const SEPARATOR: &str = "\u{1f}";

/// The id of what a client creates with an `Idempotency-Key`: a repeat has the same id without any look-up.
pub fn door_id(tenant: &str, route: &str, idempotency_key: &str) -> Uuid {
    named(&[tenant, route, idempotency_key])
}

/// The id of an event that another event caused: the same cause always yields the same ids (UUIDv5, RFC 9562).
pub fn caused_id(cause: Uuid, event_type: &str, subject: &str) -> Uuid {
    named(&[&cause.hyphenated().to_string(), event_type, subject])
}

/// A new, time-ordered id (UUIDv7, RFC 9562) for what has no key and no cause.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

fn named(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, parts.join(SEPARATOR).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_id_and_other_parts_another() {
        let id = door_id("demo", "documents", "k1");
        assert_eq!(id, door_id("demo", "documents", "k1"));
        assert_ne!(id, door_id("demo", "document", "sk1"));
        assert_ne!(id, caused_id(id, "documents", "k1"));
    }

    #[test]
    fn ids_of_the_past_do_not_change() {
        assert_eq!(door_id("demo", "r", "k").to_string(), "6cb0a557-31ef-5f18-a639-a9810d924c9c");
    }
}
