//! The report: what was valued, from what, how, and how sure that is. Canonical JSON of it is what a token commits to.
//!
//! Nothing in it depends on when, where or how often it is made. Figures are decimals as text, rounded half-even here
//! and nowhere before: amounts to the currency's minor unit, fractions to six decimals.

use jiff::civil::Date;
use messages::facts::{Approach, AssetType, Comparable, Conflict, Fact, Provenance, Source};
use messages::{AssetId, Hash32, Tenant};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::parameters::Parameters;

/// The shape of reports.
pub const SCHEMA: &str = "valuation-report/1";

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub model: Model,
    /// SHA-256 of the canonical JSON of the model, its parameters and the fact sheet, its lists in order.
    pub inputs_sha256: Hash32,
    pub status: &'static str,
    pub purpose: &'static str,
    pub basis_of_value: &'static str,
    pub premise: &'static str,
    pub special_assumptions: Vec<String>,
    pub tenant: Tenant,
    pub asset_id: AssetId,
    pub asset: Asset,
    pub valuation_date: Date,
    pub currency: String,
    pub value: String,
    pub range: Range,
    pub confidence: Confidence,
    pub approaches: Vec<ApproachReport>,
    /// How the approaches were weighed.
    pub reconciliation: &'static str,
    /// A person has to look before anything is issued, whatever is agreed with the tenant.
    pub needs_review: bool,
    pub review_reasons: Vec<String>,
    pub inputs: Inputs,
    pub sensitivity: Sensitivity,
    pub limitations: Vec<String>,
    pub rounding: Rounding,
}

#[derive(Debug, Clone, Serialize)]
pub struct Model {
    pub name: &'static str,
    pub version: &'static str,
    pub parameters_sha256: Hash32,
    pub parameters: Parameters,
}

/// What was valued, as far as the documents describe it; the owner is none of a value's business.
#[derive(Debug, Clone, Serialize)]
pub struct Asset {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_type: Option<Fact<AssetType>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<Fact<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Fact<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parcel_id: Option<Fact<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title_no: Option<Fact<String>>,
    /// The interest that was valued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenure: Option<Fact<String>>,
}

/// 90 % of a normal distribution around the value.
#[derive(Debug, Clone, Serialize)]
pub struct Range {
    pub coverage: &'static str,
    pub low: String,
    pub high: String,
    pub standard_deviation: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Confidence {
    /// From 0 to 100, one decimal.
    pub score: String,
    /// The standard deviation as a fraction of the value.
    pub forecast_standard_deviation: String,
    pub method: &'static str,
}

/// What became of an approach.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ApproachReport {
    Applied {
        approach: Approach,
        indication: String,
        standard_deviation: String,
        weight: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        market: Option<Box<MarketReport>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        income: Option<Box<IncomeReport>>,
    },
    NotApplicable {
        approach: Approach,
        missing: Vec<String>,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct MarketReport {
    pub method: &'static str,
    pub comparables: Vec<Line>,
    pub rejected: Vec<Rejected>,
}

/// A comparable's way from its price to its indication.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub id: String,
    pub price: String,
    /// Whole months from the sale to the valuation date.
    pub months: u32,
    pub adjustments: Adjustments,
    pub adjusted_price: String,
    pub gross_adjustment: String,
    pub weight: String,
    pub sale: Comparable,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, Serialize)]
pub struct Adjustments {
    pub conditions_of_sale: String,
    pub time: String,
    pub location: String,
    pub area: String,
    pub bathrooms: String,
    pub parking_spaces: String,
    pub age: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    pub id: String,
    pub reason: String,
    pub provenance: Provenance,
}

/// The asset's own facts and the rates that figures were calculated from, each with its provenance.
#[derive(Debug, Clone, Serialize)]
pub struct Inputs {
    pub used: Vec<InputUsed>,
    pub sources: Vec<Source>,
    pub conflicts: Vec<Conflict>,
}

#[derive(Debug, Clone, Serialize)]
pub struct InputUsed {
    /// A path into the fact sheet.
    pub path: &'static str,
    #[serde(flatten)]
    pub fact: Fact<Decimal>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Sensitivity {
    pub scenarios: Vec<Scenario>,
    /// The value if one of the comparables were not there.
    pub without_comparable: Vec<Scenario>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    pub approach: Approach,
    pub change: String,
    /// What that approach, or the method that the change names, would say.
    pub value: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Rounding {
    pub rule: &'static str,
    /// Decimals of amounts in the valuation currency.
    pub amount_decimals: u32,
    pub fraction_decimals: u32,
    pub working_digits: u32,
}

pub use income::*;

mod income;

/// What every report is, and is not.
pub mod words {
    pub const STATUS: &str = "indicative";
    pub const PURPOSE: &str = "to indicate a value on which the issuance of the asset's token may be decided";
    pub const BASIS: &str = "market value";
    pub const PREMISE: &str = "current use, as described by the documents";
    pub const METHOD: &str = "comparables adjusted for conditions of sale, time, location, area, bathrooms, parking and age, in this order; \
                              weights inverse to 0.01 plus the gross adjustment as a fraction of the price";
    pub const CONFIDENCE: &str = "100 x (1 - forecast standard deviation / 0.25), from 0 to 100";
    pub const ROUNDING: &str = "half to even, only in this report; nothing before it is rounded, and each figure is rounded by itself";
    pub const RECONCILIATION: &str = "approaches are weighed by the data they rest on: market by usable comparables / 8, at most 1; income by \
                                      0.25, and 0.25 more for a rent roll, for a direct capitalisation and for a discounted cash flow; \
                                      within income both methods weigh the same";
    pub const INCOME_METHOD: &str = "net operating income of the first year, capitalised at the cap rate, and discounted over the holding \
                                     period with a sale at its end; cash flows at each year's end";
    pub const LIMITATIONS: [&str; 2] = [
        "an indicative figure calculated automatically; it is not a valuation signed by a valuer, and claims compliance with no valuation standard",
        "the facts are taken as the documents state them; nothing was inspected, and the title was not examined",
    ];
    pub const MARKET_LIMITATIONS: [&str; 2] = [
        "the range reflects how far the adjusted comparables lie apart, and no other uncertainty",
        "the comparables are those that the documents name; whether others were sold was not researched",
    ];
    pub const INCOME_LIMITATIONS: [&str; 2] = [
        "the standard deviation of the income approach is what 0.25 percentage points of its yields do to it, and no other uncertainty",
        "rents, expenses and yields are those that the documents state; none was compared with the market",
    ];
}
