//! The market approach: what comparable assets were sold for, adjusted to this one.
//!
//! For each comparable, in this order (transaction first, property after):
//!
//! ```text
//! p1  = price · (1 + conditions of sale)
//! p2  = p1 · (1 + trend)^months           months: whole ones from the sale to the valuation date
//! x   = p2 + p2·location + Δarea·r + Δbathrooms·r + Δparking·r + Δage·r        Δ: the asset's less the comparable's
//! g   = (|p1 − price| + |p2 − p1| + Σ|property adjustments|) / price
//! w   ∝ 1 / (0.01 + g)
//! v   = Σ w·x         sd = √(Σ w·(x − v)²)
//! ```

use jiff::{ToSpan as _, Unit, civil::Date};
use messages::facts::{Comparable, Fact, FactSheet};
use rust_decimal::Decimal;

use crate::basis::{Basis, Feature};
use crate::canonical;
use crate::decimal::{Checked as _, Overflow, sum};
use crate::parameters::Parameters;

/// What a comparable is adjusted by, in the valuation currency.
#[derive(Debug, Clone, Copy)]
pub struct Adjustments {
    pub conditions: Decimal,
    pub time: Decimal,
    pub location: Decimal,
    pub area: Decimal,
    pub bathrooms: Decimal,
    pub parking: Decimal,
    pub age: Decimal,
}

/// A comparable in the grid.
#[derive(Debug, Clone)]
pub struct Line {
    pub fact: Fact<Comparable>,
    pub months: u32,
    pub adjustments: Adjustments,
    pub adjusted: Decimal,
    /// Everything it was adjusted by, without signs, as a fraction of its price.
    pub gross: Decimal,
    /// Its share; the shares of a grid sum up to 1, but for the last digit.
    pub weight: Decimal,
}

/// A comparable that is not used, and why.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub fact: Fact<Comparable>,
    pub reason: String,
}

/// The approach, carried out.
#[derive(Debug, Clone)]
pub struct Grid {
    pub basis: Basis,
    pub lines: Vec<Line>,
    pub rejected: Vec<Rejected>,
    /// What could not be adjusted for, in words.
    pub not_adjusted: Vec<String>,
    pub value: Decimal,
    /// Weighted standard deviation of the adjusted prices, as a fraction of the value.
    pub deviation: Decimal,
}

/// Why there is no grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoGrid {
    /// Paths into the fact sheet, with what is needed there.
    Missing(Vec<String>),
    Overflow(Overflow),
}

impl From<Overflow> for NoGrid {
    fn from(overflow: Overflow) -> Self {
        Self::Overflow(overflow)
    }
}

/// Values the asset by its comparables. Their order in the sheet does not matter.
pub fn value(sheet: &FactSheet, parameters: &Parameters) -> Result<Grid, NoGrid> {
    let basis = Basis::of(sheet).map_err(NoGrid::Missing)?;
    let mut rejected = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for same_id in sorted(&sheet.market.comparables).chunk_by(|a, b| a.value.id == b.value.id) {
        let contradictory = same_id
            .iter()
            .any(|other| Some(&other.value) != same_id.first().map(|first| &first.value));
        for (n, fact) in same_id.iter().enumerate() {
            let fact = fact.clone();
            let reason = if contradictory {
                "another comparable has the same id and says otherwise".to_owned()
            } else if n > 0 {
                "the same sale is listed twice".to_owned()
            } else if let Some(reason) = unusable(&fact.value, &basis, parameters) {
                reason
            } else {
                match line(fact.clone(), &basis)? {
                    Ok(line) => {
                        lines.push(line);
                        continue;
                    }
                    Err(reason) => reason,
                }
            };
            rejected.push(Rejected { fact, reason });
        }
    }
    let needed = parameters.comparables_min as usize;
    if lines.len() < needed {
        let mut missing = vec![format!(
            "market.comparables: {needed} usable sales are needed, there are {}",
            lines.len()
        )];
        missing.extend(
            rejected
                .iter()
                .map(|r| format!("market.comparables {}: {}", r.fact.value.id, r.reason)),
        );
        return Err(NoGrid::Missing(missing));
    }
    let not_adjusted = not_adjusted(&basis, &lines);
    let (value, deviation) = conclude(&mut lines, parameters)?;
    Ok(Grid {
        basis,
        lines,
        rejected,
        not_adjusted,
        value,
        deviation,
    })
}

/// The value that the same comparables give under other assumptions: prices times `price_factor`, another basis.
pub fn value_under(grid: &Grid, basis: &Basis, price_factor: Decimal, parameters: &Parameters) -> Result<Decimal, Overflow> {
    let mut lines = Vec::with_capacity(grid.lines.len());
    for before in &grid.lines {
        let mut fact = before.fact.clone();
        fact.value.price.amount = fact.value.price.amount.times(price_factor)?;
        let (adjustments, adjusted, gross) = adjust(&fact.value, before.months, basis)?;
        lines.push(Line {
            fact,
            adjustments,
            adjusted,
            gross,
            ..before.clone()
        });
    }
    conclude(&mut lines, parameters).map(|(value, _)| value)
}

/// The value without one of the comparables, whose share the others take over.
pub fn value_without(grid: &Grid, left_out: &Line) -> Result<Decimal, Overflow> {
    let others = grid.value.minus(left_out.weight.times(left_out.adjusted)?)?;
    others.over(Decimal::ONE.minus(left_out.weight)?)
}

/// The comparables in an order that follows from what they say.
pub fn sorted(comparables: &[Fact<Comparable>]) -> Vec<Fact<Comparable>> {
    let mut keyed: Vec<_> = comparables
        .iter()
        .map(|c| (c.value.id.clone(), canonical::json(c), c.clone()))
        .collect();
    keyed.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    keyed.into_iter().map(|(_, _, fact)| fact).collect()
}

/// Why a comparable cannot be used, before any arithmetic.
fn unusable(c: &Comparable, basis: &Basis, parameters: &Parameters) -> Option<String> {
    let earliest = basis.date.checked_sub(i64::from(parameters.comparables_max_months).months()).ok()?;
    let unknown = |feature: &Option<Feature>, known: bool, what: &str| {
        (feature.is_some() && !known).then(|| format!("its {what} is not stated, and there is a rate to adjust by"))
    };
    if c.verified == Some(false) {
        Some("the sale is marked as not verified".to_owned())
    } else if c.price.currency != basis.currency {
        Some(format!("its price is in {}, the valuation in {}", c.price.currency, basis.currency))
    } else if c.price.amount <= Decimal::ZERO {
        Some("its price is not positive".to_owned())
    } else if c.area <= Decimal::ZERO {
        Some("its area is not positive".to_owned())
    } else if c.sale_date > basis.date {
        Some(format!("it was sold on {}, after the valuation date", c.sale_date))
    } else if c.sale_date < earliest {
        let months = parameters.comparables_max_months;
        Some(format!(
            "it was sold on {}, more than {months} months before the valuation date",
            c.sale_date
        ))
    } else {
        unknown(&basis.bathrooms, c.bathrooms.is_some(), "number of bathrooms")
            .or_else(|| unknown(&basis.parking, c.parking_spaces.is_some(), "number of parking spaces"))
            .or_else(|| unknown(&basis.age, c.year_built.is_some(), "year of construction"))
    }
}

/// Puts a comparable into the grid, or says why it cannot be there.
fn line(fact: Fact<Comparable>, basis: &Basis) -> Result<Result<Line, String>, Overflow> {
    let months = months_between(fact.value.sale_date, basis.date);
    let (adjustments, adjusted, gross) = adjust(&fact.value, months, basis)?;
    if adjusted <= Decimal::ZERO || fact.value.price.amount.plus(adjustments.conditions)? <= Decimal::ZERO {
        return Ok(Err("nothing is left of its price after the adjustments".to_owned()));
    }
    Ok(Ok(Line {
        fact,
        months,
        adjustments,
        adjusted,
        gross,
        weight: Decimal::ZERO,
    }))
}

/// Whole months from one date to a later one.
fn months_between(from: Date, to: Date) -> u32 {
    let span = from.until((Unit::Month, to)).map(|span| span.get_months());
    span.ok().and_then(|months| u32::try_from(months).ok()).unwrap_or(0)
}

/// The adjustments, the adjusted price and the gross adjustment of a comparable.
fn adjust(c: &Comparable, months: u32, basis: &Basis) -> Result<(Adjustments, Decimal, Decimal), Overflow> {
    let price = c.price.amount;
    let p1 = price.times(Decimal::ONE.plus(c.conditions_of_sale.unwrap_or_default())?)?;
    let p2 = p1.times(Decimal::ONE.plus(basis.trend)?.to_the(months)?)?;
    let difference = |feature: Option<Feature>, theirs: Option<Decimal>| match (feature, theirs) {
        (Some(feature), Some(theirs)) => feature.asset.minus(theirs)?.times(feature.rate),
        (Some(_) | None, _) => Ok(Decimal::ZERO),
    };
    // An age is the valuation year less the year of construction, so the difference of ages is the years' reversed.
    let built = c.year_built.map(Decimal::from);
    let adjustments = Adjustments {
        conditions: p1.minus(price)?,
        time: p2.minus(p1)?,
        location: p2.times(c.location_adjustment.unwrap_or_default())?,
        area: difference(Some(basis.area), Some(c.area))?,
        bathrooms: difference(basis.bathrooms, c.bathrooms)?,
        parking: difference(basis.parking, c.parking_spaces)?,
        age: difference(basis.age, built)?.times(Decimal::NEGATIVE_ONE)?,
    };
    let Adjustments {
        conditions,
        time,
        location,
        area,
        bathrooms,
        parking,
        age,
    } = adjustments;
    let property = [location, area, bathrooms, parking, age];
    let adjusted = p2.plus(sum(property.map(Ok))?)?;
    let gross = sum([conditions, time].into_iter().chain(property).map(|a| Ok(a.abs())))?.over(price)?;
    Ok((adjustments, adjusted, gross))
}

/// Gives the lines their weights; the value, and its deviation as a fraction of it.
fn conclude(lines: &mut [Line], parameters: &Parameters) -> Result<(Decimal, Decimal), Overflow> {
    for line in lines.iter_mut() {
        line.weight = Decimal::ONE.over(parameters.weight_offset.plus(line.gross)?)?;
    }
    let total = sum(lines.iter().map(|line| Ok(line.weight)))?;
    for line in lines.iter_mut() {
        line.weight = line.weight.over(total)?;
    }
    let value = sum(lines.iter().map(|line| line.weight.times(line.adjusted)))?;
    if value <= Decimal::ZERO {
        return Ok((value, Decimal::ZERO));
    }
    // Relative to the value, so that the squares of large amounts fit.
    let variance = sum(lines.iter().map(|line| {
        let off = line.adjusted.minus(value)?.over(value)?;
        line.weight.times(off.times(off)?)
    }))?;
    Ok((value, variance.root()?))
}

/// Differences for which there is no rate.
fn not_adjusted(basis: &Basis, lines: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |feature: &Option<Feature>, what: &str| {
        if feature.is_none() {
            notes.push(format!("no adjustment for {what}: the fact sheet gives no rate"));
        }
    };
    note(&basis.bathrooms, "bathrooms");
    note(&basis.parking, "parking spaces");
    note(&basis.age, "age");
    let unstated = |stated: fn(&Comparable) -> bool| lines.iter().filter(|line| !stated(&line.fact.value)).count();
    for (count, what) in [
        (unstated(|c| c.location_adjustment.is_some()), "location"),
        (unstated(|c| c.conditions_of_sale.is_some()), "conditions of sale"),
    ] {
        if count > 0 {
            notes.push(format!(
                "comparables that state no adjustment for {what}, and are taken as equal in it: {count}"
            ));
        }
    }
    notes
}
