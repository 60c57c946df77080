//! What one instance carries with it: the data of its Store.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::grant::Gate;
use super::limits::{Budget, HANDLES, Limits};
use super::meter::Meter;
use super::port::{AttemptHost, Channel, ChildRef, Failure, GuestOutcome, GuestTask};
use super::states::States;

/// Log lines a second; the surplus is counted and said.
const LOG_LINES: u32 = 1_000;
const LOG_BYTES: usize = 1 << 20;
/// Events that an attempt tells in a second: each is kept.
const PROGRESS_REPORTS: u32 = 100;
const PROGRESS_BYTES: usize = 256 << 10;

/// For what an instance was made.
pub(crate) enum Purpose {
    /// It answers a question about itself or about a document. It may start nothing.
    Question,
    /// It looks at the machine, and may capture what commands print.
    Fingerprint,
    Attempt(Arc<dyn AttemptHost>, Arc<Place>),
}

/// Where an attempt's commands are looked for and run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) workspace: String,
    /// The task's `PATH`, where it has one.
    pub(crate) path: Option<String>,
    /// Which files the granted names meant when they were first used; they mean the same to the
    /// attempt's end.
    pub(crate) found: Mutex<BTreeMap<String, String>>,
}

impl Place {
    pub(crate) fn of(task: &GuestTask) -> Place {
        Place {
            workspace: task.workspace.clone(),
            path: task.path.clone(),
            found: Mutex::default(),
        }
    }
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
    /// Progress that is a state.
    pub(crate) states: Arc<States>,
    /// The last line that it called an error: what it said before a trap.
    pub(crate) last_error: Option<String>,
    /// How far each child's output has been read.
    pub(crate) known_output: HashMap<(ChildRef, Channel), u64>,
    /// What `run` or `resume` gave back, kept here because the instance may still be dropped before
    /// it has ended.
    pub(crate) returned: Option<Result<GuestOutcome, Failure>>,
    /// The state last stored, which a resume in this process is given.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Set when the instance has ended in whatever way: a stream that it has not ended itself until
    /// then is broken off.
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
            log_meter: Meter::per_second(LOG_LINES, LOG_BYTES),
            progress_meter: Meter::per_second(PROGRESS_REPORTS, PROGRESS_BYTES),
            states: Arc::default(),
            last_error: None,
            known_output: HashMap::new(),
            returned: None,
            checkpoint: None,
            lost: Arc::default(),
            wasi: None,
        }
    }

    /// The attempt behind this instance; a question has none.
    pub(crate) fn attempt(&self) -> Option<Arc<dyn AttemptHost>> {
        match &self.purpose {
            Purpose::Attempt(host, _) => Some(Arc::clone(host)),
            Purpose::Question | Purpose::Fingerprint => None,
        }
    }

    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        match &self.purpose {
            Purpose::Attempt(_, place) => Some(Arc::clone(place)),
            Purpose::Question | Purpose::Fingerprint => None,
        }
    }
}

/// Components for `wasm32-wasip2` import WASI whether they use it or not. They get a context with
/// nothing in it: no arguments, no variables, no directory, no socket, no name look-up; output goes
/// nowhere.
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
