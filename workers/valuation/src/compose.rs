//! From figures to the report: the one place where they are rounded and put into words.

use messages::facts::{Fact, FactSheet};
use messages::{Hash32, MissingFacts};
use rust_decimal::Decimal;

use crate::basis::{Basis, Feature};
use crate::decimal::{Checked as _, Overflow, minor_units, shown, sum};
use crate::market::{self, Grid};
use crate::parameters::{MODEL, MODEL_VERSION, Parameters};
use crate::reconcile::{Conclusion, Outcome, Working};
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
    let grids = outcomes.iter().filter_map(Outcome::applied).map(|i| match &i.working {
        Working::Market(grid) => grid.as_ref(),
    });
    let mut limitations: Vec<String> = words::LIMITATIONS.iter().map(|&text| text.to_owned()).collect();
    let mut sensitivity = report::Sensitivity {
        scenarios: Vec::new(),
        without_comparable: Vec::new(),
    };
    for grid in grids {
        limitations.extend(grid.not_adjusted.iter().cloned());
        sensitivity = sensitivity_of(grid, parameters, places)?;
    }
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
        inputs: report::Inputs {
            used: inputs_used(sheet),
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

fn inputs_used(sheet: &FactSheet) -> Vec<report::InputUsed> {
    let (physical, market) = (&sheet.physical, &sheet.market);
    let rates = &market.adjustment_rates;
    let built = physical.year_built.as_ref().map(|fact| Fact {
        value: Decimal::from(fact.value),
        provenance: fact.provenance.clone(),
    });
    // A figure of the asset's is used only where there is a rate to adjust by.
    let with = |rate: &Option<Fact<Decimal>>, figure: &Option<Fact<Decimal>>| figure.clone().filter(|_| rate.is_some());
    [
        ("physical.gross_internal_area", physical.gross_internal_area.clone()),
        ("physical.bathrooms", with(&rates.per_bathroom, &physical.bathrooms)),
        ("physical.parking_spaces", with(&rates.per_parking_space, &physical.parking_spaces)),
        ("physical.year_built", with(&rates.per_year_of_age, &built)),
        ("market.trend_per_month", market.trend_per_month.clone()),
        ("market.adjustment_rates.per_area", rates.per_area.clone()),
        ("market.adjustment_rates.per_bathroom", rates.per_bathroom.clone()),
        ("market.adjustment_rates.per_parking_space", rates.per_parking_space.clone()),
        ("market.adjustment_rates.per_year_of_age", rates.per_year_of_age.clone()),
    ]
    .into_iter()
    .filter_map(|(path, fact)| fact.map(|fact| report::InputUsed { path, fact }))
    .collect()
}

fn approaches(outcomes: &[Outcome], places: u32) -> Result<Vec<ApproachReport>, Overflow> {
    let total = sum(outcomes.iter().filter_map(Outcome::applied).map(|i| Ok(i.weight)))?;
    let each = outcomes.iter().map(|outcome| match outcome {
        Outcome::NotApplicable(MissingFacts { approach, missing }) => Ok(ApproachReport::NotApplicable {
            approach: *approach,
            missing: missing.clone(),
        }),
        Outcome::Applied(indication) => {
            let Working::Market(grid) = &indication.working;
            Ok(ApproachReport::Applied {
                approach: indication.approach,
                indication: shown(indication.value, places)?,
                standard_deviation: shown(indication.deviation.times(indication.value)?, places)?,
                weight: shown(indication.weight.over(total)?, FRACTION)?,
                market: Box::new(market_report(grid, places)?),
            })
        }
    });
    each.collect()
}

fn market_report(grid: &Grid, places: u32) -> Result<report::MarketReport, Overflow> {
    let line = |line: &market::Line| {
        let a = &line.adjustments;
        Ok(report::Line {
            id: line.fact.value.id.clone(),
            price: shown(line.fact.value.price.amount, places)?,
            months: line.months,
            adjustments: report::Adjustments {
                conditions_of_sale: shown(a.conditions, places)?,
                time: shown(a.time, places)?,
                location: shown(a.location, places)?,
                area: shown(a.area, places)?,
                bathrooms: shown(a.bathrooms, places)?,
                parking_spaces: shown(a.parking, places)?,
                age: shown(a.age, places)?,
            },
            adjusted_price: shown(line.adjusted, places)?,
            gross_adjustment: shown(line.gross, FRACTION)?,
            weight: shown(line.weight, FRACTION)?,
            sale: line.fact.value.clone(),
            provenance: line.fact.provenance.clone(),
        })
    };
    let rejected = |rejected: &market::Rejected| report::Rejected {
        id: rejected.fact.value.id.clone(),
        reason: rejected.reason.clone(),
        provenance: rejected.fact.provenance.clone(),
    };
    Ok(report::MarketReport {
        method: words::METHOD,
        comparables: grid.lines.iter().map(line).collect::<Result<_, Overflow>>()?,
        rejected: grid.rejected.iter().map(rejected).collect(),
    })
}

fn sensitivity_of(grid: &Grid, parameters: &Parameters, places: u32) -> Result<report::Sensitivity, Overflow> {
    let mut scenarios = Vec::new();
    for sign in [Decimal::NEGATIVE_ONE, Decimal::ONE] {
        let moved = |by: Decimal| by.times(sign);
        let signed = |by: Decimal, unit: &str| {
            let mark = if sign.is_sign_negative() { '-' } else { '+' };
            format!("{mark}{} {unit}", by.normalize())
        };
        let percent = |by: Decimal| by.times(Decimal::ONE_HUNDRED);
        let (prices, trend, rates) = (
            parameters.sensitivity_prices,
            parameters.sensitivity_trend,
            parameters.sensitivity_rates,
        );
        let other_trend = Basis {
            trend: grid.basis.trend.plus(moved(trend)?)?,
            ..grid.basis.clone()
        };
        let other_rates = with_rates(&grid.basis, Decimal::ONE.plus(moved(rates)?)?)?;
        let price_factor = Decimal::ONE.plus(moved(prices)?)?;
        for (change, basis, factor) in [
            (
                format!("comparables' prices {}", signed(percent(prices)?, "%")),
                &grid.basis,
                price_factor,
            ),
            (
                format!("trend {}", signed(percent(trend)?, "percentage points a month")),
                &other_trend,
                Decimal::ONE,
            ),
            (
                format!("adjustment rates {}", signed(percent(rates)?, "%")),
                &other_rates,
                Decimal::ONE,
            ),
        ] {
            let value = shown(market::value_under(grid, basis, factor, parameters)?, places)?;
            scenarios.push(report::Scenario { change, value });
        }
    }
    let without = grid.lines.iter().map(|line| {
        let value = shown(market::value_without(grid, line)?, places)?;
        Ok(report::Scenario {
            change: format!("without {}", line.fact.value.id),
            value,
        })
    });
    Ok(report::Sensitivity {
        scenarios,
        without_comparable: without.collect::<Result<_, Overflow>>()?,
    })
}

/// The same basis with every adjustment rate times `factor`.
fn with_rates(basis: &Basis, factor: Decimal) -> Result<Basis, Overflow> {
    let times = |feature: Feature| {
        Ok::<_, Overflow>(Feature {
            rate: feature.rate.times(factor)?,
            ..feature
        })
    };
    Ok(Basis {
        area: times(basis.area)?,
        bathrooms: basis.bathrooms.map(times).transpose()?,
        parking: basis.parking.map(times).transpose()?,
        age: basis.age.map(times).transpose()?,
        ..basis.clone()
    })
}
