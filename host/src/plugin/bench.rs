//! Measures the cost of plugins, for `cargo xtask bench`. Only in a build with the feature `bench`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::catalog::{Catalog, Places};
use super::compile;
use super::engine::Wasm;
use super::error::PluginError;
use super::executor::Executor;
use super::load::Compiler;
use super::port::{
    AttemptHost, BoxFuture, Channel, ChildExit, ChildRef, Draft, Failure, GuestTask, LogLevel,
    Output, Signal, SpawnSpec, Start, Usage,
};
use crate::{clock, digest};

const CALLS: usize = 5_000;
const STREAM_BYTES: u64 = 100_000_000;

/// `plugin-bench FOLDER [LIVE]`: the folder of built plugins, and the number of instances to keep
/// alive at once. To compile a component, the program starts itself again with `__compile`.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(first) = args.next() else {
        eprintln!("usage: plugin-bench FOLDER [LIVE]");
        return ExitCode::from(2);
    };
    if first == "__compile" {
        return compile::main(args);
    }
    let live = args
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(1_000);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(bench(Path::new(&first), live)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn show(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value:.2}\t{unit}");
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

async fn bench(folder: &Path, live: usize) -> Result<(), String> {
    let dir = std::env::temp_dir().join(format!("claudine-plugin-bench-{}", std::process::id()));
    let result = in_dir(folder, &dir, live).await;
    fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    result
}

async fn in_dir(folder: &Path, dir: &Path, live: usize) -> Result<(), String> {
    install(folder, dir).map_err(|error| format!("{}: {error}", folder.display()))?;
    for name in ["shell", "mock", "claude"] {
        let catalog = open(dir, Wasm::on_demand)?;
        let executor = catalog.executor(name).map_err(text)?;
        show(
            &format!("{name}: compile in a process, load"),
            first_answer(executor).await? / 1e3,
            "ms",
        );
        let catalog = open(dir, Wasm::on_demand)?;
        let executor = catalog.executor(name).map_err(text)?;
        let engine = clock::monotonic();
        catalog.allocation().map_err(text)?;
        show(
            "engine on demand: start",
            micros(clock::monotonic() - engine) / 1e3,
            "ms",
        );
        show(
            &format!("{name}: load from the cache"),
            load(executor).await? / 1e3,
            "ms",
        );
    }
    for (kind, start) in [
        ("pooled", Wasm::start as fn() -> _),
        ("on demand", Wasm::on_demand),
    ] {
        allocation(dir, kind, start, live).await?;
    }
    Ok(())
}

async fn allocation(
    dir: &Path,
    kind: &str,
    start: fn() -> Result<Wasm, PluginError>,
    live: usize,
) -> Result<(), String> {
    let before = clock::monotonic();
    let resident = own_bytes()?;
    let catalog = open(dir, start)?;
    show(
        &format!(
            "{kind}: is {:?}, engine start",
            catalog.allocation().map_err(text)?
        ),
        micros(clock::monotonic() - before) / 1e3,
        "ms",
    );
    show(
        &format!("{kind}: engine resident"),
        (own_bytes()? - resident) / 1e6,
        "MB",
    );
    for (name, spec) in [("shell", r#"{"argv": ["true"]}"#), ("mock", "{}")] {
        let executor = catalog.executor(name).map_err(text)?;
        first_answer(executor).await?;
        let draft = Draft {
            spec: spec.to_owned(),
            env: Vec::new(),
            workspace: "/".into(),
            labels: Vec::new(),
        };
        let validate = median(async || {
            let drafts = vec![draft.clone()];
            executor.validate_each(drafts).await.map(drop).map_err(text)
        })
        .await?;
        show(
            &format!("{kind}: {name} validate, store to drop"),
            validate,
            "µs",
        );
    }
    let mock = catalog.executor("mock").map_err(text)?;
    let run = median(async || attempt(mock, "{}", Arc::new(Host::default())).await).await?;
    show(&format!("{kind}: mock run, store to drop"), run, "µs");
    let stream = r#"{"steps": [{"spawn": {"argv": ["x"]}}, {"read": "stdout"}]}"#;
    let before = clock::monotonic();
    attempt(mock, stream, Arc::new(Host::default())).await?;
    let seconds = (clock::monotonic() - before).as_secs_f64();
    show(
        &format!("{kind}: 100 MB of output into the guest"),
        100.0 / seconds,
        "MB/s",
    );
    many(mock, kind, live).await
}

/// Starts instances that all wait at the same time.
async fn many(mock: &Arc<Executor>, kind: &str, live: usize) -> Result<(), String> {
    let resident = own_bytes()?;
    let before = clock::monotonic();
    let host = Arc::new(Host::default());
    let attempts: Vec<_> = (0..live)
        .map(|_| {
            let (mock, host) = (Arc::clone(mock), Arc::clone(&host));
            tokio::spawn(async move {
                attempt(
                    &mock,
                    r#"{"steps": [{"alive": true}, {"hang": true}]}"#,
                    host,
                )
                .await
            })
        })
        .collect();
    while host.alive.load(Ordering::Relaxed) < live
        && !attempts.iter().any(tokio::task::JoinHandle::is_finished)
    {
        tokio::task::yield_now().await;
    }
    let started = host.alive.load(Ordering::Relaxed);
    show(
        &format!("{kind}: {started} of {live} live instances, start of each"),
        micros(clock::monotonic() - before) / f64_of(started),
        "µs",
    );
    show(
        &format!("{kind}: {started} live instances, memory of each"),
        (own_bytes()? - resident) / f64_of(started) / 1024.0,
        "KiB",
    );
    for attempt in &attempts {
        attempt.abort();
    }
    for attempt in attempts {
        if let Ok(Err(message)) = attempt.await {
            show(&message, 1.0, "failure");
        }
    }
    Ok(())
}

fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
}

fn text(error: PluginError) -> String {
    error.to_string()
}

fn open(dir: &Path, start: fn() -> Result<Wasm, PluginError>) -> Result<Catalog, String> {
    let places = Places {
        data_dir: dir.into(),
        compiler: Compiler::Process,
        configs: BTreeMap::new(),
    };
    Catalog::open_with(places, &[], start).map_err(text)
}

/// Installs the plugins of a folder with all the permissions that they ask for.
fn install(folder: &Path, dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir.join("grants"))?;
    for name in ["shell", "mock", "claude"] {
        let home = dir.join("plugins").join(name);
        fs::create_dir_all(&home)?;
        fs::copy(
            folder.join(format!("{name}.toml")),
            home.join("plugin.toml"),
        )?;
        let component: PathBuf = home.join(format!("{name}.wasm"));
        fs::copy(folder.join(format!("{name}.wasm")), &component)?;
        let grant = format!(
            "digest = \"{}\"\nprocess = [\"*\"]\n",
            digest::hex(&fs::read(component)?)
        );
        fs::write(dir.join("grants").join(format!("{name}.toml")), grant)?;
    }
    Ok(())
}

async fn first_answer(executor: &Executor) -> Result<f64, String> {
    let before = clock::monotonic();
    executor.task_schema().await.map_err(text)?;
    Ok(micros(clock::monotonic() - before))
}

async fn load(executor: &Executor) -> Result<f64, String> {
    let before = clock::monotonic();
    executor.loaded().await.map_err(text)?;
    Ok(micros(clock::monotonic() - before))
}

async fn median(call: impl AsyncFn() -> Result<(), String>) -> Result<f64, String> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let before = clock::monotonic();
        call().await?;
        times.push(clock::monotonic() - before);
    }
    times.sort_unstable();
    Ok(micros(times[CALLS / 2]))
}

async fn attempt(mock: &Executor, spec: &str, host: Arc<Host>) -> Result<(), String> {
    let task = GuestTask {
        id: "task_01".into(),
        attempt: 1,
        spec: spec.into(),
        workspace: "/".into(),
        path: None,
        env: Vec::new(),
        labels: Vec::new(),
        previous: None,
        budget_micro_usd: None,
    };
    let (_keep, stop) = oneshot::channel();
    mock.run(task, Start::Fresh, host, stop)
        .await
        .map(drop)
        .map_err(|end| end.to_string())
}

/// The memory of this process alone. Pages of a component's image that no instance has written to
/// do not count, because instances share them.
fn own_bytes() -> Result<f64, String> {
    let text = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u32>().ok());
    Ok(f64::from(kib.ok_or("RssAnon in /proc/self/status has an unknown form")?) * 1024.0)
}

/// An attempt host whose children are no processes, but have a hundred megabytes of output.
#[derive(Debug, Default)]
struct Host {
    alive: AtomicUsize,
}

struct Zeroes(u64);

impl AsyncRead for Zeroes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let room = buffer
            .remaining()
            .min(usize::try_from(self.0).unwrap_or(usize::MAX));
        buffer.initialize_unfilled_to(room).fill(b'x');
        buffer.advance(room);
        self.0 -= room as u64;
        Poll::Ready(Ok(()))
    }
}

impl AttemptHost for Host {
    fn spawn(&self, _spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>> {
        Box::pin(async { Ok(ChildRef::new("task_01.1/0")) })
    }

    fn children(&self) -> Vec<ChildRef> {
        Vec::new()
    }

    fn output(&self, _child: &ChildRef, _channel: Channel, from_offset: u64) -> Output {
        Output {
            reader: Box::pin(Zeroes(STREAM_BYTES.saturating_sub(from_offset))),
            gap: Arc::default(),
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
        Box::pin(async {})
    }

    fn progress(&self, _kind: &str, _data: &str) {
        self.alive.fetch_add(1, Ordering::Relaxed);
    }

    fn checkpoint(&self, _state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn log(&self, _level: LogLevel, _message: &str) {}
}
