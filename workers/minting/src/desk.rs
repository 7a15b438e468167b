//! The desk of one signer: everything that its transactions need. Several desks of the same signer, in one process
//! or in several, do not harm each other: what they decide, they decide in the ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use tokio::sync::Mutex;

use crate::config::MintConfig;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::rpc::{Chain, Head};
use crate::signers::Signers;

/// What all desks share.
pub struct Office {
    pub ledger: Ledger,
    pub chain: Chain,
    pub signers: Signers,
    pub mint: MintConfig,
}

pub struct Desk {
    pub(crate) office: Arc<Office>,
    pub(crate) partition: u32,
    pub(crate) signer: Address,
    pub(crate) following: Mutex<Following>,
}

impl Desk {
    /// # Errors
    /// [`Error::NoSigner`] when the partition has none.
    pub fn new(office: Arc<Office>, partition: u32) -> Result<Self, Error> {
        let signer = office.signers.address(partition).ok_or(Error::NoSigner(partition))?;
        Ok(Self {
            office,
            partition,
            signer,
            following: Mutex::new(Following::default()),
        })
    }

    /// The signer as the records write it.
    pub(crate) fn signer_name(&self) -> messages::Address {
        messages::Address(self.signer.into_array())
    }

    /// The chain's number as the records write it; the configuration has checked that it fits.
    pub(crate) fn chain_id(&self) -> i64 {
        i64::try_from(self.office.chain.chain_id).unwrap_or(i64::MAX)
    }

    /// How long to wait before looking at the chain again.
    pub async fn pace(&self) -> Duration {
        self.following.lock().await.pace.poll()
    }
}

/// What a desk remembers of its open attempts; nothing of it needs to survive.
#[derive(Default)]
pub(crate) struct Following {
    /// When the attempts were last looked at.
    pub last: Option<Instant>,
    pub pace: Pace,
    pub seen: HashMap<String, Seen>,
}

/// An open attempt as this desk knows it.
pub(crate) struct Seen {
    /// The newest block when this desk first saw it.
    pub since: u64,
    /// When, and at which newest block, its bytes were last sent.
    pub sent: Option<(Instant, u64)>,
}

/// How fast the chain makes blocks, as far as it has been watched.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    first: Option<Head>,
    block_time: Option<Duration>,
}

impl Pace {
    const FASTEST: Duration = Duration::from_millis(250);
    const SLOWEST: Duration = Duration::from_secs(3);

    pub fn observe(&mut self, head: Head) {
        let Some(first) = self.first.filter(|first| first.number <= head.number) else {
            self.first = Some(head);
            return;
        };
        let blocks = u32::try_from(head.number - first.number).unwrap_or(u32::MAX);
        if blocks > 0 {
            self.block_time = Some(Duration::from_secs(head.timestamp.saturating_sub(first.timestamp)) / blocks);
        }
    }

    /// A quarter of the time between blocks, within bounds.
    pub fn poll(&self) -> Duration {
        self.block_time
            .map_or(Self::FASTEST, |t| (t / 4).clamp(Self::FASTEST, Self::SLOWEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, timestamp: u64) -> Head {
        Head {
            number,
            timestamp,
            gas_limit: 30_000_000,
        }
    }

    #[test]
    fn the_chain_is_asked_four_times_a_block_but_neither_madly_nor_rarely() {
        let mut pace = Pace::default();
        assert_eq!(pace.poll(), Pace::FASTEST);
        pace.observe(head(100, 1_000));
        pace.observe(head(110, 1_060));
        assert_eq!(pace.poll(), Duration::from_millis(1500));
        pace.observe(head(111, 90_000));
        assert_eq!(pace.poll(), Pace::SLOWEST);
        // The chain was set back: start over rather than divide by less than nothing.
        pace.observe(head(5, 10));
        pace.observe(head(6, 10));
        assert_eq!(pace.poll(), Pace::FASTEST);
    }
}
