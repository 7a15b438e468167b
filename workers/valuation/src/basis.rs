//! What comparables are adjusted from: the asset's own figures, the trend, and the rates.

use jiff::civil::Date;
use messages::facts::{Fact, FactSheet};
use rust_decimal::Decimal;

/// A difference that is adjusted for: the asset's figure, and what one unit of difference is worth.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    pub asset: Decimal,
    pub rate: Decimal,
}

/// What the adjustments are made from.
#[derive(Debug, Clone)]
pub struct Basis {
    pub date: Date,
    pub currency: String,
    pub trend: Decimal,
    pub area: Feature,
    pub bathrooms: Option<Feature>,
    pub parking: Option<Feature>,
    /// `asset` is the year it was built in, `rate` what a year of age is worth.
    pub age: Option<Feature>,
}

impl Basis {
    /// Reads the basis of a sheet, or says by path what is missing.
    pub fn of(sheet: &FactSheet) -> Result<Self, Vec<String>> {
        let (physical, market) = (&sheet.physical, &sheet.market);
        let rates = &market.adjustment_rates;
        let mut missing = Vec::new();
        let positive_area = physical.gross_internal_area.as_ref().filter(|area| area.value > Decimal::ZERO);
        if positive_area.is_none() {
            missing.push("physical.gross_internal_area: square metres, more than 0".to_owned());
        }
        if rates.per_area.is_none() {
            missing.push("market.adjustment_rates.per_area: what a square metre of difference is worth".to_owned());
        }
        match &market.trend_per_month {
            None => missing.push("market.trend_per_month: how prices move, as a fraction a month".to_owned()),
            Some(trend) if trend.value <= Decimal::NEGATIVE_ONE => {
                missing.push("market.trend_per_month: more than -1".to_owned());
            }
            Some(_) => {}
        }
        // Whoever gives a rate wants the difference adjusted for; then the asset's own figure must be known.
        let mut feature = |path: &str, asset: Option<Decimal>, rate: &Option<Fact<Decimal>>| match (asset, rate) {
            (Some(asset), Some(rate)) => Some(Feature { asset, rate: rate.value }),
            (None, Some(_)) => {
                missing.push(format!("physical.{path}: there is a rate to adjust by"));
                None
            }
            (_, None) => None,
        };
        let bathrooms = feature("bathrooms", physical.bathrooms.as_ref().map(|f| f.value), &rates.per_bathroom);
        let parking = feature(
            "parking_spaces",
            physical.parking_spaces.as_ref().map(|f| f.value),
            &rates.per_parking_space,
        );
        let built = physical.year_built.as_ref().map(|f| Decimal::from(f.value));
        let age = feature("year_built", built, &rates.per_year_of_age);
        match (positive_area, &rates.per_area, &market.trend_per_month) {
            (Some(area), Some(rate), Some(trend)) if missing.is_empty() => Ok(Basis {
                date: sheet.valuation_date,
                currency: sheet.valuation_currency.clone(),
                trend: trend.value,
                area: Feature {
                    asset: area.value,
                    rate: rate.value,
                },
                bathrooms,
                parking,
                age,
            }),
            _ => Err(missing),
        }
    }
}
