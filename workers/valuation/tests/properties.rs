//! What must hold for any figures.
#![allow(clippy::unwrap_used)]

mod common;

use common::{d, fact, sheet};
use jiff::ToSpan as _;
use messages::facts::{Comparable, FactSheet};
use proptest::prelude::*;
use rust_decimal::Decimal;
use valuation::appraise::appraise;

prop_compose! {
    fn a_sale()(price in 50_000i64..5_000_000, months in 0i64..24, area in 20i64..500, bathrooms in 0i64..5,
                built in 1900i16..2026, parking in 0i64..4, location in -20i64..20, conditions in -10i64..10) -> Comparable {
        let mut c = common::comparable(("", price, sheet().valuation_date, area, bathrooms, built, parking, "0", "0"));
        c.sale_date = sheet().valuation_date.checked_sub(months.months()).unwrap();
        c.location_adjustment = Some(Decimal::new(location, 2));
        c.conditions_of_sale = Some(Decimal::new(conditions, 2));
        c
    }
}

prop_compose! {
    fn a_sheet()(sales in prop::collection::vec(a_sale(), 3..12), trend in -10i64..10) -> FactSheet {
        let mut s = sheet();
        s.market.comparables = sales.into_iter().enumerate().map(|(n, mut c)| { c.id = format!("S{n:02}"); fact(c) }).collect();
        s.market.trend_per_month = Some(fact(Decimal::new(trend, 3)));
        s
    }
}

fn figure(text: &str) -> Decimal {
    d(text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_comparables_does_not_change_a_byte(s in a_sheet(), seed in any::<u64>()) {
        let mut shuffled = s.clone();
        let n = shuffled.market.comparables.len();
        for i in (1..n).rev() {
            shuffled.market.comparables.swap(i, (seed.rotate_left(i as u32) as usize) % (i + 1));
        }
        let (a, b) = (appraise(&s).map(|a| a.text), appraise(&shuffled).map(|a| a.text));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn money_in_other_units_gives_the_same_value_in_those_units(s in a_sheet(), factor in 2i64..1000) {
        let factor = Decimal::from(factor);
        let mut scaled = s.clone();
        for c in &mut scaled.market.comparables {
            c.value.price.amount *= factor;
        }
        let rates = &mut scaled.market.adjustment_rates;
        for rate in [&mut rates.per_area, &mut rates.per_bathroom, &mut rates.per_parking_space, &mut rates.per_year_of_age].into_iter().flatten() {
            rate.value *= factor;
        }
        match (appraise(&s), appraise(&scaled)) {
            (Ok(one), Ok(many)) => {
                let off = figure(&one.report.value) * factor - figure(&many.report.value);
                // Each is rounded to the cent by itself.
                prop_assert!(off.abs() <= d("0.005") * (factor + Decimal::ONE), "off by {}", off);
                prop_assert_eq!(one.report.confidence.score, many.report.confidence.score);
            }
            (a, b) => prop_assert_eq!(a.is_err(), b.is_err()),
        }
    }

    #[test]
    fn the_value_lies_among_the_adjusted_prices_and_inside_its_range(s in a_sheet()) {
        let Ok(appraisal) = appraise(&s) else { return Ok(()) };
        let json: serde_json::Value = serde_json::from_str(&appraisal.text).unwrap();
        let lines = json["approaches"][0]["market"]["comparables"].as_array().unwrap();
        let adjusted: Vec<Decimal> = lines.iter().map(|l| figure(l["adjusted_price"].as_str().unwrap())).collect();
        let value = figure(&appraisal.report.value);
        let cent = d("0.01");
        prop_assert!(value >= *adjusted.iter().min().unwrap() - cent && value <= *adjusted.iter().max().unwrap() + cent);
        prop_assert!(figure(&appraisal.report.range.low) <= value && value <= figure(&appraisal.report.range.high));
        let weights: Decimal = lines.iter().map(|l| figure(l["weight"].as_str().unwrap())).sum();
        prop_assert!((weights - Decimal::ONE).abs() < d("0.0001"), "{}", weights);
    }

    #[test]
    fn no_figures_make_it_panic(price in any::<i64>(), scale in 0u32..28, rate in any::<i64>(), area in any::<i64>(), trend in any::<i32>()) {
        let mut s = sheet();
        s.market.comparables[0].value.price.amount = Decimal::new(price, scale);
        s.market.comparables[1].value.area = Decimal::new(area, scale);
        s.market.adjustment_rates.per_area = Some(fact(Decimal::new(rate, 28 - scale)));
        s.market.trend_per_month = Some(fact(Decimal::new(trend.into(), 3)));
        if let Ok(appraisal) = appraise(&s) {
            prop_assert!(figure(&appraisal.report.value) >= Decimal::ZERO);
        }
    }
}
