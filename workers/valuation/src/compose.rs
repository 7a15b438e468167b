//! From figures to the report: the one place where they are rounded and put into words.

mod income;
mod market;

use messages::facts::FactSheet;
use messages::{Hash32, MissingFacts};

use crate::appraise::word;
use crate::decimal::{Checked as _, Overflow, minor_units, shown, sum};
use crate::parameters::{MODEL, MODEL_VERSION, Parameters};
use crate::reconcile::{Conclusion, Opinion, Outcome, Working, disagreements};
use crate::report::{self, ApproachReport, Report, words};

/// Decimals of fractions in the report.
const FRACTION: u32 = 6;

/// Writes the report of a valuation.
pub fn report(
    sheet: &FactSheet,
    inputs_sha256: Hash32,
    parameters: &Parameters,
    outcomes: &[Outcome],
    conclusion: &Conclusion,
) -> Result<Report, Overflow> {
    let places = minor_units(&sheet.valuation_currency);
    let Conclusion {
        value,
        deviation,
        low,
        high,
        relative_deviation,
        score,
    } = conclusion;
    let mut limitations: Vec<String> = words::LIMITATIONS.iter().map(|&text| text.to_owned()).collect();
    let mut sensitivity = report::Sensitivity {
        scenarios: Vec::new(),
        without_comparable: Vec::new(),
    };
    for indication in outcomes.iter().filter_map(Outcome::applied) {
        match &indication.working {
            Working::Market(grid) => {
                limitations.extend(words::MARKET_LIMITATIONS.iter().map(|&text| text.to_owned()));
                limitations.extend(grid.not_adjusted.iter().cloned());
                let of_market = market::sensitivity(grid, parameters, places)?;
                sensitivity.scenarios.extend(of_market.scenarios);
                sensitivity.without_comparable = of_market.without_comparable;
            }
            Working::Income(working) => {
                limitations.extend(income::limitations(&sheet.income, working));
                sensitivity.scenarios.extend(income::sensitivity(working, parameters, places)?);
            }
        }
    }
    let review_reasons = review_reasons(outcomes, parameters)?;
    if !sheet.conflicts.is_empty() {
        limitations.push(format!(
            "the documents disagree on {} facts, see inputs.conflicts",
            sheet.conflicts.len()
        ));
    }
    Ok(Report {
        schema: report::SCHEMA,
        model: report::Model {
            name: MODEL,
            version: MODEL_VERSION,
            parameters_sha256: parameters.sha256(),
            parameters: parameters.clone(),
        },
        inputs_sha256,
        status: words::STATUS,
        purpose: words::PURPOSE,
        basis_of_value: words::BASIS,
        premise: words::PREMISE,
        special_assumptions: Vec::new(),
        tenant: sheet.tenant.clone(),
        asset_id: sheet.asset_id.clone(),
        asset: asset(sheet),
        valuation_date: sheet.valuation_date,
        currency: sheet.valuation_currency.clone(),
        value: shown(*value, places)?,
        range: report::Range {
            coverage: "0.90",
            low: shown(*low, places)?,
            high: shown(*high, places)?,
            standard_deviation: shown(*deviation, places)?,
        },
        confidence: report::Confidence {
            score: shown(*score, 1)?,
            forecast_standard_deviation: shown(*relative_deviation, FRACTION)?,
            method: words::CONFIDENCE,
        },
        approaches: approaches(outcomes, places)?,
        reconciliation: words::RECONCILIATION,
        needs_review: !review_reasons.is_empty(),
        review_reasons,
        inputs: report::Inputs {
            used: inputs_used(sheet, outcomes),
            sources: sheet.sources.clone(),
            conflicts: sheet.conflicts.clone(),
        },
        sensitivity,
        limitations,
        rounding: report::Rounding {
            rule: words::ROUNDING,
            amount_decimals: places,
            fraction_decimals: FRACTION,
            working_digits: 28,
        },
    })
}

fn asset(sheet: &FactSheet) -> report::Asset {
    let identity = &sheet.identity;
    report::Asset {
        asset_type: sheet.asset_type.clone(),
        jurisdiction: sheet.jurisdiction.clone(),
        address: identity.address.clone(),
        parcel_id: identity.parcel_id.clone(),
        title_no: identity.title_no.clone(),
        tenure: identity.tenure.clone(),
    }
}

/// Facts that stand alone, of the approaches that applied.
fn inputs_used(sheet: &FactSheet, outcomes: &[Outcome]) -> Vec<report::InputUsed> {
    let each = outcomes.iter().filter_map(Outcome::applied).flat_map(|i| match &i.working {
        Working::Market(_) => market::inputs(sheet),
        Working::Income(working) => income::inputs(&sheet.income, working),
    });
    each.filter_map(|(path, fact)| fact.map(|fact| report::InputUsed { path, fact }))
        .collect()
}

/// What is too far apart to be averaged without a person.
fn review_reasons(outcomes: &[Outcome], parameters: &Parameters) -> Result<Vec<String>, Overflow> {
    let applied: Vec<_> = outcomes.iter().filter_map(Outcome::applied).collect();
    let names: Vec<String> = applied.iter().map(|i| format!("the {} approach", word(i.approach))).collect();
    let approaches: Vec<(&str, Opinion)> = names.iter().map(String::as_str).zip(applied.iter().map(|i| i.opinion)).collect();
    let mut reasons = disagreements(&approaches, parameters)?;
    for indication in applied {
        match &indication.working {
            Working::Market(_) => {}
            Working::Income(working) => reasons.extend(disagreements(&income::methods(working), parameters)?),
        }
    }
    Ok(reasons)
}

fn approaches(outcomes: &[Outcome], places: u32) -> Result<Vec<ApproachReport>, Overflow> {
    let total = sum(outcomes.iter().filter_map(Outcome::applied).map(|i| Ok(i.opinion.weight)))?;
    let each = outcomes.iter().map(|outcome| match outcome {
        Outcome::NotApplicable(MissingFacts { approach, missing }) => Ok(ApproachReport::NotApplicable {
            approach: *approach,
            missing: missing.clone(),
        }),
        Outcome::Applied(indication) => {
            let Opinion { value, deviation, weight } = indication.opinion;
            let (market, income) = match &indication.working {
                Working::Market(grid) => (Some(Box::new(market::section(grid, places)?)), None),
                Working::Income(working) => (None, Some(Box::new(income::section(working, places)?))),
            };
            Ok(ApproachReport::Applied {
                approach: indication.approach,
                indication: shown(value, places)?,
                standard_deviation: shown(deviation.times(value)?, places)?,
                weight: shown(weight.over(total)?, FRACTION)?,
                market,
                income,
            })
        }
    });
    each.collect()
}
