//! `claudine config`

mod turn;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use self::turn::Turn;
use super::{
    Common, editor,
    failure::Failure,
    output,
    session::{Session, unfit},
};
use crate::{
    api::{
        Wiring,
        client::{ClientError, Policy},
    },
    app::{AppError, ErrorKind},
    config::{self, ConfigError, Settings, process_environment},
    fsx::{self, Lasting},
    layout::Layout,
    narrowed,
};

/// Show or change the settings of a host.
///
/// A host reads them once at its start, from its configuration file, the environment and the
/// command line; the later source wins.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  claudine config show
  claudine config set keep 30d
  claudine config set mcp.executors claude
  claudine config edit

Environment:
  CLAUDINE_SLOTS              limit of concurrent tasks: `auto` or a number
  CLAUDINE_KEEP               retention of finished tasks, such as `30d`
  CLAUDINE_PREPARE_TIMEOUT    time limit of setup (worktrees) [default: 30m]
  CLAUDINE_SETTLE_TIMEOUT     time limit of merging and pushing [default: 30m]
  CLAUDINE_TASK_TIMEOUT       default time limit of tasks, such as `1h30m`;
                              a plain number is milliseconds
  CLAUDINE_MAX_OUTPUT_BUFFER  output limit of a task, such as `10M`
  CLAUDINE_CPU_THRESHOLD      with `auto`: CPU usage in per cent above which
                              few tasks start
  CLAUDINE_MEMORY_RESERVE     with `auto`: reserved memory, such as `1G`
  CLAUDINE_DISK_RESERVE       reserved disk space, such as `1G`
  CLAUDINE_LOG_LEVEL          error, warn, info, debug or trace
A host reads them at its start, and reports and ignores invalid values.")]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show each setting and the origin of its value.
    ///
    /// Shows the settings that a host would have if it were started here and now, in the format of
    /// a configuration file. A note names the settings that differ in a running host.
    Show,
    /// Print the path of the configuration file.
    Path,
    /// Open the configuration file in $VISUAL or $EDITOR.
    ///
    /// The file is replaced when the editor exits, if it is valid.
    Edit,
    /// Set a value in the configuration file, or remove it.
    ///
    /// Comments and the rest of the file are preserved.
    #[command(after_help = "\
Examples:
  claudine config set slots 4
  claudine config set task_timeout 1h30m
  claudine config set budget.daily_usd 20
  claudine config set mcp.merge_strategies manual,patch,auto
  claudine config set --unset keep")]
    Set {
        /// Setting, with its table: `budget.daily_usd`.
        #[arg(value_name = "NAME")]
        name: String,
        /// Value; a list is separated by commas.
        #[arg(
            value_name = "VALUE",
            required_unless_present = "unset",
            allow_hyphen_values = true
        )]
        value: Option<String>,
        /// Remove the setting from the file, so that its default applies.
        #[arg(long, conflicts_with = "value")]
        unset: bool,
    },
}

/// The settings of a host with their origins.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Shown {
    data_dir: String,
    /// Configuration file that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    settings: Vec<Setting>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Setting {
    #[serde(flatten)]
    shown: config::Shown,
    /// Value in the running host, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<config::Shown>,
}

/// Result of a change of the configuration file.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Written {
    file: String,
    /// Whether a host is running. If so, the change applies after a restart of that host.
    restart: bool,
}

/// Location of the configuration file.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Place {
    file: String,
    exists: bool,
}

impl Config {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        let path = config::file_path(&process_environment).map_err(unfit);
        match self.verb {
            Verb::Show => show(common, wiring)?,
            Verb::Path => place(common, &path?)?,
            Verb::Edit => {
                let path = path?;
                // Whoever edits the file sees that the limits are missing.
                let kept = kept_limits(common, &path)?.unwrap_or_else(|error| {
                    output::say(&format!("warning: {}", unknown_limits(&path, &error)));
                    Vec::new()
                });
                edit(&path, &kept)?;
                written(common, wiring, &path)?;
            }
            Verb::Set { name, value, .. } => {
                let path = path?;
                let change = || set(common, &path, &name, value.as_deref());
                let (kept, warnings) = in_turn(&path, change)?;
                written(common, wiring, &path)?;
                tell_kept(&kept);
                for warning in warnings {
                    output::say(&format!("warning: {warning}"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Changes a setting. Returns the limits that were written beside it, and what is wrong in the rest
/// of the file.
fn set(
    common: &Common,
    path: &Path,
    name: &str,
    value: Option<&str>,
) -> Result<(Vec<KeptLimit>, Vec<String>), Failure> {
    let kept = kept_limits(common, path)?;
    let mut kept = kept.map_err(|error| {
        AppError::new(ErrorKind::Unavailable, unknown_limits(path, &error)).hint(
            "`claudine config edit` opens the file: write the limits that you want yourself; or \
             accept that there are none by `claudine down && claudine up`",
        )
    })?;
    kept.retain(|(limit, _)| *limit != name);
    let before = read(path)?;
    let refused = |error: ConfigError| {
        let is_other = config::was_wrong_before(&error, path, &before, name);
        let error = unfit(error);
        if is_other {
            error.hint(WRONG_BEFORE)
        } else {
            error
        }
    };
    let set = |text: &str| config::changed(path, text, name, value).map_err(refused);
    // Settings outside of all tables come first, so that comments stay above them.
    let text = if name.contains('.') {
        set(&with_limits(path, before.clone(), &kept)?)?
    } else {
        with_limits(path, set(&before)?, &kept)?
    };
    let warnings = config::check_change(path, &text, name).map_err(refused)?;
    replace(path, &text)?;
    Ok((kept, warnings))
}

/// The way out if a change fails at another part of the file.
const WRONG_BEFORE: &str = "the file was wrong before this change, which was not made; no host \
                            starts with this file, and `claudine config edit` opens it";

fn show(common: &Common, wiring: Wiring) -> Result<(), Failure> {
    let settings = Settings::load(&common.overrides(), &process_environment).map_err(unfit)?;
    for warning in &settings.warnings {
        output::say(&format!("warning: {warning}"));
    }
    let running = running(common, wiring)?;
    let other = |shown: &config::Shown| {
        let running = running.as_ref()?.iter().find(|it| it.name == shown.name)?;
        (running.value != shown.value).then(|| running.clone())
    };
    let shown: Vec<Setting> = settings
        .shown()
        .into_iter()
        .map(|shown| Setting {
            running: other(&shown),
            shown,
        })
        .collect();
    let others: Vec<String> = shown
        .iter()
        .filter_map(|setting| {
            let running = setting.running.as_ref()?;
            let value = running.written().unwrap_or_else(|| "not set".to_owned());
            Some(format!("{} = {value}", running.name))
        })
        .collect();
    if common.json() {
        let file = settings.file.as_ref();
        output::json(&Shown {
            data_dir: settings.data_dir.to_string_lossy().into_owned(),
            file: file.map(|file| file.to_string_lossy().into_owned()),
            settings: shown,
        })?;
    } else {
        output::text(&settings.to_string())?;
    }
    if !others.is_empty() {
        let others = others.join(", ");
        output::say(&format!(
            "note: the running host has other values ({others}); \
             `claudine down && claudine up` restarts it, running tasks continue"
        ));
    }
    Ok(())
}

/// The settings of the running host, if there is one. If the host does not answer, prints a
/// warning, because otherwise the user would take the shown settings for those of the host.
fn running(common: &Common, wiring: Wiring) -> Result<Option<Vec<config::Shown>>, Failure> {
    let session = Session::new(common, wiring)?;
    let client = session.client_with(|start| start.policy = Policy::Never);
    let mut told = None;
    session.block_on(async {
        match client.settings().await {
            Ok(settings) => told = Some(settings),
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => {
                let reason = AppError::from(error).message;
                output::say(&format!(
                    "warning: the settings of the running host are not known: {reason}"
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(told)
}

fn place(common: &Common, path: &Path) -> Result<(), Failure> {
    let exists = path.exists();
    if common.json() {
        return output::json(&Place {
            file: path.to_string_lossy().into_owned(),
            exists,
        });
    }
    output::line(&path.to_string_lossy())?;
    if !exists {
        output::say("the file does not exist; `claudine config edit` creates it");
    }
    Ok(())
}

/// Reads the file. Returns an empty string if the file does not exist.
fn read(path: &Path) -> Result<String, Failure> {
    match config::read_text(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(cannot("read", path, &error)),
    }
}

/// A limit of the last host with the name of its setting: see [`narrowed::kept_without_file`].
type KeptLimit = (&'static str, String);

/// The limits that the last hosts had from this file, if the file has lost them because it has
/// vanished or been emptied. The inner error says that they cannot be read.
fn kept_limits(common: &Common, path: &Path) -> Result<io::Result<Vec<KeptLimit>>, Failure> {
    if config::has_settings(&read(path)?) {
        return Ok(Ok(Vec::new()));
    }
    let settings = Settings::load_without_file(&common.overrides(), &process_environment);
    let settings = settings.map_err(unfit)?;
    // Hosts with the usual data directories have the same file, whichever directory was given to
    // this command. Where a directory cannot be named, there is no host.
    let without_variable =
        |name: &str| process_environment(name).filter(|_| name != config::DATA_DIR);
    let usual = [
        config::data_dir(None, &process_environment),
        config::data_dir(None, &without_variable),
    ];
    let mut dirs = vec![settings.data_dir.clone()];
    for dir in usual.into_iter().flatten() {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    let layouts: Vec<Layout> = dirs.iter().map(Layout::new).collect();
    Ok(narrowed::kept_without_file(&layouts, &settings))
}

/// What to say if the limits of the last host cannot be read.
fn unknown_limits(path: &Path, error: &io::Error) -> String {
    format!(
        "{} has no settings, and the limits that the last host had from it cannot be read: {error}",
        path.display()
    )
}

fn with_limits(path: &Path, mut text: String, limits: &[KeptLimit]) -> Result<String, Failure> {
    for (name, value) in limits {
        text = config::changed(path, &text, name, Some(value)).map_err(unfit)?;
    }
    Ok(text)
}

/// Names the limits that were written beside the given setting.
fn tell_kept(kept: &[KeptLimit]) {
    let names: Vec<&str> = kept.iter().map(|(name, _)| *name).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        output::say(&format!(
            "note: the file had no settings, so the limits of the last host were written to it too \
             ({names}); `claudine config set NAME VALUE` changes one"
        ));
    }
}

/// Reads and replaces the file while no other command does so.
fn in_turn<T>(path: &Path, change: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let path = target(path).map_err(|error| cannot("find", path, &error))?;
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above).map_err(|error| cannot("make", above, &error))?;
    }
    let turn = Turn::take(&path).map_err(|error| cannot("lock", &path, &error))?;
    let changed = change();
    drop(turn);
    changed
}

/// Replaces the file. A symbolic link is followed and not replaced, because users often keep their
/// settings in another directory and link to them.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let path = target(path).map_err(|error| cannot("find", path, &error))?;
    fsx::replace_with_permissions(&path, Lasting::PowerCut, text.as_bytes())
        .map_err(|error| cannot("write", &path, &error))
}

/// The file at the end of the links at `path`. It need not exist.
fn target(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    match std::fs::read_link(path) {
        // A relative link begins at the directory that contains the link.
        Ok(next) => target(&path.parent().unwrap_or(Path::new("/")).join(next)),
        // Nothing is there, or something that is not a link.
        Err(_) => Ok(path.to_owned()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", path.display());
    AppError::new(ErrorKind::Unavailable, message).into()
}

/// Opens a copy of the file in the editor, and replaces the file once the copy is valid. A file
/// that has lost the limits of the last host is opened with them.
fn edit(path: &Path, kept: &[KeptLimit]) -> Result<(), Failure> {
    let before = read(path)?;
    let text = match (before.is_empty(), kept.is_empty()) {
        (true, true) => TEMPLATE.to_owned(),
        (true, false) => format!("{TEMPLATE}{KEPT_NOTE}"),
        (false, true) => before.clone(),
        (false, false) => format!("{}\n{KEPT_NOTE}", before.trim_end()),
    };
    let text = &with_limits(path, text, kept)?;
    let copy = copy(text).map_err(|error| cannot("copy", path, &error))?;
    if let Err(failure) = take_over(&copy, path, &before) {
        return Err(with_place_of_text(failure, path, &copy, text));
    }
    // A copy that cannot be removed does no harm.
    drop(std::fs::remove_file(&copy));
    Ok(())
}

/// Opens the copy in the editor, and replaces the file if it still has the text `before`.
fn take_over(copy: &Path, path: &Path, before: &str) -> Result<(), Failure> {
    editor::edit(copy)?;
    // A missing copy is an error here: if it counted as empty, all settings would be removed.
    let text = config::read_text(copy).map_err(|error| cannot("read", copy, &error))?;
    config::check(path, &text).map_err(unfit)?;
    in_turn(path, || {
        if read(path)? != before {
            let message = format!("{} was changed while you edited it", path.display());
            return Err(AppError::new(ErrorKind::Conflict, message).into());
        }
        replace(path, &text)
    })
}

/// Adds to a failure the place of the edited text, which is kept. A copy that was not edited is
/// removed.
fn with_place_of_text(failure: Failure, path: &Path, copy: &Path, text: &str) -> Failure {
    let mut hint = format!("this command has not changed {}", path.display());
    match std::fs::read(copy) {
        Ok(left) if left == text.as_bytes() => drop(std::fs::remove_file(copy)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => hint = format!("{hint}; your edited text is in {}", copy.display()),
    }
    match failure {
        Failure::App(error) => error.hint(hint).into(),
        Failure::Usage(message) => AppError::new(ErrorKind::Invalid, message).hint(hint).into(),
        other => other,
    }
}

/// Creates the copy for the editor. The copy is kept if its text cannot be taken over.
fn copy(text: &str) -> io::Result<PathBuf> {
    let mut copy = tempfile::Builder::new()
        .prefix("claudine-config-")
        .suffix(".toml")
        .tempfile()?;
    copy.write_all(text.as_bytes())?;
    let (_, path) = copy.keep().map_err(|error| error.error)?;
    Ok(path)
}

/// Text of a new configuration file.
const TEMPLATE: &str = "\
# Settings of Claudine. `claudine config show` lists them with their values.
# A host reads them when it starts; `claudine down && claudine up` restarts it.
";

/// Comment before limits that are written to a file without settings.
const KEPT_NOTE: &str = "\
# The file had no settings: these are the limits that the last host had from it.
";

fn written(common: &Common, wiring: Wiring, path: &Path) -> Result<(), Failure> {
    let restart = running(common, wiring)?.is_some();
    if common.json() {
        output::json(&Written {
            file: path.to_string_lossy().into_owned(),
            restart,
        })?;
    } else {
        output::say(&format!("written to {}", path.display()));
    }
    if restart {
        output::say(
            "note: the running host keeps the settings that it was started with; \
             `claudine down && claudine up` restarts it, running tasks continue",
        );
    }
    Ok(())
}
