//! Decimal arithmetic that cannot panic, and the one place where figures are rounded.

use rust_decimal::{Decimal, MathematicalOps, RoundingStrategy};

/// A figure does not fit: 28 digits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the figures are too large to calculate with ({0})")]
pub struct Overflow(pub &'static str);

/// Arithmetic on decimals that says what did not fit. A division by zero counts as that.
pub trait Checked: Sized {
    fn plus(self, other: Decimal) -> Result<Decimal, Overflow>;
    fn minus(self, other: Decimal) -> Result<Decimal, Overflow>;
    fn times(self, other: Decimal) -> Result<Decimal, Overflow>;
    fn over(self, other: Decimal) -> Result<Decimal, Overflow>;
    /// To the power of a whole number, by repeated multiplication.
    fn to_the(self, exponent: u32) -> Result<Decimal, Overflow>;
    fn root(self) -> Result<Decimal, Overflow>;
}

impl Checked for Decimal {
    fn plus(self, other: Decimal) -> Result<Decimal, Overflow> {
        self.checked_add(other).ok_or(Overflow("a sum"))
    }

    fn minus(self, other: Decimal) -> Result<Decimal, Overflow> {
        self.checked_sub(other).ok_or(Overflow("a difference"))
    }

    fn times(self, other: Decimal) -> Result<Decimal, Overflow> {
        self.checked_mul(other).ok_or(Overflow("a product"))
    }

    fn over(self, other: Decimal) -> Result<Decimal, Overflow> {
        self.checked_div(other).ok_or(Overflow("a quotient"))
    }

    fn to_the(self, exponent: u32) -> Result<Decimal, Overflow> {
        (0..exponent).try_fold(Decimal::ONE, |power, _| power.times(self))
    }

    fn root(self) -> Result<Decimal, Overflow> {
        self.sqrt().ok_or(Overflow("a square root"))
    }
}

/// The sum of what an iterator yields.
pub fn sum(terms: impl IntoIterator<Item = Result<Decimal, Overflow>>) -> Result<Decimal, Overflow> {
    terms.into_iter().try_fold(Decimal::ZERO, |total, term| total.plus(term?))
}

/// A figure for the report: rounded half-even to exactly `places` decimals, never `-0`.
pub fn shown(figure: Decimal, places: u32) -> Result<String, Overflow> {
    let mut rounded = figure.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
    rounded.rescale(places);
    if rounded.scale() != places {
        return Err(Overflow("a figure with its decimals"));
    }
    if rounded.is_zero() {
        rounded.set_sign_positive(true);
    }
    Ok(rounded.to_string())
}

/// How many decimals amounts in a currency have (ISO 4217, the codes that do not have two).
pub fn minor_units(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND" | "VUV" | "XAF" | "XOF"
        | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_no_panic() {
        assert!(Decimal::MAX.plus(Decimal::ONE).is_err());
        assert!(Decimal::MIN.minus(Decimal::ONE).is_err());
        assert!(Decimal::MAX.times(Decimal::TWO).is_err());
        assert!(Decimal::ONE.over(Decimal::ZERO).is_err());
        assert!(d("10").to_the(29).is_err());
        assert!(d("-1").root().is_err());
        assert!(shown(Decimal::MAX, 2).is_err());
    }

    #[test]
    fn halves_go_to_the_even_neighbour_and_decimals_are_always_shown() {
        for (figure, text) in [
            ("0.125", "0.12"),
            ("0.135", "0.14"),
            ("7", "7.00"),
            ("-0.001", "0.00"),
            ("-2.5", "-2.50"),
        ] {
            assert_eq!(shown(d(figure), 2).unwrap(), text);
        }
        assert_eq!(shown(d("2.5"), minor_units("JPY")).unwrap(), "2");
        assert_eq!(shown(d("2.5"), minor_units("KWD")).unwrap(), "2.500");
    }
}
