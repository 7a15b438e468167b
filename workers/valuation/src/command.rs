//! `valuation appraise FILE`: a fact sheet in, a report out, without any server.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use messages::facts::FactSheet;

use crate::appraise::{Appraisal, Impossible, appraise, word};
use crate::report::{Applied, ApproachReport, IncomeReport, MarketReport, MethodReport, Report};

/// Fact sheets are smaller than this.
const LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct AppraiseArgs {
    /// A fact sheet as JSON; - reads standard input
    pub file: PathBuf,
    /// Print the report as canonical JSON, without a line end: its SHA-256 is what the token commits to
    #[arg(long)]
    pub json: bool,
}

/// Appraises and prints. Ends with 0 when there is a value, 1 when the facts do not lead to one, 2 when the file
/// cannot be read.
pub fn run(args: &AppraiseArgs) -> ExitCode {
    let sheet = match read(&args.file) {
        Ok(sheet) => sheet,
        Err(e) => {
            eprintln!("{e:#}");
            return ExitCode::from(2);
        }
    };
    match appraise(&sheet) {
        Ok(appraisal) if args.json => {
            print!("{}", appraisal.text);
            ExitCode::SUCCESS
        }
        Ok(appraisal) => {
            print!("{}", in_words(&appraisal));
            ExitCode::SUCCESS
        }
        Err(impossible) => {
            if args.json {
                println!("{}", refusal(&impossible));
            }
            eprintln!("{} cannot be valued: {impossible}", sheet.asset_id);
            ExitCode::from(1)
        }
    }
}

/// Reads a fact sheet.
///
/// # Errors
/// What is wrong with the file, and where in it.
pub fn read(path: &Path) -> anyhow::Result<FactSheet> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LIMIT).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text))
    };
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a fact sheet", path.display()))
}

fn refusal(impossible: &Impossible) -> serde_json::Value {
    let missing = match impossible {
        Impossible::NoApproach(missing) => serde_json::json!(missing),
        Impossible::Schema(_) | Impossible::Currency(_) | Impossible::NotPositive | Impossible::Overflow(_) => serde_json::json!([]),
    };
    serde_json::json!({ "code": impossible.code(), "reason": impossible.to_string(), "missing": missing })
}

/// The report for a person.
fn in_words(appraisal: &Appraisal) -> String {
    let r: &Report = &appraisal.report;
    let mut lines = vec![
        format!("{} of tenant {}, as of {}", r.asset_id, r.tenant, r.valuation_date),
        format!("value       {} {} ({}, {})", r.value, r.currency, r.status, r.basis_of_value),
        format!("90 % range  {} to {}", r.range.low, r.range.high),
        format!("confidence  {} of 100", r.confidence.score),
    ];
    for approach in &r.approaches {
        match approach {
            ApproachReport::Applied {
                approach,
                indication,
                weight,
                market,
                income,
                ..
            } => {
                lines.push(format!("{} approach: {indication}, weight {weight}", word(*approach)));
                lines.extend(market.iter().flat_map(|market| market_in_words(market)));
                lines.extend(income.iter().flat_map(|income| income_in_words(income)));
            }
            ApproachReport::NotApplicable { approach, missing } => {
                lines.push(format!("{} approach does not apply: {}", word(*approach), missing.join("; ")));
            }
        }
    }
    lines.extend(r.review_reasons.iter().map(|reason| format!("a person must look: {reason}")));
    lines.extend(
        r.sensitivity
            .scenarios
            .iter()
            .map(|s| format!("  {:<58} {:>16}", s.change, s.value)),
    );
    lines.push("limitations".to_owned());
    lines.extend(r.limitations.iter().map(|text| format!("  - {text}")));
    lines.push(format!("model {} {}, inputs {}", r.model.name, r.model.version, r.inputs_sha256));
    lines.push(format!("report {}", appraisal.report_sha256));
    lines.join("\n") + "\n"
}

fn market_in_words(market: &MarketReport) -> Vec<String> {
    let used = market.comparables.iter().map(|line| {
        let (id, price, adjusted) = (&line.id, &line.price, &line.adjusted_price);
        format!(
            "  {id:<12} {price:>16} -> {adjusted:>16}  gross {}  weight {}",
            line.gross_adjustment, line.weight
        )
    });
    let rejected = market.rejected.iter().map(|r| format!("  {:<12} not used: {}", r.id, r.reason));
    used.chain(rejected).collect()
}

fn income_in_words(income: &IncomeReport) -> Vec<String> {
    let s = &income.statement;
    let mut lines: Vec<String> = s
        .tenancies
        .iter()
        .map(|t| format!("  {:<24} {:>16}", t.unit, t.annual_rent))
        .collect();
    lines.extend(s.rejected.iter().map(|t| format!("  {:<24} not used: {}", t.unit, t.reason)));
    for (what, amount) in [
        ("potential gross income", &s.potential_gross_income),
        ("effective gross income", &s.effective_gross_income),
        ("operating expenses", &s.operating_expenses),
        ("net operating income", &s.net_operating_income),
    ] {
        lines.push(format!("  {what:<24} {amount:>16}"));
    }
    lines.extend(income.methods.iter().map(|method| match method {
        MethodReport::DirectCapitalisation(applied) => method_in_words("direct capitalisation", applied),
        MethodReport::DiscountedCashFlow(applied) => method_in_words("discounted cash flow", applied),
    }));
    lines
}

fn method_in_words<T>(name: &str, applied: &Applied<T>) -> String {
    match applied {
        Applied::Applied { indication, weight, .. } => format!("  {name:<24} {indication:>16}  weight {weight}"),
        Applied::NotApplicable { missing } => format!("  {name} does not apply: {}", missing.join("; ")),
    }
}
