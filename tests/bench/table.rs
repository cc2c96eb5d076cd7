//! What was measured, one row for each target.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    figure: Duration,
    target: Duration,
    note: String,
    met: bool,
}

impl Table {
    /// A figure that must be below its target. `broken` is what else went wrong, if anything did.
    pub(crate) fn add(&mut self, what: &str, figure: Duration, target: Duration, note: String, broken: bool) {
        let met = figure <= target && !broken;
        self.0.push(Row { what: what.to_owned(), figure, target, note, met });
    }

    pub(crate) fn is_met(&self) -> bool {
        self.0.iter().all(|row| row.met)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>11} {:>11}  {:<7} note", "", "median", "target", "")?;
        for row in &self.0 {
            let verdict = if row.met { "met" } else { "MISSED" };
            let (figure, target) = (shown(row.figure), shown(row.target));
            writeln!(f, "{:<44} {figure:>11} {target:>11}  {verdict:<7} {}", row.what, row.note)?;
        }
        Ok(())
    }
}

/// The time below which this part of all is; zero if there is none.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a small count"
    )]
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

pub(crate) fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

pub(crate) fn shown(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{:.1} us", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_missed_by_time_or_by_something_else() {
        let mut table = Table::default();
        let ms = Duration::from_millis;
        table.add("fast", ms(5), ms(10), String::new(), false);
        assert!(table.is_met());
        table.add("fast but wrong", ms(5), ms(10), "it forked".to_owned(), true);
        assert!(!table.is_met());
        let text = table.to_string();
        assert!(text.contains("5.00 ms") && text.contains("MISSED  it forked"), "{text}");
    }
}
