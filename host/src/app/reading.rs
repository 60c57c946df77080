//! A reading of output: what is read, for whom, and why it stops.

use std::sync::Arc;

use claudine_domain::id::TaskId;
use tokio::sync::mpsc;

use super::{error::AppError, view::LogPiece};
use crate::supervise::log::Channel;

/// Output as it is read; an error ends it.
pub(crate) type LogStream = mpsc::Receiver<Result<LogPiece, AppError>>;

/// What is read, and for whom.
pub(super) struct Reading {
    pub(super) task: TaskId,
    pub(super) channel: Option<Channel>,
    pub(super) follow: bool,
    /// The executor that makes items of it, if items are wanted and it is an agent's.
    pub(super) transcript: Option<Arc<str>>,
    pub(super) sender: mpsc::Sender<Result<LogPiece, AppError>>,
}

/// Why a reading stops.
pub(super) enum Stop {
    Error(AppError),
    /// Whoever asked for it has gone.
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
