//! What a transaction offers to pay (EIP-1559), at first and when it has waited too long.

use alloy::eips::eip1559::Eip1559Estimation;

/// Nodes keep another variant of a nonce only if both its fees are a tenth higher. An eighth leaves room for rounding.
const RAISE_NUMERATOR: u128 = 9;
const RAISE_DENOMINATOR: u128 = 8;
/// A bump goes no higher than this many times what the market asks.
const MARKET_LIMIT: u128 = 5;

/// Wei a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    pub max_fee: u128,
    /// Of which the block's producer gets this; never more than `max_fee`.
    pub tip: u128,
}

impl From<Eip1559Estimation> for Fees {
    fn from(estimation: Eip1559Estimation) -> Self {
        Self {
            max_fee: estimation.max_fee_per_gas,
            tip: estimation.max_priority_fee_per_gas,
        }
    }
}

impl Fees {
    /// The first offer: what the market asks, up to the cap.
    pub fn first(market: Self, cap: u128) -> Self {
        let max_fee = market.max_fee.min(cap);
        Self {
            max_fee,
            tip: market.tip.min(max_fee),
        }
    }

    /// The next offer: both fees an eighth higher, or what the market asks if that is more. `None` when that would
    /// be beyond the cap, or absurd beside the market: then the old offer waits.
    pub fn bumped(self, market: Self, cap: u128) -> Option<Self> {
        let limit = cap.min(market.max_fee.saturating_mul(MARKET_LIMIT));
        let raised = Self {
            max_fee: raise(self.max_fee),
            tip: raise(self.tip),
        };
        let max_fee = raised.max_fee.max(market.max_fee.min(limit));
        let tip = raised.tip.max(market.tip.min(max_fee));
        (max_fee <= limit && tip <= max_fee).then_some(Self { max_fee, tip })
    }
}

/// An eighth more, rounded up, and at least one wei more.
fn raise(fee: u128) -> u128 {
    fee.saturating_mul(RAISE_NUMERATOR)
        .div_ceil(RAISE_DENOMINATOR)
        .max(fee.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    fn fees(max_fee: u128, tip: u128) -> Fees {
        Fees { max_fee, tip }
    }

    #[test]
    fn a_bump_raises_both_fees_by_more_than_a_tenth() {
        for old in [fees(1, 1), fees(7, 0), fees(30 * GWEI, GWEI), fees(123_456_789, 9)] {
            let new = old.bumped(fees(40 * GWEI, 2 * GWEI), 500 * GWEI).unwrap();
            assert!(
                new.max_fee * 10 >= old.max_fee * 11 && new.tip * 10 >= old.tip * 11,
                "{old:?} {new:?}"
            );
            assert!(new.max_fee > old.max_fee && new.tip > old.tip);
        }
    }

    #[test]
    fn a_bump_follows_the_market_when_that_asks_more() {
        assert_eq!(
            fees(10 * GWEI, GWEI).bumped(fees(90 * GWEI, 4 * GWEI), 500 * GWEI),
            Some(fees(90 * GWEI, 4 * GWEI))
        );
    }

    #[test]
    fn nothing_is_offered_beyond_the_cap_or_five_times_the_market() {
        assert_eq!(fees(100 * GWEI, GWEI).bumped(fees(50 * GWEI, GWEI), 110 * GWEI), None);
        assert_eq!(fees(100 * GWEI, GWEI).bumped(fees(20 * GWEI, GWEI), 500 * GWEI), None);
        // The market is beyond the cap: as much as we may.
        let held = fees(100 * GWEI, GWEI).bumped(fees(900 * GWEI, 3 * GWEI), 120 * GWEI);
        assert_eq!(held, Some(fees(120 * GWEI, 3 * GWEI)));
        assert_eq!(Fees::first(fees(900 * GWEI, 600 * GWEI), 500 * GWEI), fees(500 * GWEI, 500 * GWEI));
    }

    #[test]
    fn a_row_of_bumps_ends_at_the_cap() {
        let mut offer = fees(GWEI, 1);
        let mut bumps = 0;
        while let Some(next) = offer.bumped(fees(200 * GWEI, GWEI), 500 * GWEI) {
            offer = next;
            bumps += 1;
            assert!(bumps < 100);
        }
        assert!(offer.max_fee <= 500 * GWEI && offer.max_fee > 400 * GWEI, "{offer:?}");
    }
}
