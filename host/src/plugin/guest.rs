//! What one instance carries with it: the data of its Store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::grant::Gate;
use super::limits::{Budget, HANDLES, Limits};
use super::meter::Meter;
use super::port::{AttemptHost, Failure, GuestOutcome};

/// Log lines a second; the surplus is counted and said.
const LOG_LINES: u32 = 1_000;
/// Progress reports a second.
const PROGRESS_REPORTS: u32 = 100;

/// For what an instance was made.
pub(crate) enum Purpose {
    /// It answers a question about itself or about a document. It may start nothing.
    Question,
    /// It looks at the machine, and may probe.
    Fingerprint,
    Attempt(Arc<dyn AttemptHost>),
}

/// What all instances of a plugin share.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// The table `[plugins.NAME]` as JSON.
    pub(crate) config: String,
    pub(crate) gate: Gate,
}

pub(crate) struct Guest {
    pub(crate) identity: Arc<Identity>,
    pub(crate) purpose: Purpose,
    pub(crate) table: ResourceTable,
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    pub(crate) log_meter: Meter,
    pub(crate) progress_meter: Meter,
    /// What `run` or `resume` gave back, kept here because the instance may still be dropped before it has ended.
    pub(crate) returned: Option<Result<GuestOutcome, Failure>>,
    /// The state last stored, which a resume in this process is given.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Set when the instance has ended in whatever way: a stream that it has not ended itself until then is broken off.
    pub(crate) lost: Arc<AtomicBool>,
    wasi: Option<WasiCtx>,
}

impl Guest {
    pub(crate) fn new(identity: Arc<Identity>, purpose: Purpose, cpu: Duration) -> Guest {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Guest {
            identity,
            purpose,
            table,
            limits: Limits::default(),
            budget: Budget::new(cpu),
            log_meter: Meter::per_second(LOG_LINES),
            progress_meter: Meter::per_second(PROGRESS_REPORTS),
            returned: None,
            checkpoint: None,
            lost: Arc::default(),
            wasi: None,
        }
    }

    /// The attempt behind this instance; a question has none.
    pub(crate) fn attempt(&self) -> Option<Arc<dyn AttemptHost>> {
        match &self.purpose {
            Purpose::Attempt(host) => Some(Arc::clone(host)),
            Purpose::Question | Purpose::Fingerprint => None,
        }
    }
}

/// Components for `wasm32-wasip2` import WASI whether they use it or not. They get a context with nothing in it: no arguments, no
/// variables, no directory, no socket, no name look-up; output goes nowhere.
impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            WasiCtxBuilder::new()
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .build()
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}
