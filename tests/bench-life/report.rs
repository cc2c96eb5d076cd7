//! What the pairs say: medians, their ratio, and whether the target is met.

use std::fmt;
use std::time::Duration;

/// The target: at most this many times the baseline ...
const RATIO: f64 = 1.25;
/// ... or this much over it, where that is more.
const SLACK: Duration = Duration::from_micros(1500);

pub(crate) struct Report {
    runtime: String,
    ours: Vec<Duration>,
    baseline: Vec<Duration>,
}

impl Report {
    pub(crate) fn new(runtime: &str) -> Self {
        Self { runtime: runtime.to_owned(), ours: Vec::new(), baseline: Vec::new() }
    }

    pub(crate) fn add(&mut self, ours: Duration, baseline: Duration) {
        self.ours.push(ours);
        self.baseline.push(baseline);
    }

    pub(crate) fn is_met(&self) -> bool {
        quantile(&self.ours, 0.5) <= self.allowed()
    }

    fn allowed(&self) -> Duration {
        let baseline = quantile(&self.baseline, 0.5);
        baseline.mul_f64(RATIO).max(baseline + SLACK)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "one whole life on {}, {} alternating pairs", self.runtime, self.ours.len())?;
        writeln!(f, "{:<12} {:>12} {:>12} {:>12}", "", "median", "10th of 100", "90th of 100")?;
        for (name, lives) in [("runtime-oci", &self.ours), ("baseline", &self.baseline)] {
            let [median, low, high] = [0.5, 0.1, 0.9].map(|part| shown(quantile(lives, part)));
            writeln!(f, "{name:<12} {median:>12} {low:>12} {high:>12}")?;
        }
        let (ours, baseline) = (quantile(&self.ours, 0.5), quantile(&self.baseline, 0.5));
        let ratio = ours.as_secs_f64() / baseline.as_secs_f64();
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        writeln!(
            f,
            "ratio {ratio:.2}; target: at most {RATIO} times the baseline or {} over it, so {}: {verdict}",
            shown(SLACK),
            shown(self.allowed())
        )
    }
}

/// The life below which this part of all lives is; zero without lives.
fn quantile(lives: &[Duration], part: f64) -> Duration {
    let mut sorted = lives.to_vec();
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

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: u64, baseline: u64) -> Report {
        let mut report = Report::new("crun");
        for noise in 0..60 {
            report.add(Duration::from_micros(ours + noise), Duration::from_micros(baseline + noise));
        }
        report
    }

    #[test]
    fn the_target_is_a_ratio_or_some_slack() {
        assert!(report(12_400, 10_000).is_met());
        assert!(!report(12_700, 10_000).is_met());
        // 1.5 ms over a short life is more than a quarter of it.
        assert!(report(5_400, 4_000).is_met());
        assert!(!report(5_600, 4_000).is_met());
    }

    #[test]
    fn the_table_tells_medians_ratio_and_verdict() {
        let text = report(20_000, 10_000).to_string();
        assert!(text.contains("20.03 ms") && text.contains("10.03 ms"), "{text}");
        assert!(text.contains("ratio 2.00") && text.contains("MISSED"), "{text}");
    }
}
