//! Three agents in separate worktrees, and a fourth agent that waits for one of the three.

use super::{
    Day, Tasks,
    agents::{CURRENCY, NOTES, SLOW, TOTAL},
};

impl Day {
    pub(super) fn hands_over(&self) -> Tasks {
        let merged = "--worktree --merge auto --allowed-tools 'Bash(sed:*)'";
        let total = self.delegates(&format!("--name total {merged}"), TOTAL);
        let currency = self.delegates(&format!("--name currency {merged}"), CURRENCY);
        let slow = self.delegates("--name slow --worktree --budget-usd 0.001", SLOW);
        let after = format!("--name notes --depends-on-success {currency}");
        let reads = "--allowed-tools 'Bash(git log:*)'";
        let notes = self.delegates(&format!("{after} {reads}"), NOTES);
        for (point, id) in [("total", &total), ("currency", &currency), ("slow", &slow)] {
            self.world.reach(point);
            self.world.host.live(id);
        }
        let list = self.shell.types("claudine list");
        list.fits()
            .has(&["3 running · 1 queued · 4 in all"])
            .row_has(&total, &["● running", "total", "Count the total"])
            .row_has(&currency, &["● running", "currency"])
            .row_has(&slow, &["● running", "slow"])
            .row_has(&notes, &["○ blocked", "notes"]);
        self.shell.types(&format!("claudine why {notes}")).has(&[
            &format!("{notes} is blocked, for "),
            &format!("waiting for currency ({currency}) to succeed (now running)"),
        ]);
        self.shell
            .types("claudine graph")
            .fits()
            .has(&["critical path: 2 tasks", "3 running · 1 waiting"])
            .row_has(&currency, &["● currency", "running"])
            .row_has(&notes, &["○ notes", "blocked"]);
        Tasks {
            total,
            currency,
            notes,
            slow,
        }
    }
}
