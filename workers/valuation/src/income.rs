//! The income approach: what the asset's net income is worth, by direct capitalisation and by discounted cash flow.
//!
//! ```text
//! EGI = PGI·(1 − vacancy) + other income
//! NOI = EGI − operating expenses − management·EGI − reserves
//! direct capitalisation:  v = NOI / R
//! discounted cash flow:   v = Σ NOI·(1+g)^(t−1) / (1+r)^t  +  sale·(1 − selling costs) / (1+r)^n      t = 1…n, year's end
//!                         sale = NOI·(1+g)^n / exit          on the income of the year after, `forward`
//!                         sale = NOI·(1+g)^(n−1) / exit      on the income of the last year, `trailing`
//! ```

use messages::facts::{Fact, FactSheet, OperatingExpense, Tenancy, TerminalNoiBasis};
use rust_decimal::Decimal;

use crate::canonical;
use crate::decimal::{Checked as _, Overflow, sum};
use crate::parameters::Parameters;
use crate::reconcile::{self, Opinion};

/// A tenancy in force, and its rent of a year.
#[derive(Debug, Clone)]
pub struct Rent {
    pub fact: Fact<Tenancy>,
    pub annual: Decimal,
}

/// An expense, and its amount of a year.
#[derive(Debug, Clone)]
pub struct Expense {
    pub fact: Fact<OperatingExpense>,
    pub annual: Decimal,
}

/// The first year's income and expenses.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Empty when the potential gross income is stated.
    pub rents: Vec<Rent>,
    /// Tenancies that do not count, and why.
    pub not_used: Vec<(Fact<Tenancy>, String)>,
    pub potential: Decimal,
    pub vacancy: Decimal,
    pub other: Decimal,
    pub effective: Decimal,
    pub expenses: Vec<Expense>,
    pub expenses_total: Decimal,
    pub management: Decimal,
    pub reserves: Decimal,
    pub net: Decimal,
}

#[derive(Debug, Clone, Copy)]
pub struct Direct {
    pub cap_rate: Decimal,
    pub opinion: Opinion,
}

/// What a cash flow is calculated with.
#[derive(Debug, Clone, Copy)]
pub struct Assumptions {
    pub discount: Decimal,
    pub growth: Decimal,
    pub exit: Decimal,
    pub years: u8,
    pub selling: Decimal,
    pub basis: TerminalNoiBasis,
    /// Income comes in the middle of each year; else at its end. The sale is at the end in any case.
    pub mid_year: bool,
}

/// A year of the cash flow.
#[derive(Debug, Clone, Copy)]
pub struct Year {
    pub net: Decimal,
    pub present: Decimal,
}

#[derive(Debug, Clone)]
pub struct Flows {
    pub years: Vec<Year>,
    /// The income that the sale is priced from.
    pub terminal_net: Decimal,
    /// The price of the sale less what selling costs.
    pub proceeds: Decimal,
    pub present_income: Decimal,
    pub present_proceeds: Decimal,
    pub value: Decimal,
}

#[derive(Debug, Clone)]
pub struct CashFlow {
    pub assumptions: Assumptions,
    pub flows: Flows,
    pub opinion: Opinion,
}

/// A method of the approach, or what it lacks.
pub type Method<T> = Result<T, Vec<String>>;

/// The approach, carried out by at least one method.
#[derive(Debug, Clone)]
pub struct Income {
    pub statement: Statement,
    pub direct: Method<Direct>,
    pub cash_flow: Method<CashFlow>,
    pub opinion: Opinion,
}

/// Why the approach does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoIncome {
    /// Paths into the fact sheet, with what is needed there.
    Missing(Vec<String>),
    Overflow(Overflow),
}

impl From<Overflow> for NoIncome {
    fn from(overflow: Overflow) -> Self {
        Self::Overflow(overflow)
    }
}

/// Values the asset by its income. The order of tenancies and expenses in the sheet does not matter.
pub fn value(sheet: &FactSheet, parameters: &Parameters) -> Result<Income, NoIncome> {
    let lacks = sheet.income_lacks();
    if !lacks.applies() {
        return Err(NoIncome::Missing(lacks.all()));
    }
    let statement = statement(sheet)?;
    if statement.net <= Decimal::ZERO {
        let what = "income: expenses, management and reserves leave no net operating income, so no value follows from it";
        return Err(NoIncome::Missing(vec![what.to_owned()]));
    }
    let direct = match direct(sheet, lacks.direct) {
        Ok(rate) => Ok(capitalised(statement.net, rate, parameters)?),
        Err(missing) => Err(missing),
    };
    let cash_flow = match assumptions(sheet, lacks.cash_flow) {
        Ok(assumptions) => Ok(discounted(statement.net, assumptions, parameters)?),
        Err(missing) => Err(missing),
    };
    let opinions: Vec<Opinion> = direct
        .iter()
        .map(|d| d.opinion)
        .chain(cash_flow.iter().map(|c| c.opinion))
        .collect();
    let Some(concluded) = reconcile::conclude(&opinions, parameters)? else {
        return Err(NoIncome::Missing(vec![
            "income: no value that is more than 0 follows from it".to_owned(),
        ]));
    };
    let quarter = Decimal::new(25, 2);
    let parts = [!statement.rents.is_empty(), direct.is_ok(), cash_flow.is_ok()];
    let there = Decimal::from(1 + parts.iter().filter(|&&there| there).count());
    Ok(Income {
        opinion: Opinion {
            value: concluded.value,
            deviation: concluded.relative_deviation,
            weight: quarter.times(there)?,
        },
        statement,
        direct,
        cash_flow,
    })
}

fn direct(sheet: &FactSheet, lacks: Vec<String>) -> Method<Decimal> {
    match &sheet.income.cap_rate {
        Some(rate) if lacks.is_empty() => Ok(rate.value),
        _ => Err(lacks),
    }
}

fn assumptions(sheet: &FactSheet, lacks: Vec<String>) -> Method<Assumptions> {
    let i = &sheet.income;
    match (&i.discount_rate, &i.growth, &i.exit_cap_rate, &i.hold_years, &i.terminal_noi_basis) {
        (Some(discount), Some(growth), Some(exit), Some(years), Some(basis)) if lacks.is_empty() => Ok(Assumptions {
            discount: discount.value,
            growth: growth.value,
            exit: exit.value,
            years: years.value,
            selling: or_nothing(&i.selling_cost_pct),
            basis: basis.value,
            mid_year: false,
        }),
        _ => Err(lacks),
    }
}

fn or_nothing(fact: &Option<Fact<Decimal>>) -> Decimal {
    fact.as_ref().map(|f| f.value).unwrap_or_default()
}

fn statement(sheet: &FactSheet) -> Result<Statement, Overflow> {
    let income = &sheet.income;
    let stated = income.potential_gross_income.as_ref().map(|f| f.value);
    let mut rents: Vec<Rent> = Vec::new();
    let mut not_used = Vec::new();
    for fact in sorted(&income.tenancies) {
        let tenancy = &fact.value;
        let reason = if stated.is_some() {
            Some("the potential gross income is stated as a whole".to_owned())
        } else if rents.last().is_some_and(|before| before.fact.value == *tenancy) {
            Some("the same tenancy is listed twice".to_owned())
        } else {
            tenancy.not_in_force(sheet.valuation_date)
        };
        match reason {
            Some(reason) => not_used.push((fact, reason)),
            None => rents.push(Rent {
                annual: tenancy.passing_rent.amount.times(tenancy.frequency.per_year())?,
                fact,
            }),
        }
    }
    let annual = |fact: Fact<OperatingExpense>| {
        let annual = fact.value.amount.amount.times(fact.value.frequency.per_year())?;
        Ok(Expense { fact, annual })
    };
    let expenses = sorted(&income.operating_expenses)
        .into_iter()
        .map(annual)
        .collect::<Result<Vec<_>, Overflow>>()?;
    let potential = match stated {
        Some(stated) => stated,
        None => sum(rents.iter().map(|rent| Ok(rent.annual)))?,
    };
    let vacancy = potential.times(or_nothing(&income.vacancy_rate))?;
    let other = or_nothing(&income.other_income);
    let effective = potential.minus(vacancy)?.plus(other)?;
    let expenses_total = sum(expenses.iter().map(|e| Ok(e.annual)))?;
    let management = effective.times(or_nothing(&income.management_pct))?;
    let reserves = or_nothing(&income.reserves);
    Ok(Statement {
        rents,
        not_used,
        potential,
        vacancy,
        other,
        effective,
        net: effective.minus(expenses_total)?.minus(management)?.minus(reserves)?,
        expenses,
        expenses_total,
        management,
        reserves,
    })
}

/// Rows in an order that follows from what they say; those that say the same stand beside each other.
pub fn sorted<T: serde::Serialize + Clone>(rows: &[Fact<T>]) -> Vec<Fact<T>> {
    let mut keyed: Vec<_> = rows
        .iter()
        .map(|row| (canonical::json(&row.value), canonical::json(&row.provenance), row.clone()))
        .collect();
    keyed.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    keyed.into_iter().map(|(_, _, row)| row).collect()
}

fn capitalised(net: Decimal, cap_rate: Decimal, parameters: &Parameters) -> Result<Direct, Overflow> {
    let value = net.over(cap_rate)?;
    let deviation = moved(cap_rate, value, parameters, |rate| net.over(rate))?;
    Ok(Direct {
        cap_rate,
        opinion: Opinion {
            value,
            deviation,
            weight: Decimal::ONE,
        },
    })
}

fn discounted(net: Decimal, assumptions: Assumptions, parameters: &Parameters) -> Result<CashFlow, Overflow> {
    let flows = flows(net, &assumptions)?;
    let under = |changed: Assumptions| self::flows(net, &changed).map(|f| f.value);
    let by_discount = moved(assumptions.discount, flows.value, parameters, |discount| {
        under(Assumptions { discount, ..assumptions })
    })?;
    let by_exit = moved(assumptions.exit, flows.value, parameters, |exit| {
        under(Assumptions { exit, ..assumptions })
    })?;
    let deviation = by_discount.times(by_discount)?.plus(by_exit.times(by_exit)?)?.root()?;
    Ok(CashFlow {
        opinion: Opinion {
            value: flows.value,
            deviation,
            weight: Decimal::ONE,
        },
        assumptions,
        flows,
    })
}

/// By how much, as a fraction, a value moves at most when a rate does: what is taken as its standard deviation.
fn moved(
    rate: Decimal,
    value: Decimal,
    parameters: &Parameters,
    at: impl Fn(Decimal) -> Result<Decimal, Overflow>,
) -> Result<Decimal, Overflow> {
    let mut most = Decimal::ZERO;
    for (_, rate) in neighbours(rate, parameters)? {
        most = most.max(at(rate)?.minus(value)?.over(value)?.abs());
    }
    Ok(most)
}

/// The rates just below and above a rate, as far as they are more than nought, each with its sign.
pub fn neighbours(rate: Decimal, parameters: &Parameters) -> Result<Vec<(char, Decimal)>, Overflow> {
    let by = parameters.sensitivity_yields;
    let both = [('-', rate.minus(by)?), ('+', rate.plus(by)?)];
    Ok(both.into_iter().filter(|(_, rate)| *rate > Decimal::ZERO).collect())
}

/// The cash flow of the holding period.
pub fn flows(net: Decimal, a: &Assumptions) -> Result<Flows, Overflow> {
    let (grown, discounted) = (Decimal::ONE.plus(a.growth)?, Decimal::ONE.plus(a.discount)?);
    let earlier = if a.mid_year { discounted.root()? } else { Decimal::ONE };
    let mut years = Vec::with_capacity(a.years.into());
    let (mut income, mut last, mut factor) = (net, net, Decimal::ONE);
    for _ in 0..a.years {
        factor = factor.over(discounted)?;
        years.push(Year {
            net: income,
            present: income.times(factor)?.times(earlier)?,
        });
        last = income;
        income = income.times(grown)?;
    }
    let terminal_net = match a.basis {
        TerminalNoiBasis::Forward => income,
        TerminalNoiBasis::Trailing => last,
    };
    let proceeds = terminal_net.over(a.exit)?.times(Decimal::ONE.minus(a.selling)?)?;
    let present_proceeds = proceeds.times(factor)?;
    let present_income = sum(years.iter().map(|year| Ok(year.present)))?;
    Ok(Flows {
        value: present_income.plus(present_proceeds)?,
        years,
        terminal_net,
        proceeds,
        present_income,
        present_proceeds,
    })
}
