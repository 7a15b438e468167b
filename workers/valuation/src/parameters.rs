//! What the model is and the numbers that it is run with. A change of either gives every report another hash.

use messages::Hash32;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::canonical;

/// The model's name in reports.
pub const MODEL: &str = "libertum-market-comparables";
/// Raised with every change that can change a figure or a word of a report.
pub const MODEL_VERSION: &str = "2";

/// The numbers that the model is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// A sale further back than this many months before the valuation date is not used.
    pub comparables_max_months: u32,
    /// With fewer usable comparables the market approach does not apply.
    pub comparables_min: u32,
    /// Added to a comparable's gross adjustment before it is inverted into a weight, so that a perfect twin has a finite one.
    pub weight_offset: Decimal,
    /// The market approach's weight among the approaches that apply.
    pub market_weight: Decimal,
    /// How many standard deviations 90 % of a normal distribution lie within.
    pub range_deviations: Decimal,
    /// The relative standard deviation at which confidence is nought.
    pub no_confidence_deviation: Decimal,
    /// Sensitivity: by which fraction the comparables' prices are moved.
    pub sensitivity_prices: Decimal,
    /// Sensitivity: by how much the monthly trend is moved.
    pub sensitivity_trend: Decimal,
    /// Sensitivity: by which fraction the adjustment rates are moved.
    pub sensitivity_rates: Decimal,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            comparables_max_months: 24,
            comparables_min: 3,
            weight_offset: Decimal::new(1, 2),
            market_weight: Decimal::ONE,
            range_deviations: Decimal::new(1645, 3),
            no_confidence_deviation: Decimal::new(25, 2),
            sensitivity_prices: Decimal::new(5, 2),
            sensitivity_trend: Decimal::new(1, 3),
            sensitivity_rates: Decimal::new(1, 1),
        }
    }
}

impl Parameters {
    /// SHA-256 of their canonical JSON.
    pub fn sha256(&self) -> Hash32 {
        canonical::sha256(self)
    }
}
