//! What an approach to value lacks, in words for the asset's owner.

use std::collections::BTreeMap;

use jiff::ToSpan as _;
use jiff::civil::Date;
use messages::MissingFacts;
use messages::facts::{Approach, Comparable, FactSheet};

use crate::assemble::NO_CURRENCY;

/// Sales that the market approach needs.
pub const MIN_COMPARABLES: usize = 3;
/// How old a sale may be on the valuation date, in months.
pub const MAX_MONTHS: i32 = 24;

/// What each approach lacks; empty when one of them has all that it needs.
///
/// The cost approach is not named: the sheet cannot hold its facts, so there would be no use in asking for them.
pub fn missing(sheet: &FactSheet) -> Vec<MissingFacts> {
    let lacks = lacks(sheet);
    if lacks.iter().any(|approach| approach.missing.is_empty()) {
        return Vec::new();
    }
    lacks.to_vec()
}

/// What the market and the income approach lack, each by itself.
fn lacks(sheet: &FactSheet) -> [MissingFacts; 2] {
    let of = |approach, missing| MissingFacts { approach, missing };
    [
        of(Approach::Market, market(sheet)),
        of(Approach::Income, sheet.income_lacks().all()),
    ]
}

fn market(sheet: &FactSheet) -> Vec<String> {
    let rates = &sheet.market.adjustment_rates;
    let mut lacks = Vec::new();
    let mut need = |there: bool, what: &str| {
        if !there {
            lacks.push(what.to_owned());
        }
    };
    need(
        sheet.valuation_currency != NO_CURRENCY,
        "valuation_currency: the currency to value in (ISO 4217), which no document names and the amounts do not share",
    );
    need(
        sheet.physical.gross_internal_area.is_some(),
        "physical.gross_internal_area: the asset's area in square metres",
    );
    need(
        rates.per_area.is_some(),
        "market.adjustment_rates.per_area: what a square metre of difference is worth",
    );
    need(
        sheet.market.trend_per_month.is_some(),
        "market.trend_per_month: how prices move, as a fraction a month",
    );
    for feature in features(sheet) {
        need(
            !feature.rated || feature.known,
            &format!("physical.{}: the asset's own, since there is a rate to adjust by", feature.name),
        );
    }
    lacks.extend(comparables(sheet));
    lacks
}

/// A difference that is adjusted for when there is a rate for it.
struct Feature {
    name: &'static str,
    /// There is a rate.
    rated: bool,
    /// The asset's own figure is known.
    known: bool,
    known_of: fn(&Comparable) -> bool,
}

fn features(sheet: &FactSheet) -> [Feature; 3] {
    let (physical, rates) = (&sheet.physical, &sheet.market.adjustment_rates);
    [
        Feature {
            name: "bathrooms",
            rated: rates.per_bathroom.is_some(),
            known: physical.bathrooms.is_some(),
            known_of: |c| c.bathrooms.is_some(),
        },
        Feature {
            name: "parking_spaces",
            rated: rates.per_parking_space.is_some(),
            known: physical.parking_spaces.is_some(),
            known_of: |c| c.parking_spaces.is_some(),
        },
        Feature {
            name: "year_built",
            rated: rates.per_year_of_age.is_some(),
            known: physical.year_built.is_some(),
            known_of: |c| c.year_built.is_some(),
        },
    ]
}

/// What is wanting in the sales, with how many fall away for which reason.
fn comparables(sheet: &FactSheet) -> Option<String> {
    let to = sheet.valuation_date;
    let from = to.checked_sub(MAX_MONTHS.months()).unwrap_or(Date::MIN);
    let all = sheet.market.comparables.len();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for comparable in &sheet.market.comparables {
        if let Some(reason) = unusable(sheet, &comparable.value, from, to) {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let usable = all - reasons.values().sum::<usize>();
    if usable >= MIN_COMPARABLES {
        return None;
    }
    let reasons: Vec<String> = reasons.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    let left_out = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    };
    Some(format!(
        "market.comparables: at least {MIN_COMPARABLES} sales in {} between {from} and {to}; of {all} comparables {usable} can be used{left_out}",
        sheet.valuation_currency
    ))
}

/// Why a sale cannot be compared with.
fn unusable(sheet: &FactSheet, c: &Comparable, from: Date, to: Date) -> Option<String> {
    if c.verified == Some(false) {
        Some("marked as not verified".to_owned())
    } else if c.price.currency != sheet.valuation_currency {
        Some("in another currency".to_owned())
    } else if c.sale_date < from {
        Some("sold too long before".to_owned())
    } else if c.sale_date > to {
        Some("sold after the valuation date".to_owned())
    } else {
        let lacking = features(sheet).into_iter().find(|f| f.rated && !(f.known_of)(c));
        lacking.map(|f| format!("without {}, for which there is a rate", f.name))
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
