//! Names that people and machines give to things. Each is checked once, at the edge, and is a type from then on.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Why a name was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct NameError {
    what: &'static str,
    rule: &'static str,
}

macro_rules! text_name {
    ($name:ident, $what:literal, $rule:literal, $pattern:literal, $valid:expr) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[schemars(with = "String", regex(pattern = $pattern))] SmolStr);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError {
                        what: $what,
                        rule: $rule,
                    })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    Tenant,
    "a tenant",
    "1 to 40 characters of a-z, 0-9 and -",
    r"^[a-z0-9-]{1,40}$",
    |t| (1..=40).contains(&t.len()) && t.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
);
text_name!(
    AssetId,
    "an asset id",
    "1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-', other than '.' and '..'",
    r"^[A-Za-z0-9._-]{1,64}$",
    |t| (1..=64).contains(&t.len())
        && t != "."
        && t != ".."
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
);
text_name!(
    ClusterName,
    "a cluster's name",
    "1 to 40 characters of a-z, 0-9 and -",
    r"^[a-z0-9-]{1,40}$",
    |t| (1..=40).contains(&t.len()) && t.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
);

/// The tenant of events that belong to no customer, such as those about backups. No customer may have this name.
pub const PLATFORM: &str = "platform";

impl Tenant {
    /// The reserved tenant [`PLATFORM`].
    pub fn platform() -> Self {
        Self(SmolStr::new_static(PLATFORM))
    }
}

/// An asset within its tenant: the Kafka key and the `_id` in `assets`, written `tenant/asset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssetKey {
    pub tenant: Tenant,
    pub asset_id: AssetId,
}

impl AssetKey {
    pub fn new(tenant: Tenant, asset_id: AssetId) -> Self {
        Self { tenant, asset_id }
    }
}

impl fmt::Display for AssetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.asset_id)
    }
}

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $prefix:literal, $what:literal, $rule:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[schemars(with = "String", regex(pattern = $pattern))] pub [u8; $len]);

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let refused = NameError { what: $what, rule: $rule };
                let digits = text.strip_prefix($prefix).ok_or_else(|| refused.clone())?;
                let mut bytes = [0; $len];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| refused)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_bytes!(
    /// A SHA-256 digest, 64 hexadecimal digits on the wire, lower case when we write it.
    Hash32,
    32,
    "",
    "a SHA-256",
    "64 hexadecimal digits",
    r"^[0-9a-fA-F]{64}$"
);
hex_bytes!(
    /// An EVM account, `0x` and 40 hexadecimal digits on the wire; the checksum in the letter case is not required.
    Address,
    20,
    "0x",
    "an EVM address",
    "0x followed by 40 hexadecimal digits",
    r"^0x[0-9a-fA-F]{40}$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_what_they_promise_and_refuse_the_rest() {
        assert!("demo-1".parse::<Tenant>().is_ok());
        for bad in ["", "Demo", "a/b", "a b", &"x".repeat(41)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad:?}");
        }
        assert_eq!(PLATFORM.parse::<Tenant>().unwrap(), Tenant::platform());
        assert!("Madrid_12.b-3".parse::<AssetId>().is_ok());
        for bad in ["", ".", "..", "a/b", "ñ", &"x".repeat(65)] {
            assert!(bad.parse::<AssetId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hashes_and_addresses_survive_the_wire() {
        let hash: Hash32 = "AB".repeat(32).parse().unwrap();
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{}\"", "ab".repeat(32)));
        let address: Address = format!("0x{}", "0f".repeat(20)).parse().unwrap();
        assert_eq!(
            serde_json::from_str::<Address>(&serde_json::to_string(&address).unwrap()).unwrap(),
            address
        );
        assert!("0x12".parse::<Address>().is_err());
    }
}
