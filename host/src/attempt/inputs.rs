//! The inputs of an attempt: its request, its environment, and the results of other attempts (of
//! tasks whose output it uses, and of the attempt that it continues).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
};

use claudine_domain::{
    batch::DocumentKey,
    id::AttemptId,
    task::{Request, Task},
};
use serde_json::{Map, Value, value::RawValue};

use super::elsewhere::SettingsDirectories;
use crate::{
    ceiling::{
        places::{Places, Surroundings},
        repositories,
    },
    checkpoint::{
        self, CheckpointError,
        files::{self, Given},
        words::{Resumed, Used, before_prompt},
    },
    config::{McpCeiling, PATH, PRIVATE, RESTRAINED, without_relative},
    engine::Launch,
    environment::Environments,
    layout::Layout,
    plugin::{Failure, GuestEnd, GuestTask, Manifest, PreviousAttempt, visible},
    store::{Filter, States, Store},
    transcript::Transcripts,
};

/// The output that names the session of an agent.
const SESSION: &str = "session_id";

/// How many unfinished tasks are looked at for their repositories.
const TASKS_MAX: usize = 1_000;

/// The sources of inputs.
pub(super) struct Inputs {
    pub(super) store: Arc<dyn Store>,
    pub(super) environments: Arc<Environments>,
    pub(super) transcripts: Transcripts,
    pub(super) layout: Layout,
    /// The present limits of restrained principals.
    pub(super) ceiling: Arc<McpCeiling>,
    pub(super) places: Arc<Places>,
    /// The present output limit of tasks that request no other.
    pub(super) most_output: u64,
}

/// An attempt that is ready to run.
pub(super) struct Prepared {
    pub(super) task: GuestTask,
    pub(super) checkpoint: Option<Vec<u8>>,
    /// Variables of the attempt's children, in addition to the variables of the task. `None` stands
    /// for a variable that they do not get.
    pub(super) variables: Vec<(String, Option<String>)>,
}

/// The documents of a task that are not in its row.
struct Documents {
    spec: Arc<[u8]>,
    variables: Arc<BTreeMap<String, String>>,
    /// The outputs of the previous attempt.
    outputs: Option<Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
}

/// The document for the executor, with the results of other attempts at the beginning of its
/// prompt, and the variables through which children find these results.
struct Handed {
    spec: String,
    variables: Vec<(String, String)>,
    /// The message to continue with, if the attempt continues the previous one.
    context: Option<String>,
}

impl Inputs {
    /// The file with the environment from which an attempt's children start.
    pub(super) fn env_file(&self, request: &Request) -> PathBuf {
        self.environments.file(&request.env_digest)
    }

    /// Builds the attempt for the guest.
    pub(super) async fn prepare(
        &self,
        launch: &Launch,
        manifest: &Manifest,
        workspace: &str,
        resumed: bool,
    ) -> Result<Prepared, GuestEnd> {
        let Launch {
            attempt,
            task,
            spec,
        } = launch;
        let previous = previous(task, *attempt);
        let request = &task.request;
        let is_restrained = task.is_restrained();
        let variables = if manifest.reads_env.is_empty() && !is_restrained {
            Some(Arc::default())
        } else {
            self.environments.recent(&request.env_digest)
        };
        let at_hand = match (spec, variables) {
            (Some(spec), Some(variables)) if !resumed && previous.is_none() => Some(Documents {
                spec: spec.clone(),
                variables,
                outputs: None,
                checkpoint: None,
            }),
            _ => None,
        };
        let documents = if let Some(documents) = at_hand {
            documents
        } else {
            let previous = previous.as_ref().map(|(id, _)| *id);
            let reading = self.read_documents(*attempt, &request.env_digest, previous, resumed);
            Box::pin(reading).await.map_err(unavailable)?
        };
        let Documents {
            spec,
            mut variables,
            outputs,
            checkpoint,
        } = documents;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = previous.as_ref().map(|(id, _)| id.number);
        let handed = if task.reads_others() {
            let handed = self.hand_over(launch, text(&spec), number);
            Box::pin(handed).await.map_err(GuestEnd::Failed)?
        } else {
            Handed {
                spec: text(&spec),
                variables: Vec::new(),
                context: None,
            }
        };
        let given = handed.variables.into_iter();
        let mut own: Vec<_> = given.map(|(name, value)| (name, Some(value))).collect();
        if is_restrained {
            // The workspace may contain anything, even a program of the executor's name.
            if let Some(name) = SettingsDirectories::of(manifest).relative(&variables) {
                return Err(GuestEnd::Failed(Failure::new(
                    "invalid",
                    not_absolute(name),
                )));
            }
            let (all, ceiling) = (variables.clone(), self.ceiling.clone());
            let look = move || Ok(without_relative(&all, |name| ceiling.may_set(name)));
            let changed = Box::pin(aside(look)).await.map_err(GuestEnd::Failed)?;
            if !changed.is_empty() {
                let names: Vec<&str> = changed.iter().map(|(name, _)| &**name).collect();
                tracing::debug!(%attempt, ?names, "relative places are left out of variables");
                let left = Arc::make_mut(&mut variables);
                for (name, value) in &changed {
                    left.remove(name);
                    left.extend(value.iter().map(|value| (name.clone(), value.clone())));
                }
                own.extend(changed);
            }
        }
        let mut env = visible(manifest, &variables);
        if is_restrained {
            let mark = (RESTRAINED.to_owned(), self.ceiling.restraint());
            // The settings may have changed since the submission.
            env.retain(|(name, _)| *name != mark.0);
            if manifest.reads_env.contains(&mark.0) {
                env.push(mark.clone());
            }
            own.push((mark.0, Some(mark.1)));
            env.retain(|(name, _)| name != PRIVATE);
            if manifest.reads_env.iter().any(|name| name == PRIVATE) {
                let told = Box::pin(self.told(manifest, variables.clone(), workspace)).await;
                env.push((PRIVATE.to_owned(), told.map_err(GuestEnd::Failed)?));
            }
        }
        let guest = GuestTask {
            id: attempt.task.to_string(),
            attempt: attempt.number,
            spec: handed.spec,
            workspace: workspace.to_owned(),
            path: variables.get(PATH).cloned(),
            env,
            labels: task
                .request
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            previous: previous.map(|(_, previous)| PreviousAttempt {
                outputs: match outputs {
                    Some(left) => with_stored_session(&left, previous.outputs),
                    None => previous.outputs,
                },
                resume: handed.context,
                ..previous
            }),
            budget_micro_usd: task.last_attempt().and_then(|last| last.may_cost_micro_usd),
        };
        Ok(Prepared {
            task: guest,
            checkpoint,
            variables: own,
        })
    }

    /// The places that an agent of a restrained principal does not use, or only reads, for the
    /// executor with this manifest. The task has these variables and this directory.
    async fn told(
        &self,
        manifest: &Manifest,
        variables: Arc<BTreeMap<String, String>>,
        workspace: &str,
    ) -> Result<String, Failure> {
        let (places, environments) = (self.places.clone(), self.environments.clone());
        let (store, worktrees) = (self.store.clone(), self.layout.worktrees());
        let directory = PathBuf::from(workspace);
        let elsewhere = SettingsDirectories::of(manifest);
        let read = move || {
            let directories = elsewhere.directories(&environments, &variables);
            let directories = directories.map_err(|error| {
                let message = format!(
                    "an agent of an MCP client cannot be kept from the settings of other tasks, \
                     because their environments cannot be listed: {error}"
                );
                Failure::new("resource", message)
            })?;
            let around = Surroundings {
                elsewhere: &directories,
                own: &elsewhere.own(&variables),
                variables: &variables,
            };
            let invalid = |message: String| Failure::new("invalid", message);
            let told = places.told(&around).map_err(invalid)?;
            let of_tasks = repositories_of_tasks(&*store)?;
            let more = repositories::told(&directory, &of_tasks, &worktrees).map_err(invalid)?;
            let all = serde_json::from_str::<Vec<Value>>(&told);
            let mut all = all.map_err(|error| Failure::new("plugin", error.to_string()))?;
            all.extend(more);
            Ok(Value::from(all).to_string())
        };
        aside(read).await
    }

    /// Reads the documents that are not in memory, on a thread that may block.
    async fn read_documents(
        &self,
        attempt: AttemptId,
        env_digest: &str,
        previous: Option<AttemptId>,
        resumed: bool,
    ) -> Result<Documents, String> {
        let (store, environments) = (self.store.clone(), self.environments.clone());
        let env_digest = env_digest.to_owned();
        let read = move || -> Result<_, String> {
            let document = |key| store.document(key).map_err(|error| error.to_string());
            let spec = document(DocumentKey::Spec(attempt.task))?
                .ok_or("the task's request is not in the store")?;
            let outputs = match previous {
                Some(previous) => document(DocumentKey::Outputs(previous))?,
                None => None,
            };
            let checkpoint = if resumed {
                document(DocumentKey::Checkpoint(attempt))?
            } else {
                None
            };
            let variables = environments
                .read(&env_digest)
                .map_err(|error| format!("the task's environment cannot be read: {error}"))?;
            Ok(Documents {
                spec: spec.into(),
                variables,
                outputs,
                checkpoint,
            })
        };
        crate::aside::run(read)
            .await
            .unwrap_or_else(|panic| Err(panic.to_string()))
    }

    /// Gathers the results of other attempts, and writes them to files for the attempt's children.
    /// A host that takes over the attempt finds these files.
    async fn hand_over(
        &self,
        launch: &Launch,
        spec: String,
        previous: Option<u32>,
    ) -> Result<Handed, Failure> {
        let (store, layout) = (self.store.clone(), self.layout.clone());
        let (attempt, task) = (launch.attempt, launch.task.clone());
        let gathering = {
            let task = task.clone();
            move || gather(&*store, &task)
        };
        let mut given = aside(gathering).await?;
        let resumed = given.resumed.as_mut().map(|(checkpoint, _)| checkpoint);
        for checkpoint in given.used.iter_mut().chain(resumed) {
            let filling = checkpoint.read_for_others(&self.transcripts);
            filling.await.map_err(failure)?;
        }
        aside(move || hand_over(&layout, attempt, &task, &spec, previous, &given)).await
    }
}

/// The repositories of the worktrees of unfinished tasks, without those of the oldest if there are
/// very many.
fn repositories_of_tasks(store: &dyn Store) -> Result<BTreeSet<PathBuf>, Failure> {
    let filter = Filter {
        states: States::unfinished(),
        ..Filter::default()
    };
    let page = store.list(&filter, TASKS_MAX).map_err(|error| {
        let message = format!(
            "an agent of an MCP client cannot be kept from the repositories of other tasks, \
             because the tasks cannot be listed: {error}"
        );
        Failure::new("resource", message)
    })?;
    let worktrees = page.tasks.iter();
    let worktrees = worktrees.filter_map(|task| task.request.worktree.as_ref());
    let repositories = worktrees.map(|worktree| PathBuf::from(&*worktree.repository));
    Ok(repositories.collect())
}

/// Runs `work` on a thread that may block.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    crate::aside::run(work)
        .await
        .unwrap_or_else(|panic| Err(Failure::new("plugin", panic.to_string())))
}

fn hand_over(
    layout: &Layout,
    attempt: AttemptId,
    task: &Task,
    spec: &str,
    previous: Option<u32>,
    given: &Given,
) -> Result<Handed, Failure> {
    files::write(layout, attempt, given).map_err(|error| {
        Failure::new(
            "resource",
            format!(
                "the results of other tasks cannot be written for this task: {error}{}",
                way_out(&error)
            ),
        )
    })?;
    let directory = layout.inputs(attempt);
    let variables = files::variables(&directory, given);
    let paths: Vec<PathBuf> = files::names(&given.used)
        .into_iter()
        .map(|name| directory.join(name))
        .collect();
    let goes_on = task.resumes.is_some() && task.resumes == previous;
    let context = given.resumed.as_ref().map(|(_, context)| context.clone());
    Ok(Handed {
        spec: with_prompt(spec, given, &paths),
        variables,
        context: context.filter(|_| goes_on),
    })
}

/// What to do about a log that is missing or damaged.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "; put the log back, or run the task that wrote it again",
        _ => "",
    }
}

fn gather(store: &dyn Store, task: &Task) -> Result<Given, Failure> {
    let mut used = Vec::with_capacity(task.request.with_output_of.len());
    for id in &task.request.with_output_of {
        used.push(checkpoint::of_task(store, *id).map_err(failure)?);
    }
    let resumed = match task.resumes {
        None => None,
        Some(number) => {
            let checkpoint = checkpoint::of_attempt(store, task, number).map_err(failure)?;
            let context = store
                .document(DocumentKey::Context(task.id))
                .map_err(|error| failure(error.into()))?;
            let context = String::from_utf8_lossy(&context.unwrap_or_default()).into_owned();
            Some((checkpoint, context))
        }
    };
    Ok(Given { used, resumed })
}

fn failure(error: CheckpointError) -> Failure {
    let class = match &error {
        CheckpointError::Gone(_) | CheckpointError::NoAttempt(_) => "invalid",
        _ => "resource",
    };
    Failure::new(
        class,
        format!("cannot prepare the inputs of the attempt: {error}"),
    )
}

/// Puts the results before the prompt. A document without a `prompt` is not changed, because
/// nothing may be inserted into a script or a command line.
fn with_prompt(spec: &str, given: &Given, paths: &[PathBuf]) -> String {
    let Ok(mut document) = serde_json::from_str::<Map<String, Value>>(spec) else {
        return spec.to_owned();
    };
    let Some(Value::String(prompt)) = document.get_mut("prompt") else {
        return spec.to_owned();
    };
    let used: Vec<Used<'_>> = given
        .used
        .iter()
        .zip(paths)
        .map(|(checkpoint, files)| Used { checkpoint, files })
        .collect();
    let resumed = given.resumed.as_ref().map(|(checkpoint, context)| Resumed {
        checkpoint,
        context,
    });
    *prompt = before_prompt(prompt, &used, resumed.as_ref());
    Value::Object(document).to_string()
}

/// The reason why nothing runs for a restrained principal with this variable.
fn not_absolute(name: &str) -> String {
    format!(
        "a task of an MCP client or of an agent would take your settings from the directory in \
         which it works, because `{name}` is no absolute path, or one that means this directory; \
         set it to the path of your directory, or unset it"
    )
}

fn unavailable(message: String) -> GuestEnd {
    GuestEnd::Failed(Failure::new("resource", message))
}

/// The outputs that an earlier attempt has left, with the session in `stored` in place of theirs.
/// The executor may continue this session, and the host has checked only the one that it has
/// stored. Outputs that cannot be read are left out.
fn with_stored_session(left: &[u8], stored: String) -> String {
    let read = |document| serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(document);
    let (Ok(mut all), Ok(own)) = (read(left), read(stored.as_bytes())) else {
        return stored;
    };
    all.remove(SESSION);
    all.extend(own);
    serde_json::to_string(&all).unwrap_or(stored)
}

/// The newest earlier attempt that ran and has ended. The session of its agent may be resumed.
fn previous(task: &Task, attempt: AttemptId) -> Option<(AttemptId, PreviousAttempt)> {
    let last = task.attempts.iter().rev().find(|one| {
        let ended = one.ended.as_ref();
        one.number < attempt.number && !one.by_hand && ended.is_some_and(|ended| !ended.never_began)
    })?;
    let ended = last.ended.as_ref()?;
    let id = AttemptId {
        task: task.id,
        number: last.number,
    };
    let previous = PreviousAttempt {
        number: last.number,
        outcome: ended.outcome.as_str().to_owned(),
        class: ended
            .reason
            .as_ref()
            .map_or(String::new(), |reason| reason.class.as_str().to_owned()),
        // The agent's session is known even if the attempt was interrupted.
        outputs: match &last.session {
            Some(session) => serde_json::json!({ SESSION: session.id }).to_string(),
            None => "{}".to_owned(),
        },
        resume: None,
    };
    Some((id, previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise an executor would continue a session that was not checked.
    #[test]
    fn an_executor_is_told_only_of_the_session_that_is_stored() {
        let check = |left: &str, stored: &str, expected: &str| {
            let told = with_stored_session(left.as_bytes(), stored.to_owned());
            assert_eq!(told, expected, "{left}");
        };
        let stored = r#"{"session_id":"0b6b"}"#;
        check("{}", "{}", "{}");
        check(r#"{"session_id":"77aa"}"#, "{}", "{}");
        check(
            r#"{"cost_usd":0.10,"session_id":"77aa"}"#,
            stored,
            r#"{"cost_usd":0.10,"session_id":"0b6b"}"#,
        );
        check(
            r#"{"a":{"session_id":"77aa"}}"#,
            "{}",
            r#"{"a":{"session_id":"77aa"}}"#,
        );
        check(r#"{"session_id":"77aa","session_id":"-c"}"#, stored, stored);
        for unreadable in ["", "[]", "{"] {
            check(unreadable, stored, stored);
        }
    }
}
