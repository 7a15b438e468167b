//! The page: plots as inline SVG, before and after side by side; no script, nothing from elsewhere.

use std::fmt::{self, Write as _};

use super::{Outcome, Row, Shape, SimulateArgs, Totals, lines, time};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 66.0;
const BOTTOM: f64 = 32.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--paper:#f6f8fa;--card:#fff;--faint:#e3e8ee;--lag:#c2410c;--jobs:#1d4ed8;--wait:#93b4f5;--nodes:#047857}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa7b4;--paper:#0d1117;--card:#151b23;--faint:#2b3640;--lag:#fb923c;--jobs:#7aa2f7;--wait:#3b557f;--nodes:#34d399}}
*{box-sizing:border-box}body{margin:0;padding:1.2rem;background:var(--paper);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:80rem;margin:auto}h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0 0 .4rem;overflow-wrap:anywhere}
h2 small{color:var(--soft);font-weight:600;text-transform:uppercase;letter-spacing:.06em;font-size:.72rem;display:block}
h3{font-size:.85rem;font-weight:600;margin:.8rem 0 .1rem}p{margin:.3rem 0 1rem;color:var(--soft)}
section,.tile{background:var(--card);border:1px solid var(--faint);border-radius:.7rem;padding:.9rem;min-width:0}
.side{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));margin-bottom:1rem}
.tiles{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fit,minmax(min(46%,11rem),1fr));margin-bottom:1rem}
.tile b{display:block;font-size:1.6rem;line-height:1.2;white-space:nowrap}.tile span{display:block;color:var(--soft);font-size:.85rem}
.tile em{font-style:normal;font-weight:600;font-size:.85rem}.better{color:var(--nodes)}.worse{color:var(--lag)}
.knobs{display:flex;flex-wrap:wrap;gap:.3rem;margin:0}.knobs code{font-size:.78rem;border:1px solid var(--faint);border-radius:.4rem;padding:.05rem .4rem;color:var(--soft)}
.knobs code.new{color:var(--ink);border-color:var(--jobs);font-weight:600}
svg{width:100%;height:auto;display:block}text{fill:var(--soft);font:13px system-ui,sans-serif}.grid{stroke:var(--faint)}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid var(--faint)}tr:last-child td{border:0}
th,td:not(:first-child){white-space:nowrap}th:first-child,td:first-child{text-align:left}td.better,td.worse{font-weight:600}
.key{margin:0 0 .6rem}.key span{display:inline-block;margin-right:1rem}.key i{display:inline-block;width:.8em;height:.8em;border-radius:.2em;margin-right:.35em}
@media (max-width:40rem){body{padding:.8rem}text{font-size:25px}.odd{display:none}.tile b{font-size:1.3rem}}
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
    let Some(workers) = outcomes.first().map(|o| o.workers) else {
        return Ok(out);
    };
    let title = if outcomes.len() > 1 {
        "Before and after"
    } else {
        "What the scaler does"
    };
    write!(
        out,
        "<h1>{title}</h1><p>{}; {} a message, jobs start in {}, idle jobs end after {}; by KEDA {}</p>",
        escaped(&what(args)),
        time(workers.per_message),
        time(workers.machines.pod_start),
        time(workers.idle_exit),
        args.load.keda_version
    )?;
    tiles(&mut out, outcomes)?;
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
            (_, 0) => "before",
            _ => "after",
        };
        let file = outcome.file.file_name().unwrap_or(outcome.file.as_os_str()).to_string_lossy();
        write!(out, "<section><h2><small>{name}</small>{}</h2>", escaped(&file))?;
        knobs(&mut out, outcomes, outcome)?;
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

/// What arrives, for people.
fn what(args: &SimulateArgs) -> String {
    let load = &args.load;
    if let Some(path) = &load.trace {
        return format!("what came by {}", path.display());
    }
    let rate = format!("{} messages a second", load.rate);
    match load.shape {
        Shape::Burst => match load.over {
            None => format!("{} messages at once", load.messages),
            Some(over) => format!("{} messages within {}", load.messages, time(over.as_secs_f64())),
        },
        Shape::Steady => rate,
        Shape::Diurnal => format!("{rate} on average, by day and night"),
        Shape::Poison => format!("{rate}, {} % of them poisoned", load.workers.poison_share * 100.0),
        Shape::FromZero => format!("nothing, then {rate}"),
    }
}

/// The figures that people ask for first, large; of two outcomes the second, with what it was and how it compares.
fn tiles(out: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    let (Some(first), Some(last)) = (outcomes.first(), outcomes.last()) else {
        return Ok(());
    };
    let minutes = |t: &Totals| if t.node_minutes > 0.0 { t.node_minutes } else { t.pod_minutes };
    let whose = if last.totals.node_minutes > 0.0 {
        "node minutes"
    } else {
        "job minutes"
    };
    let plain = |v: f64| format!("{v:.1}");
    type Figure<'a> = (&'a str, &'a dyn Fn(&Totals) -> f64, &'a dyn Fn(f64) -> String, bool);
    let figures: [Figure<'_>; 4] = [
        ("to drain", &|t| t.drain_seconds, &time, true),
        ("95 % done within", &|t| t.latency_p95_seconds.unwrap_or(0.0), &time, true),
        ("jobs at one time", &|t| t.peak_running as f64, &|v| format!("{v:.0}"), false),
        (whose, &minutes, &plain, true),
    ];
    out.push_str("<div class=\"tiles\">");
    for (name, value, words, judged) in figures {
        let (before, now) = (value(&first.totals), value(&last.totals));
        write!(out, "<div class=\"tile\"><b>{}</b><span>{name}", words(now))?;
        if outcomes.len() > 1 {
            write!(out, ", was {}</span>{}", words(before), change(before, now, judged))?;
        } else {
            out.push_str("</span>");
        }
        out.push_str("</div>");
    }
    out.push_str("</div>");
    Ok(())
}

/// How a figure compares with what it was; less is better, where it is judged.
fn change(before: f64, now: f64, judged: bool) -> String {
    if before <= 0.0 || now <= 0.0 || !judged {
        return String::new();
    }
    let (class, words) = match now / before {
        r if r <= 0.67 => ("better", format!("{:.1} times less", 1.0 / r)),
        r if r < 0.99 => ("better", format!("{:.0} % less", (1.0 - r) * 100.0)),
        r if r <= 1.01 => ("same", "the same".to_owned()),
        r if r < 1.5 => ("worse", format!("{:.0} % more", (r - 1.0) * 100.0)),
        r => ("worse", format!("{r:.1} times as much")),
    };
    format!("<em class=\"{class}\">{words}</em>")
}

/// The settings that decide; what the files differ in stands out.
fn knobs(out: &mut String, all: &[Outcome], one: &Outcome) -> fmt::Result {
    out.push_str("<p class=\"knobs\">");
    for (n, (name, value)) in one.knobs.iter().enumerate() {
        let differs = all.iter().any(|o| o.knobs.get(n).is_some_and(|(_, other)| other != value));
        let class = if differs { " class=\"new\"" } else { "" };
        write!(out, "<code{class}>{name} {}</code>", escaped(value))?;
    }
    out.push_str("</p>");
    Ok(())
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn table(out: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    out.push_str("<section><table><thead><tr><th>total</th>");
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
        // Nodes and cost that nobody asked for.
        if ["node minutes", "cost"].contains(&name) && values.iter().all(|v| v.parse() == Ok(0.0)) {
            continue;
        }
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
    out.push_str("</tbody></table></section>");
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
    let step = step(span);
    for n in 0..=(span / step) as usize {
        let t = n as f64 * step;
        // Little room on a phone: every second one stays away.
        let class = if n % 2 == 1 { " class=\"odd\"" } else { "" };
        let anchor = if t > 0.95 * span { "end" } else { "middle" };
        write!(
            out,
            "<text{class} x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x(t),
            HEIGHT - 5.0,
            tick(t)
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

/// A round step, so that a span has four to ten of it.
fn step(span: f64) -> f64 {
    const ROUND: [f64; 15] = [
        1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 43_200.0, 86_400.0,
    ];
    let enough = |s: &&f64| span / **s <= 8.0;
    let days = (span / 86_400.0 / 8.0).ceil() * 86_400.0;
    ROUND.iter().find(enough).copied().unwrap_or(days)
}

fn tick(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        s if s < 60.0 || s % 60.0 > 0.0 => format!("{s:.0} s"),
        s if s < 7200.0 || s % 3600.0 > 0.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 || s % 86_400.0 > 0.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_time_are_round_and_few() {
        for (span, steps, last) in [
            (7.0, 1.0, "7 s"),
            (1290.0, 300.0, "20 min"),
            (86_400.0, 21_600.0, "24 h"),
            (3e6, 432_000.0, "30 d"),
        ] {
            assert_eq!(step(span), steps, "{span}");
            assert_eq!(tick((span / steps).floor() * steps), last);
        }
    }

    #[test]
    fn less_is_better_and_a_hair_is_nothing() {
        assert_eq!(change(21.0, 7.0, true), "<em class=\"better\">3.0 times less</em>");
        assert_eq!(change(84.0, 85.3, true), "<em class=\"worse\">2 % more</em>");
        assert!(change(10.0, 10.05, true).contains("the same"));
        assert_eq!(change(4.0, 12.0, false), "");
    }
}
