//! What came with which KEDA.

use std::fmt;
use std::str::FromStr;

/// A version of KEDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl Version {
    /// The version whose rules hold unless another is named.
    pub const DEFAULT: Self = Self::new(2, 20, 2);

    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Whether this version has it.
    pub fn has(self, feature: Feature) -> bool {
        self >= feature.since()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a version of KEDA, such as 2.18 or 2.20.2");
        let mut parts = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split('.')
            .map(|part| part.parse::<u16>().ok());
        let mut next = |default: Option<u16>| parts.next().unwrap_or(default).ok_or_else(wrong);
        let (major, minor, patch) = (next(None)?, next(None)?, next(Some(0))?);
        if parts.next().is_some() || major != 2 {
            return Err(wrong());
        }
        Ok(Self::new(major, minor, patch))
    }
}

/// Something that KEDA has not always done, with the number of its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    MinReplicaCount,
    PausedScaledJob,
    LimitToPartitionsWithLag,
    Eager,
    /// `scaleToZeroOnInvalidOffset` under `earliest` too (#5689).
    ZeroOnInvalidEarliest,
    EnsureEven,
    JobExcludedLabels,
    HpaTolerance,
    /// `accurate` heeds pending jobs near the maximum (#7329).
    AccuratePending,
    /// A negative sum of lag is no lag (#7880).
    ClampedMetric,
    /// `custom` without a deduction works (#7798).
    CustomWithoutDeduction,
    /// `earliest` without a commit counts what the log holds, not what it ever held (#7937).
    EarliestFromStart,
    FullMetadata,
}

impl Feature {
    /// The first version that has it.
    pub const fn since(self) -> Version {
        match self {
            Self::MinReplicaCount => Version::new(2, 8, 0),
            Self::PausedScaledJob => Version::new(2, 11, 0),
            Self::LimitToPartitionsWithLag => Version::new(2, 13, 0),
            Self::Eager | Self::ZeroOnInvalidEarliest => Version::new(2, 15, 0),
            Self::EnsureEven | Self::JobExcludedLabels | Self::HpaTolerance => Version::new(2, 18, 0),
            Self::AccuratePending => Version::new(2, 19, 0),
            Self::ClampedMetric | Self::CustomWithoutDeduction => Version::new(2, 20, 2),
            Self::EarliestFromStart | Self::FullMetadata => Version::new(2, 21, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        assert_eq!("2.18".parse(), Ok(Version::new(2, 18, 0)));
        assert_eq!("v2.20.2".parse(), Ok(Version::DEFAULT));
        assert!(Version::new(2, 9, 0) < Version::new(2, 10, 0));
        for wrong in ["", "2", "3.0", "2.x", "2.1.2.3", "2.-1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
        assert!(!Version::new(2, 20, 1).has(Feature::ClampedMetric));
        assert!(Version::DEFAULT.has(Feature::ClampedMetric));
    }
}
