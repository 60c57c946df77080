//! A separate host and API for each test, with `claude` on the path.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use claudine_tests::git::git_in;
use claudine_tests::messages_api::{MessagesApi, Script};
use claudine_tests::{HostBuilder, TestHost, wait_for};
use serde_json::Value;

/// The agent's login.
#[derive(Clone, Copy)]
pub(crate) enum Login {
    ApiKey,
    /// The login of a subscription, the only login for which the service reports its usage limit as
    /// an event.
    Subscription,
}

pub(crate) struct World {
    // The host is dropped first, because its tasks talk to the API until they end.
    pub(crate) host: TestHost,
    pub(crate) api: MessagesApi,
}

impl World {
    pub(crate) fn new(script: Script) -> Self {
        Self::with(script, Login::ApiKey, |host| host)
    }

    pub(crate) fn with(
        script: Script,
        login: Login,
        more: impl FnOnce(HostBuilder) -> HostBuilder,
    ) -> Self {
        let api = MessagesApi::start(script).expect("a port on loopback");
        let credential = match login {
            Login::ApiKey => "ANTHROPIC_API_KEY",
            Login::Subscription => "CLAUDE_CODE_OAUTH_TOKEN",
        };
        let host = TestHost::builder()
            .env(
                "PATH",
                path_with(claude().parent().expect("in a directory")),
            )
            .env("ANTHROPIC_BASE_URL", api.url())
            .env(credential, "sk-ant-scripted")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            // By default, Claude Code retries ten times with growing pauses, which would take three
            // minutes.
            .env("CLAUDE_CODE_MAX_RETRIES", "1");
        Self {
            host: more(host).build(),
            api,
        }
    }

    /// Replaces `claude` by a script, in which `$CLAUDE` is the path of the real `claude`.
    pub(crate) fn wrapped(script: Script, wrapper: &str) -> (Self, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("claude");
        let text = format!("#!/bin/sh\nCLAUDE='{}'\n{wrapper}\n", claude().display());
        fs::write(&path, text).expect("a file of the test's own");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("a file of the test's own");
        let world = Self::with(script, Login::ApiKey, |host| {
            host.env("PATH", path_with(directory.path()))
        });
        (world, directory)
    }

    /// Submits a prompt, with further options if given; returns the task's id.
    #[track_caller]
    pub(crate) fn delegate(&self, arguments: &[&str]) -> String {
        self.host.text(["delegate"].iter().chain(arguments))
    }

    /// Submits a prompt and waits for the end; returns the task.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        let id = self.delegate(arguments);
        self.host.finished(&id)
    }

    /// Waits until an answer is held at this point.
    #[track_caller]
    pub(crate) fn reach(&self, point: &str) {
        assert!(
            self.api.wait_reached(point, claudine_tests::wait::PATIENCE),
            "no answer has reached the point {point}"
        );
    }

    /// Removes every conversation that Claude Code has kept, as its own clean-up does after a
    /// month.
    pub(crate) fn forget_sessions(&self) {
        match fs::remove_dir_all(self.host.home().join(".claude/projects")) {
            Ok(()) => {}
            // Claude Code writes a session shortly after its first request, and may have been
            // killed before it wrote one.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("the sessions cannot be removed: {error}"),
        }
    }

    /// Waits until Claude Code has written these words into its session, some time after it has
    /// sent them to the API.
    #[track_caller]
    pub(crate) fn in_session(&self, words: &str) {
        let projects = self.host.home().join(".claude/projects");
        let files = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        wait_for(&format!("`{words}` in the session"), || {
            let mut sessions = files(&projects).into_iter().flat_map(|it| files(&it));
            let has_it = |path: PathBuf| {
                let text = fs::read_to_string(path).ok();
                text.is_some_and(|text| text.contains(words))
            };
            sessions.any(has_it).then_some(())
        });
    }

    /// Waits until a file in the task's directory has a line; returns that line.
    #[track_caller]
    pub(crate) fn line_of(&self, name: &str) -> String {
        let path = self.host.work().join(name);
        wait_for(&format!("a line in {name}"), || {
            let text = fs::read_to_string(&path).ok()?;
            Some(text.strip_suffix('\n')?.to_owned())
        })
    }
}

/// Path of the `claude` to test, from the variable that `cargo xtask test` sets after it has
/// installed `claude`.
fn claude() -> PathBuf {
    let path = env::var_os("CLAUDINE_TEST_CLAUDE").map(PathBuf::from).expect(
        "CLAUDINE_TEST_CLAUDE is not set: run the tests with `cargo xtask test`, or `npm install @anthropic-ai/claude-code@2.1.330` \
         somewhere and set it to its node_modules/.bin/claude",
    );
    assert!(
        path.is_file(),
        "CLAUDINE_TEST_CLAUDE: there is no {}",
        path.display()
    );
    path
}

fn path_with(first: &Path) -> std::ffi::OsString {
    let inherited = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::join_paths(
        [first.to_owned()]
            .into_iter()
            .chain(env::split_paths(&inherited)),
    )
    .expect("no colon in a test's path")
}

/// Panics unless the task ended with this outcome and class; returns the message of its reason.
#[track_caller]
pub(crate) fn ended(task: &Value, outcome: &str, class: &str) -> String {
    assert_eq!(task["outcome"], outcome, "{task:#}");
    assert_eq!(task["reason"]["class"], class, "{task:#}");
    task["reason"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[track_caller]
pub(crate) fn succeeded(task: &Value, output: &str) {
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["output"], output, "{task:#}");
}

/// A field of the attempt with this index, counted from 0.
pub(crate) fn attempt<'a>(task: &'a Value, index: usize, field: &str) -> &'a Value {
    &task["attempts"][index][field]
}

/// Runs git in the tasks' directory; returns its output.
#[track_caller]
pub(crate) fn git(world: &World, arguments: &[&str]) -> String {
    git_in(&world.host, &world.host.work(), arguments)
}
