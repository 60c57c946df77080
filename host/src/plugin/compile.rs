//! `claudine __compile IN OUT`: the process that compiles a component.
//!
//! The process limits itself before it reads a byte, so that a component that exhausts the compiler
//! ends only this process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::engine::{self, Allocation};
use super::error::PluginError;
use super::load;
use crate::fsx;

/// Less than the time for which the host waits: a component which keeps the compiler busy for ever
/// is to be refused, and not to be compiled again and again.
const CPU_SECONDS: u64 = 160;
const ADDRESS_SPACE_BYTES: u64 = 8 << 30;
const OUTPUT_BYTES: u64 = 1 << 30;

/// Whether a process with this command line, as the kernel shows it, compiles a component for a
/// host.
pub(crate) fn is_compiler(command_line: &[u8]) -> bool {
    host_of_compiler(command_line).is_some()
}

/// The host's pid, as text, in the command line of a process that compiles a component for it.
fn host_of_compiler(command_line: &[u8]) -> Option<&[u8]> {
    let mut words = command_line.split(|byte| *byte == 0);
    let program = words.next()?;
    let host = program.strip_prefix(b"/proc/")?.strip_suffix(b"/exe")?;
    (words.next()? == b"__compile").then_some(host)
}

/// The processes that compile components for the host with this pid.
pub(crate) fn compilers_of(host: u32) -> io::Result<Vec<u32>> {
    let host = host.to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has ended, or that belongs to another user, compiles nothing for the host.
        let line = fsx::read_virtual(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if host_of_compiler(&line) == Some(host.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Runs the subcommand; `args` are the arguments after `__compile`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(PluginError::Compile { message }) => {
            eprintln!("{message}");
            ExitCode::from(load::REFUSED)
        }
        Err(error) => {
            let message = match error {
                PluginError::Uncompiled { message } => message,
                other => other.to_string(),
            };
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<(), PluginError> {
    let [source, target] = args else {
        return Err(hindered("usage: claudine __compile IN OUT"));
    };
    let allocation = Allocation::on_demand();
    limit().map_err(|error| hindered(format!("limits cannot be set: {error}")))?;
    let code = compile(Path::new(source), allocation)?;
    let target = Path::new(target);
    load::write_if_room(target, &code).map_err(|error| hindered_at(target, &error))
}

/// The error if the compiler cannot do its work, whatever the component is.
fn hindered(message: impl Into<String>) -> PluginError {
    let message = message.into();
    PluginError::Uncompiled { message }
}

fn hindered_at(path: &Path, error: &io::Error) -> PluginError {
    hindered(format!("{}: {error}", path.display()))
}

fn limit() -> rustix::io::Result<()> {
    let set = |resource, wanted: u64, hard: u64| {
        // A hard limit that is already lower is kept.
        let maximum = getrlimit(resource)
            .maximum
            .map_or(hard, |maximum| maximum.min(hard));
        setrlimit(
            resource,
            Rlimit {
                current: Some(wanted.min(maximum)),
                maximum: Some(maximum),
            },
        )
    };
    // At the hard limit, the kernel would send the same signal as if memory were lacking.
    set(Resource::Cpu, CPU_SECONDS, CPU_SECONDS + 10)?;
    set(Resource::As, ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)?;
    set(Resource::Fsize, OUTPUT_BYTES, OUTPUT_BYTES)?;
    set(Resource::Core, 0, 0)
}

/// Compiles the component in this file.
pub(crate) fn compile(source: &Path, allocation: Allocation) -> Result<Vec<u8>, PluginError> {
    let bytes = fsx::read(source).map_err(|error| hindered_at(source, &error))?;
    let engine = engine::compiling(allocation).map_err(|error| hindered(format!("{error:#}")))?;
    engine
        .precompile_component(&bytes)
        .map_err(|error| PluginError::Compile {
            message: format!("{error:#}"),
        })
}
