//! A fact sheet in, a report out: no clock, no chance, no I/O.

use messages::facts::{self, Approach, FactSheet};
use messages::{Hash32, MissingFacts};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::decimal::{Checked as _, Overflow};
use crate::income::{self, NoIncome};
use crate::market::{self, Grid, NoGrid};
use crate::parameters::{MODEL, MODEL_VERSION, Parameters};
use crate::reconcile::{self, Indication, Opinion, Outcome, Working};
use crate::report::Report;
use crate::{canonical, compose};

/// A valued asset.
#[derive(Debug, Clone)]
pub struct Appraisal {
    pub report: Report,
    /// The report as canonical JSON, the bytes that `report_sha256` is the digest of.
    pub text: String,
    pub report_sha256: Hash32,
    /// The approaches that applied.
    pub approaches: Vec<Approach>,
}

/// Why an asset cannot be valued from its facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    #[error("the fact sheet is a {0:?}; this version values {expected:?}", expected = facts::SCHEMA)]
    Schema(String),
    #[error("the valuation currency {0:?} is not an ISO 4217 code")]
    Currency(String),
    #[error("no approach applies: {}", listed(.0))]
    NoApproach(Vec<MissingFacts>),
    #[error("the facts lead to a value that is not positive")]
    NotPositive,
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl Impossible {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Schema(_) => "unknown-schema",
            Self::Currency(_) => "unknown-currency",
            Self::NoApproach(_) => "no-approach-applies",
            Self::NotPositive => "value-not-positive",
            Self::Overflow(_) => "figures-too-large",
        }
    }
}

/// An approach's name in a sentence.
pub fn word(approach: Approach) -> &'static str {
    match approach {
        Approach::Market => "market",
        Approach::Income => "income",
        Approach::Cost => "cost",
    }
}

fn listed(missing: &[MissingFacts]) -> String {
    let each = missing.iter().map(|m| format!("{}: {}", word(m.approach), m.missing.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}

/// Everything that a report follows from, in the form that is hashed.
#[derive(Serialize)]
struct HashedInputs<'a> {
    model: &'a str,
    model_version: &'a str,
    parameters: &'a Parameters,
    sheet: &'a FactSheet,
}

/// Values the asset of a fact sheet. The same sheet gives the same bytes, whenever and wherever.
pub fn appraise(sheet: &FactSheet) -> Result<Appraisal, Impossible> {
    let parameters = Parameters::default();
    if sheet.schema != facts::SCHEMA {
        return Err(Impossible::Schema(sheet.schema.clone()));
    }
    let currency = &sheet.valuation_currency;
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(Impossible::Currency(currency.clone()));
    }
    let outcomes = outcomes(sheet, &parameters)?;
    let applied: Vec<&Indication> = outcomes.iter().filter_map(Outcome::applied).collect();
    if applied.is_empty() {
        return Err(Impossible::NoApproach(outcomes.into_iter().filter_map(missing).collect()));
    }
    let opinions: Vec<Opinion> = applied.iter().map(|i| i.opinion).collect();
    let conclusion = reconcile::conclude(&opinions, &parameters)?.ok_or(Impossible::NotPositive)?;
    let inputs_sha256 = inputs_sha256(sheet, &parameters);
    let report = compose::report(sheet, inputs_sha256, &parameters, &outcomes, &conclusion)?;
    let text = canonical::json(&report);
    Ok(Appraisal {
        report_sha256: canonical::sha256_of(&text),
        approaches: applied.iter().map(|i| i.approach).collect(),
        report,
        text,
    })
}

fn missing(outcome: Outcome) -> Option<MissingFacts> {
    match outcome {
        Outcome::Applied(_) => None,
        Outcome::NotApplicable(missing) => Some(missing),
    }
}

/// Tries every approach.
fn outcomes(sheet: &FactSheet, parameters: &Parameters) -> Result<Vec<Outcome>, Overflow> {
    let not_applicable = |approach, missing| Outcome::NotApplicable(MissingFacts { approach, missing });
    let market = match market::value(sheet, parameters) {
        Ok(grid) => Outcome::Applied(Indication {
            approach: Approach::Market,
            opinion: market_opinion(&grid, parameters)?,
            working: Working::Market(Box::new(grid)),
        }),
        Err(NoGrid::Missing(missing)) => not_applicable(Approach::Market, missing),
        Err(NoGrid::Overflow(overflow)) => return Err(overflow),
    };
    let income = match income::value(sheet, parameters) {
        Ok(income) => Outcome::Applied(Indication {
            approach: Approach::Income,
            opinion: income.opinion,
            working: Working::Income(Box::new(income)),
        }),
        Err(NoIncome::Missing(missing)) => not_applicable(Approach::Income, missing),
        Err(NoIncome::Overflow(overflow)) => return Err(overflow),
    };
    let cost = format!("version {MODEL_VERSION} of the model does not carry out this approach");
    Ok(vec![market, income, not_applicable(Approach::Cost, vec![cost])])
}

fn market_opinion(grid: &Grid, parameters: &Parameters) -> Result<Opinion, Overflow> {
    let enough = Decimal::from(parameters.comparables_full_weight);
    Ok(Opinion {
        value: grid.value,
        deviation: grid.deviation,
        weight: Decimal::from(grid.lines.len()).over(enough)?.min(Decimal::ONE),
    })
}

/// The digest of everything that the report follows from. Two sheets that differ only in the order of their
/// lists have the same.
fn inputs_sha256(sheet: &FactSheet, parameters: &Parameters) -> Hash32 {
    let mut sheet = sheet.clone();
    sheet.market.comparables = market::sorted(&sheet.market.comparables);
    sheet.income.tenancies = income::sorted(&sheet.income.tenancies);
    sheet.income.operating_expenses = income::sorted(&sheet.income.operating_expenses);
    canonical::sha256(&HashedInputs {
        model: MODEL,
        model_version: MODEL_VERSION,
        parameters,
        sheet: &sheet,
    })
}
