//! The market approach in the report.

use messages::facts::{Approach, Fact, FactSheet};
use rust_decimal::Decimal;

use super::FRACTION;
use crate::basis::{Basis, Feature};
use crate::decimal::{Checked as _, Overflow, shown};
use crate::market::{self, Grid};
use crate::parameters::Parameters;
use crate::report::{self, words};

pub fn section(grid: &Grid, places: u32) -> Result<report::MarketReport, Overflow> {
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

pub fn sensitivity(grid: &Grid, parameters: &Parameters, places: u32) -> Result<report::Sensitivity, Overflow> {
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
            scenarios.push(report::Scenario {
                approach: Approach::Market,
                change,
                value,
            });
        }
    }
    let without = grid.lines.iter().map(|line| {
        let value = shown(market::value_without(grid, line)?, places)?;
        Ok(report::Scenario {
            approach: Approach::Market,
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

/// Facts that stand alone and that the figures were calculated from.
pub fn inputs(sheet: &FactSheet) -> Vec<(&'static str, Option<Fact<Decimal>>)> {
    let (physical, market) = (&sheet.physical, &sheet.market);
    let rates = &market.adjustment_rates;
    let built = physical.year_built.as_ref().map(|fact| Fact {
        value: Decimal::from(fact.value),
        provenance: fact.provenance.clone(),
    });
    // A figure of the asset's is used only where there is a rate to adjust by.
    let with = |rate: &Option<Fact<Decimal>>, figure: &Option<Fact<Decimal>>| figure.clone().filter(|_| rate.is_some());
    vec![
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
}
