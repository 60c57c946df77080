//! Two agents have changed the same line: the messages on the screen, and how a person resolves the
//! conflict.

use super::{Day, Tasks};

impl Day {
    pub(super) fn meets_a_conflict(&self, tasks: &Tasks) {
        let Tasks {
            total,
            currency,
            notes,
            ..
        } = tasks;
        self.world.api.release("total");
        let line = format!("✓ total ({total}) succeeded");
        self.shell
            .types(&format!("claudine wait {total}"))
            .has(&[&line]);
        self.world.api.release("currency");
        let line = format!("✗ currency ({currency}) failed: merge conflict in cart.py");
        self.shell
            .fails(&format!("claudine wait {currency}"), 1)
            .has(&[&line])
            .has_no_full_id();
        self.shell
            .types("claudine list")
            .fits()
            .has_no_full_id()
            .row_has(total, &["✓ succeeded", "total"])
            .row_has(currency, &["✗ failed", "currency"])
            .row_has(notes, &["⊘ upstream_failed", "notes"]);
        self.shell
            .types(&format!("claudine graph {notes}"))
            .fits()
            .has_no_full_id()
            .row_has(currency, &["✗ currency", "failed"])
            .row_has(notes, &["⊘ notes", "upstream_failed"]);
        let resolve = format!("claudine worktree resolve {currency}");
        self.shell
            .types(&format!("claudine why {notes}"))
            .fits()
            .has(&[&format!("`{resolve}`")])
            .says(&[
                &format!("it could not run because of currency ({currency}), which has failed"),
                &format!("`{resolve}` merges that task's changes and revives this task"),
            ]);
    }

    /// Resolves the conflict with the first step that `status` names, in a shell in the worktree.
    pub(super) fn resolves_it(&self, tasks: &Tasks) {
        let Tasks {
            currency, notes, ..
        } = tasks;
        for task in [currency, notes] {
            self.shell
                .types(&format!("claudine why {task}"))
                .has_no_full_id();
        }
        let status = self.shell.types(&format!("claudine status {currency}"));
        status
            .has(&[
                "Reason     merge conflict in cart.py",
                "Files      1 changed",
            ])
            .has_no_full_id();
        let agents_step = status.copied("claudine resume");
        let context = "Merge main and resolve the conflict in cart.py";
        assert_eq!(
            agents_step,
            format!("claudine resume {currency} --context '{context}'"),
            "{status}"
        );
        let step = status.copied("claudine worktree resolve");
        self.shell
            .types(&step)
            .has(&[
                "cart.py has conflict markers",
                "leave the shell with `exit`",
            ])
            .has_no_full_id();
        self.shell.types("git diff").has(&[
            "<<<<<<< HEAD",
            " +total_eur = sum(prices)",
            "+ total = sum(prices) * 100",
        ]);
        self.shell
            .types("echo 'total_eur = sum(prices) * 100' > cart.py");
        self.shell
            .types("exit")
            .has(&[
                "merged `claudine/currency` into `main`",
                &format!("{currency} has succeeded; 1 dependant can run again"),
            ])
            .has_no_full_id();
        self.shell
            .types(&format!("claudine status {currency}"))
            .has(&["State      ✓ succeeded (merged by hand)\n"])
            .has_no_full_id();
        let line = format!("✓ notes ({notes}) succeeded");
        self.shell
            .types(&format!("claudine wait {notes}"))
            .has(&[&line]);
        // The task `notes` started after the merge, so its `git log` shows the merge.
        self.shell
            .types(&format!("claudine logs {notes}"))
            .fits()
            .has(&[
                "● Bash  git log --format=%s",
                "Merge branch 'main' into claudine/currency",
                "Totals are in cents, and name their currency.",
                "cost $",
            ])
            .has_not(&["\"type\"", "session_id"]);
        self.shell
            .types(&format!("claudine diff {currency}"))
            .has(&[
                "-total = sum(prices) * 100",
                "+total_eur = sum(prices) * 100",
            ]);
        self.shell
            .types("claudine list")
            .fits()
            .row_has(currency, &["✓ succeeded"])
            .row_has(notes, &["✓ succeeded"]);
    }
}
