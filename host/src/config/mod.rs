//! Settings of a host. They are read once, at the start of the host, from its file, the environment
//! and the command line. Then they are validated and converted to types.
//!
//! Only this module of the host reads the environment. Later sources override earlier ones: file,
//! environment, command line. An invalid value is never silently replaced by a default: it causes
//! an error that names the value and its source. There is one exception: an invalid setting in the
//! environment is reported and ignored. A variable that contains the path of a file or directory
//! must still be valid.

mod edit;
mod exclusion;
mod mcp;
mod names;
mod paths;
mod search;
mod shims;
mod show;
mod values;
mod variables;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use claudine_domain::{
    board::PHASE_LIMIT,
    capacity::{Limits, Slots},
};
use serde::Deserialize;

pub(crate) use self::{
    edit::{NAMES, changed, check, check_change, was_wrong_before},
    exclusion::{EnvRules, GIT_ELSEWHERE, is_variable_name},
    mcp::{McpCeiling, is_dangerous, step_of_mode},
    paths::{data_dir, file_path},
    search::{PATH, absolute_part, absolute_path, is_absolute, without_relative},
    shims::Shims,
    show::Shown,
    values::parse_slots,
};
use self::{paths::config_file, show::Origin, values::Setting};
use crate::{text::shortened, units};

/// Variable that contains the path of the data directory.
pub(crate) const DATA_DIR: &str = "CLAUDINE_DATA_DIR";
/// Variable with the path of the configuration file.
pub(crate) const CONFIG: &str = "CLAUDINE_CONFIG";
/// Variable that names the attempt to which a child process belongs. It is in the environment of
/// every child process of an attempt.
pub(crate) const ATTEMPT: &str = "CLAUDINE_ATTEMPT";
pub(crate) const TASK_ID: &str = "CLAUDINE_TASK_ID";
/// Variable in which a submitter passes its umask in octal. Tasks do not get this variable.
pub(crate) const UMASK: &str = "CLAUDINE_UMASK";
/// Variable in which a submitter passes its limits and its niceness. Tasks do not get this
/// variable.
pub(crate) const BOUNDS: &str = "CLAUDINE_BOUNDS";
/// Variable that is set for tasks submitted by a restrained principal, so that executors ignore
/// configuration found in the working directory, and take away abilities that the task may not
/// have.
pub(crate) const RESTRAINED: &str = "CLAUDINE_RESTRAINED";
/// Variable with the files that an agent of a restrained principal may not use, as JSON. Only
/// executors get it, and not their children.
pub(crate) const PRIVATE: &str = "CLAUDINE_PRIVATE";

const DEFAULT_MAX_OUTPUT_BYTES: u64 = 1 << 30;
const DEFAULT_RESERVE_BYTES: u64 = 1 << 30;
/// Default retention of finished tasks.
const DEFAULT_KEEP: Duration = Duration::from_hours(7 * 24);
pub(crate) const USD_EXPECTED: &str =
    "an amount of US dollars over 0, at least 0.000001 and at most 1000000";

/// Size limit of the configuration file.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Length limit of a line in the error for an invalid file.
const ERROR_LINE_CHARS: usize = 200;

/// Minimum of the output limit. It is enough to keep one whole piece of the output's beginning and
/// one of its end.
pub(crate) const OUTPUT_MIN_BYTES: u64 = 4096;

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{source_name}: {name} is `{value}`, but must be {expected}")]
    Value {
        source_name: String,
        name: String,
        value: String,
        expected: &'static str,
    },
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "cannot read {}: {} is a link to a file that does not exist; make that file, or remove the link",
        path.display(),
        link.display()
    )]
    LinkToNothing { path: PathBuf, link: PathBuf },
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("neither {DATA_DIR} nor XDG_STATE_HOME nor HOME is set, so there is no data directory")]
    NoDataDir,
    #[error("{name} is `{value}`, but must be an absolute path")]
    NotAbsolute { name: &'static str, value: String },
    #[error("{name} is {value:?}, but must be valid UTF-8")]
    NotUtf8 { name: &'static str, value: OsString },
    #[error("unknown setting '{name}'{}", meant(*likely))]
    Unknown {
        name: String,
        likely: Option<&'static str>,
    },
    #[error(
        "neither {CONFIG} nor XDG_CONFIG_HOME nor HOME is set, so the settings are unknown; set HOME, or {CONFIG} to the path of a settings file"
    )]
    NoFile,
}

fn meant(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

/// The contents of the configuration file, before they are validated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    slots: Option<toml::Value>,
    cpu_threshold: Option<f64>,
    memory_reserve: Option<toml::Value>,
    disk_reserve: Option<toml::Value>,
    max_output: Option<toml::Value>,
    task_timeout: Option<toml::Value>,
    task_timeout_ms: Option<u64>,
    log_level: Option<String>,
    keep: Option<toml::Value>,
    prepare_timeout: Option<toml::Value>,
    settle_timeout: Option<toml::Value>,
    budget: BudgetFile,
    mcp: McpCeiling,
    env: EnvRules,
    plugins: BTreeMap<String, serde_json::Value>,
}

/// The table `[budget]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BudgetFile {
    /// Daily budget of all agents in USD.
    daily_usd: Option<f64>,
}

/// Options of `serve` and `up`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) slots: Option<String>,
    pub(crate) keep: Option<String>,
    pub(crate) begin: Begin,
    /// Whether a command starts the host because it needs one, and not because a person asked for a
    /// host.
    pub(crate) on_demand: bool,
}

impl Overrides {
    /// The options that remain if a task starts the host. No person has asked for this host.
    pub(crate) fn of_a_task(&self) -> Self {
        Self {
            data_dir: self.data_dir.clone(),
            on_demand: true,
            ..Self::default()
        }
    }
}

/// The action of a host at its start, before it starts any task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Begin {
    #[default]
    Usual,
    /// Pauses the queue.
    Paused,
    /// Drains: waits for running tasks to end.
    Draining,
    /// Cancels running tasks.
    Killing,
}

/// All settings of a host.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    /// The configuration file that was read, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Whether this file contains no setting.
    pub(crate) is_file_empty: bool,
    /// The path of the configuration file, whether there is one or not.
    pub(crate) place: PathBuf,
    pub(crate) limits: Limits,
    /// Number of slots from the command line. It overrides a number that was set earlier with
    /// `claudine slots`.
    pub(crate) given_slots: Option<Slots>,
    pub(crate) begin: Begin,
    /// Whether a command started the host because it needed one.
    pub(crate) on_demand: bool,
    pub(crate) max_output_bytes: u64,
    /// Retention of finished tasks.
    pub(crate) keep: Duration,
    /// Time limits for preparing an attempt and for settling its work.
    pub(crate) prepare_timeout: Duration,
    pub(crate) settle_timeout: Duration,
    /// Default time limit of tasks.
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) log_level: String,
    pub(crate) mcp: McpCeiling,
    pub(crate) env: EnvRules,
    /// The table `[plugins.NAME]` of each plugin.
    pub(crate) plugins: BTreeMap<String, serde_json::Value>,
    /// Messages about ignored values in the environment.
    pub(crate) warnings: Vec<String>,
    /// Origins of the settings whose values are not the defaults, by name.
    origins: BTreeMap<String, Origin>,
}

/// Function that reads a variable of the environment. Tests read from a map instead.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable of this process. An empty value counts as unset.
pub(crate) fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A variable as text. Invalid UTF-8 is an error, because a command would use the wrong directory
/// if such a variable counted as unset.
pub(crate) fn text_of(
    env: Environment<'_>,
    name: &'static str,
) -> Result<Option<String>, ConfigError> {
    let text = env(name).map(OsString::into_string).transpose();
    text.map_err(|value| ConfigError::NotUtf8 { name, value })
}

/// The umask of this process in octal. It is read without changing it, because a change would
/// affect all threads.
pub(crate) fn process_umask() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    Some(line?.trim().to_owned())
}

/// Whether a variable may change the settings of a host. The place of the data directory is no
/// setting.
pub(crate) fn is_setting(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"CLAUDINE_") && name != DATA_DIR
}

/// Whether Claudine itself sets the variable for a task.
pub(crate) fn is_of_task(name: &OsStr) -> bool {
    const OTHERS: [&str; 4] = [
        "CLAUDINE_CONTEXT",
        "CLAUDINE_DETACHED",
        "CLAUDINE_INPUT",
        "CLAUDINE_PREVIOUS",
    ];
    let mut names = [ATTEMPT, TASK_ID, RESTRAINED].into_iter().chain(OTHERS);
    names.any(|begin| name.as_bytes().starts_with(begin.as_bytes()))
}

/// A variable of this process, for a host that is started inside a task: no setting is read.
pub(crate) fn environment_in_task(name: &str) -> Option<OsString> {
    process_environment(name).filter(|_| !is_setting(OsStr::new(name)))
}

/// The whole environment of this process, unchanged.
pub(crate) fn whole_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The configuration file, and the sources of its settings by their names.
type FileWithOrigins = (File, BTreeMap<String, Origin>);

impl Settings {
    /// Whether the file determines this setting.
    pub(crate) fn is_in_file(&self, name: &str) -> bool {
        matches!(self.origins.get(name), Some(Origin::File))
    }

    pub(crate) fn load(overrides: &Overrides, env: Environment<'_>) -> Result<Self, ConfigError> {
        let data_dir = data_dir(overrides.data_dir.as_deref(), env)?;
        let (place, is_read) = config_file(env)?;
        let found = is_read.then(|| read_file(&place)).transpose()?;
        Self::assembled(overrides, env, data_dir, (place, found))
    }

    /// The settings as if there were no configuration file. They are no settings for a host, but
    /// are enough to read what is stored.
    pub(crate) fn load_without_file(
        overrides: &Overrides,
        env: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let data_dir = data_dir(overrides.data_dir.as_deref(), env)?;
        // The place of the file may be unknown too.
        let place = file_path(env).unwrap_or_default();
        Self::assembled(overrides, env, data_dir, (place, None))
    }

    /// Combines all sources. `place` is the path of the file, and `found` what was read there.
    fn assembled(
        overrides: &Overrides,
        env: Environment<'_>,
        data_dir: PathBuf,
        (place, found): (PathBuf, Option<FileWithOrigins>),
    ) -> Result<Self, ConfigError> {
        let is_read = found.is_some();
        let (file, origins) = found.unwrap_or_default();
        let mut settings = Self::from_file(&place, file, data_dir)?;
        settings.file = is_read.then_some(place);
        settings.is_file_empty = origins.is_empty();
        settings.origins = origins;
        settings.apply_environment(env);
        let given = |settings: &mut Self, name: &str, option| {
            settings
                .origins
                .insert(name.to_owned(), Origin::Option(option));
        };
        if let Some(slots) = &overrides.slots {
            settings.given_slots = Some(option("--slots").slots(slots)?);
            given(&mut settings, "slots", "--slots");
        }
        (settings.begin, settings.on_demand) = (overrides.begin, overrides.on_demand);
        if let Some(keep) = &overrides.keep {
            settings.keep = option("--keep").keep(keep)?;
            given(&mut settings, "keep", "--keep");
        }
        Ok(settings)
    }

    fn from_file(place: &Path, file: File, data_dir: PathBuf) -> Result<Self, ConfigError> {
        let source = place.display().to_string();
        let source = source.as_str();
        let of = |name| Setting { source, name };
        let bytes = |name, value: Option<toml::Value>, default: u64| match value {
            None => Ok(default),
            Some(value) => of(name).bytes(&plain(&value)),
        };
        let phase = |name, value: Option<toml::Value>| match value {
            None => Ok(PHASE_LIMIT),
            Some(value) => of(name).keep(&plain(&value)),
        };
        let cpu_percent = file.cpu_threshold.unwrap_or(80.0);
        let cpu_percent = of("cpu_threshold").percent(&cpu_percent.to_string())?;
        let slots = match &file.slots {
            None => Slots::Auto,
            Some(value) => of("slots").slots(&plain(value))?,
        };
        let task_timeout = match (&file.task_timeout, file.task_timeout_ms) {
            (Some(value), None) => Some(of("task_timeout").limit(&plain(value))?),
            (None, Some(ms)) => Some(of("task_timeout_ms").timeout_ms(ms)?),
            (None, None) => None,
            (Some(_), Some(ms)) => {
                let instead = "ignored, because `task_timeout` is set";
                return Err(of("task_timeout_ms").wrong(&ms.to_string(), instead));
            }
        };
        Ok(Self {
            data_dir,
            file: None,
            is_file_empty: true,
            place: place.to_owned(),
            given_slots: None,
            begin: Begin::Usual,
            on_demand: false,
            limits: Limits {
                slots,
                cpu_percent,
                memory_reserve_bytes: bytes(
                    "memory_reserve",
                    file.memory_reserve,
                    DEFAULT_RESERVE_BYTES,
                )?,
                disk_reserve_bytes: bytes(
                    "disk_reserve",
                    file.disk_reserve,
                    DEFAULT_RESERVE_BYTES,
                )?,
                daily_micro_usd: match file.budget.daily_usd {
                    None => None,
                    Some(usd) => Some(budget_micro_usd(usd).ok_or_else(|| {
                        of("budget.daily_usd").wrong(&usd.to_string(), USD_EXPECTED)
                    })?),
                },
            },
            keep: match &file.keep {
                None => DEFAULT_KEEP,
                Some(value) => of("keep").keep(&plain(value))?,
            },
            prepare_timeout: phase("prepare_timeout", file.prepare_timeout)?,
            settle_timeout: phase("settle_timeout", file.settle_timeout)?,
            max_output_bytes: match &file.max_output {
                None => DEFAULT_MAX_OUTPUT_BYTES,
                Some(value) => of("max_output").output(&plain(value))?,
            },
            task_timeout,
            log_level: of("log_level").level(file.log_level.as_deref().unwrap_or("info"))?,
            mcp: file.mcp.checked(source)?,
            env: file.env.checked(source)?,
            warnings: edit::unusable(source, &file.plugins)
                .map(|error| format!("{error}; tasks of this executor fail until it is put right"))
                .collect(),
            plugins: file.plugins,
            origins: BTreeMap::new(),
        })
    }
}

/// Converts an amount in USD to millionths; `None` if the amount is not a valid budget. A smaller
/// amount than a millionth is none, because another one would apply than the given one.
pub(crate) fn budget_micro_usd(usd: f64) -> Option<u64> {
    let is_valid = (units::MIN_USD..=units::MAX_USD).contains(&usd);
    units::micro_usd(usd).filter(|_| is_valid)
}

fn option(name: &str) -> Setting<'_> {
    Setting {
        source: "the command line",
        name,
    }
}

/// Whether a text of a configuration file contains a setting. A text that is not TOML may contain
/// some.
pub(crate) fn has_settings(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_err() || !show::origins_in(text).is_empty()
}

/// The contents of a file, and the settings that it contains.
fn read_file(path: &Path) -> Result<FileWithOrigins, ConfigError> {
    let text = read_text(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file = parse_file(path, &text)?;
    Ok((file, show::origins_in(&text)))
}

/// Reads a configuration file. At most [`FILE_MAX_BYTES`] are read, since the path may be that of a
/// device, which has no end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = open(path)?;
    file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX_BYTES {
        let message = format!("it is larger than {} MiB", FILE_MAX_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Opens a file or a device for reading. A FIFO is refused, because its other end may never be
/// opened.
fn open(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        let message = "it is a FIFO, whose other end may never be opened; move it away";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(file)
}

fn parse_file(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| unparsable(path, &error.to_string()))
}

/// The error for a text that is not a configuration. The lines of the message are shortened,
/// because it quotes a line of the text, which may be very long.
fn unparsable(path: &Path, message: &str) -> ConfigError {
    let lines: Vec<String> = message
        .lines()
        .map(|line| shortened(line, ERROR_LINE_CHARS))
        .collect();
    ConfigError::Parse {
        path: path.to_owned(),
        message: lines.join("\n"),
    }
}

/// A TOML value in the form in which it would be written in the environment.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    pub(super) fn load(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let map: BTreeMap<_, _> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), OsString::from(*v)))
            .collect();
        Settings::load(&Overrides::default(), &|name| map.get(name).cloned())
    }

    /// Without `on_demand`, a shorter retention would take effect at once.
    #[test]
    fn a_host_that_a_task_starts_was_not_asked_for_and_has_no_options() {
        let given = Overrides {
            data_dir: Some("/data".into()),
            slots: Some("9".to_owned()),
            keep: Some("1s".to_owned()),
            begin: Begin::Killing,
            on_demand: false,
        };
        let left = given.of_a_task();
        assert_eq!(left.data_dir, given.data_dir);
        assert_eq!((left.slots, left.keep), (None, None));
        assert_eq!((left.begin, left.on_demand), (Begin::Usual, true));
    }

    #[test]
    fn a_setting_in_a_variable_that_is_not_utf8_is_ignored_with_a_warning() {
        let env = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "CLAUDINE_LOG_LEVEL" => Some(OsString::from_vec(b"debug\xff".to_vec())),
            _ => None,
        };
        let settings = Settings::load(&Overrides::default(), &env).unwrap();
        let warning = "environment: CLAUDINE_LOG_LEVEL is `debug\u{fffd}`, but must be error, \
                       warn, info, debug or trace; it is ignored";
        assert_eq!(settings.warnings, [warning]);
        assert_eq!(settings.log_level, "info");
    }

    #[test]
    fn an_invalid_variable_is_ignored_with_a_warning() {
        let defaults = load(&[("HOME", "/h")]).unwrap();
        let check = |name: &str, value: &str, expected: &str| {
            let settings = load(&[("HOME", "/h"), (name, value)]).unwrap();
            let warning =
                format!("environment: {name} is `{value}`, but must be {expected}; it is ignored");
            assert_eq!(settings.warnings, [warning]);
            assert_eq!(settings.to_string(), defaults.to_string());
        };
        let timeout = "a time from `1s` to `30d`, or a whole number of milliseconds";
        check("CLAUDINE_TASK_TIMEOUT", "-5", timeout);
        check("CLAUDINE_TASK_TIMEOUT", "31d", timeout);
        check("CLAUDINE_TASK_TIMEOUT", "1500.5", timeout);
        let percent = "a percentage over 0 and up to 100";
        check("CLAUDINE_CPU_THRESHOLD", "high", percent);
        check("CLAUDINE_CPU_THRESHOLD", "0", percent);
        check("CLAUDINE_MEMORY_RESERVE", "lots", units::SIZE_EXPECTED);
        let level = "error, warn, info, debug or trace";
        check("CLAUDINE_LOG_LEVEL", "loud", level);
        check("CLAUDINE_SLOTS", "0", "`auto` or a number from 1 to 10000");
        let keep = "a time such as `36h` or `7d`, from a second to ten years";
        check("CLAUDINE_KEEP", "soon", keep);
        check("CLAUDINE_KEEP", "1ms", keep);
        check("CLAUDINE_SETTLE_TIMEOUT", "0.5", keep);
        let output = "a number of bytes such as `10485760`, `10M` or `1G`, at least 4096";
        check("CLAUDINE_MAX_OUTPUT_BUFFER", "0", output);
    }

    #[test]
    fn settings_without_a_file_are_known_although_the_file_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "slots = = 3\n").unwrap();
        let env = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            CONFIG => Some(file.clone().into_os_string()),
            "CLAUDINE_KEEP" => Some(OsString::from("36h")),
            _ => None,
        };
        let overrides = Overrides::default();
        let error = Settings::load(&overrides, &env).unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }), "{error}");
        let settings = Settings::load_without_file(&overrides, &env).unwrap();
        assert_eq!(settings.keep, Duration::from_hours(36));
        // It is known that the settings of the file are missing.
        assert_eq!((settings.file, settings.place), (None, file.clone()));
        let nowhere = Overrides {
            data_dir: Some("/data".into()),
            ..overrides
        };
        assert!(Settings::load(&nowhere, &|_| None).is_err());
        assert!(Settings::load_without_file(&nowhere, &|_| None).is_ok());
    }

    #[test]
    fn an_entry_of_plugins_that_is_no_table_is_told_and_keeps_no_host_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let path = file.to_str().unwrap();
        let warnings = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let settings = load(&[("HOME", "/h"), ("CLAUDINE_CONFIG", path)]).unwrap();
            settings.warnings
        };
        assert_eq!(warnings("[plugins.claude]\nmodel = 'opus'\n"), [""; 0]);
        let told = warnings("[plugins]\nclaude = 'x'\n");
        let expected = format!("{path}: plugins.claude is `\"x\"`, but must be a table");
        assert!(
            told.len() == 1 && told[0].starts_with(&expected),
            "{told:?}"
        );
    }

    #[test]
    fn only_variables_with_the_prefix_claudine_are_read() {
        let settings = load(&[
            ("HOME", "/h"),
            ("CLAUDINE_TASK_TIMEOUT", "1h30m"),
            ("CLAUDINE_CPU_THRESHOLD", "70"),
            ("CLAUDINE_MEMORY_RESERVE", "2G"),
            ("CLAUDINE_KEEP", "1h30m"),
            ("CLAUDINE_LOG_LEVEL", "DEBUG"),
            ("TASK_TIMEOUT", "nonsense"),
            ("LOG_LEVEL", "verbose"),
        ])
        .unwrap();
        assert_eq!(settings.warnings, [""; 0]);
        assert_eq!(settings.task_timeout, Some(Duration::from_mins(90)));
        assert_eq!(settings.keep, Duration::from_mins(90));
        assert_eq!(settings.limits.memory_reserve_bytes, 2 << 30);
        assert_eq!(settings.log_level, "debug");
        let ms = load(&[("HOME", "/h"), ("CLAUDINE_TASK_TIMEOUT", "60000")]).unwrap();
        assert_eq!(ms.task_timeout, Some(Duration::from_mins(1)));
    }
}
