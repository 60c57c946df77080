//! The interface `process`: children of an attempt, which belong to the host.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, Destination, HasSelf, Resource, StreamProducer, StreamReader, StreamResult,
};

use super::input::InputConsumer;
use crate::plugin::guest::{Guest, Purpose};
use crate::plugin::port::{self, AttemptHost, ChildRef, EnvRemove, OutputReader, SpawnSpec, Stdin};
use crate::plugin::probe;
use crate::plugin::v0_1::ChildHandle;
use crate::plugin::v0_1::process::{
    self as wit, Channel, ExitStatus, Host, HostChild, HostChildWithStore, HostWithStore, Input,
    ProbeOutput,
};
use crate::plugin::v0_1::types::Failure;

/// What is read at once where the reader is the host itself; a guest brings its own buffer.
const PIECE_BYTES: usize = 64 << 10;

impl Host for Guest {}

impl Guest {
    fn child(&self, handle: &Resource<ChildHandle>) -> wasmtime::Result<ChildRef> {
        Ok(self.table.get(handle)?.0.clone())
    }

    /// A handle exists only where an attempt gave it out, so this cannot fail for one that came from the table.
    fn attempt_of(
        &self,
        handle: &Resource<ChildHandle>,
    ) -> wasmtime::Result<(Arc<dyn AttemptHost>, ChildRef)> {
        let child = self.child(handle)?;
        let host = self
            .attempt()
            .ok_or_else(|| wasmtime::Error::msg("a child without an attempt"))?;
        Ok((host, child))
    }
}

impl HostChild for Guest {
    fn children(&mut self) -> wasmtime::Result<Vec<Resource<ChildHandle>>> {
        let children = self
            .attempt()
            .map(|host| host.children())
            .unwrap_or_default();
        children
            .into_iter()
            .map(|child| Ok(self.table.push(ChildHandle(child))?))
            .collect()
    }

    fn id(&mut self, handle: Resource<ChildHandle>) -> wasmtime::Result<String> {
        Ok(self.child(&handle)?.to_string())
    }

    fn signal(
        &mut self,
        handle: Resource<ChildHandle>,
        name: String,
    ) -> wasmtime::Result<Result<(), Failure>> {
        let (host, child) = self.attempt_of(&handle)?;
        let Some(signal) = port::Signal::parse(&name) else {
            return Ok(Err(port::Failure::new(
                "invalid",
                format!("there is no signal `{name}` to send"),
            )
            .into()));
        };
        Ok(host.signal(&child, signal).map_err(Failure::from))
    }

    /// The child runs on: only the guest's handle goes.
    fn drop(&mut self, handle: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl HostChildWithStore<Guest> for HasSelf<Guest> {
    async fn spawn(
        accessor: &Accessor<Guest, Self>,
        spec: wit::SpawnSpec,
    ) -> wasmtime::Result<Result<Resource<ChildHandle>, Failure>> {
        let prepared = accessor.with(|mut access| {
            access.get().budget.refill();
            prepare(access, spec)
        })?;
        let (host, spec) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(Err(failure.into())),
        };
        match host.spawn(spec).await {
            Ok(child) => {
                accessor.with(|mut access| Ok(Ok(access.get().table.push(ChildHandle(child))?)))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    fn output(
        mut access: Access<'_, Guest, Self>,
        handle: Resource<ChildHandle>,
        channel: Channel,
        from_offset: u64,
    ) -> wasmtime::Result<StreamReader<u8>> {
        let (host, child) = access.get().attempt_of(&handle)?;
        let reader = host.output(&child, channel.into(), from_offset);
        StreamReader::new(access, OutputProducer(reader))
    }

    async fn wait(
        accessor: &Accessor<Guest, Self>,
        handle: Resource<ChildHandle>,
    ) -> wasmtime::Result<Result<ExitStatus, Failure>> {
        let (host, child) = accessor.with(|mut access| {
            access.get().budget.refill();
            access.get().attempt_of(&handle)
        })?;
        Ok(host
            .wait(&child)
            .await
            .map(ExitStatus::from)
            .map_err(Failure::from))
    }
}

impl HostWithStore<Guest> for HasSelf<Guest> {
    async fn probe(
        accessor: &Accessor<Guest, Self>,
        command: String,
        args: Vec<String>,
    ) -> wasmtime::Result<Result<ProbeOutput, Failure>> {
        let allowed = accessor.with(|mut access| {
            let guest = access.get();
            guest.budget.refill();
            check_probe(guest, &command, &args)
        });
        if let Err(failure) = allowed {
            return Ok(Err(failure.into()));
        }
        let probed = probe::run(&command, &args).await;
        Ok(probed.map_err(Failure::from).map(|output| ProbeOutput {
            status: output.exit.into(),
            stdout: output.stdout,
            stderr: output.stderr,
        }))
    }
}

fn check_probe(guest: &Guest, command: &str, args: &[String]) -> Result<(), port::Failure> {
    if !matches!(guest.purpose, Purpose::Fingerprint) {
        return Err(port::Failure::new(
            "denied",
            "a probe is for `fingerprint`; an attempt starts a child",
        ));
    }
    check_text("the command", command)?;
    for (position, arg) in args.iter().enumerate() {
        check_text(&format!("argument {position}"), arg)?;
    }
    guest.identity.gate.check_command(command)
}

type Prepared = Result<(Arc<dyn AttemptHost>, SpawnSpec), port::Failure>;

/// Everything that can be refused before the host is asked.
fn prepare(
    mut access: Access<'_, Guest, HasSelf<Guest>>,
    spec: wit::SpawnSpec,
) -> wasmtime::Result<Prepared> {
    let host = match admit(access.get(), &spec) {
        Ok(host) => host,
        Err(failure) => {
            if let Input::Stream(mut stream) = spec.stdin {
                stream.close(&mut access)?;
            }
            return Ok(Err(failure));
        }
    };
    let stdin = match spec.stdin {
        Input::Empty => Stdin::Empty,
        Input::Bytes(bytes) => Stdin::Bytes(bytes),
        Input::Stream(stream) => {
            let (consumer, input) = InputConsumer::new(Arc::clone(&access.get().lost));
            stream.pipe(&mut access, consumer)?;
            Stdin::Stream(input)
        }
    };
    let env_remove = if spec.env_remove.iter().any(|name| name == "*") {
        EnvRemove::Everything
    } else {
        EnvRemove::Names(spec.env_remove)
    };
    let (command, args, cwd, env) = (spec.command, spec.args, spec.cwd, spec.env);
    Ok(Ok((
        host,
        SpawnSpec {
            command,
            args,
            cwd,
            env,
            env_remove,
            stdin,
        },
    )))
}

/// The grant is first: what is not allowed is not looked at.
fn admit(guest: &Guest, spec: &wit::SpawnSpec) -> Result<Arc<dyn AttemptHost>, port::Failure> {
    guest.identity.gate.check_command(&spec.command)?;
    let Some(host) = guest.attempt() else {
        return Err(port::Failure::new(
            "denied",
            "children are started by an attempt, not by a question",
        ));
    };
    check_spec(spec)?;
    Ok(host)
}

fn check_spec(spec: &wit::SpawnSpec) -> Result<(), port::Failure> {
    let invalid = |message: String| Err(port::Failure::new("invalid", message));
    if spec.command.is_empty() {
        return invalid("the command is empty".into());
    }
    check_text("the command", &spec.command)?;
    for (position, arg) in spec.args.iter().enumerate() {
        check_text(&format!("argument {position}"), arg)?;
    }
    if let Some(cwd) = &spec.cwd {
        check_text("the working directory", cwd)?;
        if !cwd.starts_with('/') {
            return invalid(format!("the working directory `{cwd}` is not absolute"));
        }
    }
    let mut seen = HashSet::new();
    for (name, value) in &spec.env {
        check_text("the name of a variable", name)?;
        check_text(&format!("the variable {name}"), value)?;
        if name.is_empty() || name.contains('=') {
            return invalid(format!("`{name}` cannot be the name of a variable"));
        }
        if !seen.insert(name) {
            return invalid(format!("the variable {name} stands twice"));
        }
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), port::Failure> {
    match text.find('\0') {
        Some(position) => Err(port::Failure::new(
            "invalid",
            format!("{what} has a NUL byte at {position}, which no program can be given"),
        )),
        None => Ok(()),
    }
}

/// Hands a child's output to the guest, straight into the guest's own buffer.
struct OutputProducer(OutputReader);

impl StreamProducer<Guest> for OutputProducer {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Guest>,
        destination: Destination<'a, u8, Option<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        store.data_mut().budget.refill();
        let mut direct = destination.as_direct(store, PIECE_BYTES);
        let room = direct.remaining();
        if room.is_empty() {
            // A guest that asks whether there is something to read is told to read.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut buffer = ReadBuf::new(room);
        match self.0.as_mut().poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                direct.mark_written(read);
                Poll::Ready(Ok(if read == 0 {
                    StreamResult::Dropped
                } else {
                    StreamResult::Completed
                }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(wasmtime::Error::msg(format!(
                "reading a child's output: {error}"
            )))),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
