//! State at the end of the day: on the screen, in git, and for programs.

use serde_json::json;

use crate::world::git;

use super::{Day, Tasks, agents};

impl Day {
    pub(super) fn sums_up(&self, tasks: &Tasks, rename: &str, parked: &[String; 2]) {
        self.shell
            .types("claudine list --since yesterday")
            .fits()
            .has_not(&["failed", "waiting"]);
        self.shell
            .types("claudine cost --since yesterday")
            .fits()
            .row_has("total", &["7", "$"]);
        self.shell
            .types("claudine worktree list")
            .has(&["no worktrees"]);
        let status = self.shell.types("git status --short --branch");
        assert_eq!(status.only(), "## main");
        self.is_in_git(tasks, rename);
        self.is_told_to_programs(tasks, rename, parked);
    }

    fn is_in_git(&self, tasks: &Tasks, rename: &str) {
        let log = git(&self.world, &["log", "--first-parent", "--format=%s"]);
        let merged = "Merge branch 'main' into claudine/currency";
        let subjects: Vec<&str> = log.lines().collect();
        assert_eq!(
            subjects,
            [agents::RENAME, merged, agents::CURRENCY, "Begin"]
        );
        let total = git(&self.world, &["log", "-1", "--format=%s", "HEAD~1^2"]);
        assert_eq!(total, agents::TOTAL);
        for (commit, task) in [
            ("HEAD", rename),
            ("HEAD~1", &tasks.currency),
            ("HEAD~1^2", &tasks.total),
        ] {
            let format = "--format=%(trailers:key=Claudine-Task,valueonly)";
            let id = git(&self.world, &["log", "-1", format, commit]);
            assert!(id.ends_with(task), "{id} of {commit}, not {task}");
        }
        assert_eq!(
            git(&self.world, &["show", "HEAD:cart.py"]),
            "total_eur = sum(prices) * 100"
        );
        assert_eq!(
            git(&self.world, &["ls-tree", "--name-only", "HEAD"]),
            "cart.py\nreadme.md"
        );
        let branches = git(&self.world, &["branch", "--format=%(refname:short)"]);
        assert_eq!(branches, "main");
    }

    fn is_told_to_programs(&self, tasks: &Tasks, rename: &str, parked: &[String; 2]) {
        let list = self.world.host.json(["list"]);
        let all = list["tasks"].as_array().unwrap();
        assert_eq!(all.len(), 7, "{list:#}");
        for task in all {
            assert_eq!(task["outcome"], "succeeded", "{task:#}");
        }
        // A task that was resumed, merged by hand or stopped by the usage limit has a second
        // attempt.
        let attempts = |id: &str| {
            let task = self.world.host.status(id);
            let outcomes = task["attempts"].as_array().unwrap().iter();
            outcomes.map(|it| it["outcome"].clone()).collect::<Vec<_>>()
        };
        for id in [&tasks.total, &tasks.notes] {
            assert_eq!(attempts(id), [json!("succeeded")], "{id}");
        }
        let [review, translate] = parked;
        for id in [&*tasks.currency, &tasks.slow, rename, review, translate] {
            assert_eq!(attempts(id), [json!("failed"), json!("succeeded")], "{id}");
        }
    }
}
