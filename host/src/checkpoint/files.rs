//! Passes results of other attempts to commands, as files and variables.
//!
//! ```text
//! inputs/ATTEMPT/          CLAUDINE_INPUTS
//!   build/                 CLAUDINE_INPUT_BUILD: a directory for each task whose output is used,
//!                          named after the task, or after its id if the name is not usable
//!     output               of an agent: its result, or the end of its transcript if it has none;
//!                          of a command: all of its standard output
//!     stderr
//!     status.json          id, name, executor, attempt, outcome, reason, exit_code, signal, git
//!   previous/              CLAUDINE_PREVIOUS: the same for the attempt that this one continues
//!   context                CLAUDINE_CONTEXT: the new instructions
//! ```
//!
//! The files exist before the first process starts, and are removed when the attempt has ended.
//! They are not synced, so they may be empty after a power cut. No process that reads them survives
//! a power cut, so files of an earlier boot are removed and written again.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use claudine_domain::{attempt::GitState, id::AttemptId};
use serde::Serialize;

use super::Checkpoint;
use crate::{
    fsx::{self, Lasting},
    layout::Layout,
    supervise::log::{self, Channel, LogReader, Look, Piece, gap_text},
};

/// Variable with the path of the directory of everything that is passed to an attempt.
pub(crate) const INPUTS: &str = "CLAUDINE_INPUTS";
/// Variable with the path of the directory of the results of the attempt that is continued.
const PREVIOUS: &str = "CLAUDINE_PREVIOUS";
/// Variable with the path of the file with the new instructions.
const CONTEXT: &str = "CLAUDINE_CONTEXT";

/// Name of the directory of the previous attempt. The directory of a task never gets this name.
const PREVIOUS_DIRECTORY: &str = "previous";

/// Everything that is passed to an attempt.
pub(crate) struct Given {
    pub(crate) used: Vec<Checkpoint>,
    pub(crate) resumed: Option<(Checkpoint, String)>,
}

/// The directory name for each task whose output is used.
pub(crate) fn names(used: &[Checkpoint]) -> Vec<String> {
    let mut taken = BTreeSet::from([variable(PREVIOUS_DIRECTORY)]);
    let name = |checkpoint: &Checkpoint| {
        let name = checkpoint.name.clone().filter(|name| is_plain(name));
        match name {
            Some(name) if taken.insert(variable(&name)) => name,
            _ => checkpoint.task.to_string(),
        }
    };
    used.iter().map(name).collect()
}

/// Whether the name of a task can be part of a file name and of a variable.
fn is_plain(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() <= 100
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn variable(name: &str) -> String {
    let upper = name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    format!("CLAUDINE_INPUT_{}", upper.collect::<String>())
}

/// The variables that point to the files.
pub(crate) fn variables(directory: &Path, given: &Given) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.display().to_string();
    let mut variables = vec![(INPUTS.to_owned(), text(directory.to_owned()))];
    for name in names(&given.used) {
        variables.push((variable(&name), text(directory.join(&name))));
    }
    if given.resumed.is_some() {
        variables.push((
            PREVIOUS.to_owned(),
            text(directory.join(PREVIOUS_DIRECTORY)),
        ));
        variables.push((CONTEXT.to_owned(), text(directory.join("context"))));
    }
    variables
}

/// Writes all files, completely or not at all. It is an error if a log is missing or damaged,
/// because the attempt would take the rest of the output for all of it. If the directory exists, an
/// earlier call or host has written it completely, and it is left unchanged.
pub(crate) fn write(layout: &Layout, attempt: AttemptId, given: &Given) -> io::Result<()> {
    let directory = layout.inputs(attempt);
    if directory.exists() {
        return Ok(());
    }
    let unfinished = directory.with_extension("new");
    remove(&unfinished)?;
    create(&unfinished)?;
    for (name, checkpoint) in names(&given.used).into_iter().zip(&given.used) {
        write_one(layout, &unfinished.join(name), checkpoint)?;
    }
    if let Some((checkpoint, context)) = &given.resumed {
        write_one(layout, &unfinished.join(PREVIOUS_DIRECTORY), checkpoint)?;
        file(&unfinished.join("context"))?.write_all(context.as_bytes())?;
    }
    fs::rename(&unfinished, &directory)
}

/// Removes files of an earlier boot. Must be called before the first call of `write`.
pub(crate) fn forget_other_boots(layout: &Layout, boot: &str) -> io::Result<()> {
    let file = layout.inputs_boot();
    let noted = match fsx::read(&file) {
        // Earlier versions did not record the boot, so these files may belong to this boot.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        noted => Some(noted?),
    };
    if noted.as_deref() == Some(boot.as_bytes()) {
        return Ok(());
    }
    if noted.is_some() {
        for directory in fsx::entries(&layout.all_inputs())? {
            remove(&directory)?;
        }
    }
    fsx::replace(&file, Lasting::PowerCut, boot.as_bytes()).map(drop)
}

/// Removes the files of an attempt, if there are any.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_one(layout: &Layout, directory: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    #[derive(Serialize)]
    struct Status<'a> {
        id: String,
        name: Option<&'a str>,
        executor: &'a str,
        attempt: Option<u32>,
        outcome: &'a str,
        reason: Option<&'a str>,
        exit_code: Option<i32>,
        signal: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        git: Option<&'a GitState>,
    }
    create(directory)?;
    let reader = |channel| {
        let attempt = AttemptId {
            task: checkpoint.task,
            number: checkpoint.attempt?,
        };
        Some(LogReader::new(&layout.log(attempt)).channel(channel))
    };
    let output = directory.join("output");
    match checkpoint
        .summary
        .as_ref()
        .or(checkpoint.transcript.as_ref())
    {
        Some(text) => file(&output)?.write_all(text.as_bytes())?,
        None => copy(reader(Channel::Stdout), &output)?,
    }
    copy(reader(Channel::Stderr), &directory.join("stderr"))?;
    // After the copies: a log that is damaged meanwhile is noticed too.
    if let Some(output) = &checkpoint.output
        && let Some(written) = output.written
        && let Some(fault) = log::fault(&layout.log(output.attempt), written, Look::Whole)?
    {
        return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
    }
    let status = Status {
        id: checkpoint.task.to_string(),
        name: checkpoint.name.as_deref(),
        executor: &checkpoint.executor,
        attempt: checkpoint.attempt,
        outcome: checkpoint.outcome.as_str(),
        reason: checkpoint
            .reason
            .as_ref()
            .map(|reason| reason.message.as_str()),
        exit_code: checkpoint.exit_code,
        signal: checkpoint.signal,
        git: checkpoint.git.as_ref(),
    };
    serde_json::to_writer_pretty(file(&directory.join("status.json"))?, &status)?;
    Ok(())
}

fn copy(log: Option<LogReader>, to: &Path) -> io::Result<()> {
    let mut target = BufWriter::new(file(to)?);
    if let Some(mut log) = log {
        while let Some(piece) = log.next_piece()? {
            match piece {
                Piece::Bytes { bytes, .. } => target.write_all(&bytes)?,
                Piece::Gap { bytes, .. } => writeln!(target, "\n{}", gap_text(bytes))?,
            }
        }
    }
    target.flush()
}

fn create(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.create_new(true).write(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::id::TaskId;

    use super::{super::sample, *};

    fn named(number: u64, name: Option<&str>) -> Checkpoint {
        Checkpoint {
            task: TaskId::new(number, 1),
            name: name.map(str::to_owned),
            ..sample()
        }
    }

    #[test]
    fn directories_are_named_after_tasks_if_the_names_are_valid_and_differ() {
        let check = |given: &[Option<&str>], expected: &[Option<&str>]| {
            let used: Vec<Checkpoint> = (1..).zip(given).map(|(n, it)| named(n, *it)).collect();
            let expected: Vec<String> = used
                .iter()
                .zip(expected)
                .map(|(one, name)| name.map_or_else(|| one.task.to_string(), str::to_owned))
                .collect();
            assert_eq!(names(&used), expected);
        };
        check(
            &[Some("build"), Some("test-1.x")],
            &[Some("build"), Some("test-1.x")],
        );
        check(&[None, Some("a b"), Some("../x"), Some("")], &[None; 4]);
        check(&[Some("a-b"), Some("a.b")], &[Some("a-b"), None]);
        check(&[Some("previous"), Some(".git")], &[None, None]);
    }

    #[test]
    fn variables_name_each_directory() {
        let given = Given {
            used: vec![named(1, Some("lint-js"))],
            resumed: Some((sample(), "go".to_owned())),
        };
        let expected = [
            ("CLAUDINE_INPUTS", "/i"),
            ("CLAUDINE_INPUT_LINT_JS", "/i/lint-js"),
            ("CLAUDINE_PREVIOUS", "/i/previous"),
            ("CLAUDINE_CONTEXT", "/i/context"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(Path::new("/i"), &given), expected);
    }

    #[test]
    fn files_written_before_a_power_cut_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let attempt = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let previous = Checkpoint {
            attempt: None,
            ..sample()
        };
        let given = Given {
            used: Vec::new(),
            resumed: Some((previous, "go on".to_owned())),
        };
        let context = layout.inputs(attempt).join("context");
        forget_other_boots(&layout, "one").unwrap();
        write(&layout, attempt, &given).unwrap();
        // The file is in the state in which a power cut may leave it.
        fs::write(&context, "").unwrap();
        forget_other_boots(&layout, "one").unwrap();
        write(&layout, attempt, &given).unwrap();
        assert_eq!(
            fs::read_to_string(&context).unwrap(),
            "",
            "processes may use it"
        );
        forget_other_boots(&layout, "two").unwrap();
        write(&layout, attempt, &given).unwrap();
        assert_eq!(fs::read_to_string(&context).unwrap(), "go on");
    }
}
