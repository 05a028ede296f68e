//! When the log is emptied of what was erased, of which it may hold copies from the time it was stored.
//!
//! Emptying it costs a write-back, two syncs and a log that grows anew, so it waits until nothing was committed for a moment; but not for more than some
//! hundred commits, however busy the store is. After an unclean end nobody knows what the log holds: it is emptied then as well, once the start is over.

/// Commits after which it is emptied although others follow.
const MOST_COMMITS: u32 = 256;
/// Calls without a commit that are a rest: the owner makes one after each turn, and one every few milliseconds while anything waits.
const REST: u32 = 1;
/// The same after an unclean end, when all start at once.
const REST_AFTER_START: u32 = 100;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    holds_erased: bool,
    /// Commits since it does.
    commits: u32,
    /// Calls since the last commit.
    quiet: u32,
    /// Quiet calls that are enough.
    rest: u32,
}

impl Forgetting {
    /// `unclean`: an earlier process left the log as it is.
    pub(crate) fn new(unclean: bool) -> Forgetting {
        Forgetting { holds_erased: unclean, rest: REST_AFTER_START, ..Forgetting::default() }
    }

    /// A message is being erased.
    pub(crate) fn erased(&mut self) {
        self.holds_erased = true;
        self.rest = REST;
    }

    pub(crate) fn committed(&mut self) {
        self.commits += u32::from(self.holds_erased);
        self.quiet = 0;
    }

    pub(crate) fn waits(&self) -> bool {
        self.holds_erased
    }

    /// Is it time? To be asked between two turns.
    pub(crate) fn is_due(&mut self) -> bool {
        if !self.holds_erased {
            return false;
        }
        self.quiet += 1;
        self.quiet > self.rest || self.commits >= MOST_COMMITS
    }

    /// The log is empty.
    pub(crate) fn emptied(&mut self) {
        *self = Forgetting { rest: REST, ..Forgetting::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_emptied_in_a_rest_or_after_many_commits_and_only_then() {
        let mut forgetting = Forgetting::new(false);
        (0..1000).for_each(|_| forgetting.committed());
        assert!(!forgetting.is_due() && !forgetting.waits());
        forgetting.erased();
        forgetting.committed();
        assert!(!forgetting.is_due() && forgetting.is_due());
        forgetting.emptied();
        assert!(!forgetting.is_due() && !forgetting.waits());
        let mut emptied = 0;
        for _ in 0..10_000 {
            forgetting.erased();
            forgetting.committed();
            if forgetting.is_due() {
                emptied += 1;
                forgetting.emptied();
            }
        }
        assert_eq!(emptied, 10_000 / MOST_COMMITS);
    }

    #[test]
    fn what_an_earlier_process_left_waits_for_the_start_to_be_over() {
        let mut forgetting = Forgetting::new(true);
        forgetting.committed();
        assert_eq!((0..200).position(|_| forgetting.is_due()), Some(REST_AFTER_START as usize));
    }
}
