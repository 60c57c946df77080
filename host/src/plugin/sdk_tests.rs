//! The host against guests that were made with the SDK, built by these tests from `plugins/`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claudine_plugin_build::{BuildRequest, Toolchain, Way, build};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, oneshot};

use super::catalog::{Catalog, Places};
use super::engine::Wasm;
use super::error::GuestEnd;
use super::fixtures;
use super::load::Compiler;
use super::port::{
    AttemptHost, BoxFuture, Channel, ChildExit, ChildRef, Failure, GuestOutcome, LogLevel,
    OutputReader, Signal, SpawnSpec, Start, Stdin, StopRequest, Usage,
};
use crate::digest;

/// A grace that no test waits for.
const LONG: Duration = Duration::from_mins(10);

/// Builds a plugin into a data directory, with all that it asks for granted.
fn install(plugin: &str, data_dir: &Path) -> Catalog {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = data_dir.join("out");
    let request = BuildRequest {
        crate_dir: root.join("plugins").join(plugin),
        out_dir: out.clone(),
        target_dir: root.join("target/wasm"),
        release: true,
    };
    let say = &mut |line: &str| eprintln!("{line}");
    let toolchain = Toolchain::find(&request.crate_dir, &Way::USUAL, say)
        .unwrap_or_else(|error| panic!("{error}"));
    build(&request, &toolchain, say).unwrap_or_else(|error| panic!("{error}"));
    let folder = data_dir.join("plugins").join(plugin);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(data_dir.join("grants")).unwrap();
    let component = std::fs::read(out.join(format!("{plugin}.wasm"))).unwrap();
    std::fs::write(folder.join(format!("{plugin}.wasm")), &component).unwrap();
    std::fs::copy(
        out.join(format!("{plugin}.toml")),
        folder.join("plugin.toml"),
    )
    .unwrap();
    let grant = format!(
        "digest = \"{}\"\nprocess = [\"*\"]\n",
        digest::hex(&component)
    );
    std::fs::write(data_dir.join(format!("grants/{plugin}.toml")), grant).unwrap();
    let places = Places {
        data_dir: data_dir.into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    Catalog::open_with(places, &[], Wasm::on_demand).unwrap()
}

/// What a guest asked to be started: the command, its arguments and what it reads.
type Asked = (String, Vec<String>, Option<Vec<u8>>);

/// An outside whose children print what the test says and end as it says.
#[derive(Default)]
struct Outside {
    asked: Mutex<Vec<Asked>>,
    lines: Mutex<Vec<String>>,
    output_bytes: u64,
    code: i32,
    /// Told whenever a child is waited for or progress is made.
    told: Notify,
}

impl Outside {
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl AttemptHost for Outside {
    fn spawn(&self, spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>> {
        let stdin = match spec.stdin {
            Stdin::Empty => None,
            Stdin::Bytes(bytes) => Some(bytes),
        };
        let mut asked = self.asked.lock().unwrap();
        asked.push((spec.command, spec.args, stdin));
        let child = ChildRef::new(format!("task_01.1/{}", asked.len() - 1));
        Box::pin(async { Ok(child) })
    }

    fn children(&self) -> Vec<ChildRef> {
        (0..self.asked().len())
            .map(|index| ChildRef::new(format!("task_01.1/{index}")))
            .collect()
    }

    fn output(&self, _child: &ChildRef, _channel: Channel, from_offset: u64) -> OutputReader {
        Box::pin(tokio::io::repeat(b'x').take(self.output_bytes - from_offset))
    }

    fn signal(&self, _child: &ChildRef, _signal: Signal) -> Result<(), Failure> {
        Ok(())
    }

    fn wait(&self, _child: &ChildRef) -> BoxFuture<'_, Result<ChildExit, Failure>> {
        let exit = ChildExit {
            code: Some(self.code),
            signal: None,
            usage: Usage::default(),
        };
        Box::pin(async move { Ok(exit) })
    }

    fn progress(&self, _kind: &str, _data: &str) {
        self.told.notify_one();
    }

    fn checkpoint(&self, _state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn log(&self, _level: LogLevel, message: &str) {
        self.lines.lock().unwrap().push(message.into());
    }
}

/// Runs an attempt; `stop_when_told` asks it to end at its first progress.
async fn run(
    plugin: &str,
    spec: Value,
    host: &Arc<Outside>,
    stop_when_told: bool,
) -> Result<GuestOutcome, GuestEnd> {
    let dir = tempfile::tempdir().unwrap();
    let catalog = install(plugin, dir.path());
    let executor = catalog.executor(plugin).unwrap();
    let (ask, stop) = oneshot::channel();
    let mut task = fixtures::task();
    task.spec = spec.to_string();
    let outside: Arc<Outside> = Arc::clone(host);
    let attempt = executor.run(task, Start::Fresh, outside, stop);
    let asking = async {
        if stop_when_told {
            host.told.notified().await;
            let request = StopRequest {
                reason: "cancelled".into(),
                grace: LONG,
            };
            // Where the attempt has ended by itself the assertions say so.
            drop(ask.send(request));
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(attempt);
    tokio::select! {
        end = &mut attempt => end,
        () = asking => attempt.await,
    }
}

#[tokio::test]
async fn the_shell_hands_words_on_as_they_are() {
    let host = Arc::new(Outside {
        code: 3,
        ..Outside::default()
    });
    let spec = json!({"argv": ["printf", "%s", "a b", "", "$HOME"], "stdin": "text"});
    let outcome = run("shell", spec, &host, false).await.unwrap();
    let args = ["%s", "a b", "", "$HOME"].map(str::to_owned).to_vec();
    assert_eq!(
        host.asked(),
        [("printf".to_owned(), args, Some(b"text".to_vec()))]
    );
    assert_eq!((outcome.cause.as_str(), outcome.code), ("exit", Some(3)));
    assert_eq!(outcome.summary, "exited with code 3");
}

#[tokio::test]
async fn a_spec_is_checked_with_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = install("shell", dir.path());
    let executor = catalog.executor("shell").unwrap();
    let spec = json!({"argv": ["ls", 3]}).to_string();
    let issues = executor.validate(&spec, &Vec::new()).await.unwrap();
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].path, "/argv/1");
}

#[tokio::test]
async fn the_empty_script_succeeds_without_a_process() {
    let host = Arc::new(Outside::default());
    let outcome = run("mock", json!({}), &host, false).await.unwrap();
    assert_eq!(outcome.cause, "success");
    assert_eq!(host.asked(), []);
}

/// The stop is another task of the same instance, and has to wake the one that sleeps.
#[tokio::test]
async fn a_stop_wakes_what_sleeps() {
    let host = Arc::new(Outside::default());
    let spec = json!({"steps": [{"alive": true}, {"sleep_ms": 3_600_000}]});
    let outcome = run("mock", spec, &host, true).await.unwrap();
    assert_eq!(
        (outcome.cause.as_str(), outcome.summary.as_str()),
        ("signal", "stopped")
    );
}

#[tokio::test]
async fn an_attempt_is_taken_up_at_its_checkpoint() {
    let host = Arc::new(Outside::default());
    let spec = json!({"steps": [
        {"spawn": {"argv": ["one"]}},
        {"checkpoint": "one runs"},
        {"spawn": {"argv": ["two"]}},
        {"trap_once": true},
        {"spawn": {"argv": ["three"], "wait": true}},
    ]});
    let outcome = run("mock", spec, &host, false).await.unwrap();
    assert_eq!((outcome.cause.as_str(), outcome.code), ("success", Some(0)));
    let commands: Vec<String> = host.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(commands, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_panic_leaves_its_text_in_the_log() {
    let host = Arc::new(Outside::default());
    let end = run(
        "mock",
        json!({"steps": [{"panic": "out of luck"}]}),
        &host,
        false,
    )
    .await;
    assert!(matches!(end, Err(GuestEnd::Crashed { .. })), "{end:?}");
    let lines = host.lines.lock().unwrap().join("\n");
    assert!(lines.contains("out of luck"), "{lines}");
}

#[tokio::test]
async fn a_guest_reads_output_of_any_length() {
    const BYTES: u64 = 100_000_000;
    let host = Arc::new(Outside {
        output_bytes: BYTES,
        ..Outside::default()
    });
    let spec = json!({"steps": [{"spawn": {"argv": ["yes"]}}, {"read": "stdout"}]});
    let outcome = run("mock", spec, &host, false).await.unwrap();
    let outputs: Value = serde_json::from_str(&outcome.outputs).unwrap();
    assert_eq!(outputs["read_bytes"], BYTES);
}
