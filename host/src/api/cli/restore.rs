//! `claudine restore`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{Common, environment, failure::Failure, output, text};
use crate::{api::Wiring, app::backup::QueueRestored};

/// Restore a backup into a new data directory.
///
/// The whole file is checked before anything is written. Ids, names, events and finished tasks are
/// unchanged. Attempts that were running end as `lost`, and are retried if the retries of the task
/// cover `lost`. Unfinished tasks are held, so that two hosts do not do the same work:
/// `claudine release` releases one task, a graph, or, with --restored, all restored tasks.
///
/// A task without an environment in the backup runs in the environment of this command;
/// `claudine why` says so. A task with a worktree gets a new worktree, on the task's branch if the
/// branch still exists. The retention of finished tasks starts anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine restore queue.backup
  claudine restore queue.backup --data-dir ~/again
  claudine list --data-dir ~/again")]
pub(super) struct Restore {
    /// File written by `claudine backup`.
    file: PathBuf,
}

impl Restore {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        if self.file == Path::new("-") {
            let message = "a backup is read twice, so it cannot come from standard input: save the backup to a file first";
            return Err(Failure::Usage(message.to_owned()));
        }
        let environment = environment::of_this_process(false);
        let restored = (wiring.restore)(&common.overrides(), &self.file, environment)?;
        if common.json() {
            output::json(&restored)?;
        } else {
            for line in words(&restored) {
                output::say(&line);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn words(restored: &QueueRestored) -> Vec<String> {
    let QueueRestored {
        data_dir,
        taken_at,
        tasks,
        held,
        lost,
        ..
    } = restored;
    let mut lines = vec![format!(
        "restored {} of the backup of {taken_at} into {data_dir}",
        text::tasks(*tasks)
    )];
    if *lost > 0 {
        lines.push(format!(
            "attempts that were running at the time of the backup: {lost}; they have ended as lost"
        ));
    }
    if *held > 0 {
        lines.push(format!(
            "tasks held: {held}; make sure that the original host does not run them too, then `claudine release --restored`"
        ));
    }
    if restored.stands_in {
        lines.push(
            "the backup does not contain all environments: tasks without one run in the environment of this command"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_and_lost_tasks_are_reported_if_there_are_any() {
        let check = |held: u64, lost: u64, stands_in: bool, expected: &[&str]| {
            let restored = QueueRestored {
                data_dir: "/d".to_owned(),
                taken_at: "T".to_owned(),
                tasks: 7,
                held,
                lost,
                logs: 0,
                environments: 0,
                stands_in,
            };
            let lines = words(&restored);
            assert_eq!(lines[0], "restored 7 tasks of the backup of T into /d");
            assert_eq!(lines.len(), 1 + expected.len(), "{lines:?}");
            for (line, beginning) in lines[1..].iter().zip(expected) {
                assert!(line.starts_with(beginning), "{line}");
            }
        };
        check(0, 0, false, &[]);
        check(3, 0, false, &["tasks held: 3"]);
        check(
            3,
            2,
            true,
            &[
                "attempts that were running at the time of the backup: 2",
                "tasks held",
                "the backup does not contain all environments",
            ],
        );
    }
}
