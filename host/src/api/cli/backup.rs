//! `claudine backup`

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    Common,
    failure::Failure,
    output,
    session::{Session, unfit},
    text,
};
use crate::{
    api::{
        Wiring,
        client::{self, ClientError},
    },
    app::{
        AppError, ErrorKind,
        backup::{self, BackupTaken},
    },
};

/// Back up tasks, history and output to a file.
///
/// Tasks may run meanwhile; the backup is consistent. It contains all tasks with requests, attempts
/// and results, events, groups, measurements, costs, and the output so far. Prompts and output are
/// not encrypted, but only you can read the file.
///
/// Not included are settings, plugins and their permissions, worktrees and their records, and,
/// without --with-environments, the environments of tasks.
///
/// The file is a gzipped tar archive with checksums. It is renamed into place once it is complete;
/// a killed backup leaves a file that ends in `.partial`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine backup queue.backup
  claudine backup - | ssh elsewhere 'cat > queue.backup'
  tar tzf queue.backup")]
pub(super) struct Backup {
    /// File to write, or `-` for standard output.
    file: PathBuf,
    /// Include the environments of tasks, with their secrets.
    #[arg(long)]
    with_environments: bool,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        if self.with_environments {
            let session = Session::new(common, wiring)?;
            session.block_on(async {
                let asked = session.client().may_read_environments().await;
                asked.map_err(explained)?;
                Ok(ExitCode::SUCCESS)
            })?;
        }
        let layout = client::layout(&common.overrides()).map_err(unfit)?;
        if self.file == Path::new("-") {
            if io::stdout().is_terminal() {
                let message = "a backup is binary data, which a terminal cannot show: name a file, or redirect the output";
                return Err(Failure::Usage(message.to_owned()));
            }
            let taken = backup::to_stdout(&layout, self.with_environments)?;
            say(&taken);
            return Ok(ExitCode::SUCCESS);
        }
        let taken = backup::to_file(&layout, &self.file, self.with_environments, self.force)?;
        if common.json() {
            output::json(&taken)?;
        } else {
            say(&taken);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The error of a host that was asked whether the caller may read environments. An older host does
/// not know this question.
fn explained(error: ClientError) -> AppError {
    match error {
        ClientError::Refused(error) if error.kind == ErrorKind::NotFound => {
            let message = "the running host is older than this command, and cannot say whether \
                           you may read the environments of tasks";
            AppError::new(ErrorKind::Unavailable, message)
                .hint("`claudine down && claudine up` upgrades it, running tasks continue")
        }
        other => other.into(),
    }
}

fn say(taken: &BackupTaken) {
    output::say(&words(taken));
    for warning in &taken.warnings {
        output::say(&format!("warning: {warning}"));
    }
}

fn words(taken: &BackupTaken) -> String {
    let place = taken
        .file
        .as_ref()
        .map_or_else(String::new, |file| format!(" in {file}"));
    let environments = match taken.environments {
        None => "the environments of tasks are not included (--with-environments includes them)"
            .to_owned(),
        Some(count) => format!(
            "{count} environments of tasks are included: protect the backup like the secrets in them"
        ),
    };
    format!(
        "backed up {} ({} unfinished) with {} files of output{place}: {}; {environments}",
        text::tasks(taken.tasks),
        taken.unfinished,
        taken.logs,
        text::bytes(taken.bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_an_older_host_names_the_commands_that_upgrade_it() {
        let of = |kind: ErrorKind, message: &str| {
            let error = explained(ClientError::Refused(AppError::new(kind, message)));
            (error.kind, error.message, error.hint)
        };
        let unknown = "nothing is served at /v1/host/environments";
        let (kind, message, hint) = of(ErrorKind::NotFound, unknown);
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(message.contains("is older than this command"), "{message}");
        let hint = hint.unwrap_or_default();
        assert!(hint.contains("`claudine down && claudine up`"), "{hint}");
        let forbidden = "agents may not read environments";
        let expected = (ErrorKind::Forbidden, forbidden.to_owned(), None);
        assert_eq!(of(ErrorKind::Forbidden, forbidden), expected);
    }

    #[test]
    fn the_message_says_whether_environments_are_included() {
        let check = |environments: Option<u64>, expected: &str| {
            let taken = BackupTaken {
                file: Some("queue.backup".to_owned()),
                taken_at: String::new(),
                tasks: 12,
                unfinished: 3,
                events: 90,
                logs: 14,
                environments,
                bytes: 2048,
                warnings: Vec::new(),
            };
            assert_eq!(words(&taken), expected);
        };
        let begin =
            "backed up 12 tasks (3 unfinished) with 14 files of output in queue.backup: 2.0 KiB; ";
        check(
            None,
            &format!(
                "{begin}the environments of tasks are not included (--with-environments includes them)"
            ),
        );
        check(
            Some(2),
            &format!(
                "{begin}2 environments of tasks are included: protect the backup like the secrets in them"
            ),
        );
    }
}
