//! What was measured, and whether it is good enough.

use anyhow::Context as _;
use serde::Serialize;

/// One figure. One that has no bound is only told.
#[derive(Debug, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it was compared with, or how it was measured.
    against: String,
    bound: Option<String>,
    holds: bool,
}

impl Figure {
    pub fn told(name: impl Into<String>, value: f64, unit: &'static str, against: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            against: against.into(),
            bound: None,
            holds: true,
        }
    }

    pub fn at_least(self, bound: f64) -> Self {
        Self {
            bound: Some(format!(">= {bound}")),
            holds: self.value >= bound,
            ..self
        }
    }

    pub fn at_most(self, bound: f64) -> Self {
        Self {
            bound: Some(format!("<= {bound}")),
            holds: self.value <= bound,
            ..self
        }
    }
}

/// Prints the figures and writes them to `target/bench`; whether all bounds hold.
pub fn tell(name: &str, figures: &[Figure]) -> anyhow::Result<bool> {
    for f in figures {
        let verdict = match (&f.bound, f.holds) {
            (None, _) => String::new(),
            (Some(bound), true) => format!("  [{bound}: holds]"),
            (Some(bound), false) => format!("  [{bound}: DOES NOT HOLD]"),
        };
        println!("{:<44} {:>12.3} {:<10} {}{verdict}", f.name, f.value, f.unit, f.against);
    }
    let folder = std::path::Path::new("target/bench");
    std::fs::create_dir_all(folder).context("target/bench cannot be made")?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(figures)?).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(figures.iter().all(|f| f.holds))
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
