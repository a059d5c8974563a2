//! Consul's counting of results: a status changes after so many results in a row.
//!
//! A good result (passing or warning) is told once enough of them came in a row; a failure first
//! changes nothing, then warns, then is critical, by the two counts of the definition. Unlike
//! [`crate::health::Condition`] it knows no unknown results, and starts from what was told last.

use super::definition::Definition;
use super::record::Status;

/// The results of one check in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// Takes a result; the status to tell, or `None` to leave what was told before.
    pub fn add(&mut self, definition: &Definition, result: Status) -> Option<Status> {
        if result < Status::Critical {
            self.bad = 0;
            self.good = self.good.saturating_add(1);
            return (self.good >= definition.successes).then_some(result);
        }
        self.good = 0;
        self.bad = self.bad.saturating_add(1);
        let warning = match definition.failures_warning {
            0 => definition.failures,
            some => some,
        };
        if self.bad >= definition.failures {
            Some(Status::Critical)
        } else if self.bad >= warning {
            Some(Status::Warning)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::Way;
    use super::*;

    fn course(successes: u32, warning: u32, critical: u32, results: &str) -> String {
        let definition = Definition {
            way: Way::Ttl { ttl_ms: 1 },
            interval_ms: 0,
            timeout_ms: 0,
            successes,
            failures_warning: warning,
            failures: critical,
            reap_ms: None,
        };
        let mut streak = Streak::default();
        let told = results.chars().map(|letter| {
            let result = match letter {
                'p' => Status::Passing,
                'w' => Status::Warning,
                _ => Status::Critical,
            };
            match streak.add(&definition, result) {
                None => '-',
                Some(Status::Passing) => 'P',
                Some(Status::Warning) => 'W',
                Some(Status::Critical) => 'C',
            }
        });
        told.collect()
    }

    #[test]
    fn results_are_told_by_the_table() {
        for (successes, warning, critical, results, told) in [
            (0, 0, 0, "pwfp", "PWCP"),
            (1, 1, 1, "pwfp", "PWCP"),
            (3, 0, 0, "pppfpppw", "--PC--PW"),
            (0, 0, 3, "pfffp", "P--CP"),
            (0, 0, 3, "pffpff", "P--P--"),
            (0, 1, 3, "pfffp", "PWWCP"),
            (0, 2, 3, "pffff", "P-WCC"),
            (2, 0, 2, "wfwffpp", "----C-P"),
        ] {
            assert_eq!(course(successes, warning, critical, results), told, "{results}");
        }
    }
}
