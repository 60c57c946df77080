//! An agent that was denied a tool. On the next day, the suggested command allows the tool.

use super::{Day, agents::RENAME};

impl Day {
    pub(super) fn is_told_of_a_denial(&self) -> String {
        let rename = self.delegates("--name rename --worktree --merge auto", RENAME);
        let line =
            format!("✗ rename ({rename}) failed: 1 tool call was denied, and nothing was changed");
        self.shell
            .fails(&format!("claudine wait {rename}"), 1)
            .has(&[&line]);
        self.shell
            .types(&format!("claudine events {rename}"))
            .fits()
            .has(&["attempt 1: Bash: git mv README.md readme.md"]);
        rename
    }

    pub(super) fn finds_yesterdays_failure(&self, rename: &str) {
        self.shell
            .types("claudine list --failed --since yesterday")
            .fits()
            .row_has(rename, &["✗ failed", "rename", "yesterday 16:"])
            .has_not(&["succeeded"]);
        self.shell
            .types(&format!("claudine logs {rename}"))
            .fits()
            .has(&[
                "● Bash  git mv README.md readme.md",
                "✗ denied: ",
                "I was not allowed to rename it.",
            ])
            .has_not(&["\"type\"", "session_id"]);
    }

    pub(super) fn allows_more(&self, rename: &str) {
        let hint = format!("claudine resume {rename} --allowed-tools 'Bash(git:*)'");
        self.shell
            .types(&format!("claudine why {rename}"))
            .fits()
            .has(&["1 tool call was denied", &format!("`{hint}`")]);
        let status = self.shell.types(&format!("claudine status {rename}"));
        status.has(&[
            "Ended      yesterday 16:",
            "Denied     Bash: git mv README.md",
        ]);
        let copied = status.copied("claudine resume");
        assert_eq!(copied, hint, "{status}");
        self.shell.types(&copied);
        let line = format!("✓ rename ({rename}) succeeded");
        self.shell
            .types(&format!("claudine wait {rename}"))
            .has(&[&line]);
        self.shell
            .types(&format!("claudine logs {rename}"))
            .fits()
            .has(&["08:", "● Bash  git mv README.md readme.md", "Renamed it."])
            .has_not(&["16:", "✗ denied"]);
        self.shell
            .types(&format!("claudine diff {rename}"))
            .has(&["rename from README.md", "rename to readme.md"]);
    }
}
