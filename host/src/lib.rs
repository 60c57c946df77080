//! Claudine: a host for delegated work.
//!
//! Tasks come from an agent, a terminal or a program, are kept in a durable queue, and are run by
//! executors that are WebAssembly components. `ARCHITECTURE.md` describes the modules and their
//! invariants. This file only connects the modules.

mod accounts;
mod allocator;
mod api;
mod app;
mod aside;
mod attempt;
mod ballast;
mod bounds;
mod ceiling;
mod checkpoint;
mod clock;
mod command;
mod config;
mod digest;
mod engine;
mod environment;
mod fsx;
mod git;
mod identity;
mod inherited;
mod kept;
mod layout;
mod lock;
mod moment;
mod narrowed;
mod panics;
mod plugin;
mod proc_stat;
mod random;
mod restored;
mod retention;
mod sample;
mod serve;
mod stdout;
mod store;
mod supervise;
mod telemetry;
mod text;
mod transcript;
mod ulimits;
mod units;
mod worktree;
mod zone;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use plugin::bench_main as plugin_bench;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crate::{
    api::{Background, Wiring},
    app::{
        AppError, ErrorKind, Host, HostInfo,
        backup::{self, QueueRestored},
    },
    config::{Overrides, Settings},
    environment::Environment,
    identity::Purpose,
};

/// Runs the program with the arguments of the process. The first argument is the name of the
/// program.
///
/// Commands that must be fast or must not use the data directory (the version, the supervisor, the
/// compiler of components) are handled first.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("--version" | "-V") if arguments.len() == 2 => tell_version(),
        Some(supervise::peer::SUPERVISE) => match arguments.get(2) {
            Some(dir) => {
                let soft = arguments.get(3).and_then(|soft| soft.to_str());
                supervise::process::run(Path::new(dir), soft.and_then(|soft| soft.parse().ok()))
            }
            None => ExitCode::from(2),
        },
        Some("__compile") => plugin::compile_main(arguments[2..].iter().cloned()),
        _ => match ulimits::of_a_command() {
            Ok(()) => {
                panics::hide_caught();
                command(arguments)
            }
            Err(error) => {
                // There is no other place for this error.
                drop(writeln!(
                    io::stderr(),
                    "error: {error}\nhint: {}",
                    ulimits::HINT
                ));
                ExitCode::from(api::CLAUDINE)
            }
        },
    }
}

fn tell_version() -> ExitCode {
    let version = concat!("claudine ", env!("CARGO_PKG_VERSION"), "\n");
    match stdout::write(version.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            // There is no other place for this error.
            drop(writeln!(
                io::stderr(),
                "error: cannot write the answer: {error}"
            ));
            ExitCode::from(api::CLAUDINE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Separate from [`run`], so that the large frames of a command are entered only if there is enough
/// stack.
#[inline(never)]
fn command(arguments: Vec<OsString>) -> ExitCode {
    api::cli::run(
        arguments,
        Wiring {
            serve: serve_host,
            launch,
            announce,
            build_plugin,
            restore,
            offline,
        },
    )
}

fn serve_host(
    overrides: &Overrides,
    background: bool,
    ready: &mut dyn FnMut(&HostInfo),
) -> Result<(), AppError> {
    fsx::unmask_owner();
    supervise::launch::seal_inherited(background).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("inherited file descriptors cannot be closed: {error}"),
        )
    })?;
    let descriptors = supervise::launch::raise_descriptors();
    let lifted = supervise::launch::lift_limits();
    ulimits::of_a_host().map_err(|error| {
        AppError::new(ErrorKind::Forbidden, error.to_string()).hint(ulimits::HINT)
    })?;
    allocator::limit_arenas();
    ulimits::enough_threads().map_err(|error| {
        AppError::new(ErrorKind::Forbidden, error.to_string()).hint(error.hint())
    })?;
    let mut settings = settings(overrides)
        .map_err(|error| AppError::new(ErrorKind::Invalid, error.to_string()))?;
    let claimed = serve::claim(&settings.data_dir, Purpose::Host).map_err(start_error)?;
    backup::refuse_incomplete(&claimed.layout)?;
    narrowed::begin(&claimed.layout, &mut settings);
    let log = layout::Layout::new(&settings.data_dir).host_log();
    let sink = if background {
        telemetry::Sink::File(&log)
    } else {
        telemetry::Sink::Stderr
    };
    telemetry::start(&settings.log_level, &sink).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the log cannot be written: {error}"),
        )
    })?;
    panics::end_with_this_thread(api::CLAUDINE);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let descriptors = descriptors.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        None
    });
    if let Err(error) = lifted {
        tracing::warn!(%error, "the limits of this process cannot be set");
    }
    let limited = [
        fsx::file_limit().map(limited_files),
        ulimits::limited_time(),
    ];
    for warning in limited.into_iter().flatten() {
        tracing::warn!("{warning}");
        settings.warnings.push(warning);
    }
    serve::run(&claimed, settings, descriptors, ready).map_err(start_error)
}

fn limited_files(bytes: u64) -> String {
    format!(
        "no file of the host can become larger than {} (`ulimit -Hf`): the host fails once its database reaches this size; start it from a shell without this limit",
        units::bytes_text(bytes)
    )
}

fn start_error(error: serve::ServeError) -> AppError {
    let kind = match &error {
        serve::ServeError::Taken { .. } => ErrorKind::Conflict,
        serve::ServeError::NoSpace { .. } => ErrorKind::StoreFull,
        // Callers wait for another host if the kind is `Unavailable`. This is useless as long as
        // the tasks of the original directory run, or until somebody puts the database back.
        serve::ServeError::Supervise(supervise::SuperviseError::Copied { .. })
        | serve::ServeError::Store(store::StoreError::Missing { .. }) => ErrorKind::Forbidden,
        _ => ErrorKind::Unavailable,
    };
    let app = AppError::new(kind, error.to_string());
    let hint = error.hint().map(Into::into);
    match hint.or_else(|| fsx::file_limit().map(limited_files)) {
        Some(hint) => app.hint(hint),
        None => app,
    }
}

/// The settings of a host in this process. A task decides nothing about the host that runs it, so a
/// host that is started inside a task takes no settings from the task, except for the data
/// directory.
fn settings(overrides: &Overrides) -> Result<Settings, config::ConfigError> {
    let data_dir = overrides.data_dir.as_deref();
    if !is_in_task(&config::data_dir(data_dir, &config::process_environment)?) {
        return Settings::load(overrides, &config::process_environment);
    }
    let mut settings = Settings::load(&overrides.of_a_task(), &config::environment_in_task)?;
    let warning = "a task has started this host, which therefore takes its settings only from the configuration file";
    settings.warnings.push(warning.to_owned());
    Ok(settings)
}

/// Whether this process belongs to a task of the host with this data directory. If this cannot be
/// found out, it counts as part of a task.
fn is_in_task(data_dir: &Path) -> bool {
    let supervisors = layout::Layout::new(data_dir).supervisors();
    supervise::peer::is_in_task(&supervisors).unwrap_or(true)
}

fn launch(host: &Background) -> io::Result<(u32, File)> {
    let program = supervise::Program {
        path: host.program.clone(),
        args: Vec::new(),
    };
    let mut variables = config::whole_environment().into_iter();
    let gives_settings =
        !host.settings.is_empty() || variables.any(|(name, _)| config::is_setting(&name));
    // Looking at all processes above this one takes a part of the start, and usually there is
    // nothing to leave out.
    let is_inside = gives_settings && is_in_task(&host.data_dir);
    let left_out = |name: &OsStr| is_inside && config::is_setting(name);
    if is_inside {
        tell_of_settings(host);
    }
    let settings = host.settings.iter().filter(|_| !is_inside);
    let arguments = host.arguments.iter().chain(settings);
    let arguments: Vec<_> = arguments.map(OsString::as_os_str).collect();
    let data_dir = (
        OsString::from(config::DATA_DIR),
        host.data_dir.clone().into_os_string(),
    );
    let environment = config::whole_environment()
        .into_iter()
        .filter(|(name, _)| name != config::DATA_DIR && !left_out(name))
        .chain([data_dir]);
    supervise::launch::launch(&program, &arguments, environment, &host.log)
        .map(supervise::launch::Launched::into_parts)
}

/// Names the settings of this command that its host does not get, because the command is part of a
/// task.
fn tell_of_settings(host: &Background) {
    let variables = config::whole_environment()
        .into_iter()
        .map(|(name, _)| name);
    let variables = variables.filter(|name| config::is_setting(name) && !config::is_of_task(name));
    let options = host.settings.iter().cloned();
    let options = options.filter(|text| text.as_encoded_bytes().starts_with(b"--"));
    let given: Vec<String> = variables
        .chain(options)
        .map(|name| name.to_string_lossy().escape_debug().to_string())
        .collect();
    if given.is_empty() {
        return;
    }
    let note = format!(
        "note: this command is part of a task, so the host that it starts takes no settings from it: {}",
        given.join(", ")
    );
    // Nobody need read the note.
    drop(writeln!(io::stderr(), "{note}"));
}

fn announce(line: &str) -> io::Result<()> {
    supervise::launch::announce_ready(line)
}

fn build_plugin(dir: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, AppError> {
    use claudine_plugin_build::{BuildRequest, Toolchain, Way, build};
    let failed =
        |error: &dyn std::error::Error| AppError::new(ErrorKind::Invalid, text::chain(error));
    let toolchain = Toolchain::find(dir, &Way::USUAL, say).map_err(|error| failed(&error))?;
    let request = BuildRequest {
        crate_dir: dir.to_owned(),
        out_dir: out.to_owned(),
        target_dir: dir.join("target"),
        release: true,
    };
    build(&request, &toolchain, say)
        .map(|built| built.component)
        .map_err(|error| failed(&error))
}

/// Creates a host within this process. It is used if no host runs, and answers only requests that
/// change nothing. They need no configuration file, so if it cannot be used, this is a warning.
fn offline(overrides: &Overrides) -> Result<(Arc<Host>, Option<String>), AppError> {
    let env = &config::process_environment;
    let invalid = |error: config::ConfigError| AppError::new(ErrorKind::Invalid, error.to_string());
    let (mut settings, warning) = match Settings::load(overrides, env) {
        Ok(settings) => (settings, None),
        Err(error) => {
            let without = Settings::load_without_file(overrides, env).map_err(invalid)?;
            let warning = format!(
                "warning: no host can start now, and the settings in the configuration file are \
                 not known here: {error}"
            );
            (without, Some(warning))
        }
    };
    narrowed::try_on(&layout::Layout::new(&settings.data_dir), &mut settings);
    Ok((serve::offline(settings)?, warning))
}

/// Restores a backup. The backup is read completely before anything is written. If a host runs or a
/// queue exists, the restore is refused before the backup is read. A restore that fails leaves no
/// data directory behind if there was none.
fn restore(
    overrides: &Overrides,
    file: &Path,
    environment: Environment,
) -> Result<QueueRestored, AppError> {
    fsx::unmask_owner();
    let settings = Settings::load(overrides, &config::process_environment)
        .map_err(|error| AppError::new(ErrorKind::Invalid, error.to_string()))?;
    let layout = layout::Layout::new(&settings.data_dir);
    let claim = || serve::claim(&settings.data_dir, Purpose::Restore).map_err(start_error);
    let early = layout.lock().exists().then(claim).transpose()?;
    backup::refuse_used(&layout)?;
    let checked = backup::check(file)?;
    // What a killed restore has left in an existing directory is removed before this check.
    let is_new = fsx::is_missing(layout.root());
    if is_new {
        checked.look_for_room(&layout)?;
    }
    let claimed = match early {
        Some(claimed) => claimed,
        None => claim()?,
    };
    let how = backup::Restore {
        limits: settings.limits,
        rules: settings.env,
        environment,
    };
    let restored = backup::restore(&checked, &claimed.layout, how);
    if restored.is_err() && is_new {
        backup::discard(&claimed.layout);
    }
    restored
}
