//! The page: plots as inline SVG, before and after side by side; no script, nothing from elsewhere.

use std::fmt::{self, Write as _};

use super::{Outcome, Row, SimulateArgs, lines, time};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 24.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2733;--paper:#fff;--faint:#e3e8ee;--lag:#c2410c;--jobs:#1d4ed8;--wait:#93b4f5;--nodes:#047857}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0f151b;--faint:#2b3640;--lag:#fb923c;--jobs:#7aa2f7;--wait:#3b557f;--nodes:#34d399}}
*{box-sizing:border-box}body{margin:0;padding:1rem;background:var(--paper);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:88rem;margin:auto}h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.05rem;margin:.2rem 0 .6rem;overflow-wrap:anywhere}
h3{font-size:.85rem;font-weight:600;margin:.7rem 0 .1rem}p{margin:.3rem 0 1rem}
.side{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
section{border:1px solid var(--faint);border-radius:.6rem;padding:.8rem;min-width:0}svg{width:100%;height:auto;display:block}
text{fill:var(--ink);font:13px system-ui,sans-serif}.grid{stroke:var(--faint)}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid var(--faint)}
th,td:not(:first-child){white-space:nowrap}th:first-child,td:first-child{text-align:left}td.better{color:var(--nodes);font-weight:600}td.worse{color:var(--lag);font-weight:600}
.key span{display:inline-block;margin-right:1rem}@media (max-width:40rem){text{font-size:18px}}table{margin-top:1rem}
.key i{display:inline-block;width:.8em;height:.8em;border-radius:.2em;margin-right:.35em}
";

/// The page as text.
///
/// # Errors
/// Never in practice: writing to a text does not fail.
pub fn page(outcomes: &[Outcome], args: &SimulateArgs) -> Result<String, fmt::Error> {
    let mut out = String::new();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Scaler simulation</title><style>{STYLE}</style></head><body><main>"
    )?;
    let what = match &args.load.trace {
        Some(path) => format!("the trace {}", path.display()),
        None => format!("{:?}", args.load.shape).to_lowercase(),
    };
    let title = if outcomes.len() > 1 {
        "Before and after"
    } else {
        "What the scaler does"
    };
    write!(
        out,
        "<h1>{title}</h1><p>{}: {} a message, jobs start in {}, idle jobs end after {}, by KEDA {}.</p>",
        escaped(&what),
        time(args.load.workers.per_message.as_secs_f64()),
        time(args.load.workers.pod_start.as_secs_f64()),
        time(args.load.workers.idle_exit.as_secs_f64()),
        args.load.keda_version
    )?;
    out.push_str("<p class=\"key\"><span><i style=\"background:var(--lag)\"></i>lag, messages</span><span><i style=\"background:var(--jobs)\"></i>jobs at work</span><span><i style=\"background:var(--wait)\"></i>jobs starting</span>");
    if args.load.workers.jobs_per_node > 0 {
        out.push_str("<span><i style=\"background:var(--nodes)\"></i>nodes</span>");
    }
    out.push_str("</p><div class=\"side\">");
    // One scale for both, so that the eye compares what is there.
    let span = outcomes.iter().map(|o| o.totals.seconds).fold(1.0, f64::max);
    let lag = outcomes.iter().map(|o| o.totals.peak_lag).max().unwrap_or(1).max(1) as f64;
    let jobs = outcomes
        .iter()
        .flat_map(|o| &o.rows)
        .map(|r| (r.running + r.created).max(count(r.nodes)))
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    for (n, outcome) in outcomes.iter().enumerate() {
        let name = match (outcomes.len(), n) {
            (1, _) => "",
            (_, 0) => "before: ",
            _ => "after: ",
        };
        write!(out, "<section><h2>{name}{}</h2>", escaped(&outcome.file.display().to_string()))?;
        out.push_str("<h3>Lag</h3>");
        plot(&mut out, &outcome.rows, span, lag, &[("--lag", true, &|r| r.lag as f64)])?;
        out.push_str("<h3>Jobs</h3>");
        let nodes: Line<'_> = ("--nodes", false, &|r| r.nodes as f64);
        let mut series: Vec<Line<'_>> = vec![
            ("--wait", true, &|r| (r.running + r.created) as f64),
            ("--jobs", true, &|r| (r.running - r.pending) as f64),
        ];
        if args.load.workers.jobs_per_node > 0 {
            series.push(nodes);
        }
        plot(&mut out, &outcome.rows, span, jobs, &series)?;
        out.push_str("</section>");
    }
    out.push_str("</div>");
    table(&mut out, outcomes)?;
    out.push_str("</main></body></html>\n");
    Ok(out)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn table(out: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    out.push_str("<table><thead><tr><th>total</th>");
    for (n, _) in outcomes.iter().enumerate() {
        let name = match (outcomes.len(), n) {
            (1, _) => "",
            (_, 0) => "before",
            _ => "after",
        };
        write!(out, "<th>{name}</th>")?;
    }
    out.push_str("</tr></thead><tbody>");
    let better = better(outcomes);
    for (n, (name, values)) in lines(outcomes).into_iter().enumerate() {
        write!(out, "<tr><td>{name}</td>")?;
        for (column, value) in values.iter().enumerate() {
            let class = match better.get(n).copied().flatten() {
                Some(true) if column == 1 => " class=\"better\"",
                Some(false) if column == 1 => " class=\"worse\"",
                _ => "",
            };
            write!(out, "<td{class}>{}</td>", escaped(value))?;
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    Ok(())
}

/// For each total whether the second outcome is better; nothing when there is no second, or no difference to speak of.
fn better(outcomes: &[Outcome]) -> Vec<Option<bool>> {
    let (Some(a), Some(b)) = (outcomes.first(), outcomes.get(1)) else {
        return Vec::new();
    };
    let (a, b) = (&a.totals, &b.totals);
    let less = |a: f64, b: f64| ((a - b).abs() > 0.01 * a.abs().max(b.abs())).then_some(b < a);
    let of = |v: Option<f64>| v.unwrap_or(0.0);
    vec![
        less(a.drain_seconds, b.drain_seconds),
        less(of(a.latency_p50_seconds), of(b.latency_p50_seconds)),
        less(of(a.latency_p95_seconds), of(b.latency_p95_seconds)),
        less(of(a.latency_p99_seconds), of(b.latency_p99_seconds)),
        None,
        less(a.left, b.left),
        None,
        less(a.idle_starts as f64, b.idle_starts as f64),
        None,
        less(a.peak_lag as f64, b.peak_lag as f64),
        less(a.pod_minutes, b.pod_minutes),
        less(a.node_minutes, b.node_minutes),
        less(a.cost, b.cost),
    ]
}

/// A colour, whether its area is filled, and what it shows.
type Line<'a> = (&'a str, bool, &'a dyn Fn(&Row) -> f64);

fn plot(out: &mut String, rows: &[Row], span: f64, top: f64, series: &[Line<'_>]) -> fmt::Result {
    let x = |t: f64| LEFT + (WIDTH - LEFT - 8.0) * t / span;
    let y = |v: f64| 20.0 + (HEIGHT - BOTTOM - 20.0) * (1.0 - v.max(0.0) / top);
    write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">")?;
    for n in 0..=2 {
        let value = top * f64::from(n) / 2.0;
        let at = y(value);
        write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            short(value)
        )?;
    }
    for n in 0..=4 {
        let t = span * f64::from(n) / 4.0;
        let anchor = if n == 4 { "end" } else { "middle" };
        write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x(t),
            HEIGHT - 6.0,
            time(t)
        )?;
    }
    for (colour, filled, value) in series {
        let mut path = String::new();
        let mut last = 0.0;
        for (n, row) in rows.iter().enumerate() {
            // A step: what a look saw holds until the next.
            if n == 0 {
                write!(path, "M{:.1} {:.1}", x(row.t), y(value(row)))?;
            } else {
                write!(path, "H{:.1}V{:.1}", x(row.t), y(value(row)))?;
            }
            last = row.t;
        }
        if *filled {
            let first = rows.first().map_or(0.0, |r| r.t);
            write!(
                out,
                "<path d=\"{path}V{0:.1}H{1:.1}Z\" fill=\"var({colour})\" fill-opacity=\".85\"/>",
                y(0.0),
                x(first)
            )?;
        } else {
            write!(
                out,
                "<path d=\"{path}H{:.1}\" fill=\"none\" stroke=\"var({colour})\" stroke-width=\"2\"/>",
                x(last)
            )?;
        }
    }
    out.push_str("</svg>");
    Ok(())
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v.fract() > 0.01 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
