//! State of reading output for a client.

use std::sync::Arc;

use claudine_domain::id::TaskId;
use tokio::sync::mpsc;

use super::{error::AppError, view::LogPiece};
use crate::supervise::log::Channel;

/// A stream of output. An error ends the stream.
pub(crate) type LogStream = mpsc::Receiver<Result<LogPiece, AppError>>;

/// State of a reader.
pub(super) struct Reading {
    pub(super) task: TaskId,
    pub(super) channel: Option<Channel>,
    pub(super) follow: bool,
    /// The executor that turns an agent's output into items, if items were requested.
    pub(super) transcript: Option<Arc<str>>,
    pub(super) sender: mpsc::Sender<Result<LogPiece, AppError>>,
}

/// Reason why a reading stops.
pub(super) enum Stop {
    Error(AppError),
    /// The client has disconnected.
    Unwanted,
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        Self::Error(error)
    }
}

impl Reading {
    pub(super) async fn send(&self, piece: LogPiece) -> Result<(), Stop> {
        self.sender
            .send(Ok(piece))
            .await
            .map_err(|_| Stop::Unwanted)
    }
}
