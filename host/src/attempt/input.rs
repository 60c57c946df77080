//! Copies the input stream that a guest provides for a child to this child.

use std::io;
use std::sync::Arc;

use super::live::{ChildState, Live};
use crate::{
    plugin::{InputPiece, InputStream},
    supervise::{ChildId, Signal, SuperviseError, Supervisors},
};

/// Copies the stream until the input or the child ends. The guest notices the end of the child
/// because the guest's writes are no longer accepted.
pub(super) async fn feed(
    live: Arc<Live>,
    supervisors: Supervisors,
    child: ChildId,
    stream: InputStream,
) {
    let index = usize::from(child.index());
    let over = live.until(|state| {
        let child = state.children.get(index);
        let is_open = child.is_some_and(ChildState::is_open);
        (!is_open).then_some(())
    });
    tokio::select! {
        biased;
        () = over => {}
        carried = carry(&supervisors, child.clone(), stream) => {
            if let Err(error) = carried {
                tracing::warn!(%child, %error, "the child cannot be fed, and is killed");
                let killing = supervisors.signal(child.clone(), Signal::Kill);
                if let Err(error) = killing.done().await {
                    tracing::warn!(
                        %child, %error,
                        "the supervisor cannot be told to kill the child"
                    );
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the child's input cannot be opened: {0}")]
    Open(#[from] SuperviseError),
    #[error("the child's input cannot be written: {0}")]
    Write(#[from] io::Error),
}

async fn carry(
    supervisors: &Supervisors,
    child: ChildId,
    mut stream: InputStream,
) -> Result<(), FeedError> {
    let Some(mut feed) = supervisors.feed(child).await? else {
        return Ok(());
    };
    loop {
        match stream.next().await {
            InputPiece::Bytes(bytes) => match feed.write_all(&bytes).await {
                Ok(()) => {}
                // The child no longer reads, but may still run.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(error.into()),
            },
            InputPiece::End => break,
            // The feed is dropped without `end`, which makes the supervisor kill the child.
            InputPiece::BrokenOff => return Ok(()),
        }
    }
    Ok(feed.end().await?)
}
