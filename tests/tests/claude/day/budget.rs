//! An agent that has spent its budget, and gets a higher budget.

use super::{Day, Tasks};

impl Day {
    pub(super) fn finds_a_budget_spent(&self, Tasks { slow, .. }: &Tasks) {
        self.world.api.release("slow");
        let spent = "the task has spent $0.0012 of $0.001";
        let line = format!("✗ slow ({slow}) failed: {spent}");
        self.shell
            .fails(&format!("claudine wait {slow}"), 1)
            .has(&[&line]);
        self.shell
            .types("claudine list --failed")
            .fits()
            .row_has(slow, &["✗ failed", "slow", "$0.0012"]);
        self.shell
            .types(&format!("claudine status {slow}"))
            .has(&["Cost       $0.0012 of $0.001", "● Bash  cat cart.py"]);
        // Every view names the same command.
        let hint = format!("claudine resume {slow} --budget-usd 0.005");
        let quoted = format!("`{hint}`");
        self.shell
            .types(&format!("claudine why {slow}"))
            .fits()
            .has(&[&quoted])
            .says(&[spent]);
        self.shell
            .fails(&format!("claudine resume {slow}"), 125)
            .fits()
            .has(&[&quoted])
            .says(&[spent]);
        let status = self.shell.types(&format!("claudine status {slow}"));
        let copied = status.copied("claudine resume");
        assert_eq!(copied, hint, "{status}");
        self.shell.types(&copied);
        let line = format!("✓ slow ({slow}) succeeded");
        self.shell
            .types(&format!("claudine wait {slow}"))
            .has(&[&line]);
        self.shell
            .types(&format!("claudine status {slow}"))
            .has(&["Cost       $0.0016 of $0.005", "Result:", "Nothing is."])
            .has_not(&["Hint"]);
    }
}
