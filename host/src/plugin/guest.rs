//! The data of an instance's Store.

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

/// The most log lines in a second. Further lines are only counted, and the count is logged.
const LOG_LINES: u32 = 1_000;
const LOG_BYTES: usize = 1 << 20;
/// The most events that an attempt may report in a second, because each event is stored.
const PROGRESS_REPORTS: u32 = 100;
const PROGRESS_BYTES: usize = 256 << 10;

/// The purpose of an instance.
pub(crate) enum Purpose {
    /// Answers a question about the plugin or a document. The instance may not start any command.
    Question,
    /// Checks the machine, and may capture the output of commands.
    Fingerprint,
    Attempt(Arc<dyn AttemptHost>, Arc<Place>),
}

/// The directories in which the commands of an attempt are looked up and run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) workspace: String,
    /// The task's `PATH`, if it has one.
    pub(crate) path: Option<String>,
    /// The files that granted names resolved to at their first use; a name means the same file
    /// until the attempt ends.
    pub(crate) found: Mutex<BTreeMap<String, String>>,
}

impl Place {
    /// The place of an attempt. Takes its `PATH`, which nothing else needs.
    pub(crate) fn of(task: &mut GuestTask) -> Place {
        Place {
            workspace: task.workspace.clone(),
            path: task.path.take(),
            found: Mutex::default(),
        }
    }
}

/// Data that all instances of a plugin share.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// The table `[plugins.NAME]`, as JSON.
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
    /// The progress reports that are states.
    pub(crate) states: Arc<States>,
    /// The last line that the guest logged as an error, to explain a trap.
    pub(crate) last_error: Option<String>,
    /// The offset up to which each child's output was read.
    pub(crate) known_output: HashMap<(ChildRef, Channel), u64>,
    /// The result of `run` or `resume`. It is kept here because an instance that has returned its
    /// result may be dropped before it ends by itself.
    pub(crate) returned: Option<Result<GuestOutcome, Failure>>,
    /// The state that was stored last, which is passed to a resume in this process.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Set when the instance has ended in any way: a stream that the guest has not ended by then is
    /// broken off.
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

    /// The attempt of this instance; `None` for a question.
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

/// Components for `wasm32-wasip2` import WASI whether they use it or not. Their WASI context is
/// empty: no arguments, variables, directories, sockets or name look-up; output is discarded.
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
