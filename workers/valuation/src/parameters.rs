//! What the model is and the numbers that it is run with. A change of either gives every report another hash.

use messages::Hash32;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::canonical;

/// The model's name in reports.
pub const MODEL: &str = "libertum-comparables-and-income";
/// Raised with every change that can change a figure or a word of a report.
pub const MODEL_VERSION: &str = "3";

/// The numbers that the model is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// A sale further back than this many months before the valuation date is not used.
    pub comparables_max_months: u32,
    /// With fewer usable comparables the market approach does not apply.
    pub comparables_min: u32,
    /// Added to a comparable's gross adjustment before it is inverted into a weight, so that a perfect twin has a finite one.
    pub weight_offset: Decimal,
    /// The market approach's weight among the approaches is its usable comparables over this number, at most 1. The
    /// income approach's is 0.25, and 0.25 more for a rent roll and for each of its two methods.
    pub comparables_full_weight: u32,
    /// Two indications further apart than this fraction of the lower one are for a person to look at.
    pub review_disagreement: Decimal,
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
    /// Sensitivity: by how much cap and discount rates are moved; what that does is also taken as the standard deviation.
    pub sensitivity_yields: Decimal,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            comparables_max_months: 24,
            comparables_min: 3,
            weight_offset: Decimal::new(1, 2),
            comparables_full_weight: 8,
            review_disagreement: Decimal::new(25, 2),
            range_deviations: Decimal::new(1645, 3),
            no_confidence_deviation: Decimal::new(25, 2),
            sensitivity_prices: Decimal::new(5, 2),
            sensitivity_trend: Decimal::new(1, 3),
            sensitivity_rates: Decimal::new(1, 1),
            sensitivity_yields: Decimal::new(25, 4),
        }
    }
}

impl Parameters {
    /// SHA-256 of their canonical JSON.
    pub fn sha256(&self) -> Hash32 {
        canonical::sha256(self)
    }
}
