//! What the income approach needs of a fact sheet: the one rule by which ingestion asks for facts and valuation
//! takes them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::{Fact, FactSheet, Frequency, Income, Money, Tenancy};

/// ISO 4217's code for "no currency", for a sheet of which no document says which.
pub const NO_CURRENCY: &str = "XXX";
/// Rows that are named one by one in an answer; more say nothing new.
const MAX_NAMED: usize = 10;

/// What is wanting, each as a path into the fact sheet with what is needed there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncomeLacks {
    /// For a year's net operating income, which both methods start from.
    pub statement: Vec<String>,
    /// For a direct capitalisation.
    pub direct: Vec<String>,
    /// For a discounted cash flow.
    pub cash_flow: Vec<String>,
}

impl IncomeLacks {
    /// There is an income, and a method to value it by.
    pub fn applies(&self) -> bool {
        self.statement.is_empty() && (self.direct.is_empty() || self.cash_flow.is_empty())
    }

    /// Everything that keeps the approach from applying; a method is not asked for where the other one suffices.
    pub fn all(self) -> Vec<String> {
        let mut all = self.statement;
        if !self.direct.is_empty() && !self.cash_flow.is_empty() {
            all.extend(self.direct);
            all.extend(self.cash_flow);
        }
        all
    }
}

impl Frequency {
    /// Payments a year.
    pub fn per_year(self) -> Decimal {
        match self {
            Self::Monthly => Decimal::from(12),
            Self::Quarterly => Decimal::from(4),
            Self::Annual => Decimal::ONE,
        }
    }
}

impl Tenancy {
    /// Why the tenancy is not in force on a day; a tenancy without dates always is.
    pub fn not_in_force(&self, on: Date) -> Option<String> {
        match (self.start, self.end) {
            (Some(start), _) if start > on => Some(format!("it begins on {start}, after the valuation date")),
            (_, Some(end)) if end < on => Some(format!("it ended on {end}, before the valuation date")),
            (_, _) => None,
        }
    }
}

impl FactSheet {
    /// What the income approach lacks.
    pub fn income_lacks(&self) -> IncomeLacks {
        let income = &self.income;
        let mut statement = Vec::new();
        if self.valuation_currency == NO_CURRENCY {
            let what = "the currency to value in (ISO 4217), which no document names and the amounts do not share";
            statement.push(format!("valuation_currency: {what}"));
        }
        match &income.potential_gross_income {
            Some(stated) if stated.value > Decimal::ZERO => {}
            Some(_) => statement.push("income.potential_gross_income: more than 0".to_owned()),
            None => statement.extend(self.rents()),
        }
        statement.extend(rate(
            "vacancy_rate",
            &income.vacancy_rate,
            SHARE,
            "the part of the rents that is lost to vacancy",
        ));
        statement.extend(self.expenses());
        for (name, stated) in [("other_income", &income.other_income), ("reserves", &income.reserves)] {
            if stated.as_ref().is_some_and(|f| f.value < Decimal::ZERO) {
                statement.push(format!("income.{name}: 0 or more"));
            }
        }
        if income.management_pct.is_some() {
            statement.extend(rate("management_pct", &income.management_pct, SHARE, ""));
        }
        IncomeLacks {
            statement,
            direct: rate(
                "cap_rate",
                &income.cap_rate,
                YIELD,
                "net operating income over value, for a direct capitalisation",
            )
            .into_iter()
            .collect(),
            cash_flow: cash_flow(income),
        }
    }

    /// What is wanting in the rent roll, when it is what the income follows from.
    fn rents(&self) -> Vec<String> {
        let date = self.valuation_date;
        let mut in_force: BTreeMap<&str, &Tenancy> = BTreeMap::new();
        let mut lacks = Vec::new();
        for tenancy in self
            .income
            .tenancies
            .iter()
            .map(|f| &f.value)
            .filter(|t| t.not_in_force(date).is_none())
        {
            let at = format!("income.tenancies: the rent of {}", tenancy.unit);
            lacks.extend(self.amount(&at, &tenancy.passing_rent));
            if in_force.insert(&tenancy.unit, tenancy).is_some_and(|other| other != tenancy) {
                lacks.push(format!(
                    "income.tenancies: {} is let twice on {date}, and not on the same terms",
                    tenancy.unit
                ));
            }
        }
        if in_force.is_empty() {
            lacks.push(format!(
                "income.tenancies: a rent roll with a tenancy in force on {date}, or income.potential_gross_income"
            ));
        }
        lacks.truncate(MAX_NAMED);
        lacks
    }

    fn expenses(&self) -> Vec<String> {
        let expenses = &self.income.operating_expenses;
        if expenses.is_empty() {
            return vec!["income.operating_expenses: what it costs a year to run the asset".to_owned()];
        }
        let wrong = expenses.iter().filter_map(|f| {
            let at = format!("income.operating_expenses: {}", f.value.kind);
            self.amount(&at, &f.value.amount)
        });
        wrong.take(MAX_NAMED).collect()
    }

    fn amount(&self, what: &str, money: &Money) -> Option<String> {
        if money.currency != self.valuation_currency {
            Some(format!(
                "{what} is in {}, the valuation in {}",
                money.currency, self.valuation_currency
            ))
        } else if money.amount < Decimal::ZERO {
            Some(format!("{what} is negative"))
        } else {
            None
        }
    }
}

/// A range that a rate has to be in, in words.
struct Bounds {
    holds: fn(Decimal) -> bool,
    words: &'static str,
}

const SHARE: Bounds = Bounds {
    holds: |rate| rate >= Decimal::ZERO && rate < Decimal::ONE,
    words: "0 or more, less than 1",
};
const YIELD: Bounds = Bounds {
    holds: |rate| rate > Decimal::ZERO && rate < Decimal::ONE,
    words: "more than 0, less than 1",
};
const GROWTH: Bounds = Bounds {
    holds: |rate| rate > Decimal::NEGATIVE_ONE && rate < Decimal::ONE,
    words: "more than -1, less than 1",
};

fn rate(name: &str, stated: &Option<Fact<Decimal>>, bounds: Bounds, what: &str) -> Option<String> {
    match stated {
        None => Some(format!("income.{name}: {what}")),
        Some(fact) if !(bounds.holds)(fact.value) => Some(format!("income.{name}: {}", bounds.words)),
        Some(_) => None,
    }
}

fn cash_flow(income: &Income) -> Vec<String> {
    let dcf = |what: &str| format!("{what}, for a discounted cash flow");
    let mut lacks: Vec<String> = [
        rate(
            "discount_rate",
            &income.discount_rate,
            YIELD,
            &dcf("the rate a year to discount by"),
        ),
        rate("growth", &income.growth, GROWTH, &dcf("how the net operating income grows a year")),
        rate(
            "exit_cap_rate",
            &income.exit_cap_rate,
            YIELD,
            &dcf("the cap rate of the sale at the end"),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    match &income.hold_years {
        None => lacks.push(format!("income.hold_years: {}", dcf("whole years until that sale"))),
        Some(years) if years.value == 0 || years.value > 100 => lacks.push("income.hold_years: from 1 to 100".to_owned()),
        Some(_) => {}
    }
    if income.terminal_noi_basis.is_none() {
        let what = dcf("`forward` or `trailing`, the year whose income that sale is priced from");
        lacks.push(format!("income.terminal_noi_basis: {what}"));
    }
    if income.selling_cost_pct.is_some() {
        lacks.extend(rate("selling_cost_pct", &income.selling_cost_pct, SHARE, ""));
    }
    lacks
}
