//! How a clause came out, and how many came out how.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a clause came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The runtime keeps the clause.
    Passed,
    /// The runtime does not declare what the clause is about, and refuses it as it must.
    Refused,
    /// The runtime breaks the clause.
    Failed,
    /// The clause did not come to an end within its deadline.
    TimedOut,
    /// The host lacks something; the reason names it.
    Skipped,
    /// The runtime breaks the clause, which is known; the link leads to the report.
    KnownFailures,
    /// The clause is listed as known to fail and passed: the list is out of date. Counts as a failure.
    SurprisePasses,
    /// The clause passed and something was left behind. Counts as a failure.
    Leaked,
    /// The suite could not run the clause. Counts as a failure.
    NotRun,
}

impl Verdict {
    /// Every verdict, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Passed,
        Self::Refused,
        Self::Failed,
        Self::TimedOut,
        Self::Skipped,
        Self::KnownFailures,
        Self::SurprisePasses,
        Self::Leaked,
        Self::NotRun,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Skipped => "skipped",
            Self::KnownFailures => "known_failures",
            Self::SurprisePasses => "surprise_passes",
            Self::Leaked => "leaked",
            Self::NotRun => "not_run",
        }
    }

    /// Whether a test run that has this verdict is not a success.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::SurprisePasses | Self::Leaked | Self::NotRun)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many clauses came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field counts the verdict of its name")]
pub struct Summary {
    pub passed: usize,
    pub refused: usize,
    pub failed: usize,
    pub timed_out: usize,
    pub skipped: usize,
    pub known_failures: usize,
    pub surprise_passes: usize,
    pub leaked: usize,
    pub not_run: usize,
    /// All of them.
    pub total: usize,
    /// Those whose body ran: passed, failed, timed out, leaked, known failures and surprise passes.
    pub executed: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        let mut summary = Self::default();
        for verdict in verdicts {
            *match verdict {
                Verdict::Passed => &mut summary.passed,
                Verdict::Refused => &mut summary.refused,
                Verdict::Failed => &mut summary.failed,
                Verdict::TimedOut => &mut summary.timed_out,
                Verdict::Skipped => &mut summary.skipped,
                Verdict::KnownFailures => &mut summary.known_failures,
                Verdict::SurprisePasses => &mut summary.surprise_passes,
                Verdict::Leaked => &mut summary.leaked,
                Verdict::NotRun => &mut summary.not_run,
            } += 1;
            summary.total += 1;
        }
        summary.executed = summary.total - summary.refused - summary.skipped - summary.not_run;
        summary
    }

    /// `N passed, N failed, N skipped`: refused ones passed, known failures were skipped, and everything else that
    /// is not right failed.
    #[must_use]
    pub fn closing_line(&self) -> String {
        let failed = self.failed + self.timed_out + self.leaked + self.surprise_passes + self.not_run;
        format!(
            "{} passed, {failed} failed, {} skipped",
            self.passed + self.refused,
            self.skipped + self.known_failures
        )
    }

    /// The exit code of a run: 3 when nothing ran, 1 for failures, 4 for leaks only, 0 otherwise.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        if self.executed + self.refused + self.not_run == 0 {
            3
        } else if self.failed + self.timed_out + self.surprise_passes + self.not_run > 0 {
            1
        } else if self.leaked > 0 {
            4
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_counted_under_its_own_name() {
        let all = Summary::of(Verdict::ALL);
        let counted = serde_json::to_value(all).unwrap();
        for verdict in Verdict::ALL {
            assert_eq!(counted[verdict.as_str()], 1, "{verdict}");
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
        assert_eq!((all.total, all.executed), (9, 6));
        assert_eq!(all.closing_line(), "2 passed, 5 failed, 2 skipped");
    }

    #[test]
    fn the_exit_code_is_the_first_that_applies() {
        use Verdict::{Failed, KnownFailures, Leaked, NotRun, Passed, Refused, Skipped, SurprisePasses};
        let code = |verdicts: &[Verdict]| Summary::of(verdicts.iter().copied()).exit_code();
        assert_eq!(code(&[]), 3);
        assert_eq!(code(&[Skipped]), 3);
        assert_eq!(code(&[Passed, KnownFailures, Skipped]), 0);
        assert_eq!(code(&[Refused]), 0);
        assert_eq!(code(&[Passed, Leaked]), 4);
        assert_eq!(code(&[Leaked, Failed]), 1);
        assert_eq!(code(&[Passed, SurprisePasses]), 1);
        assert_eq!(code(&[NotRun]), 1);
    }
}
