//! The income approach against figures that were calculated apart from it, and what keeps it from applying.
#![allow(clippy::unwrap_used)]

mod common;

use common::{d, expense, fact, income_sheet, sheet, tenancy, with_cash_flow};
use jiff::civil::date;
use messages::facts::{FactSheet, Frequency, TerminalNoiBasis};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use valuation::appraise::appraise;

fn report(sheet: &FactSheet) -> Value {
    serde_json::from_str(&appraise(sheet).unwrap().text).unwrap()
}

/// The third vector's net operating income of 80,000, without anything else.
fn cash_flow_sheet() -> FactSheet {
    let mut s = income_sheet();
    s.income.potential_gross_income = Some(fact(d("90000")));
    s.income.vacancy_rate = Some(fact(d("0")));
    (s.income.other_income, s.income.management_pct, s.income.reserves, s.income.cap_rate) = (None, None, None, None);
    s.income.operating_expenses = vec![expense("all", "10000")];
    with_cash_flow(&mut s);
    s
}

#[test]
fn direct_capitalisation_comes_out_to_the_cent() {
    let r = report(&income_sheet());
    assert_eq!(r["value"], "1079768.89");
    let income = &r["approaches"][1];
    assert_eq!((&income["outcome"], &income["approach"]), (&json!("applied"), &json!("income")));
    assert_eq!(
        (&income["indication"], &income["weight"]),
        (&json!("1079768.89"), &json!("1.000000"))
    );
    let s = &income["income"]["statement"];
    assert_eq!(
        [
            &s["effective_gross_income"],
            &s["management"],
            &s["net_operating_income"],
            &s["operating_expenses"],
            &s["vacancy"]
        ],
        ["92640.00", "3705.60", "72884.40", "14250.00", "5760.00"]
    );
    let methods = income["income"]["methods"].as_array().unwrap();
    assert_eq!(
        (&methods[0]["method"], &methods[0]["outcome"], &methods[0]["working"]["cap_rate"]),
        (&json!("direct_capitalisation"), &json!("applied"), &json!("0.067500"))
    );
    assert_eq!(
        (&methods[1]["method"], &methods[1]["outcome"]),
        (&json!("discounted_cash_flow"), &json!("not_applicable"))
    );
    let missing = methods[1]["missing"].to_string();
    for path in ["discount_rate", "growth", "exit_cap_rate", "hold_years", "terminal_noi_basis"] {
        assert!(missing.contains(&format!("income.{path}")), "{missing}");
    }
    // 72,884.40 / 0.065 and / 0.07
    let values: Vec<_> = r["sensitivity"]["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["value"].clone())
        .collect();
    assert_eq!(values, ["1121298.46", "1041205.71"]);
    assert_eq!(
        r["sensitivity"]["scenarios"][0]["change"],
        "direct capitalisation, cap rate -0.25 percentage points"
    );
    assert_eq!(r["needs_review"], false);
}

#[test]
fn a_discounted_cash_flow_comes_out_to_the_cent() {
    let r = report(&cash_flow_sheet());
    assert_eq!(r["value"], "1215787.17");
    let method = &r["approaches"][1]["income"]["methods"][1];
    let w = &method["working"];
    assert_eq!(
        [
            &w["terminal_net_operating_income"],
            &w["net_proceeds"],
            &w["present_value_of_income"],
            &w["present_value_of_proceeds"],
            &w["proceeds_share"]
        ],
        ["102406.76", "1441009.46", "578449.70", "637337.47", "0.524218"]
    );
    let years = w["years"].as_array().unwrap();
    assert_eq!(years.len(), 10);
    assert_eq!(
        years[0],
        json!({"year": 1, "net_operating_income": "80000.00", "present_value": "73732.72"})
    );
    let mut trailing = cash_flow_sheet();
    trailing.income.terminal_noi_basis = Some(fact(TerminalNoiBasis::Trailing));
    let w = report(&trailing)["approaches"][1]["income"]["methods"][1]["working"].clone();
    // The tenth year's income: 80,000 · 1.025^9
    assert_eq!(w["terminal_net_operating_income"], "99909.04");
    // Income half a year earlier is worth (1.085)^0.5 times as much; the sale stays where it is.
    let mid_year = r["sensitivity"]["scenarios"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(mid_year["change"], "discounted cash flow, income in the middle of each year");
    let expected = d("578449.70") * d("1.0416333") + d("637337.47");
    assert!((d(mid_year["value"].as_str().unwrap()) - expected).abs() < d("1"), "{mid_year}");
}

#[test]
fn both_methods_weigh_the_same_and_a_wide_gap_needs_a_person() {
    let mut s = cash_flow_sheet();
    s.income.cap_rate = Some(fact(d("0.065")));
    let r = report(&s);
    // The mean of 80,000 / 0.065 = 1,230,769.23 and 1,215,787.17
    assert_eq!(r["value"], "1223278.20");
    assert_eq!((&r["needs_review"], &r["review_reasons"]), (&json!(false), &json!([])));
    s.income.cap_rate = Some(fact(d("0.05")));
    let r = report(&s);
    assert_eq!(r["needs_review"], true);
    assert_eq!(
        r["review_reasons"],
        json!(["direct capitalisation and discounted cash flow lie more than 25 % apart"])
    );
}

#[test]
fn market_and_income_are_weighed_by_the_data_they_rest_on() {
    let mut s = sheet();
    s.income = income_sheet().income;
    s.income.cap_rate = Some(fact(d("0.17")));
    let r = report(&s);
    // Five comparables of eight: 0.625. A stated income and one method: 0.5. 72,884.40 / 0.17 = 428,731.76.
    assert_eq!(
        (&r["approaches"][0]["weight"], &r["approaches"][1]["weight"]),
        (&json!("0.555556"), &json!("0.444444"))
    );
    assert_eq!(r["value"], "424011.70");
    assert_eq!(r["needs_review"], false);
    s.income.cap_rate = Some(fact(d("0.0675")));
    let r = report(&s);
    assert_eq!(r["needs_review"], true);
    assert_eq!(
        r["review_reasons"],
        json!(["the market approach and the income approach lie more than 25 % apart"])
    );
    assert!(r["reconciliation"].as_str().unwrap().contains("comparables / 8"));
}

#[test]
fn a_rent_roll_gives_the_gross_income_and_names_no_tenant() {
    let mut s = income_sheet();
    s.income.potential_gross_income = None;
    let mut gone = tenancy("1 A", "650", Frequency::Monthly);
    gone.value.end = Some(date(2026, 6, 14));
    let mut last_day = tenancy("1 A", "900", Frequency::Monthly);
    (last_day.value.start, last_day.value.end) = (Some(date(2026, 6, 15)), Some(date(2026, 6, 15)));
    let mut later = tenancy("2 B", "1", Frequency::Monthly);
    later.value.start = Some(date(2026, 6, 16));
    let (shop, office) = (
        tenancy("Local 1", "12000", Frequency::Quarterly),
        tenancy("3 C", "37200", Frequency::Annual),
    );
    s.income.tenancies = vec![gone, last_day, later, shop.clone(), office, shop];
    let r = report(&s);
    assert_eq!(r["value"], "1079768.89");
    let statement = &r["approaches"][1]["income"]["statement"];
    let units = |list: &str| {
        let rows = statement[list].as_array().unwrap().iter();
        rows.map(|t| t["unit"].as_str().unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(units("tenancies").into_iter().collect::<Vec<_>>(), ["1 A", "3 C", "Local 1"]);
    assert_eq!(units("rejected").into_iter().collect::<Vec<_>>(), ["1 A", "2 B", "Local 1"]);
    assert!(!r.to_string().contains("Inquilina"));
    let limitations = r["limitations"].to_string();
    assert!(limitations.contains("space that is not let"), "{limitations}");

    let mut other = tenancy("3 C", "1", Frequency::Annual);
    other.value.tenant = None;
    s.income.tenancies.push(other);
    let error = appraise(&s).unwrap_err();
    assert_eq!(error.code(), "no-approach-applies");
    assert!(error.to_string().contains("3 C is let twice on 2026-06-15"), "{error}");
}

#[test]
fn figures_that_lead_nowhere_are_refused_by_name() {
    type Change = fn(&mut FactSheet);
    let table: [(&str, &str, Change); 8] = [
        ("no-approach-applies", "income.cap_rate: more than 0", |s| {
            s.income.cap_rate = Some(fact(d("0")))
        }),
        ("no-approach-applies", "income.cap_rate: more than 0", |s| {
            s.income.cap_rate = Some(fact(d("-0.05")))
        }),
        ("no-approach-applies", "income.vacancy_rate: 0 or more", |s| {
            s.income.vacancy_rate = Some(fact(d("1")))
        }),
        ("no-approach-applies", "no net operating income", |s| {
            s.income.operating_expenses.push(expense("roof", "99999"))
        }),
        ("no-approach-applies", "IBI is in USD, the valuation in EUR", |s| {
            s.income.operating_expenses[0].value.amount.currency = "USD".to_owned();
        }),
        ("no-approach-applies", "IBI is negative", |s| {
            s.income.operating_expenses[0].value.amount.amount = d("-1")
        }),
        ("figures-too-large", "too large", |s| {
            s.income.operating_expenses.push(fact({
                let mut huge = expense("huge", "79228162514264337593543950335").value;
                huge.frequency = Frequency::Monthly;
                huge
            }))
        }),
        ("figures-too-large", "too large", |s| {
            with_cash_flow(s);
            s.income.potential_gross_income = Some(fact(d("999999999999999")));
            s.income.growth = Some(fact(d("0.99")));
            s.income.hold_years = Some(fact(100));
        }),
    ];
    for (code, part, change) in table {
        let mut s = income_sheet();
        change(&mut s);
        let error = appraise(&s).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn a_tiny_cap_rate_has_no_lower_neighbour_and_still_a_value() {
    let mut s = income_sheet();
    s.income.cap_rate = Some(fact(d("0.002")));
    let r = report(&s);
    assert_eq!(r["value"], "36442200.00");
    assert_eq!(r["sensitivity"]["scenarios"].as_array().unwrap().len(), 1);
}

prop_compose! {
    fn an_income()(rents in prop::collection::vec(100i64..5000, 1..8), expenses in prop::collection::vec(0i64..300, 1..6),
                   vacancy in 0i64..20, cap in 1i64..20, discount in 1i64..20, growth in -5i64..8, exit in 1i64..20,
                   years in 1u8..40, forward in any::<bool>()) -> FactSheet {
        let mut s = income_sheet();
        with_cash_flow(&mut s);
        let i = &mut s.income;
        i.potential_gross_income = None;
        i.tenancies = (0..).zip(rents).map(|(n, rent)| tenancy(&format!("U{n}"), &rent.to_string(), Frequency::Monthly)).collect();
        i.operating_expenses = (0..).zip(expenses).map(|(n, e)| expense(&format!("E{n}"), &e.to_string())).collect();
        let percent = |n: i64| Some(fact(Decimal::new(n, 2)));
        (i.vacancy_rate, i.cap_rate, i.discount_rate, i.growth, i.exit_cap_rate) =
            (percent(vacancy), percent(cap), percent(discount), percent(growth), percent(exit));
        i.hold_years = Some(fact(years));
        i.terminal_noi_basis = Some(fact(if forward { TerminalNoiBasis::Forward } else { TerminalNoiBasis::Trailing }));
        s
    }
}

fn method_values(s: &FactSheet) -> Option<(Decimal, Decimal)> {
    let text = appraise(s).ok()?.text;
    let r: Value = serde_json::from_str(&text).unwrap();
    let of = |n: usize| d(r["approaches"][1]["income"]["methods"][n]["indication"].as_str().unwrap());
    Some((of(0), of(1)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_tenancies_and_expenses_does_not_change_a_byte(s in an_income(), seed in any::<u64>()) {
        let mut shuffled = s.clone();
        let i = &mut shuffled.income;
        for n in (1..i.tenancies.len()).rev() {
            i.tenancies.swap(n, (seed.rotate_left(n as u32) as usize) % (n + 1));
        }
        i.operating_expenses.reverse();
        prop_assert_eq!(appraise(&s).map(|a| a.text), appraise(&shuffled).map(|a| a.text));
    }

    #[test]
    fn a_dearer_yield_is_never_worth_more(s in an_income()) {
        let Some((direct, cash_flow)) = method_values(&s) else { return Ok(()) };
        let mut dearer = s.clone();
        for rate in [&mut dearer.income.cap_rate, &mut dearer.income.discount_rate, &mut dearer.income.exit_cap_rate] {
            rate.as_mut().unwrap().value += d("0.01");
        }
        let (less, less_still) = method_values(&dearer).unwrap();
        prop_assert!(less < direct && less_still < cash_flow, "{} {} {} {}", direct, less, cash_flow, less_still);
    }

    #[test]
    fn without_growth_and_at_one_rate_a_cash_flow_is_a_capitalisation(s in an_income(), rate in 1i64..20) {
        let mut s = s;
        let rate = Some(fact(Decimal::new(rate, 2)));
        let i = &mut s.income;
        (i.cap_rate, i.discount_rate, i.exit_cap_rate) = (rate.clone(), rate.clone(), rate);
        (i.growth, i.selling_cost_pct) = (Some(fact(d("0"))), None);
        if let Some((direct, cash_flow)) = method_values(&s) {
            prop_assert!((direct - cash_flow).abs() <= d("0.01"), "{} {}", direct, cash_flow);
        }
    }

    #[test]
    fn no_income_figures_make_it_panic(rent in any::<i64>(), scale in 0u32..28, rate in any::<i64>(), growth in any::<i64>(), years in any::<u8>()) {
        let mut s = income_sheet();
        with_cash_flow(&mut s);
        s.income.potential_gross_income = Some(fact(Decimal::new(rent, scale)));
        s.income.cap_rate = Some(fact(Decimal::new(rate, 28 - scale)));
        s.income.growth = Some(fact(Decimal::new(growth, 18)));
        s.income.hold_years = Some(fact(years));
        if let Ok(appraisal) = appraise(&s) {
            prop_assert!(d(&appraisal.report.value) >= Decimal::ZERO);
        }
    }
}
