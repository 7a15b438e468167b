//! The tenants and what each has agreed: the text of `TENANTS_FILE`, a JSON object by tenant.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Address, Tenant};

/// Whether a valued asset is minted at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MintPolicy {
    /// A person posts the mint after having read the report.
    #[default]
    Review,
    /// The valuation asks for the mint itself.
    Auto,
}

/// How much a tenant may ask of the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantLimits {
    /// Sustained rate of requests, 1 or more.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause, 1 or more.
    pub burst: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 50,
            burst: 200,
        }
    }
}

/// What is agreed with one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Who receives the token unless the mint says otherwise.
    pub recipient: Option<Address>,
    /// How many units are issued unless the mint says otherwise; 1 or more.
    pub units: Option<u64>,
    /// The currency to value in when the documents do not name it, ISO 4217.
    pub currency: Option<String>,
    pub mint: MintPolicy,
    pub limits: TenantLimits,
}

/// Every tenant that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tenants(BTreeMap<Tenant, TenantSettings>);

/// Everything that is wrong with the file, each mistake with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantsError {
    pub problems: Vec<String>,
}

impl fmt::Display for TenantsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tenants are wrong: {}", self.problems.join("; "))
    }
}

impl std::error::Error for TenantsError {}

impl Tenants {
    /// Reads the JSON text `{tenant: {recipient, units, currency, mint, limits: {requests_per_second, burst}}}`;
    /// every field may be absent, no other may be there.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(text: &str) -> Result<Self, TenantsError> {
        let mut problems = Vec::new();
        let tenants = match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(map) => map
                .into_iter()
                .filter_map(|(name, value)| tenant(&name, value, &mut problems))
                .collect(),
            Err(e) => {
                problems.push(format!("it is not a JSON object by tenant: {e}"));
                BTreeMap::new()
            }
        };
        if tenants.is_empty() && problems.is_empty() {
            problems.push("it names no tenant".to_owned());
        }
        if problems.is_empty() {
            Ok(Self(tenants))
        } else {
            Err(TenantsError { problems })
        }
    }

    /// A tenant's settings; `None` when the tenant is not known.
    pub fn get(&self, tenant: &Tenant) -> Option<&TenantSettings> {
        self.0.get(tenant)
    }

    /// The tenants in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Tenant, &TenantSettings)> {
        self.0.iter()
    }
}

fn tenant(name: &str, value: Value, problems: &mut Vec<String>) -> Option<(Tenant, TenantSettings)> {
    let known = name.parse::<Tenant>().map_err(|e| problems.push(format!("{name:?}: {e}"))).ok();
    if known == Some(Tenant::platform()) {
        problems.push(format!("{name:?} is the pool's own name, which no customer may have"));
    }
    let mut fields = Fields::of(value, name.to_owned(), problems)?;
    let recipient = fields.take("recipient", "0x followed by 40 hexadecimal digits", |_: &Address| true);
    let units = fields.take("units", "a whole number of 1 or more", |n: &u64| *n > 0);
    let currency = fields.take("currency", "an ISO 4217 code such as EUR", |c: &String| {
        c.len() == 3 && c.bytes().all(|b| b.is_ascii_uppercase())
    });
    let mint = fields.take("mint", "\"review\" or \"auto\"", |_: &MintPolicy| true);
    let limits = fields.value("limits");
    fields.finish();
    let limits = limits.map_or_else(TenantLimits::default, |value| limits_of(value, format!("{name}.limits"), problems));
    let settings = TenantSettings {
        recipient,
        units,
        currency,
        mint: mint.unwrap_or_default(),
        limits,
    };
    Some((known?, settings))
}

fn limits_of(value: Value, place: String, problems: &mut Vec<String>) -> TenantLimits {
    let default = TenantLimits::default();
    let Some(mut fields) = Fields::of(value, place, problems) else {
        return default;
    };
    const COUNT: &str = "a whole number of 1 or more";
    let rate = fields.take("requests_per_second", COUNT, |n: &u32| *n > 0);
    let burst = fields.take("burst", COUNT, |n: &u32| *n > 0);
    fields.finish();
    TenantLimits {
        requests_per_second: rate.unwrap_or(default.requests_per_second),
        burst: burst.unwrap_or(default.burst),
    }
}

/// The fields of one JSON object, taken one by one; what is left over in the end is a typing error of somebody's.
struct Fields<'p> {
    map: Map<String, Value>,
    place: String,
    problems: &'p mut Vec<String>,
}

impl<'p> Fields<'p> {
    fn of(value: Value, place: String, problems: &'p mut Vec<String>) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, place, problems }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                problems.push(format!("{place} must be an object"));
                None
            }
        }
    }

    fn value(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    fn take<T: DeserializeOwned>(&mut self, field: &str, rule: &str, valid: impl Fn(&T) -> bool) -> Option<T> {
        let value = self.value(field)?;
        let shown = value.to_string();
        let taken = serde_json::from_value(value).ok().filter(valid);
        if taken.is_none() {
            self.problems.push(format!("{}.{field}={shown} must be {rule}", self.place));
        }
        taken
    }

    fn finish(self) {
        for field in self.map.keys() {
            self.problems.push(format!("{}.{field} is not a setting", self.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_own_name_is_no_customers() {
        let error = Tenants::parse(r#"{"platform": {}}"#).unwrap_err();
        assert!(error.to_string().contains("no customer"), "{error}");
    }

    #[test]
    fn an_empty_entry_means_review_and_the_default_limits() {
        let tenants = Tenants::parse(r#"{"demo":{}}"#).unwrap();
        let demo = tenants.get(&"demo".parse().unwrap()).unwrap();
        assert_eq!(*demo, TenantSettings::default());
        assert_eq!(demo.mint, MintPolicy::Review);
        assert!(tenants.get(&"other".parse().unwrap()).is_none());
    }

    #[test]
    fn every_setting_is_read() {
        let text = format!(
            r#"{{"demo":{{"recipient":"0x{}","units":1000,"currency":"EUR","mint":"auto","limits":{{"requests_per_second":5,"burst":7}}}}}}"#,
            "0a".repeat(20)
        );
        let tenants = Tenants::parse(&text).unwrap();
        let (_, demo) = tenants.iter().next().unwrap();
        assert_eq!(demo.recipient, Some(Address([0x0a; 20])));
        assert_eq!(
            (demo.units, demo.currency.as_deref(), demo.mint),
            (Some(1000), Some("EUR"), MintPolicy::Auto)
        );
        assert_eq!((demo.limits.requests_per_second, demo.limits.burst), (5, 7));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text =
            r#"{"Demo":{},"a":{"recipient":"0x1","units":0,"currency":"euro","mint":"never","minting":1,"limits":{"burst":-1}},"b":7}"#;
        let error = Tenants::parse(text).unwrap_err();
        for part in [
            "\"Demo\"",
            "a.recipient",
            "a.units=0",
            "a.currency",
            "a.mint=\"never\"",
            "a.minting is not",
            "a.limits.burst",
            "b must be an object",
        ] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert_eq!(error.problems.len(), 8, "{error}");
        assert!(Tenants::parse("[]").is_err());
        assert!(Tenants::parse("{}").unwrap_err().to_string().contains("no tenant"));
    }
}
