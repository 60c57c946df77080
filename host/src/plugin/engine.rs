//! The wasmtime engines of the process: their features, their allocation, and the setup of a Store.
//!
//! There are two ways to allocate instances, which run the same compiled code. The pool with
//! copy-on-write memories creates an instance in a few microseconds, but before any instance
//! exists, it reserves address space and protects a page for each instance that it can hold.
//! Therefore the pool is small, and further instances are mapped on demand. If the address space
//! for the pool is not available (because of a limit, or on a small machine because of the page
//! tables), all instances are mapped on demand.

use std::sync::Arc;

use rustix::process::Resource;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm, Store,
};

use super::epoch::Ticker;
use super::error::PluginError;
use super::guest::Guest;
use super::limits::{CORE_INSTANCES, HANDLES, HOSTCALL_BYTES, MEMORY_BYTES, TABLE_ELEMENTS};
use super::v0_1;

/// The most instances that live at the same time.
pub(crate) const INSTANCES: u32 = 10_000;
/// The most instances that live in the pool. A pool of 10,000 would take a tenth of a second of
/// processor time at the start and at the end of every host. An instance beyond the pool starts
/// more slowly. In a debug build the pool is smaller, because the tests start hundreds of hosts, of
/// which few run more than a handful of instances.
pub(crate) const POOLED: u32 = if cfg!(debug_assertions) { 200 } else { 2_000 };
/// Slots of the pool for instances that have crashed and wait to be freed, while another instance
/// of their attempt runs with the same permit.
const BEING_FREED: u32 = 100;
/// The core instances of a component. `wit-component` makes three with two tables in all, and only
/// the first instance has a memory.
const CORE_PER_COMPONENT: u32 = 3;
const TABLES_PER_COMPONENT: u32 = 2;
/// The bytes kept in a free slot, so that the next instance of the same component finds its pages
/// mapped. An ordinary guest uses no more than this; only the pages that the guest wrote to are
/// reset.
const KEPT_BYTES: usize = 4 << 20;

/// Whether compiled code is optimised. In a debug build the compiler itself is slow, and optimising
/// would take several times as long.
pub(super) const OPTIMISES: bool = !cfg!(debug_assertions);

/// The way in which instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocation {
    Pooled,
    OnDemand,
    /// Memory is mapped on demand, with nothing reserved, to fit a limit on address space. The
    /// compiled code is different, because it must check each access.
    Tight,
}

impl Allocation {
    /// The way in which this process allocates instances outside the pool. To be called before the
    /// process limits its own address space.
    pub(crate) fn on_demand() -> Self {
        if rustix::process::getrlimit(Resource::As).current.is_some() {
            Self::Tight
        } else {
            Self::OnDemand
        }
    }
}

/// The engine, its two linkers and the thread that interrupts its guests.
pub(crate) struct Wasm {
    pub(crate) engine: Engine,
    pub(crate) allocation: Allocation,
    /// A permit for each instance that may live in this engine.
    seats: Arc<Semaphore>,
    pub(crate) ticker: Ticker,
    linker: Linker<Guest>,
    wasi_linker: Linker<Guest>,
}

impl Wasm {
    /// Starts the engine, with a pool if the address space allows it.
    pub(crate) fn start() -> Result<Wasm, PluginError> {
        if Allocation::on_demand() == Allocation::Tight {
            tracing::info!("the address space is limited (ulimit -v): plugins run without a pool");
            return Wasm::on_demand();
        }
        match running(Allocation::Pooled) {
            Ok(engine) => Wasm::with(engine, Allocation::Pooled, POOLED),
            Err(error) => {
                tracing::info!("plugins run without a pool: {error:#}");
                Wasm::on_demand()
            }
        }
    }

    pub(crate) fn on_demand() -> Result<Wasm, PluginError> {
        Wasm::of_instances(INSTANCES)
    }

    /// Starts the engine for the instances that the pool has no room for.
    pub(crate) fn beyond_the_pool() -> Result<Wasm, PluginError> {
        Wasm::of_instances(INSTANCES - POOLED)
    }

    fn of_instances(most: u32) -> Result<Wasm, PluginError> {
        let allocation = Allocation::on_demand();
        let engine = running(allocation).map_err(|error| engine_error(&error))?;
        Wasm::with(engine, allocation, most)
    }

    fn with(engine: Engine, allocation: Allocation, most: u32) -> Result<Wasm, PluginError> {
        let mut linker = Linker::new(&engine);
        v0_1::link(&mut linker).map_err(|error| engine_error(&error))?;
        let mut wasi_linker = linker.clone();
        wasmtime_wasi::p2::add_to_linker_async(&mut wasi_linker)
            .map_err(|error| engine_error(&error))?;
        let ticker = Ticker::start(engine.clone()).map_err(|error| PluginError::NoThread {
            message: format!("the thread that interrupts plugins cannot be started: {error}"),
        })?;
        tracing::debug!(?allocation, "the engine for plugins is ready");
        Ok(Wasm {
            engine,
            allocation,
            seats: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX))),
            ticker,
            linker,
            wasi_linker,
        })
    }

    /// Permission for one more instance, which lasts until the permit is dropped; `None` if the
    /// engine has no room for another instance.
    pub(crate) fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// The linker for a component; the linker includes WASI only if the component imports WASI.
    pub(crate) fn linker(&self, wasi: bool) -> &Linker<Guest> {
        if wasi {
            &self.wasi_linker
        } else {
            &self.linker
        }
    }

    /// A Store for one instance, with every limit set before any code of the guest can run.
    pub(crate) fn store(&self, guest: Guest) -> Store<Guest> {
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| context.data_mut().budget.spend());
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_max_component_handles(HANDLES);
        store
    }
}

fn engine_error(error: &wasmtime::Error) -> PluginError {
    PluginError::Engine {
        message: format!("{error:#}"),
    }
}

/// Makes an engine that runs what a compiling process has compiled. Without a compiler, the host
/// starts in less time and needs 2 MB less.
fn running(allocation: Allocation) -> wasmtime::Result<Engine> {
    let mut config = settings(allocation);
    config.enable_compiler(false);
    Engine::new(&config)
}

/// Makes an engine that compiles.
pub(super) fn compiling(allocation: Allocation) -> wasmtime::Result<Engine> {
    let mut config = settings(allocation);
    if !OPTIMISES {
        config
            .cranelift_opt_level(OptLevel::None)
            .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    Engine::new(&config)
}

/// The settings that the compiling process and the running process must have in common.
fn settings(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_component_model_async(true)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .memory_init_cow(true)
        // A trap is reported in one sentence. The guest's stack frames would cost time when
        // compiling, and would mean nothing to a reader.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    match allocation {
        Allocation::Pooled => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        Allocation::OnDemand => {}
        Allocation::Tight => {
            config
                .memory_reservation(0)
                .memory_reservation_for_growth(1 << 20)
                .memory_guard_size(64 << 10);
        }
    }
    config
}

fn pool() -> PoolingAllocationConfig {
    let slots = POOLED + BEING_FREED;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_PER_COMPONENT)
        .total_memories(slots)
        .total_tables(slots * TABLES_PER_COMPONENT)
        .total_stacks(slots)
        .total_gc_heaps(0)
        .max_memory_size(MEMORY_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_tables_per_module(u32::try_from(CORE_INSTANCES).unwrap_or(u32::MAX))
        .max_core_instances_per_component(u32::try_from(CORE_INSTANCES).unwrap_or(u32::MAX));
    // Pages are kept only if the kernel can list the pages that were written. Otherwise all kept
    // pages would have to be reset, and unmapping them is cheaper.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(KEPT_BYTES)
            .table_keep_resident(KEPT_BYTES);
    }
    pool
}
