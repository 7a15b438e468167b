//! A fact sheet in, a report out: no clock, no chance, no I/O.

use messages::facts::{self, Approach, FactSheet};
use messages::{Hash32, MissingFacts};
use serde::Serialize;

use crate::decimal::Overflow;
use crate::market::{self, NoGrid};
use crate::parameters::{MODEL, MODEL_VERSION, Parameters};
use crate::reconcile::{self, Indication, Outcome, Working};
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
    let conclusion = reconcile::conclude(&applied, &parameters)?.ok_or(Impossible::NotPositive)?;
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
    let market = match market::value(sheet, parameters) {
        Ok(grid) => Outcome::Applied(Indication {
            approach: Approach::Market,
            value: grid.value,
            deviation: grid.deviation,
            weight: parameters.market_weight,
            working: Working::Market(Box::new(grid)),
        }),
        Err(NoGrid::Missing(missing)) => Outcome::NotApplicable(MissingFacts {
            approach: Approach::Market,
            missing,
        }),
        Err(NoGrid::Overflow(overflow)) => return Err(overflow),
    };
    let not_in_model = |approach| {
        Outcome::NotApplicable(MissingFacts {
            approach,
            missing: vec![format!("version {MODEL_VERSION} of the model does not carry out this approach")],
        })
    };
    Ok(vec![market, not_in_model(Approach::Income), not_in_model(Approach::Cost)])
}

/// The digest of everything that the report follows from. Two sheets that differ only in the order of their
/// comparables have the same.
fn inputs_sha256(sheet: &FactSheet, parameters: &Parameters) -> Hash32 {
    let mut sheet = sheet.clone();
    sheet.market.comparables = market::sorted(&sheet.market.comparables);
    canonical::sha256(&HashedInputs {
        model: MODEL,
        model_version: MODEL_VERSION,
        parameters,
        sheet: &sheet,
    })
}
