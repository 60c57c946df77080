//! MCP over standard input and output, for agents that delegate work.
//!
//! A thin adapter over `client`. It keeps no state of tasks, so any number of instances may run at
//! once, and after a restart of the host the next call reaches the new host. The server exits at
//! the end of its input, which also ends all waits. No call waits for a task that it starts; only
//! [`tools::WAIT`] waits, for less time than any client's timeout.

mod answers;
mod calls;
mod cancelled;
mod fitted;
mod lines;
mod output;
mod parameters;
mod request_id;
mod server;
mod stdio;
mod tools;
mod waiting;
mod wording;
mod work;

use std::{path::PathBuf, sync::Arc};

use rmcp::ServiceExt;

use super::client::Client;
use crate::app::{AppError, Environment, ErrorKind};

pub(super) use tools::NAMES;

/// Context of `claudine mcp`, which the submitted tasks inherit.
pub(super) struct Origins {
    /// Base of relative working directories.
    pub(super) directory: PathBuf,
    pub(super) environment: Environment,
    /// The attempt inside which the server was started, if any; its slot is free while a call
    /// waits.
    pub(super) attempt: Option<String>,
}

/// Serves the client on standard input and output until the input ends.
pub(super) async fn serve(client: Client, origins: Origins) -> Result<(), AppError> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        AppError::new(ErrorKind::Internal, format!("{what}: {error}"))
    };
    let (input, output) = stdio::open()
        .map_err(|error| failed("standard input and output cannot be used", &error))?;
    let lines = lines::Lines::new(input, output).looking_for_its_end(stdio::has_hung_up);
    let (end, owing) = (lines.end(), lines.owing());
    let server = server::Server::new(Arc::new(client), origins, end.token.clone());
    let served = match Box::pin(server.serve(lines)).await {
        Ok(running) => {
            let waited = running.waiting().await;
            waited
                .map(drop)
                .map_err(|error| failed("the MCP server failed", &error))
        }
        // The client disconnected before its first message.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(failed("the MCP client could not be understood", &error)),
    };
    // A client that is given up explains any other error.
    if served.is_ok() || owing.is_unread() {
        owing.check(&end)?;
    }
    served
}
