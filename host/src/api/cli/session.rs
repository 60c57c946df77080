//! What the verbs that ask a host have in common: the client, whether to answer in JSON, and a
//! runtime to ask in.

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
    config,
};

pub(super) struct Session {
    pub(super) json: bool,
    start: HostStart,
    client: Client,
    runtime: Runtime,
}

/// A runtime that does not wait at its end for what blocks a thread: a command that has given up on
/// the start of a host ends.
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
        let overrides = common.overrides();
        let layout = client::layout(&overrides).map_err(unfit)?;
        let start = HostStart {
            layout,
            overrides,
            policy: Policy::IfNeeded,
            via: Via::Cli,
            launch: wiring.launch,
            offline: wiring.offline,
        };
        // One thread: a command waits for one thing at a time, and it shall be there and gone
        // quickly.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                AppError::new(
                    ErrorKind::Internal,
                    format!("cannot begin to wait for anything: {error}"),
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

    /// A client that differs in how it starts a host.
    pub(super) fn client_with(&self, change: impl FnOnce(&mut HostStart)) -> Client {
        let mut start = self.start.clone();
        change(&mut start);
        Client::new(start)
    }

    /// Waits for something that is no verb, and says nothing.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.0.as_ref()?.block_on(future))
    }

    /// Runs a verb. A host of another version is told of once, at the end.
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
                "note: the host is version {version}, this is {ours}; `claudine down && claudine up` upgrades it, running tasks continue"
            ));
        }
        done
    }
}

/// A setting that makes no sense is the caller's to mend.
pub(super) fn unfit(error: config::ConfigError) -> AppError {
    AppError::new(ErrorKind::Invalid, error.to_string())
}

/// The attempt this command was called from, if it was called from one.
pub(super) fn enclosing_attempt() -> Option<String> {
    config::process_environment(config::ATTEMPT)
}
