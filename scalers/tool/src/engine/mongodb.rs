//! The `mongodb` trigger: a count of documents that match a query.

use super::Measured;

/// What the trigger's metadata says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mongodb {
    /// Documents a job is meant for; 1 or more.
    pub query_value: i64,
    /// The trigger is active only while more than this match.
    pub activation_query_value: i64,
}

impl Mongodb {
    /// What a count is worth.
    pub fn read(&self, count: i64) -> Measured {
        Measured {
            queue: count as f64,
            target: self.query_value as f64,
            active: count > self.activation_query_value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_is_strict_here_too() {
        let trigger = Mongodb {
            query_value: 4,
            activation_query_value: 3,
        };
        assert!(!trigger.read(3).active);
        let read = trigger.read(9);
        assert!(read.active && read.queue == 9.0 && read.target == 4.0);
    }
}
