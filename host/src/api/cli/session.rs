//! Context shared by all commands that ask a host: the client, the output format, and an async
//! runtime.

use std::process::ExitCode;

use claudine_domain::principal::Via;
use tokio::runtime::{self, Builder};

use super::{Common, failure::Failure, output};
use crate::{
    api::{
        Wiring,
        client::{self, Client, HostStart, Policy},
    },
    app::{AppError, ErrorKind},
    config::{self, Overrides},
};

pub(super) struct Session {
    pub(super) json: bool,
    start: HostStart,
    client: Client,
    runtime: Runtime,
}

/// A runtime that does not wait for blocking threads when it is dropped, so that a command that
/// gives up on starting a host can exit.
struct Runtime(Option<runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    pub(super) fn new(common: &Common, wiring: Wiring) -> Result<Self, Failure> {
        let overrides = Overrides {
            on_demand: true,
            ..common.overrides()
        };
        let layout = client::layout(&overrides).map_err(unfit)?;
        let start = HostStart {
            layout,
            overrides,
            policy: Policy::IfNeeded,
            via: Via::Cli,
            launch: wiring.launch,
            offline: wiring.offline,
            say: output::say,
        };
        // One thread starts fastest, and is enough for a command that waits for one thing at a
        // time.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                AppError::new(
                    ErrorKind::Internal,
                    format!("cannot create the async runtime: {error}"),
                )
            })?;
        Ok(Self {
            json: common.json(),
            client: Client::new(start.clone()),
            start,
            runtime: Runtime(Some(runtime)),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a client with other options for starting a host.
    pub(super) fn client_with(&self, change: impl FnOnce(&mut HostStart)) -> Client {
        let mut start = self.start.clone();
        change(&mut start);
        Client::new(start)
    }

    /// Waits for a future. Unlike [`Self::block_on`], reports no difference between versions.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.0.as_ref()?.block_on(future))
    }

    /// Runs a command. If the versions of the host and of this program differ, this is reported
    /// once, at the end.
    pub(super) fn block_on(
        &self,
        verb: impl Future<Output = Result<ExitCode, Failure>>,
    ) -> Result<ExitCode, Failure> {
        let Some(runtime) = &self.runtime.0 else {
            return Ok(ExitCode::FAILURE);
        };
        let done = runtime.block_on(verb);
        if let Some(version) = self.client.take_other_version() {
            let ours = env!("CARGO_PKG_VERSION");
            output::say(&format!(
                "note: the host is version {version}, this command is {ours}; `claudine down && claudine up` upgrades it, running tasks continue"
            ));
        }
        done
    }
}

/// Turns an invalid setting into an error of the caller.
pub(super) fn unfit(error: config::ConfigError) -> AppError {
    AppError::new(ErrorKind::Invalid, error.to_string())
}

/// The attempt inside which this command was called, if any. A value that is not valid UTF-8 is
/// ignored, because it cannot be the id of an attempt.
pub(super) fn enclosing_attempt() -> Option<String> {
    config::process_environment(config::ATTEMPT)?
        .into_string()
        .ok()
}
