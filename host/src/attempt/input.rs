//! Feeding a child with what its guest streams.

use std::io;
use std::sync::Arc;

use super::live::{ChildState, Live};
use crate::{
    plugin::{InputPiece, InputStream},
    supervise::{ChildId, Signal, SuperviseError, Supervisors},
};

/// Ends with the input or with the child, whichever is first; the guest learns of the latter by
/// what it writes not being taken.
pub(super) async fn feed(
    live: Arc<Live>,
    supervisors: Supervisors,
    child: ChildId,
    stream: InputStream,
) {
    let index = usize::from(child.index());
    let over = live.until(|state| {
        let runs = matches!(
            state.children.get(index),
            Some(ChildState::Sent | ChildState::Running(_))
        );
        (!runs).then_some(())
    });
    tokio::select! {
        biased;
        () = over => {}
        carried = carry(&supervisors, child.clone(), stream) => {
            if let Err(error) = carried {
                tracing::warn!(%child, %error, "it cannot be fed, and is killed");
                let killing = supervisors.signal(child.clone(), Signal::Kill);
                if let Err(error) = killing.done().await {
                    tracing::warn!(%child, %error, "its supervisor cannot be told to kill it");
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("its input cannot be opened: {0}")]
    Open(#[from] SuperviseError),
    #[error("its input cannot be written: {0}")]
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
                // It reads no more, but may well go on.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(error.into()),
            },
            InputPiece::End => break,
            // Its supervisor kills it when this is dropped.
            InputPiece::BrokenOff => return Ok(()),
        }
    }
    Ok(feed.end().await?)
}
