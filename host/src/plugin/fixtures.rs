//! Components for tests, written as text: a well-behaved guest, any part of which can be replaced
//! by a hostile one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::fsx;
use crate::lock::lock;

use super::builtin::BUILTINS;
use super::catalog::{Catalog, Places};
use super::engine::Wasm;
use super::load::Compiler;
use super::port::{
    AttemptHost, BoxFuture, Channel, ChildExit, ChildRef, Draft, Failure, GuestTask, InputStream,
    LogLevel, Output, Signal, SpawnSpec, Stdin, Usage,
};

/// The parts of a guest. Layout of its memory: strings from 16 on, a page of return areas at 1024,
/// the heap from 65536 on.
#[derive(Debug, Clone)]
pub(crate) struct Wat(HashMap<&'static str, String>);

const TEMPLATE: &str = r#"(module
  (import "claudine:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32)))
  (import "claudine:plugin/host@0.1.0" "facts" (func $facts (param i32)))
  (import "claudine:plugin/clock@0.1.0" "now" (func $now (result i64)))
  (import "claudine:plugin/clock@0.1.0" "sleep" (func $sleep (param i64)))
  (import "claudine:plugin/progress@0.1.0" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "claudine:plugin/progress@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))
  (import "claudine:plugin/children@0.1.0" "list" (func $children (param i32)))
  (import "claudine:plugin/process@0.1.0" "spawn" (func $spawn (param
    i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "claudine:plugin/process@0.1.0" "capture" (func $capture (param
    i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "$root" "[waitable-set-new]" (func $new_set (result i32)))
  (import "[export]claudine:plugin/executor@0.1.0" "[task-return]run"
    (func $return_run (param i32)))
  {imports}
  (memory (export "memory") 2)
  (table $table 1 funcref)
  (data (i32.const 16) "success")
  (data (i32.const 32) "healthy")
  (data (i32.const 48) "guest")
  (data (i32.const 64) "{}")
  (data (i32.const 80) "alive")
  (data (i32.const 96) "sh")
  (data (i32.const 112) "no\00ul")
  (data (i32.const 128) "not json")
  (data (i32.const 144) "edit")
  {data}
  (global $heap (mut i32) (i32.const 65536))
  (global $stopped (mut i32) (i32.const 0))
  {start}
  (func (export "cabi_realloc") (param $old i32) (param $from i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    {realloc}
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (loop $more
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        (unreachable)))
    (local.get $at))
  (func $text (param $area i32) (param $text i32) (param $length i32)
    (i32.store (local.get $area) (local.get $text))
    (i32.store offset=4 (local.get $area) (local.get $length)))
  ;; A success with no other field.
  (func $success (result i32)
    (i32.store8 (i32.const 2048) (i32.const 0))
    (call $text (i32.const 2056) (i32.const 16) (i32.const 7))
    (i32.const 2048))
  (func (export "claudine:plugin/lifecycle@0.1.0#config-schema") (result i32)
    {config-schema}
    (call $text (i32.const 1024) (i32.const 64) (i32.const 2))
    (i32.const 1024))
  (func (export "claudine:plugin/lifecycle@0.1.0#validate-config") (param i32 i32) (result i32)
    {validate-config}
    (i32.const 1152))
  (func (export "claudine:plugin/lifecycle@0.1.0#fingerprint") (result i32)
    {fingerprint}
    (call $text (i32.const 1280) (i32.const 32) (i32.const 7))
    (i32.const 1280))
  (func (export "claudine:plugin/executor@0.1.0#task-schema") (result i32)
    {task-schema}
    (call $text (i32.const 1408) (i32.const 64) (i32.const 2))
    (i32.const 1408))
  (func (export "claudine:plugin/executor@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    {validate}
    (i32.const 1536))
  (func (export "claudine:plugin/executor@0.1.0#authority")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    {authority}
    (call $text (i32.const 1664) (i32.const 144) (i32.const 4))
    (i32.const 1664))
  (func (export "claudine:plugin/executor@0.1.0#transcript") (param i32 i32 i32 i32) (result i32)
    {transcript}
    (i32.const 1792))
  {run}
  (func (export "claudine:plugin/executor@0.1.0#resume") (param $task i32) (result i32)
    {resume}
    (call $success))
  (func (export "claudine:plugin/executor@0.1.0#stop") (param i32 i32 i64 i32 i32)
    {stop}
    (global.set $stopped (i32.const 1)))
)"#;

/// A `run` by the asynchronous ABI that ends at once.
pub(crate) const RUN: &str = r#"
  (func (export "[async-lift]claudine:plugin/executor@0.1.0#run") (param $task i32) (result i32)
    (call $return_run (call $success))
    (i32.const 0))
  (func (export "[callback][async-lift]claudine:plugin/executor@0.1.0#run") (param i32 i32 i32) (result i32) (i32.const 0))"#;

/// A `run` that yields again and again until `stop` is called, and then succeeds.
pub(crate) const RUN_UNTIL_STOPPED: &str = r#"
  (func (export "[async-lift]claudine:plugin/executor@0.1.0#run") (param $task i32) (result i32) (i32.const 1))
  (func (export "[callback][async-lift]claudine:plugin/executor@0.1.0#run") (param i32 i32 i32) (result i32)
    (if (i32.eqz (global.get $stopped)) (then (return (i32.const 1))))
    (call $return_run (call $success))
    (i32.const 0))"#;

/// A `run` that returns an outcome, but whose async task in the guest continues until `stop` is
/// called.
pub(crate) const RUN_RETURNS_AND_STAYS: &str = r#"
  (func (export "[async-lift]claudine:plugin/executor@0.1.0#run") (param $task i32) (result i32)
    (call $return_run (call $success))
    (i32.const 1))
  (func (export "[callback][async-lift]claudine:plugin/executor@0.1.0#run") (param i32 i32 i32) (result i32)
    (call $sleep (i64.const 10))
    (i32.eqz (global.get $stopped)))"#;

pub(crate) const SPIN: &str = "(loop $for_ever (br $for_ever))";
pub(crate) const TRAP: &str = "(unreachable)";
pub(crate) const EAT_MEMORY: &str =
    "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
pub(crate) const EAT_TABLE: &str = "(loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 64)) (i32.const -1)))) (unreachable)";
pub(crate) const EAT_HANDLES: &str = "(loop $more (drop (call $new_set)) (br $more))";
pub(crate) const EAT_CHILD_HANDLES: &str =
    "(loop $more (call $children (i32.const 4096)) (br $more))";
pub(crate) const SLEEP_FOR_A_DAY: &str = "(call $sleep (i64.const 86400000))";

impl Wat {
    /// A guest that accepts everything and succeeds at once.
    pub(crate) fn good() -> Wat {
        Wat(HashMap::from([("run", RUN.to_owned())]))
    }

    pub(crate) fn with(mut self, part: &'static str, text: impl Into<String>) -> Wat {
        self.0.insert(part, text.into());
        self
    }

    /// Sets a `run` by the synchronous ABI that executes this body and then succeeds.
    pub(crate) fn run(self, body: &str) -> Wat {
        let text = format!(
            r#"(func (export "claudine:plugin/executor@0.1.0#run") (param $task i32) (result i32) {body} (call $success))"#
        );
        self.with("run", text)
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        let parts = [
            "imports",
            "data",
            "start",
            "realloc",
            "config-schema",
            "validate-config",
            "fingerprint",
            "task-schema",
            "validate",
            "authority",
            "transcript",
            "run",
            "resume",
            "stop",
        ];
        let mut text = TEMPLATE.to_owned();
        for part in parts {
            let body = self.0.get(part).map_or("", String::as_str);
            text = text.replace(&format!("{{{part}}}"), body);
        }
        component_of(
            &text,
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit"),
            "executor-plugin",
        )
    }
}

/// Turns a core module into a component of a world.
fn component_of(core: &str, wit: &Path, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    encode(core, &resolve, package, world)
}

/// Turns a core module into a component. The contract is given as WIT text.
pub(crate) fn component_of_text(core: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("other.wit", wit).unwrap();
    encode(core, &resolve, package, world)
}

fn encode(core: &str, resolve: &Resolve, package: wit_parser::PackageId, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(core).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

/// Lets tests share the machine code of the built-in components. Otherwise each test, which may be
/// a process of its own, would spend seconds on compiling them.
pub(crate) fn share_code(data_dir: &Path) {
    let this = std::env::current_exe().unwrap();
    let shared = this.ancestors().nth(3).unwrap().join("code-of-unit-tests");
    fsx::make_private_dir(&shared).unwrap();
    symlink(&shared, data_dir.join("cache")).unwrap();
    let built = std::fs::metadata(this).unwrap();
    let (seconds, nanoseconds) = (built.mtime(), built.mtime_nsec());
    let done = shared.join(format!("{}-{seconds}-{nanoseconds}.done", built.len()));
    if done.exists() {
        return;
    }
    // The first test for this build compiles, and concurrent tests wait for it.
    let lock = std::fs::File::create(shared.join("lock")).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        std::thread::spawn(move || compile_built_in(&shared))
            .join()
            .unwrap();
        std::fs::File::create(done).unwrap();
    }
}

/// Compiles all built-in components into this directory. Must run on a thread without a runtime.
fn compile_built_in(shared: &Path) {
    let dir = tempfile::tempdir().unwrap();
    symlink(shared, dir.path().join("cache")).unwrap();
    let places = Places {
        data_dir: dir.path().into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    let catalog = Catalog::open_with(places, BUILTINS, Wasm::on_demand).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for name in catalog.executor_names() {
            catalog.executor(name).unwrap().loaded().await.unwrap();
        }
    });
}

pub(crate) fn task() -> GuestTask {
    GuestTask {
        id: "task_01".into(),
        attempt: 1,
        spec: "{}".into(),
        workspace: "/".into(),
        path: None,
        env: vec![("HOME".into(), "/root".into())],
        labels: Vec::new(),
        previous: None,
        budget_micro_usd: None,
    }
}

pub(crate) fn draft(spec: &str) -> Draft {
    Draft {
        spec: spec.into(),
        env: Vec::new(),
        workspace: "/".into(),
        labels: Vec::new(),
    }
}

/// A fake host of an attempt that records every call.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) children: Vec<ChildRef>,
    /// The output of every child; `gap` is the part of it that can no longer be read.
    pub(crate) output: Vec<u8>,
    pub(crate) gap: Option<Range<usize>>,
    /// Whether the log cannot be read at all.
    pub(crate) is_unreadable: bool,
    pub(crate) spawned: Mutex<Vec<String>>,
    pub(crate) lines: Mutex<Vec<(LogLevel, String)>>,
    pub(crate) reports: Mutex<Vec<(String, String)>>,
    pub(crate) states: Mutex<Vec<Vec<u8>>>,
    pub(crate) told: Notify,
    /// The input streams of children.
    pub(crate) streams: Mutex<Vec<InputStream>>,
    pub(crate) streamed: Notify,
    /// Whether a child of a stopped attempt is still alive.
    pub(crate) is_child_alive: watch::Sender<bool>,
}

impl Recorder {
    pub(crate) fn lines(&self) -> Vec<(LogLevel, String)> {
        lock(&self.lines).clone()
    }

    pub(crate) fn crashes(&self) -> usize {
        self.lines()
            .iter()
            .filter(|(_, line)| line.contains("crashed"))
            .count()
    }
}

impl AttemptHost for Recorder {
    fn spawn(&self, spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>> {
        Box::pin(async move {
            match spec.stdin {
                Stdin::Empty => {}
                Stdin::Bytes(_) => unreachable!("not used in tests"),
                Stdin::Stream(stream) => {
                    self.streams.lock().unwrap().push(stream);
                    self.streamed.notify_one();
                }
            }
            let mut spawned = self.spawned.lock().unwrap();
            spawned.push(spec.command);
            Ok(ChildRef::new(format!("task_01.1/{}", spawned.len() - 1)))
        })
    }

    fn children(&self) -> Vec<ChildRef> {
        let spawned = self.spawned.lock().unwrap().len();
        let started = (0..spawned).map(|index| ChildRef::new(format!("task_01.1/{index}")));
        self.children.iter().cloned().chain(started).collect()
    }

    fn output(&self, _child: &ChildRef, _channel: Channel, from_offset: u64) -> Output {
        if self.is_unreadable {
            return Output {
                reader: Box::pin(tokio_util::io::StreamReader::new(
                    futures_util::stream::iter([Err::<std::io::Cursor<Vec<u8>>, _>(
                        std::io::Error::other("no such block"),
                    )]),
                )),
                gap: Arc::default(),
            };
        }
        // The parts that are left to read: the output before the gap, the gap, and the output after
        // the gap.
        let from = usize::try_from(from_offset).unwrap();
        let (bytes, gap) = match &self.gap {
            Some(gap) if from < gap.start => (&self.output[from..gap.start], gap.len()),
            Some(gap) if from < gap.end => (&[][..], gap.end - from),
            _ => (&self.output[from..], 0),
        };
        Output {
            reader: Box::pin(std::io::Cursor::new(bytes.to_vec())),
            gap: Arc::new(AtomicU64::new(gap as u64)),
        }
    }

    fn signal(&self, _child: &ChildRef, _signal: Signal) -> Result<(), Failure> {
        Ok(())
    }

    fn wait(&self, _child: &ChildRef) -> BoxFuture<'_, Result<ChildExit, Failure>> {
        Box::pin(async {
            Ok(ChildExit {
                code: Some(0),
                signal: None,
                usage: Usage::default(),
            })
        })
    }

    fn all_ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut alive = self.is_child_alive.subscribe();
            // Fails only if the sender is dropped, and it is a field of this recorder.
            alive.wait_for(|alive| !alive).await.unwrap();
        })
    }

    fn progress(&self, kind: &str, data: &str) {
        self.reports
            .lock()
            .unwrap()
            .push((kind.into(), data.into()));
        self.told.notify_one();
    }

    fn checkpoint(&self, state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.states.lock().unwrap().push(state);
            Ok(())
        })
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.lines.lock().unwrap().push((level, message.into()));
    }
}
