//! A fact sheet to value: three rooms near Madrid, five sales, and the rates to adjust by.
#![allow(dead_code)]

use jiff::civil::{Date, date};
use messages::facts::{
    AdjustmentRates, Comparable, Fact, FactSheet, Frequency, Identity, Income, Locator, Market, Money, OperatingExpense, Physical,
    Provenance, Source, Tenancy, TerminalNoiBasis,
};
use messages::{Hash32, Tenant};
use rust_decimal::Decimal;
use uuid::Uuid;

pub fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub fn fact<T>(value: T) -> Fact<T> {
    let locator = Locator::JsonPointer {
        pointer: "/facts".to_owned(),
    };
    Fact {
        value,
        provenance: Provenance {
            document_id: Uuid::from_u128(7),
            document_sha256: Hash32([7; 32]),
            locator,
            extractor: "json/1".to_owned(),
        },
    }
}

fn eur(amount: Decimal) -> Money {
    Money {
        amount,
        currency: "EUR".to_owned(),
    }
}

/// One row: id, price, sale date, area, bathrooms, year, parking, location, conditions.
pub type Row = (&'static str, i64, Date, i64, i64, i16, i64, &'static str, &'static str);

/// The first worked vector; the sales are 3, 7, 1, 14 and 5 whole months before 15 June 2026.
pub const V01: [Row; 5] = [
    ("C1", 402_000, date(2026, 3, 15), 112, 2, 2016, 1, "0", "0"),
    ("C2", 455_000, date(2025, 11, 15), 131, 2, 2018, 2, "-0.03", "0"),
    ("C3", 371_500, date(2026, 5, 15), 105, 1, 2011, 1, "0.02", "0"),
    ("C4", 430_000, date(2025, 4, 15), 124, 2, 2006, 0, "0", "-0.02"),
    ("C5", 398_000, date(2026, 1, 15), 118, 2, 2014, 1, "0", "0"),
];

pub fn comparable((id, price, sale_date, area, bathrooms, built, parking, location, conditions): Row) -> Comparable {
    Comparable {
        id: id.to_owned(),
        price: eur(price.into()),
        sale_date,
        area: area.into(),
        bathrooms: Some(bathrooms.into()),
        parking_spaces: Some(parking.into()),
        year_built: Some(built),
        location_adjustment: Some(d(location)),
        conditions_of_sale: Some(d(conditions)),
        verified: Some(true),
        source: Some("land register".to_owned()),
    }
}

/// SHA-256 of the report of [`sheet`].
pub const V01_REPORT: &str = "b51be9ed953e6a0eb93e173838cd6f52a5d922a2fefef0c3e478065c72eb3b7d";

/// The sheet of the first worked vector: 120 m², 2 bathrooms, 1 parking space, built in 2014.
pub fn sheet() -> FactSheet {
    sheet_of("demo".parse().unwrap(), "madrid-12")
}

pub fn sheet_of(tenant: Tenant, asset_id: &str) -> FactSheet {
    FactSheet {
        schema: messages::facts::SCHEMA.to_owned(),
        tenant,
        asset_id: asset_id.parse().unwrap(),
        asset_type: None,
        jurisdiction: Some(fact("ES".to_owned())),
        valuation_currency: "EUR".to_owned(),
        valuation_date: date(2026, 6, 15),
        identity: Identity {
            address: Some(fact("Calle de la Encina 12, 3.º B, Alcalá de Henares".to_owned())),
            owner: Some(fact("Inmuebles del Henares, S. L.".to_owned())),
            ..Identity::default()
        },
        physical: Physical {
            gross_internal_area: Some(fact(d("120"))),
            year_built: Some(fact(2014)),
            bathrooms: Some(fact(d("2"))),
            parking_spaces: Some(fact(d("1"))),
            ..Physical::default()
        },
        market: Market {
            comparables: V01.map(comparable).map(fact).to_vec(),
            trend_per_month: Some(fact(d("0.004"))),
            adjustment_rates: AdjustmentRates {
                per_area: Some(fact(d("2100"))),
                per_bathroom: Some(fact(d("9000"))),
                per_parking_space: Some(fact(d("12000"))),
                per_year_of_age: Some(fact(d("-1500"))),
            },
        },
        sources: vec![Source {
            document_id: Uuid::from_u128(7),
            sha256: Hash32([7; 32]),
            detected_type: "application/json".to_owned(),
        }],
        income: Income::default(),
        conflicts: Vec::new(),
    }
}

/// A sheet with income and no market: the figures of the second worked vector, and those of a cash flow if asked for.
pub fn income_sheet() -> FactSheet {
    let mut s = sheet();
    s.market = Market::default();
    s.income = Income {
        potential_gross_income: Some(fact(d("96000"))),
        vacancy_rate: Some(fact(d("0.06"))),
        other_income: Some(fact(d("2400"))),
        operating_expenses: vec![expense("IBI", "4250"), expense("insurance", "2500"), expense("repairs", "7500")],
        management_pct: Some(fact(d("0.04"))),
        reserves: Some(fact(d("1800"))),
        cap_rate: Some(fact(d("0.0675"))),
        ..Income::default()
    };
    s
}

pub fn expense(kind: &str, amount: &str) -> Fact<OperatingExpense> {
    fact(OperatingExpense {
        kind: kind.to_owned(),
        amount: eur(d(amount)),
        frequency: Frequency::Annual,
    })
}

pub fn tenancy(unit: &str, rent: &str, frequency: Frequency) -> Fact<Tenancy> {
    fact(Tenancy {
        unit: unit.to_owned(),
        tenant: Some("Inquilina Ejemplar".to_owned()),
        area: None,
        passing_rent: eur(d(rent)),
        frequency,
        start: None,
        end: None,
    })
}

/// The third worked vector's yields.
pub fn with_cash_flow(s: &mut FactSheet) {
    s.income.discount_rate = Some(fact(d("0.085")));
    s.income.growth = Some(fact(d("0.025")));
    s.income.exit_cap_rate = Some(fact(d("0.07")));
    s.income.hold_years = Some(fact(10));
    s.income.selling_cost_pct = Some(fact(d("0.015")));
    s.income.terminal_noi_basis = Some(fact(TerminalNoiBasis::Forward));
}
