//! From what each approach says to one value, with how sure it is.

use messages::MissingFacts;
use messages::facts::Approach;
use rust_decimal::Decimal;

use crate::decimal::{Checked as _, Overflow, sum};
use crate::income::Income;
use crate::market::Grid;
use crate::parameters::Parameters;

/// What became of an approach.
#[derive(Debug, Clone)]
pub enum Outcome {
    Applied(Indication),
    NotApplicable(MissingFacts),
}

impl Outcome {
    /// The indication, when there is one.
    pub fn applied(&self) -> Option<&Indication> {
        match self {
            Self::Applied(indication) => Some(indication),
            Self::NotApplicable(_) => None,
        }
    }
}

/// What an approach or a method says the asset is worth.
#[derive(Debug, Clone, Copy)]
pub struct Opinion {
    pub value: Decimal,
    /// Standard deviation as a fraction of `value`.
    pub deviation: Decimal,
    /// How much it counts beside the others, before the weights are made to sum up to 1.
    pub weight: Decimal,
}

/// What an approach says the asset is worth.
#[derive(Debug, Clone)]
pub struct Indication {
    pub approach: Approach,
    pub opinion: Opinion,
    pub working: Working,
}

/// How an approach came to its indication.
#[derive(Debug, Clone)]
pub enum Working {
    Market(Box<Grid>),
    Income(Box<Income>),
}

/// One value for the asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    pub value: Decimal,
    /// Standard deviation in the valuation currency.
    pub deviation: Decimal,
    /// 90 % of a normal distribution; the lower end is never below nought.
    pub low: Decimal,
    pub high: Decimal,
    /// The deviation as a fraction of the value (forecast standard deviation).
    pub relative_deviation: Decimal,
    /// 100 · (1 − relative deviation ÷ 0.25), from 0 to 100.
    pub score: Decimal,
}

/// Weighs the indications: v = Σ w·x, sd² = Σ w·(x − v)² + Σ (w·cv·x)². `None` when there is none, or the value is
/// not positive.
pub fn conclude(opinions: &[Opinion], parameters: &Parameters) -> Result<Option<Conclusion>, Overflow> {
    if opinions.is_empty() {
        return Ok(None);
    }
    let total = sum(opinions.iter().map(|i| Ok(i.weight)))?;
    let shares = opinions.iter().map(|i| i.weight.over(total)).collect::<Result<Vec<_>, _>>()?;
    let weighed = || opinions.iter().zip(&shares);
    let value = sum(weighed().map(|(i, share)| share.times(i.value)))?;
    if value <= Decimal::ZERO {
        return Ok(None);
    }
    // Relative to the value, so that the squares of large amounts fit.
    let apart = sum(weighed().map(|(i, share)| {
        let off = i.value.minus(value)?.over(value)?;
        share.times(off.times(off)?)
    }))?;
    let within = sum(weighed().map(|(i, share)| {
        let own = share.times(i.deviation)?.times(i.value)?.over(value)?;
        own.times(own)
    }))?;
    let relative_deviation = apart.plus(within)?.root()?;
    let deviation = relative_deviation.times(value)?;
    let reach = parameters.range_deviations.times(deviation)?;
    let doubt = relative_deviation.over(parameters.no_confidence_deviation)?;
    let score = Decimal::ONE.minus(doubt)?.times(Decimal::ONE_HUNDRED)?;
    Ok(Some(Conclusion {
        value,
        deviation,
        low: value.minus(reach)?.max(Decimal::ZERO),
        high: value.plus(reach)?,
        relative_deviation,
        score: score.clamp(Decimal::ZERO, Decimal::ONE_HUNDRED),
    }))
}

/// Why a person has to look: opinions that lie further apart than averaging may hide, each pair in words.
pub fn disagreements(named: &[(&str, Opinion)], parameters: &Parameters) -> Result<Vec<String>, Overflow> {
    let mut found = Vec::new();
    for (n, (name, one)) in named.iter().enumerate() {
        for (other_name, other) in named.iter().skip(n + 1) {
            let (low, high) = (one.value.min(other.value), one.value.max(other.value));
            if low <= Decimal::ZERO || high.over(low)?.minus(Decimal::ONE)? > parameters.review_disagreement {
                let percent = parameters.review_disagreement.times(Decimal::ONE_HUNDRED)?.normalize();
                found.push(format!("{name} and {other_name} lie more than {percent} % apart"));
            }
        }
    }
    Ok(found)
}
