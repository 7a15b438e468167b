//! The table that stands at the foot of a terminal: every worker's lag and jobs, as they are now.

use std::io::Write as _;

/// Cells of a bar.
const BAR: usize = 16;

/// A worker's line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    pub worker: String,
    /// Nothing before the first look, or while looks fail.
    pub lag: Option<i64>,
    pub wanted: i64,
    pub running: usize,
    /// Of them, those that have not begun, those between two tries included.
    pub starting: usize,
    pub retrying: usize,
    pub succeeded: u64,
    pub failed: u64,
}

/// What is drawn at the foot, and how to draw it anew.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    /// The most lag that was seen, a worker: a full bar.
    peaks: Vec<i64>,
    drawn: usize,
}

impl Table {
    /// Draws what is new; nothing when nothing is.
    pub fn show(&mut self, rows: Vec<Row>) {
        if rows == self.rows {
            return;
        }
        self.peaks.resize(rows.len(), 0);
        for (peak, row) in self.peaks.iter_mut().zip(&rows) {
            *peak = row.lag.unwrap_or(0).max(*peak);
        }
        self.rows = rows;
        self.put(&self.over(""));
        self.drawn = self.rows.len() + 1;
    }

    /// A line above the table.
    pub fn say(&mut self, line: &str) {
        self.put(&self.over(&format!("{line}\n")));
    }

    /// What is drawn goes, a text comes, and the table is drawn below it.
    fn over(&self, text: &str) -> String {
        let up = if self.drawn > 0 {
            format!("\x1b[{}A\r\x1b[J", self.drawn)
        } else {
            String::new()
        };
        // Lines that are too long for the terminal are cut, so that the height is known.
        let table: String = lines(&self.rows, &self.peaks)
            .iter()
            .map(|l| format!("\x1b[?7l{l}\x1b[?7h\n"))
            .collect();
        format!("{up}{text}{table}")
    }

    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that is gone is no reason to stop scaling; the signal for that comes by itself.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

fn lines(rows: &[Row], peaks: &[i64]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "\x1b[1m{:<12} {:>9} {:<BAR$} {:>6} {:>7} {:>8} {:>8} {:>9} {:>6}\x1b[0m",
        "worker", "lag", "", "wanted", "running", "starting", "retrying", "succeeded", "failed"
    )];
    lines.extend(rows.iter().zip(peaks).map(|(row, peak)| {
        let lag = row.lag.map_or_else(|| "?".to_owned(), |lag| lag.to_string());
        format!(
            "{:<12} {lag:>9} {:<BAR$} {:>6} {:>7} {:>8} {:>8} {:>9} {:>6}",
            row.worker,
            bar(row.lag.unwrap_or(0), *peak),
            row.wanted,
            row.running,
            row.starting,
            row.retrying,
            row.succeeded,
            row.failed
        )
    }));
    lines
}

/// A share of the peak; whatever there is shows.
fn bar(lag: i64, peak: i64) -> String {
    let cells = (lag.max(0) as f64 / peak.max(1) as f64 * BAR as f64).ceil() as usize;
    "█".repeat(cells.min(BAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_worker_under_one_heading_all_equally_long() {
        let row = |worker: &str, lag| Row {
            worker: worker.to_owned(),
            lag,
            wanted: 3,
            running: 2,
            ..Row::default()
        };
        let rows = [row("ingestion", Some(120)), row("backup", None), row("minting", Some(0))];
        let lines = lines(&rows, &[240, 0, 5]);
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("ingestion          120 ████████         "), "{}", lines[1]);
        assert!(lines[2].starts_with("backup               ?                  "), "{}", lines[2]);
        let width = |line: &str| line.replace("\x1b[1m", "").replace("\x1b[0m", "").chars().count();
        assert!(lines.iter().all(|line| width(line) == width(&lines[1])), "{lines:#?}");
    }

    #[test]
    fn one_message_of_many_still_shows() {
        assert_eq!((bar(1, 5000).as_str(), bar(0, 0).as_str()), ("█", ""));
        assert_eq!(bar(5000, 5000).chars().count(), BAR);
    }

    #[test]
    fn what_is_said_goes_above_and_the_table_is_drawn_anew() {
        let table = Table {
            rows: vec![Row::default()],
            peaks: vec![0],
            drawn: 2,
        };
        let text = table.over("a job started\n");
        assert!(text.starts_with("\x1b[2A\r\x1b[Ja job started\n"), "{text:?}");
        assert_eq!(text.matches('\n').count(), 3);
    }
}
