//! The interface `children`: the children of an attempt, which belong to the host.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, HasSelf, Resource, StreamProducer, StreamReader,
    StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::plugin::guest::Guest;
use crate::plugin::port::{self, AttemptHost, ChildRef, Output};
use crate::plugin::v0_1::ChildHandle;
use crate::plugin::v0_1::children::{Channel, ExitStatus, Host, HostChild, HostChildWithStore};
use crate::plugin::v0_1::types::Failure;

/// The size of a read by the host itself; a guest's read has the size of the guest's buffer.
const PIECE_BYTES: usize = 64 << 10;

/// How a read of a child's output ended; the contract describes the values.
type End = Result<u64, Failure>;

impl Guest {
    fn child(&self, handle: &Resource<ChildHandle>) -> wasmtime::Result<ChildRef> {
        Ok(self.table.get(handle)?.0.clone())
    }

    /// The attempt of a child. Never fails for a handle from the table, since only attempts get
    /// handles.
    fn attempt_of(
        &self,
        handle: &Resource<ChildHandle>,
    ) -> wasmtime::Result<(Arc<dyn AttemptHost>, ChildRef)> {
        let child = self.child(handle)?;
        let host = self
            .attempt()
            .ok_or_else(|| wasmtime::Error::msg("a child handle outside an attempt"))?;
        Ok((host, child))
    }

    /// Lets the guest compute longer in return for output that it reads for the first time. Output
    /// that it has read before counts for nothing, because otherwise the guest could read the same
    /// output for ever.
    fn has_read(&mut self, place: &(ChildRef, port::Channel), offset: u64) {
        let known = self.known_output.entry(place.clone()).or_default();
        let new = offset.saturating_sub(*known);
        *known = offset.max(*known);
        self.budget
            .moved(usize::try_from(new).unwrap_or(usize::MAX));
    }
}

impl Host for Guest {
    fn list(&mut self) -> wasmtime::Result<Vec<Resource<ChildHandle>>> {
        let children = self
            .attempt()
            .map(|host| host.children())
            .unwrap_or_default();
        children
            .into_iter()
            .map(|child| Ok(self.table.push(ChildHandle(child))?))
            .collect()
    }
}

impl HostChild for Guest {
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
                format!("unknown signal `{name}`"),
            )
            .into()));
        };
        Ok(host.signal(&child, signal).map_err(Failure::from))
    }

    /// Drops the guest's handle only; the child continues to run.
    fn drop(&mut self, handle: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl HostChildWithStore<Guest> for HasSelf<Guest> {
    async fn wait(
        accessor: &Accessor<Guest, Self>,
        handle: Resource<ChildHandle>,
    ) -> wasmtime::Result<Result<ExitStatus, Failure>> {
        let (host, child) = accessor.with(|mut access| access.get().attempt_of(&handle))?;
        Ok(host
            .wait(&child)
            .await
            .map(ExitStatus::from)
            .map_err(Failure::from))
    }

    fn output(
        mut access: Access<'_, Guest, Self>,
        handle: Resource<ChildHandle>,
        channel: Channel,
        from_offset: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<End>)> {
        let (host, child) = access.get().attempt_of(&handle)?;
        let channel = port::Channel::from(channel);
        let output = host.output(&child, channel, from_offset);
        let (tell, told) = oneshot::channel();
        let producer = OutputProducer {
            output,
            place: (child, channel),
            offset: from_offset,
            tell: Some(tell),
        };
        let stream = StreamReader::new(&mut access, producer)?;
        let end = async move {
            let early = || port::Failure::new("invalid", "the stream was dropped before its end");
            Ok::<_, wasmtime::Error>(told.await.unwrap_or_else(|_| Err(early().into())))
        };
        Ok((stream, FutureReader::new(access, end)?))
    }
}

/// Passes a child's output to the guest, straight into the guest's buffer.
struct OutputProducer {
    output: Output,
    place: (ChildRef, port::Channel),
    /// The offset of the byte that is read next.
    offset: u64,
    tell: Option<oneshot::Sender<End>>,
}

impl OutputProducer {
    fn end(&mut self, end: End) -> StreamResult {
        if let Some(tell) = self.tell.take() {
            // Fails if the guest has dropped the future and so does not want the answer.
            drop(tell.send(end));
        }
        StreamResult::Dropped
    }
}

impl StreamProducer<Guest> for OutputProducer {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Guest>,
        mut destination: Destination<'a, u8, Option<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut direct = destination
            .reborrow()
            .as_direct(store.as_context_mut(), PIECE_BYTES);
        let room = direct.remaining();
        if room.is_empty() {
            // An empty buffer asks whether something can be read; the answer is always yes.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut buffer = ReadBuf::new(room);
        match self.output.reader.as_mut().poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                direct.mark_written(read);
                self.offset += read as u64;
                store.data_mut().has_read(&self.place, self.offset);
                let gap = self.output.gap.load(Ordering::Acquire);
                Poll::Ready(Ok(if read == 0 {
                    self.end(Ok(gap))
                } else {
                    StreamResult::Completed
                }))
            }
            Poll::Ready(Err(error)) => {
                let message = format!("the child's output cannot be read: {error}");
                let failure = port::Failure {
                    retryable: true,
                    ..port::Failure::new("resource", message)
                };
                Poll::Ready(Ok(self.end(Err(failure.into()))))
            }
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
