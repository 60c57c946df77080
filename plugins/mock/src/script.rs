//! The document of a task of this executor.

use crate::misbehave;
use claudine_plugin_sdk::{
    Attributes, Authority, Class, Command, ExitStatus, Failure, Issue, Outcome, Step as Reach, Task,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// An empty object is a task that succeeds at once, without a process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    /// Message with which `validate` refuses the task.
    refuse: Option<String>,
    /// `validate` traps, so it gives no answer.
    trap_in_validate: bool,
    /// Answer of `authority`; `full` if missing.
    authority: Option<Told>,
    /// `authority` traps, so it gives no answer.
    trap_in_authority: bool,
    pub(crate) steps: Vec<Step>,
    /// The outcome. If it is missing, the outcome of the last child that was waited for, or else
    /// success.
    outcome: Option<End>,
    /// The failure with which the attempt ends instead of an outcome.
    fail: Option<Fail>,
    /// From this attempt on, `outcome` and `fail` are ignored.
    succeed_from_attempt: Option<u32>,
    /// A requested stop does not interrupt sleeps.
    pub(crate) ignore_stop: bool,
    /// Puts the guest's input into the output `task`.
    report: bool,
}

/// An authority.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    step: ToldStep,
    #[serde(default)]
    extras: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToldStep {
    Read,
    Edit,
    Run,
    Full,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    SleepMs(u64),
    /// Prints the text through a child.
    Stdout(String),
    Stderr(String),
    Spawn(Spawn),
    /// Starts a child and streams its input. The output `fed_bytes` is the number of bytes that the
    /// child's input accepted.
    Feed(Feed),
    /// Reads the previous child's output through the guest; the output `read_bytes` counts the
    /// bytes.
    Read(Channel),
    Progress(Progress),
    Alive(bool),
    /// Stores a checkpoint with this text. A resumed attempt continues after this step.
    Checkpoint(String),
    Log(String),
    LogFlood(u32),
    Trap(bool),
    /// Traps, but only if the attempt was not resumed.
    TrapOnce(bool),
    Panic(String),
    Spin(bool),
    EatMemory(bool),
    /// Waits for ever, ignoring a stop.
    Hang(bool),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spawn {
    argv: Vec<String>,
    /// Waits for the child's end. If this is false, the next step follows at once, and the child
    /// may outlive the script.
    #[serde(default)]
    pub(crate) wait: bool,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<String>,
}

/// Input for a child. Byte `n` of the input is `n % 251`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feed {
    pub(crate) argv: Vec<String>,
    pub(crate) bytes: u64,
    #[serde(default = "usual_piece_bytes")]
    pub(crate) piece_bytes: u64,
    #[serde(default)]
    pub(crate) then: Then,
}

fn usual_piece_bytes() -> u64 {
    64 << 10
}

/// The action after the whole input was written. For all actions except `trap`, the step then waits
/// for the child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then {
    /// End the input.
    #[default]
    Finish,
    /// Drop the input.
    Drop,
    /// Keep the input open.
    Keep,
    Trap,
}

/// Bytes that went through the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    /// Bytes that were to be read, but that the cap on the attempt's output had removed.
    pub(crate) left_out: u64,
    pub(crate) fed: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) data: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct End {
    /// `success` (the default) or a reason class.
    cause: Option<String>,
    code: Option<i32>,
    signal: Option<i32>,
    summary: Option<String>,
    outputs: Map<String, Value>,
    retry_after_ms: Option<u64>,
    metrics: Vec<(String, f64)>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    code: String,
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

/// Content of a checkpoint.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Checkpoint {
    pub(crate) next_step: usize,
    pub(crate) note: String,
}

impl Checkpoint {
    pub(crate) fn to_text(&self) -> String {
        json!({ "next_step": self.next_step, "note": self.note }).to_string()
    }
}

impl Step {
    fn starts_a_child(&self) -> bool {
        matches!(
            self,
            Self::Stdout(_) | Self::Stderr(_) | Self::Spawn(_) | Self::Feed(_)
        )
    }
}

fn command(argv: &[String]) -> Command {
    let (program, args) = argv
        .split_first()
        .map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
    Command::new(program).args(args)
}

impl Feed {
    pub(crate) fn command(&self) -> Command {
        command(&self.argv)
    }
}

impl Spawn {
    pub(crate) fn command(&self) -> Command {
        let mut command = command(&self.argv);
        for (name, value) in &self.env {
            command = command.env(name, value);
        }
        if let Some(directory) = &self.cwd {
            command = command.current_dir(directory);
        }
        match &self.stdin {
            Some(text) => command.stdin_bytes(text.as_str()),
            None => command,
        }
    }
}

impl Script {
    pub(crate) fn issues(&self) -> Vec<Issue> {
        if self.trap_in_validate {
            misbehave::trap();
        }
        let mut issues: Vec<Issue> = self
            .refuse
            .iter()
            .map(|message| Issue::new("/refuse", message))
            .collect();
        for (index, step) in self.steps.iter().enumerate() {
            let (name, argv) = match step {
                Step::Spawn(spawn) => ("spawn", &spawn.argv),
                Step::Feed(feed) => ("feed", &feed.argv),
                _ => continue,
            };
            if argv.is_empty() {
                issues.push(Issue::new(
                    format!("/steps/{index}/{name}/argv"),
                    "empty: the first element is the command",
                ));
            }
        }
        issues
    }

    pub(crate) fn authority(&self) -> Authority {
        if self.trap_in_authority {
            misbehave::trap();
        }
        let Some(told) = &self.authority else {
            return Authority::full();
        };
        let authority = Authority::of(match told.step {
            ToldStep::Read => Reach::Read,
            ToldStep::Edit => Reach::Edit,
            ToldStep::Run => Reach::Run,
            ToldStep::Full => Reach::Full,
        });
        told.extras.iter().fold(authority, Authority::with)
    }

    /// Number of children that the earlier steps start.
    pub(crate) fn children_before(&self, step: usize) -> usize {
        self.steps
            .iter()
            .take(step)
            .filter(|step| step.starts_a_child())
            .count()
    }

    /// End of the attempt after all steps.
    pub(crate) fn end(
        &self,
        task: &Task<Self>,
        last_status: Option<ExitStatus>,
        counts: Counts,
    ) -> Result<Outcome, Failure> {
        let scripted = self
            .succeed_from_attempt
            .is_none_or(|from| task.attempt < from);
        if scripted && let Some(fail) = &self.fail {
            return Err(fail.failure());
        }
        let mut outcome = match (&self.outcome, last_status) {
            (Some(end), _) if scripted => end.outcome(),
            (None, Some(status)) => status.into(),
            _ => Outcome::success("followed the script"),
        };
        for (name, count) in [
            ("read_bytes", counts.read),
            ("left_out_bytes", counts.left_out),
            ("fed_bytes", counts.fed),
        ] {
            if count > 0 {
                outcome = outcome.output(name, count);
            }
        }
        if self.report {
            outcome = outcome.output("task", report(task));
        }
        Ok(outcome)
    }
}

impl End {
    fn outcome(&self) -> Outcome {
        let mut outcome = match self.cause.as_deref() {
            None | Some("success") => Outcome::success("as scripted"),
            Some(cause) => Outcome::failed(Class::from(cause), "as scripted"),
        };
        if let Some(summary) = &self.summary {
            outcome.summary.clone_from(summary);
        }
        outcome.code = self.code;
        outcome.signal = self.signal;
        outcome.outputs.clone_from(&self.outputs);
        outcome.retry_after = self.retry_after_ms.map(Duration::from_millis);
        outcome.metrics.clone_from(&self.metrics);
        outcome
    }
}

impl Fail {
    fn failure(&self) -> Failure {
        let mut failure = Failure::new(Class::from(self.code.as_str()), &self.message);
        failure.retryable = self.retryable;
        failure.retry_after = self.retry_after_ms.map(Duration::from_millis);
        failure
    }
}

/// The guest's input, for tests of what it can see.
fn report<S>(task: &Task<S>) -> Value {
    let object = |attributes: &Attributes| -> Map<String, Value> {
        attributes
            .iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    };
    json!({
        "id": task.id,
        "attempt": task.attempt,
        "workspace": task.workspace,
        "env": object(&task.env),
        "labels": object(&task.labels),
        "previous": task.previous.as_ref().map(|previous| json!({
            "number": previous.number,
            "outcome": previous.outcome,
            "class": previous.class.as_str(),
            "outputs": previous.outputs,
        })),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claudine_plugin_sdk::parse;

    use super::*;

    fn task(attempt: u32, script: &str) -> Task<Script> {
        Task {
            id: "task_1".to_owned(),
            attempt,
            spec: parse(script).unwrap(),
            workspace: "/w".to_owned(),
            env: Attributes::new(vec![("MOCK".to_owned(), "1".to_owned())]),
            labels: Attributes::default(),
            previous: None,
            budget_usd: None,
        }
    }

    /// Expected: the cause, or the class of the failure.
    fn check(
        attempt: u32,
        script: &str,
        last: Option<ExitStatus>,
        expected: Result<Option<Class>, Class>,
    ) {
        let task = task(attempt, script);
        let end = task.spec.end(&task, last, Counts::default());
        let end = end
            .map(|outcome| outcome.cause)
            .map_err(|failure| failure.class);
        assert_eq!(end, expected, "{script}");
    }

    #[test]
    fn attempt_ends_as_scripted() {
        let exit = |code| {
            Some(ExitStatus {
                code: Some(code),
                ..ExitStatus::default()
            })
        };
        check(1, "{}", None, Ok(None));
        check(1, "{}", exit(3), Ok(Some(Class::Exit)));
        check(1, "{}", exit(0), Ok(None));
        check(1, r#"{"outcome": {}}"#, exit(3), Ok(None));
        check(
            1,
            r#"{"outcome": {"cause": "rate_limit", "retry_after_ms": 1}}"#,
            None,
            Ok(Some(Class::RateLimit)),
        );
        check(
            1,
            r#"{"fail": {"code": "network", "message": "x"}}"#,
            None,
            Err(Class::Network),
        );
        let later = r#"{"fail": {"code": "network", "message": "x"}, "succeed_from_attempt": 3}"#;
        check(2, later, None, Err(Class::Network));
        check(3, later, None, Ok(None));
    }

    #[test]
    fn outcome_fields_are_returned_unchanged() {
        let task = task(
            1,
            r#"{"report": true, "outcome": {"cause": "exit", "code": 7, "summary": "no", "outputs": {"a": [1]}, "metrics": [["x_ms", 2.5]]}}"#,
        );
        let outcome = task
            .spec
            .end(
                &task,
                None,
                Counts {
                    read: 9,
                    ..Counts::default()
                },
            )
            .unwrap();
        assert_eq!((outcome.code, outcome.summary.as_str()), (Some(7), "no"));
        assert_eq!(outcome.metrics, [("x_ms".to_owned(), 2.5)]);
        assert_eq!(
            (&outcome.outputs["a"], &outcome.outputs["read_bytes"]),
            (&json!([1]), &json!(9))
        );
        assert_eq!(outcome.outputs["task"]["env"], json!({"MOCK": "1"}));
    }

    #[test]
    fn authority_is_as_scripted_and_full_by_default() {
        let authority = |script| parse::<Script>(script).unwrap().authority();
        assert_eq!(authority("{}"), Authority::full());
        assert_eq!(
            authority(r#"{"authority": {"step": "edit", "extras": ["network"]}}"#),
            Authority::of(Reach::Edit).with("network")
        );
    }

    #[test]
    fn nth_step_that_starts_a_child_owns_the_nth_child() {
        let script: Script =
            parse(r#"{"steps": [{"stdout": "a"}, {"sleep_ms": 1}, {"spawn": {"argv": ["x"]}}, {"stderr": "b"}, {"hang": true}]}"#).unwrap();
        let counts: Vec<usize> = (0..=6).map(|step| script.children_before(step)).collect();
        assert_eq!(counts, [0, 1, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn checkpoint_is_unchanged_by_conversion_to_text_and_back() {
        let text = Checkpoint {
            next_step: 4,
            note: "half \"way\"".to_owned(),
        }
        .to_text();
        let read: Checkpoint = parse(&text).unwrap();
        assert_eq!((read.next_step, read.note.as_str()), (4, "half \"way\""));
    }

    #[test]
    fn invalid_script_is_refused_with_its_place() {
        let issues = |script| {
            parse::<Script>(script).map_or_else(|issue| vec![issue], |script| script.issues())
        };
        assert_eq!(issues("{}"), []);
        assert_eq!(issues(r#"{"refuse": "no"}"#), [Issue::new("/refuse", "no")]);
        let empty = r#"{"steps": [{"sleep_ms": 1}, {"spawn": {"argv": []}}]}"#;
        assert_eq!(issues(empty)[0].path, "/steps/1/spawn/argv");
        assert_eq!(
            issues(r#"{"steps": [{"sleep_ms": -1}]}"#)[0].path,
            "/steps/0/sleep_ms"
        );
        assert!(
            issues(r#"{"steps": [{"dance": 1}]}"#)[0]
                .message
                .starts_with("unknown variant `dance`")
        );
    }

    #[test]
    fn schema_is_json_and_names_every_step() {
        let schema: Value = parse(include_str!("schema.json")).unwrap();
        let steps = &schema["properties"]["steps"]["items"]["properties"];
        let message = parse::<Step>(r#"{"dance": 1}"#).unwrap_err().message;
        for name in steps.as_object().unwrap().keys() {
            assert!(
                message.contains(&format!("`{name}`")),
                "the schema lacks the step {name}"
            );
        }
        assert_eq!(
            message.matches('`').count(),
            2 * (steps.as_object().unwrap().len() + 1),
            "{message}"
        );
    }
}
