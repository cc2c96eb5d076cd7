//! Alternating pairs of ours and theirs, and what they may cost.
//!
//! What counts is the median of the differences in the pairs. On a machine that is not idle, where now and then all takes
//! twice the time, the two of a pair suffer alike; the medians of the two sides move apart by a tenth from run to run.

use std::time::Duration;

use crate::table::{Table, median, quantile, shown};

/// Where a ratio allows less than this over the baseline, this is allowed.
const SLACK: Duration = Duration::from_micros(1500);

/// Times of both sides.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    ours: Vec<Duration>,
    baseline: Vec<Duration>,
}

impl Pairs {
    pub(crate) fn add(&mut self, ours: Duration, baseline: Duration) {
        self.ours.push(ours);
        self.baseline.push(baseline);
    }

    pub(crate) fn report(&self, what: &str, ratio: f64, table: &mut Table) {
        let baseline = median(&self.baseline);
        let ours = self.over(baseline);
        let allowed = baseline.mul_f64(ratio).max(baseline + SLACK);
        let spread = |times: &[Duration]| {
            format!("{} to {}", shown(quantile(times, 0.1)), shown(quantile(times, 0.9)))
        };
        let note = format!(
            "{:.3} times {} ({} pairs; 10th to 90th of 100: ours {}, theirs {}; target {ratio} times or {} over)",
            ours.as_secs_f64() / baseline.as_secs_f64(),
            shown(baseline),
            self.ours.len(),
            spread(&self.ours),
            spread(&self.baseline),
            shown(SLACK),
        );
        table.add(what, ours, allowed, note, false);
    }

    /// The baseline, and by how much ours takes longer, or not as long.
    fn over(&self, baseline: Duration) -> Duration {
        let mut longer: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.baseline)
            .map(|(ours, baseline)| ours.as_secs_f64() - baseline.as_secs_f64())
            .collect();
        longer.sort_unstable_by(f64::total_cmp);
        let longer = longer.get(longer.len() / 2).copied().unwrap_or_default();
        Duration::try_from_secs_f64(baseline.as_secs_f64() + longer).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_met(ours: u64, baseline: u64) -> bool {
        let mut pairs = Pairs::default();
        for noise in 0..60 {
            pairs.add(Duration::from_micros(ours + noise), Duration::from_micros(baseline + noise));
        }
        let mut table = Table::default();
        pairs.report("a life", 1.25, &mut table);
        table.is_met()
    }

    #[test]
    fn the_target_is_a_ratio_or_some_slack() {
        assert!(is_met(12_400, 10_000));
        assert!(!is_met(12_700, 10_000));
        // 1.5 ms over a short life is more than a quarter of it.
        assert!(is_met(5_400, 4_000));
        assert!(!is_met(5_600, 4_000));
    }

    #[test]
    fn what_hits_both_of_a_pair_does_not_count() {
        let mut pairs = Pairs::default();
        // Half of the pairs, and one more of ours and one less of theirs, fall on a busy moment.
        for pair in 0_u64..101 {
            let busy = |until| if pair < until { 20_000 } else { 0 };
            pairs.add(Duration::from_micros(11_000 + busy(51)), Duration::from_micros(10_000 + busy(50)));
        }
        let over = pairs.over(median(&pairs.baseline));
        assert_eq!(over.as_micros(), 11_000);
        assert_eq!(Pairs::default().over(Duration::ZERO), Duration::ZERO);
    }
}
