//! A task is taken on.

use std::{collections::BTreeMap, sync::PoisonError};

use claudine_domain::{
    id::{AccountKey, AttemptId, TaskId},
    step::{Answer, Input, Submission},
    task::{Class, Idempotency, Request, Rung, Task},
};
use serde::Deserialize;

use super::{
    check::{ceiling, check},
    error::{AppError, ErrorKind},
    host::Host,
    request::Delegate,
    view::Delegated,
};
use crate::{
    clock,
    config::ATTEMPT,
    digest,
    plugin::{Executor, Manifest, ManifestClass, PluginError, visible},
    random,
};

/// How much of a prompt or command line lists show.
const SUMMARY_CHARS: usize = 120;
impl Host {
    /// Takes a task on; returns once it is on disk.
    pub(crate) async fn delegate(&self, request: Delegate) -> Result<Delegated, AppError> {
        check(&request)?;
        ceiling(&request, &self.settings.mcp)?;
        let executor = self.executor(&request.executor)?;
        let parent = self.parent(&request).await?;
        let digest = idempotency(&request);
        let Delegate {
            environment, spec, ..
        } = &request;
        let kept = self
            .environments
            .keep(environment.clone())
            .await
            .map_err(cannot_keep)?;
        let spec = spec.get();
        validate(&executor, spec, &kept.variables).await?;
        let manifest = executor.manifest();
        let class = class_of(manifest);
        let (account, serial_start) = account_of(manifest, &kept.variables);
        let spec = std::sync::Arc::from(spec.as_bytes());
        let domain = Request {
            summary: summary(request.spec.get()),
            cwd: plain(&request.working_directory),
            class,
            parent: None,
            above_parent: Vec::new(),
            attached_above: 0,
            detached: request.detached,
            timeout: request
                .timeout_ms
                .map(std::time::Duration::from_millis)
                .or(self.settings.task_timeout),
            idle_timeout: request
                .idle_timeout_ms
                .map(std::time::Duration::from_millis)
                .or(manifest.idle_timeout),
            start_timeout: manifest.start_timeout,
            max_output_bytes: request
                .max_output_bytes
                .unwrap_or(self.settings.max_output_bytes),
            env_digest: kept.digest,
            account,
            serial_start,
            idempotency: digest,
            ladder: ladder_of(manifest),
            name: request.name,
            executor: request.executor,
            priority: request.priority,
            labels: request.labels,
            group: request.group,
        };
        let submission = Submission {
            id: self.new_id(),
            request: domain,
            parent,
            spec,
        };
        match self
            .engine
            .command(Input::Submit(Box::new(submission)))
            .await?
        {
            Answer::Accepted { task, existing } => Ok(Delegated {
                id: task.to_string(),
                class,
                existing,
            }),
            other => Err(AppError::new(
                ErrorKind::Internal,
                format!("a submission was answered {other:?}"),
            )),
        }
    }

    /// The task from within which this is asked. A marker of a task that is not here means nothing: it is of another host, or made up.
    async fn parent(&self, request: &Delegate) -> Result<Option<Task>, AppError> {
        let marker = request.environment.base.get(ATTEMPT);
        match marker.and_then(|marker| marker.parse::<AttemptId>().ok()) {
            Some(attempt) => self.read(move |reader| Ok(reader.store.task(attempt.task)?)).await,
            None => Ok(None),
        }
    }

    fn new_id(&self) -> TaskId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.next(clock::wall().0, random::bits_128())
    }

    fn executor(&self, name: &str) -> Result<std::sync::Arc<Executor>, AppError> {
        match self.plugins.executor(name) {
            Ok(executor) => Ok(executor.clone()),
            Err(PluginError::Unknown { .. }) => {
                let names = self.plugins.executor_names();
                let shown: String = name.chars().take(80).collect();
                let error = AppError::new(
                    ErrorKind::NotFound,
                    format!("there is no executor `{shown}`"),
                );
                Err(if names.is_empty() {
                    error.hint(
                        "this binary was built without plugins: build it with `cargo xtask build`",
                    )
                } else {
                    error.hint(format!("there are: {}", names.join(", ")))
                })
            }
            Err(error) => Err(AppError::new(
                ErrorKind::Unavailable,
                format!("executor `{name}` cannot be used: {error}"),
            )
            .hint(format!("`claudine plugin inspect {name}` says more"))),
        }
    }
}

/// A path without a slash at its end and without `.` in it; `..` stays, since what it leads to may hang on a link.
fn plain(path: &std::path::Path) -> String {
    let path: std::path::PathBuf = path.components().collect();
    path.to_string_lossy().into_owned()
}

fn cannot_keep(error: std::io::Error) -> AppError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => ErrorKind::StoreFull,
        _ => ErrorKind::Unavailable,
    };
    AppError::new(
        kind,
        format!("the task's environment cannot be kept: {error}"),
    )
}

/// Asks the executor whether it would take the document.
async fn validate(
    executor: &Executor,
    spec: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(), AppError> {
    let env = visible(executor.manifest(), variables);
    let issues = executor
        .validate(&spec.to_owned(), &env)
        .await
        .map_err(|error| {
            AppError::new(
                ErrorKind::Unavailable,
                format!(
                    "executor `{}` cannot be asked: {error}",
                    executor.manifest().name
                ),
            )
        })?;
    if issues.is_empty() {
        return Ok(());
    }
    let text: Vec<String> = issues
        .iter()
        .map(|issue| match issue.path.as_str() {
            "" => issue.message.clone(),
            path => format!("{path}: {}", issue.message),
        })
        .collect();
    Err(AppError::new(ErrorKind::Invalid, text.join("; ")))
}

fn class_of(manifest: &Manifest) -> Class {
    match manifest.class {
        ManifestClass::Agent => Class::Agent,
        ManifestClass::Command => Class::Command,
    }
}

fn ladder_of(manifest: &Manifest) -> Vec<Rung> {
    let rungs = manifest.stop.iter();
    rungs
        .map(|rung| Rung {
            signal: rung.signal.to_string(),
            wait_ms: claudine_domain::time::millis(rung.wait),
        })
        .collect()
}

/// The account of a task, and the key under which starts of its configuration directory are one at a time.
fn account_of(
    manifest: &Manifest,
    variables: &BTreeMap<String, String>,
) -> (Option<AccountKey>, Option<String>) {
    let Some(account) = &manifest.account else {
        return (None, None);
    };
    let directory = variables
        .get(&account.directory_variable)
        .filter(|value| !value.is_empty())
        .cloned()
        .unwrap_or_else(|| match account.default_directory.strip_prefix("~/") {
            Some(rest) => format!(
                "{}/{rest}",
                variables.get("HOME").map_or("", String::as_str)
            ),
            None => account.default_directory.clone(),
        });
    let credentials: Vec<&[u8]> = account
        .credentials
        .iter()
        .map(|name| {
            variables
                .get(name)
                .map_or(&[] as &[u8], |value| value.as_bytes())
        })
        .collect();
    let digest = digest::hex_of_pieces(&credentials);
    let key = format!(
        "{}:{directory}:{}",
        manifest.name,
        digest.get(..16).unwrap_or(&digest)
    );
    let serial = manifest
        .serial_start
        .then(|| format!("{}:{directory}", manifest.name));
    (Some(AccountKey(key)), serial)
}

/// Under one key the same request answers with the first task; what is compared is what the person asked, not the environment around it.
fn idempotency(request: &Delegate) -> Option<Idempotency> {
    let key = request.idempotency_key.clone()?;
    let labels: Vec<String> = request
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let payload_digest = digest::hex_of_pieces(&[
        request.executor.as_bytes(),
        request.spec.get().as_bytes(),
        request.name.as_deref().unwrap_or("").as_bytes(),
        request.working_directory.as_os_str().as_encoded_bytes(),
        labels.join("\n").as_bytes(),
    ]);
    Some(Idempotency {
        key,
        payload_digest,
    })
}

/// The first line of what was asked, short and without control characters.
fn summary(spec: &str) -> String {
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
            .or_else(|| known.argv.map(|argv| command_line(&argv)))
    });
    let text = text.unwrap_or_else(|| spec.to_owned());
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("")
        .trim();
    let mut short: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SUMMARY_CHARS)
        .collect();
    if line.chars().count() > SUMMARY_CHARS || text.trim().lines().count() > 1 {
        short.push('…');
    }
    short
}

/// An argv as a person would type it.
fn command_line(argv: &[String]) -> String {
    let quoted = argv.iter().map(|word| {
        let plain = !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c));
        if plain {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_show_the_start_of_what_was_asked() {
        let check = |spec: &str, expected: &str| assert_eq!(summary(spec), expected, "{spec}");
        check(
            r#"{"prompt": "\n  fix the tests\nthen stop"}"#,
            "fix the tests…",
        );
        check(r#"{"script": "make"}"#, "make");
        check(
            r#"{"argv": ["echo", "two words", "it's", ""]}"#,
            r"echo 'two words' 'it'\''s' ''",
        );
        check(r#"{"script": "a\u001b[2Jb"}"#, "a [2Jb");
        check(r#"{"steps": []}"#, r#"{"steps": []}"#);
        let long = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(500));
        assert_eq!(summary(&long).chars().count(), SUMMARY_CHARS + 1);
    }
}
