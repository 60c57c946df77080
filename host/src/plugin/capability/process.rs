//! The interface `process`: starts children of an attempt, and runs the commands of a fingerprint.

use std::collections::HashSet;
use std::sync::Arc;

use wasmtime::component::{Access, Accessor, HasSelf, Resource};

use super::input::InputConsumer;
use crate::lock::lock;
use crate::plugin::grant::{Lookup, Permit};
use crate::plugin::guest::{Guest, Identity, Place, Purpose};
use crate::plugin::port::{self, AttemptHost, ChildRef, EnvRemove, SpawnSpec, Stdin};
use crate::plugin::v0_1::ChildHandle;
use crate::plugin::v0_1::children::Input;
use crate::plugin::v0_1::process::{Captured, Command, Host, HostWithStore};
use crate::plugin::v0_1::types::Failure;
use crate::plugin::{capture, find};

impl Host for Guest {}

impl HostWithStore<Guest> for HasSelf<Guest> {
    async fn spawn(
        accessor: &Accessor<Guest, Self>,
        command: Command,
    ) -> wasmtime::Result<Result<Resource<ChildHandle>, Failure>> {
        let prepared = accessor.with(|access| prepare(access, command, admit_spawn))?;
        let started = match prepared {
            Ok((admitted, spec)) => start(admitted, spec).await,
            Err(failure) => Err(failure),
        };
        match started {
            Ok(child) => {
                accessor.with(|mut access| Ok(Ok(access.get().table.push(ChildHandle(child))?)))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn capture(
        accessor: &Accessor<Guest, Self>,
        command: Command,
    ) -> wasmtime::Result<Result<Captured, Failure>> {
        let prepared = accessor.with(|access| prepare(access, command, admit_capture))?;
        let captured = match prepared {
            Ok(((), spec)) => capture::run(spec).await,
            Err(failure) => Err(failure),
        };
        Ok(captured.map_err(Failure::from).map(|output| Captured {
            status: output.exit.into(),
            stdout: output.stdout,
            stderr: output.stderr,
            more: Vec::new(),
        }))
    }
}

/// Makes all checks that do not read the disk, and prepares the child. If the command is refused,
/// its input stream is closed.
fn prepare<T>(
    mut access: Access<'_, Guest, HasSelf<Guest>>,
    command: Command,
    admit: impl FnOnce(&Guest, &Command) -> Result<T, port::Failure>,
) -> wasmtime::Result<Result<(T, SpawnSpec), port::Failure>> {
    let admitted = match admit(access.get(), &command) {
        Ok(admitted) => admitted,
        Err(failure) => {
            if let Input::Stream(mut stream) = command.stdin {
                stream.close(&mut access)?;
            }
            return Ok(Err(failure));
        }
    };
    let stdin = match command.stdin {
        Input::Empty => Stdin::Empty,
        Input::Bytes(bytes) => Stdin::Bytes(bytes),
        Input::Stream(stream) => {
            let (consumer, input) = InputConsumer::new(Arc::clone(&access.get().lost));
            stream.pipe(&mut access, consumer)?;
            Stdin::Stream(input)
        }
    };
    let env_remove = if command.env_remove.iter().any(|name| name == "*") {
        EnvRemove::Everything
    } else {
        EnvRemove::Names(command.env_remove)
    };
    let spec = SpawnSpec {
        command: command.program,
        args: command.args,
        cwd: command.cwd,
        env: command.env,
        env_remove,
        stdin,
    };
    Ok(Ok((admitted, spec)))
}

/// A child that may be started if the checks that read the disk succeed too.
struct Admitted {
    host: Arc<dyn AttemptHost>,
    place: Arc<Place>,
    identity: Arc<Identity>,
    permit: Permit,
}

/// Checks the grant first, so that the host does not examine a command that is not allowed.
fn admit_spawn(guest: &Guest, command: &Command) -> Result<Admitted, port::Failure> {
    let permit = admit(guest, command)?;
    let (Some(host), Some(place)) = (guest.attempt(), guest.place()) else {
        return Err(port::Failure::new(
            "denied",
            "only an attempt can start children",
        ));
    };
    check(command)?;
    Ok(Admitted {
        host,
        place,
        identity: Arc::clone(&guest.identity),
        permit,
    })
}

fn admit_capture(guest: &Guest, command: &Command) -> Result<(), port::Failure> {
    let permit = admit(guest, command)?;
    if !matches!(guest.purpose, Purpose::Fingerprint) {
        return Err(port::Failure::new(
            "denied",
            "`capture` works only in `fingerprint`; an attempt must start a child",
        ));
    }
    if let (Permit::AsGranted, Some(directory)) = (permit, &command.cwd) {
        return Err(guest.identity.gate.deny_directory(directory));
    }
    if matches!(command.stdin, Input::Stream(_)) {
        return Err(port::Failure::new(
            "invalid",
            "a command that is captured cannot be fed by a stream",
        ));
    }
    check(command)
}

fn admit(guest: &Guest, command: &Command) -> Result<Permit, port::Failure> {
    let gate = &guest.identity.gate;
    let permit = gate.check_command(&command.program)?;
    gate.check_variables(permit, &command.env)?;
    Ok(permit)
}

/// Starts an admitted child, as the grant allows.
async fn start(admitted: Admitted, mut spec: SpawnSpec) -> Result<ChildRef, port::Failure> {
    let host = Arc::clone(&admitted.host);
    if admitted.permit == Permit::AsGranted {
        let asked = (spec.command, spec.cwd);
        let bound = crate::aside::run(move || bind(&admitted, asked)).await;
        (spec.command, spec.cwd) = bound.map_err(|error| {
            port::Failure::new(
                "resource",
                format!("the command could not be looked up: {error}"),
            )
        })??;
    }
    host.spawn(spec).await
}

/// Resolves a granted name to its file, and checks that the directory is in the workspace. Reads
/// the disk.
fn bind(
    admitted: &Admitted,
    (command, directory): (String, Option<String>),
) -> Result<(String, Option<String>), port::Failure> {
    let (gate, place) = (&admitted.identity.gate, &admitted.place);
    if let Some(directory) = &directory
        && !find::is_within(directory, &place.workspace)
    {
        return Err(gate.deny_directory(directory));
    }
    if gate.lookup == Lookup::TaskPath || command.contains('/') {
        return Ok((command, directory));
    }
    let mut found = lock(&place.found);
    if let Some(file) = found.get(&command) {
        return Ok((file.clone(), directory));
    }
    let file = find::find(&command, place.path.as_deref(), &place.workspace)?;
    let file = file.to_string_lossy().into_owned();
    found.insert(command, file.clone());
    Ok((file, directory))
}

fn check(command: &Command) -> Result<(), port::Failure> {
    let invalid = |message: String| Err(port::Failure::new("invalid", message));
    if command.program.is_empty() {
        return invalid("the command is empty".into());
    }
    check_text("the command", &command.program)?;
    for (position, arg) in command.args.iter().enumerate() {
        check_text(&format!("argument {position}"), arg)?;
    }
    if let Some(cwd) = &command.cwd {
        check_text("the working directory", cwd)?;
        if !cwd.starts_with('/') {
            return invalid(format!("the working directory `{cwd}` is not absolute"));
        }
    }
    let mut seen = HashSet::new();
    for (name, value) in &command.env {
        check_text("the name of a variable", name)?;
        check_text(&format!("the variable {name}"), value)?;
        if name.is_empty() || name.contains('=') {
            return invalid(format!("`{name}` cannot be the name of a variable"));
        }
        if !seen.insert(name) {
            return invalid(format!("the variable {name} is set twice"));
        }
    }
    // An unknown option cannot be ignored, because it could be a limit.
    if let Some((key, _)) = command.more.first() {
        return invalid(format!(
            "this host does not know the option `{key}` of a command"
        ));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), port::Failure> {
    match text.find('\0') {
        Some(position) => Err(port::Failure::new(
            "invalid",
            format!("{what} has a NUL byte at {position}, which cannot be passed to a program"),
        )),
        None => Ok(()),
    }
}
