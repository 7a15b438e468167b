//! The income approach in the report.

use messages::facts::{self, Approach, Fact};
use rust_decimal::Decimal;

use super::FRACTION;
use crate::decimal::{Checked as _, Overflow, shown, sum};
use crate::income::{Assumptions, CashFlow, Direct, Income, Method, Statement, flows, neighbours};
use crate::parameters::Parameters;
use crate::reconcile::Opinion;
use crate::report::{self, words};

pub fn section(income: &Income, places: u32) -> Result<report::IncomeReport, Overflow> {
    let weights = sum(opinions(income).map(|opinion| Ok(opinion.weight)))?;
    let net = income.statement.net;
    Ok(report::IncomeReport {
        method: words::INCOME_METHOD,
        statement: statement(&income.statement, places)?,
        methods: vec![
            report::MethodReport::DirectCapitalisation(method(&income.direct, |d| d.opinion, weights, places, |d| direct(net, d, places))?),
            report::MethodReport::DiscountedCashFlow(method(&income.cash_flow, |c| c.opinion, weights, places, |c| cash_flow(c, places))?),
        ],
    })
}

fn opinions(income: &Income) -> impl Iterator<Item = Opinion> {
    let direct = income.direct.iter().map(|d| d.opinion);
    direct.chain(income.cash_flow.iter().map(|c| c.opinion))
}

fn method<T, R>(
    method: &Method<T>,
    opinion: impl Fn(&T) -> Opinion,
    weights: Decimal,
    places: u32,
    working: impl Fn(&T) -> Result<R, Overflow>,
) -> Result<report::Applied<R>, Overflow> {
    match method {
        Err(missing) => Ok(report::Applied::NotApplicable { missing: missing.clone() }),
        Ok(applied) => {
            let Opinion { value, deviation, weight } = opinion(applied);
            Ok(report::Applied::Applied {
                indication: shown(value, places)?,
                standard_deviation: shown(deviation.times(value)?, places)?,
                weight: shown(weight.over(weights)?, FRACTION)?,
                working: working(applied)?,
            })
        }
    }
}

fn statement(s: &Statement, places: u32) -> Result<report::StatementReport, Overflow> {
    let rents = s.rents.iter().map(|rent| {
        let tenancy = &rent.fact.value;
        Ok(report::RentLine {
            unit: tenancy.unit.clone(),
            start: tenancy.start,
            end: tenancy.end,
            annual_rent: shown(rent.annual, places)?,
            provenance: rent.fact.provenance.clone(),
        })
    });
    let rejected = s.not_used.iter().map(|(fact, reason)| report::RejectedRent {
        unit: fact.value.unit.clone(),
        reason: reason.clone(),
        provenance: fact.provenance.clone(),
    });
    let expenses = s.expenses.iter().map(|expense| {
        Ok(report::ExpenseLine {
            kind: expense.fact.value.kind.clone(),
            annual_amount: shown(expense.annual, places)?,
            provenance: expense.fact.provenance.clone(),
        })
    });
    Ok(report::StatementReport {
        tenancies: rents.collect::<Result<_, Overflow>>()?,
        rejected: rejected.collect(),
        potential_gross_income: shown(s.potential, places)?,
        vacancy: shown(s.vacancy, places)?,
        other_income: shown(s.other, places)?,
        effective_gross_income: shown(s.effective, places)?,
        expenses: expenses.collect::<Result<_, Overflow>>()?,
        operating_expenses: shown(s.expenses_total, places)?,
        management: shown(s.management, places)?,
        reserves: shown(s.reserves, places)?,
        net_operating_income: shown(s.net, places)?,
    })
}

fn direct(net: Decimal, direct: &Direct, places: u32) -> Result<report::DirectReport, Overflow> {
    Ok(report::DirectReport {
        net_operating_income: shown(net, places)?,
        cap_rate: shown(direct.cap_rate, FRACTION)?,
    })
}

fn cash_flow(c: &CashFlow, places: u32) -> Result<Box<report::CashFlowReport>, Overflow> {
    let (a, flows) = (&c.assumptions, &c.flows);
    let years = (1..).zip(&flows.years).map(|(year, flow)| {
        Ok(report::YearLine {
            year,
            net_operating_income: shown(flow.net, places)?,
            present_value: shown(flow.present, places)?,
        })
    });
    Ok(Box::new(report::CashFlowReport {
        discount_rate: shown(a.discount, FRACTION)?,
        growth: shown(a.growth, FRACTION)?,
        exit_cap_rate: shown(a.exit, FRACTION)?,
        selling_cost: shown(a.selling, FRACTION)?,
        terminal_noi_basis: a.basis,
        years: years.collect::<Result<_, Overflow>>()?,
        terminal_net_operating_income: shown(flows.terminal_net, places)?,
        net_proceeds: shown(flows.proceeds, places)?,
        present_value_of_income: shown(flows.present_income, places)?,
        present_value_of_proceeds: shown(flows.present_proceeds, places)?,
        proceeds_share: shown(flows.present_proceeds.over(flows.value)?, FRACTION)?,
    }))
}

/// What is assumed where the sheet says nothing, and what the figures leave out.
pub fn limitations(sheet: &facts::Income, income: &Income) -> Vec<String> {
    let mut notes: Vec<String> = words::INCOME_LIMITATIONS.iter().map(|&text| text.to_owned()).collect();
    for (there, what) in [
        (sheet.other_income.is_some(), "other income"),
        (sheet.management_pct.is_some(), "management"),
        (sheet.reserves.is_some(), "reserves"),
        (
            sheet.selling_cost_pct.is_some() || income.cash_flow.is_err(),
            "costs of the sale at the end",
        ),
    ] {
        if !there {
            notes.push(format!("the fact sheet states no {what}: taken as none"));
        }
    }
    if !income.statement.rents.is_empty() {
        notes.push("the potential gross income is what the tenancies in force pay; space that is not let adds nothing to it".to_owned());
    }
    notes
}

pub fn sensitivity(income: &Income, parameters: &Parameters, places: u32) -> Result<Vec<report::Scenario>, Overflow> {
    let net = income.statement.net;
    let points = parameters.sensitivity_yields.times(Decimal::ONE_HUNDRED)?.normalize();
    let moved = |what: &str, sign: char| format!("{what} {sign}{points} percentage points");
    let mut found: Vec<(String, Decimal)> = Vec::new();
    if let Ok(direct) = &income.direct {
        for (sign, rate) in neighbours(direct.cap_rate, parameters)? {
            found.push((moved("direct capitalisation, cap rate", sign), net.over(rate)?));
        }
    }
    if let Ok(CashFlow { assumptions, .. }) = &income.cash_flow {
        let under = |changed: Assumptions| flows(net, &changed).map(|f| f.value);
        for (sign, discount) in neighbours(assumptions.discount, parameters)? {
            let value = under(Assumptions { discount, ..*assumptions })?;
            found.push((moved("discounted cash flow, discount rate", sign), value));
        }
        for (sign, exit) in neighbours(assumptions.exit, parameters)? {
            let value = under(Assumptions { exit, ..*assumptions })?;
            found.push((moved("discounted cash flow, exit cap rate", sign), value));
        }
        let mid_year = under(Assumptions {
            mid_year: true,
            ..*assumptions
        })?;
        found.push(("discounted cash flow, income in the middle of each year".to_owned(), mid_year));
    }
    let scenario = |(change, value): (String, Decimal)| {
        Ok(report::Scenario {
            approach: Approach::Income,
            change,
            value: shown(value, places)?,
        })
    };
    found.into_iter().map(scenario).collect()
}

/// The methods that applied, by name.
pub fn methods(income: &Income) -> Vec<(&'static str, Opinion)> {
    let direct = income.direct.iter().map(|d| ("direct capitalisation", d.opinion));
    direct
        .chain(income.cash_flow.iter().map(|c| ("discounted cash flow", c.opinion)))
        .collect()
}

/// Facts that stand alone and that the figures were calculated from.
pub fn inputs(sheet: &facts::Income, income: &Income) -> Vec<(&'static str, Option<Fact<Decimal>>)> {
    let years = sheet.hold_years.as_ref().map(|fact| Fact {
        value: Decimal::from(fact.value),
        provenance: fact.provenance.clone(),
    });
    let (direct, cash_flow) = (income.direct.is_ok(), income.cash_flow.is_ok());
    let when = |used: bool, fact: &Option<Fact<Decimal>>| fact.clone().filter(|_| used);
    vec![
        ("income.potential_gross_income", sheet.potential_gross_income.clone()),
        ("income.vacancy_rate", sheet.vacancy_rate.clone()),
        ("income.other_income", sheet.other_income.clone()),
        ("income.management_pct", sheet.management_pct.clone()),
        ("income.reserves", sheet.reserves.clone()),
        ("income.cap_rate", when(direct, &sheet.cap_rate)),
        ("income.discount_rate", when(cash_flow, &sheet.discount_rate)),
        ("income.growth", when(cash_flow, &sheet.growth)),
        ("income.exit_cap_rate", when(cash_flow, &sheet.exit_cap_rate)),
        ("income.hold_years", when(cash_flow, &years)),
        ("income.selling_cost_pct", when(cash_flow, &sheet.selling_cost_pct)),
    ]
}
