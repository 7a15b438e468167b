//! Ports for servers that begin some time after theirs is drawn.
//!
//! All lie below those that the system gives to outgoing connections, which would take one meanwhile. They are drawn, so
//! that tests that start together hardly meet.

use std::net::TcpListener;
use std::ops::Range;

use rand::RngExt as _;

/// Where whole stacks are.
const STACKS: Range<u16> = 15_000..25_000;
/// Where single servers are, so that no stack comes upon one that has yet to begin.
const SINGLE: Range<u16> = 10_000..15_000;

/// The first of so many ports in a row that are all free now.
pub(crate) fn of_stack(ports: u16) -> u16 {
    row(STACKS, ports)
}

/// A port that is free now.
pub(crate) fn single() -> u16 {
    row(SINGLE, 1)
}

/// Addresses of this machine that are free now, one each.
pub fn addresses(count: u16) -> Vec<String> {
    let first = row(SINGLE, count);
    (first..first + count).map(|port| format!("127.0.0.1:{port}")).collect()
}

fn row(within: Range<u16>, ports: u16) -> u16 {
    loop {
        let first = rand::rng().random_range(within.start..within.end - ports);
        if (first..first + ports).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}
