//! `claudine __compile IN OUT`: the process that compiles a component.
//!
//! The process limits itself before it reads a byte, so that a component that exhausts the compiler
//! ends only this process.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::engine::{self, Allocation};
use super::error::PluginError;
use super::load;
use crate::fsx;

const CPU_SECONDS: u64 = 300;
const ADDRESS_SPACE_BYTES: u64 = 8 << 30;
const OUTPUT_BYTES: u64 = 1 << 30;

/// Whether a process with this command line, as the kernel shows it, compiles a component for a
/// host.
pub(crate) fn is_compiler(command_line: &[u8]) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let is_host = program.starts_with(b"/proc/") && program.ends_with(b"/exe");
    is_host && words.next().is_some_and(|word| word == b"__compile")
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
    let set = |resource, wanted: u64| {
        // A hard limit that is already lower is kept.
        let maximum = getrlimit(resource)
            .maximum
            .map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(
            resource,
            Rlimit {
                current: Some(maximum),
                maximum: Some(maximum),
            },
        )
    };
    set(Resource::Cpu, CPU_SECONDS)?;
    set(Resource::As, ADDRESS_SPACE_BYTES)?;
    set(Resource::Fsize, OUTPUT_BYTES)?;
    set(Resource::Core, 0)
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
