//! Turns a client's request for a task into a request for the board, with the additions of the
//! executor's manifest and a summary for lists.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use claudine_domain::{
    idempotency::stored_key,
    ladder::{self, Rung},
    outcome::ReasonClass,
    principal::Principal,
    retry_policy::{Backoff, RetryPolicy, may_be_retried},
    task::{Class, Idempotency},
};
use serde::Deserialize;

use super::{
    error::{AppError, ErrorKind},
    request::{NewTask, Retries},
    without_code,
};
use crate::{
    ceiling::variables::Names,
    digest,
    environment::Kept,
    plugin::{Draft, Executor, Issue, Manifest, ManifestClass, visible},
    text::{harmless, shell_line, shortened},
    units::duration_word,
};

/// Length limit of the summary.
const SUMMARY_CHARS: usize = 120;

/// The path without a trailing slash and without `.`. `..` is kept, because the component before it
/// may be a symbolic link.
pub(super) fn plain(path: &Path) -> Cow<'_, str> {
    // Most paths are plain already, and every task of a request has one.
    let is_plain = |text: &&str| {
        let parts = text.strip_prefix('/').map(|rest| rest.split('/'));
        parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | ".")))
    };
    if let Some(text) = path.to_str().filter(is_plain) {
        return Cow::Borrowed(text);
    }
    let path: PathBuf = path.components().collect();
    Cow::Owned(path.to_string_lossy().into_owned())
}

/// A validated request with the input for its executor.
pub(super) struct Checked {
    pub(super) task: NewTask,
    pub(super) executor: Arc<Executor>,
    pub(super) kept: Arc<Kept>,
    /// Names of the variables that a restrained principal sets for the task.
    pub(super) set_variables: Option<Names>,
}

impl Checked {
    /// The input for the executor; `env` has the variables that the executor may see.
    pub(super) fn draft(&self, env: Vec<(String, String)>) -> Draft {
        Draft {
            spec: self.task.spec.get().to_owned(),
            env,
            workspace: plain(&self.task.working_directory).into_owned(),
            labels: self.task.labels.clone().into_iter().collect(),
        }
    }
}

/// Size up to which a document is validated together with others.
const SHORT_BYTES: usize = 4 << 10;
/// Maximum number of documents validated together, because they share one time limit.
const TOGETHER: usize = 64;

/// Lets the executors validate the documents. An error includes the index of its task.
pub(super) async fn validate(tasks: &[Checked]) -> Result<(), (usize, AppError)> {
    let mut first = 0;
    while let Some(one) = tasks.get(first) {
        let is_alike = |other: &&Checked| {
            Arc::ptr_eq(&one.executor, &other.executor)
                && Arc::ptr_eq(&one.kept, &other.kept)
                && other.task.spec.get().len() <= SHORT_BYTES
        };
        let alike = tasks[first..].iter().take(TOGETHER).take_while(is_alike);
        let count = alike.count().max(1);
        ask(first, &tasks[first..first + count]).await?;
        first += count;
    }
    Ok(())
}

/// Validates documents for the same executor with the same environment.
async fn ask(first: usize, tasks: &[Checked]) -> Result<(), (usize, AppError)> {
    let Checked { executor, kept, .. } = &tasks[0];
    let env = visible(executor.manifest(), &kept.variables);
    let drafts = tasks.iter().map(|one| one.draft(env.clone()));
    match executor.validate_each(drafts.collect()).await {
        Ok(found) => {
            let faulty = found.iter().position(|issues| !issues.is_empty());
            faulty.map_or(Ok(()), |at| Err((first + at, told(&found[at]))))
        }
        // The documents are validated one by one to find the one that fails.
        Err(_) if tasks.len() > 1 => {
            for (index, one) in tasks.iter().enumerate() {
                Box::pin(ask(first + index, std::slice::from_ref(one))).await?;
            }
            Ok(())
        }
        Err(error) => {
            let name = &executor.manifest().name;
            let message = format!("executor `{name}` cannot validate the request: {error}");
            let mut refused = AppError::new(ErrorKind::Unavailable, message);
            if error.is_lack_of_code() {
                refused = refused.hint(without_code::way_out());
            }
            Err((first, refused))
        }
    }
}

pub(super) fn told(issues: &[Issue]) -> AppError {
    let text: Vec<String> = issues
        .iter()
        .map(|issue| match issue.path.as_str() {
            "" => issue.message.clone(),
            path => format!("{path}: {}", issue.message),
        })
        .collect();
    AppError::new(ErrorKind::Invalid, text.join("; "))
}

pub(super) fn class_of(manifest: &Manifest) -> Class {
    match manifest.class {
        ManifestClass::Agent => Class::Agent,
        ManifestClass::Command => Class::Command,
    }
}

pub(super) fn ladder_of(manifest: &Manifest) -> Arc<[Rung]> {
    let steps = manifest.stop.iter();
    ladder::of(steps.map(|step| {
        let wait_ms = claudine_domain::time::millis(step.wait);
        (step.signal.as_str(), wait_ms)
    }))
}

/// The requested retry policy; [`Backoff`] has the defaults.
pub(super) fn retries(asked: &Retries) -> Result<RetryPolicy, AppError> {
    let invalid = |message: String| AppError::new(ErrorKind::Invalid, message);
    let usual = Backoff::default();
    let millis = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
    let initial = millis(asked.initial_ms, usual.initial);
    let backoff = Backoff {
        initial,
        factor: asked.factor.unwrap_or(usual.factor),
        // The usual maximum is raised to the first delay if that is longer.
        max: millis(asked.max_ms, usual.max.max(initial)),
    };
    if backoff.factor == 0 {
        return Err(invalid(
            "the factor of the backoff must be at least 1".to_owned(),
        ));
    }
    if backoff.initial > backoff.max {
        return Err(invalid(format!(
            "the first delay of the backoff ({}) is longer than the longest ({})",
            duration_word(backoff.initial),
            duration_word(backoff.max)
        )));
    }
    let mut on = Vec::new();
    for word in &asked.on {
        let class = ReasonClass::parse(word).filter(|class| may_be_retried(*class));
        on.push(class.ok_or_else(|| {
            let known: Vec<&str> = ReasonClass::all()
                .filter(|class| may_be_retried(*class))
                .map(ReasonClass::as_str)
                .collect();
            invalid(format!(
                "`{word}` is not a class of failures that can be retried"
            ))
            .hint(format!("the classes are {}", known.join(", ")))
        })?);
    }
    Ok(RetryPolicy {
        limit: asked.limit,
        backoff,
        on,
    })
}

/// The idempotency key with a digest of the request: an equal request with the same key returns the
/// first task. The digest covers the whole request, with dependencies and the graph's name and
/// budget, but not the environment.
pub(super) fn idempotency(
    by: &Principal,
    task: &NewTask,
    (graph_name, graph_micro_usd): (Option<&str>, Option<u64>),
) -> Result<Option<Idempotency>, AppError> {
    let Some(key) = &task.idempotency_key else {
        return Ok(None);
    };
    let mut payload = serde_json::to_vec(task).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the request cannot be compared with others: {error}"),
        )
    })?;
    // The budget and the name are appended after the JSON, so that requests without them have the
    // same digest as in earlier versions.
    if let Some(micro_usd) = graph_micro_usd {
        payload.extend_from_slice(&micro_usd.to_be_bytes());
    }
    if let Some(name) = graph_name {
        payload.extend_from_slice(b" name ");
        payload.extend_from_slice(name.as_bytes());
    }
    Ok(Some(Idempotency {
        key: stored_key(by, key),
        payload_digest: digest::hex(&payload),
    }))
}

/// The first line of the request, shortened and escaped.
pub(super) fn summary(spec: &str) -> String {
    #[derive(Deserialize)]
    struct Known {
        prompt: Option<String>,
        script: Option<String>,
        argv: Option<Vec<String>>,
    }
    let known = serde_json::from_str::<Known>(spec).ok();
    let text = known.and_then(|known| {
        known
            .prompt
            .or(known.script)
            .or_else(|| known.argv.map(|argv| shell_line(&argv)))
    });
    let text = text.map_or(Cow::Borrowed(spec), Cow::Owned);
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("")
        .trim();
    let mut short = shortened(line, SUMMARY_CHARS);
    if !short.ends_with('…') && text.trim().contains('\n') {
        short.push('…');
    }
    harmless(&short)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::principal::Kind;

    use super::*;

    #[test]
    fn a_plain_path_has_no_slash_at_its_end_and_no_dot() {
        let check = |path: &str, expected: &str| {
            assert_eq!(plain(Path::new(path)), expected, "{path}");
            let normal: PathBuf = Path::new(path).components().collect();
            assert_eq!(normal.to_str(), Some(expected), "{path}");
        };
        for path in ["/", "/a", "/a/b.c/..", "/.a/..b", "/a b", "a", ".."] {
            check(path, path);
        }
        check("/a/", "/a");
        check("//a", "/a");
        check("/a//b", "/a/b");
        check("/./a", "/a");
        check("/a/./b", "/a/b");
        check("/a/.", "/a");
        check("a/./b/", "a/b");
    }

    #[test]
    fn a_long_first_delay_of_a_backoff_raises_the_usual_maximum_and_no_other() {
        let backoff = |initial_ms: u64, max_ms: Option<u64>| {
            let asked = Retries {
                limit: 1,
                on: Vec::new(),
                initial_ms: Some(initial_ms),
                factor: None,
                max_ms,
            };
            retries(&asked).map(|policy| policy.backoff.max)
        };
        assert_eq!(backoff(1_000, None).unwrap(), Duration::from_mins(5));
        assert_eq!(backoff(600_000, None).unwrap(), Duration::from_mins(10));
        let refused = backoff(600_000, Some(90_000)).unwrap_err();
        let expected = "the first delay of the backoff (10m) is longer than the longest (1m30s)";
        assert_eq!(refused.message, expected);
    }

    #[test]
    fn different_requests_with_the_same_key_have_different_digests() {
        let digest_in = |graph, field: &str, value: serde_json::Value| {
            let mut task = serde_json::json!({
                "executor": "shell", "spec": {"script": "true"}, "working_directory": "/", "idempotency_key": "k",
            });
            task[field] = value;
            let task: NewTask = serde_json::from_value(task).unwrap();
            let idempotency = idempotency(&Principal::default(), &task, graph).unwrap();
            idempotency.unwrap().payload_digest
        };
        let digest = |field: &str, value| digest_in((None, None), field, value);
        let same = digest("name", "a".into());
        assert_eq!(same, digest("name", "a".into()));
        let budgets = [None, Some(1), Some(2)];
        let digests = budgets.map(|budget| digest_in((None, budget), "name", "a".into()));
        assert_eq!(digests[0], same);
        assert!(digests[1] != same && digests[1] != digests[2] && digests[2] != same);
        let named = |name| digest_in((Some(name), None), "name", "a".into());
        assert!(named("release") != same && named("release") != named("nightly"));
        for (field, value) in [
            ("name", "b".into()),
            ("spec", serde_json::json!({"script": "false"})),
            ("dependencies", serde_json::json!(["a"])),
            ("group", "g".into()),
            ("timeout_ms", 1000.into()),
            ("retries", serde_json::json!({"limit": 1})),
        ] {
            assert_ne!(same, digest(field, value), "{field}");
        }
    }

    #[test]
    fn restrained_principals_have_idempotency_keys_of_their_own() {
        let task = serde_json::json!({
            "executor": "shell", "spec": {"script": "true"}, "working_directory": "/", "idempotency_key": "k",
        });
        let task: NewTask = serde_json::from_value(task).unwrap();
        let of = |kind: Kind, restrained: bool| {
            let by = Principal {
                kind,
                restrained,
                ..Principal::default()
            };
            idempotency(&by, &task, (None, None)).unwrap().unwrap()
        };
        let person = of(Kind::Owner, false);
        assert_eq!(person.key, "k");
        assert_eq!(of(Kind::Owner, true).key, "restrained:k");
        let id = crate::store::sample_task(1).id;
        let agent = of(Kind::Agent { task: Some(id) }, true);
        assert_eq!(agent.key, format!("restrained-by:{id}:k"));
        assert_eq!(agent.payload_digest, person.payload_digest);
    }

    #[test]
    fn the_summary_is_the_start_of_the_request() {
        let check = |spec: &str, expected: &str| assert_eq!(summary(spec), expected, "{spec}");
        check(
            r#"{"prompt": "\n  fix the tests\nthen stop"}"#,
            "fix the tests…",
        );
        check(r#"{"script": "make"}"#, "make");
        check(
            r#"{"argv": ["echo", "two words", "it's", ""]}"#,
            r#"echo 'two words' "it's" ''"#,
        );
        check(r#"{"script": "a\u001b[2Jb"}"#, r"a\u{1b}[2Jb");
        check(r#"{"steps": []}"#, r#"{"steps": []}"#);
        let long = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(500));
        assert_eq!(summary(&long).chars().count(), SUMMARY_CHARS + 1);
    }
}
