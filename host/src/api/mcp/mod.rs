//! MCP over standard input and output: what an agent uses to delegate work.
//!
//! A thin adapter over `client`: it holds no tasks and no state of them, any number may run beside
//! each other, and when the host is restarted the next call finds the new one. It ends when its
//! input ends. No call waits for the task it starts; [`tools::WAIT`] alone waits, and not longer
//! than any client's patience.

mod answers;
mod calls;
mod fitted;
mod lines;
mod parameters;
mod request_id;
mod server;
mod stdio;
mod tools;
mod waiting;
mod work;

use std::{path::PathBuf, sync::Arc};

use rmcp::ServiceExt;

use super::client::Client;
use crate::app::{AppError, Environment, ErrorKind};

pub(super) use tools::NAMES;

/// What `claudine mcp` was started with, and gives its tasks.
pub(super) struct Origins {
    /// What a working directory is relative to.
    pub(super) directory: PathBuf,
    pub(super) environment: Environment,
    /// The attempt it was started from, if any: while a call waits, that attempt's slot is free.
    pub(super) attempt: Option<String>,
}

/// Serves the client at the other end of standard input until that ends.
pub(super) async fn serve(client: Client, origins: Origins) -> Result<(), AppError> {
    let server = server::Server::new(Arc::new(client), origins);
    let failed = |what: &str, error: &dyn std::error::Error| {
        AppError::new(ErrorKind::Internal, format!("{what}: {error}"))
    };
    let (input, output) = stdio::open()
        .map_err(|error| failed("standard input and output cannot be used", &error))?;
    let running = match server.serve(lines::Lines::new(input, output)).await {
        Ok(running) => running,
        // The client left before it had said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(failed("the MCP client could not be understood", &error)),
    };
    running
        .waiting()
        .await
        .map(drop)
        .map_err(|error| failed("the MCP server ended badly", &error))
}
