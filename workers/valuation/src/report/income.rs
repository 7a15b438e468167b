//! The income approach in the report. Tenants are not named: who they are is none of a value's business.

use jiff::civil::Date;
use messages::facts::{Provenance, TerminalNoiBasis};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct IncomeReport {
    pub method: &'static str,
    pub statement: StatementReport,
    pub methods: Vec<MethodReport>,
}

/// The first year's income and expenses.
#[derive(Debug, Clone, Serialize)]
pub struct StatementReport {
    pub tenancies: Vec<RentLine>,
    pub rejected: Vec<RejectedRent>,
    pub potential_gross_income: String,
    pub vacancy: String,
    pub other_income: String,
    pub effective_gross_income: String,
    pub expenses: Vec<ExpenseLine>,
    pub operating_expenses: String,
    pub management: String,
    pub reserves: String,
    pub net_operating_income: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct RentLine {
    pub unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Date>,
    pub annual_rent: String,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, Serialize)]
pub struct RejectedRent {
    pub unit: String,
    pub reason: String,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, Serialize)]
pub struct ExpenseLine {
    #[serde(rename = "type")]
    pub kind: String,
    pub annual_amount: String,
    pub provenance: Provenance,
}

/// A method of the income approach.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum MethodReport {
    DirectCapitalisation(Applied<DirectReport>),
    DiscountedCashFlow(Applied<Box<CashFlowReport>>),
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Applied<T> {
    Applied {
        indication: String,
        standard_deviation: String,
        weight: String,
        working: T,
    },
    NotApplicable {
        missing: Vec<String>,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct DirectReport {
    pub net_operating_income: String,
    pub cap_rate: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct CashFlowReport {
    pub discount_rate: String,
    pub growth: String,
    pub exit_cap_rate: String,
    pub selling_cost: String,
    pub terminal_noi_basis: TerminalNoiBasis,
    pub years: Vec<YearLine>,
    pub terminal_net_operating_income: String,
    /// Of the sale, after its costs.
    pub net_proceeds: String,
    pub present_value_of_income: String,
    pub present_value_of_proceeds: String,
    /// The sale's part of the value.
    pub proceeds_share: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct YearLine {
    pub year: u32,
    pub net_operating_income: String,
    pub present_value: String,
}
