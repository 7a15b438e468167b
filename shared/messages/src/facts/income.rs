//! What an asset earns and costs to run, and at what yields its income is valued.
//!
//! Amounts that stand alone are a year's, in the valuation currency. Rates are fractions: 0.06 is 6 %.

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fact, Money};

/// How often an amount is paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Frequency {
    Monthly,
    Quarterly,
    #[default]
    Annual,
}

/// A line of the rent roll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tenancy {
    /// What is let, e.g. `2.º A` or `Unit 4`: its name within the asset.
    pub unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Square metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<Decimal>,
    /// The rent that is paid under the contract; 0 for a unit that is let for nothing.
    pub passing_rent: Money,
    pub frequency: Frequency,
    /// The first day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Date>,
    /// The last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Date>,
}

/// What the owner pays to run the asset; no debt, no tax on income, no management that is given as a fraction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatingExpense {
    /// What for, in the document's words.
    #[serde(rename = "type")]
    pub kind: String,
    pub amount: Money,
    #[serde(default)]
    pub frequency: Frequency,
}

/// Whose net operating income the price at the end of the holding period is calculated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalNoiBasis {
    /// The year after the last year of the holding period.
    Forward,
    /// The last year of the holding period.
    Trailing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Income {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenancies: Vec<Fact<Tenancy>>,
    /// What the asset would earn in a year if all of it were let, before anything is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub potential_gross_income: Option<Fact<Decimal>>,
    /// The part of the potential gross income that is lost to vacancy and to tenants who do not pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacancy_rate: Option<Fact<Decimal>>,
    /// A year's income beside the rents, not reduced by vacancy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_income: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operating_expenses: Vec<Fact<OperatingExpense>>,
    /// Management, as a fraction of the effective gross income.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_pct: Option<Fact<Decimal>>,
    /// What is set aside a year for replacements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserves: Option<Fact<Decimal>>,
    /// Net operating income of the first year over value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_rate: Option<Fact<Decimal>>,
    /// A year's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discount_rate: Option<Fact<Decimal>>,
    /// How the net operating income grows a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Fact<Decimal>>,
    /// The cap rate at which the asset is sold at the end of the holding period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_cap_rate: Option<Fact<Decimal>>,
    /// Whole years from the valuation date to that sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_years: Option<Fact<u8>>,
    /// What that sale costs, as a fraction of its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selling_cost_pct: Option<Fact<Decimal>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_noi_basis: Option<Fact<TerminalNoiBasis>>,
}

impl Income {
    /// No document says anything of the asset's income.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
