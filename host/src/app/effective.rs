//! Determines the authority that a request has after all defaults are applied. The executor of the
//! request states this authority.

use std::sync::Arc;

use claudine_domain::{
    batch::DocumentKey,
    principal::{Authority, Principal},
    step::Retry,
    task::{Class, Task},
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may, may_end_anew, may_hasten},
    prepare::{Checked, class_of},
};
use crate::{
    ceiling::{
        variables::may_set,
        work::{Told, Work, told},
    },
    plugin::{Draft, Executor, visible},
};

impl Host {
    /// Decides whether these tasks may be submitted, and returns the authority of each. Commands of
    /// an unrestrained principal are skipped, because their authority is not checked and there may
    /// be a hundred thousand of them.
    pub(super) async fn may_submit(
        &self,
        by: &Principal,
        tasks: &[Checked],
    ) -> Result<Vec<Option<Arc<Authority>>>, (usize, AppError)> {
        let mut authorities = Vec::with_capacity(tasks.len());
        for (index, one) in tasks.iter().enumerate() {
            let class = class_of(one.executor.manifest());
            if !by.restrained && class == Class::Command {
                authorities.push(None);
                continue;
            }
            let env = visible(one.executor.manifest(), &one.kept.variables);
            let authority = one.executor.authority(&one.draft(env)).await;
            let work = Work {
                executor: &one.task.executor,
                class,
                authority: &authority,
                merge: one.task.worktree.as_ref().map(|worktree| worktree.merge),
                spec: one.task.spec.get(),
            };
            may(by, Verb::Submit(work), None, &self.settings.mcp)
                .map_err(|error| (index, error))?;
            authorities.push(Some(Arc::new(authority)));
        }
        if !by.restrained {
            return Ok(authorities);
        }
        let documents = tasks.iter().map(|one| {
            let class = class_of(one.executor.manifest());
            (class, one.task.spec.get())
        });
        let documents: Vec<_> = documents.collect();
        self.may_continue_sessions(by, &documents).await?;
        Ok(authorities)
    }

    /// Returns an error if no host runs and the executor cannot be asked, because it was not
    /// compiled yet and only a host compiles it. Without this error, its tasks would count as able
    /// to do everything.
    async fn refuse_uncompiled(&self, executor: &Executor) -> Result<(), AppError> {
        if !self.is_absent() {
            return Ok(());
        }
        let asked = executor.validate_each(Vec::new()).await;
        asked.map(drop).map_err(|error| {
            let name = &executor.manifest().name;
            let message = format!("executor `{name}` cannot be asked: {error}");
            AppError::new(ErrorKind::Unavailable, message)
        })
    }

    /// Decides whether a finished task may run again, with the dependants that would run after it.
    pub(super) async fn may_retry(&self, by: &Principal, retry: &Retry) -> Result<(), AppError> {
        if !by.restrained {
            return Ok(());
        }
        // The new instructions apply to the task itself, and not to its dependants.
        let said = retry.resume.as_deref();
        let changed = retry.revision.as_ref().and_then(|it| it.spec.clone());
        self.may_run_again(by, &retry.task, changed, said).await?;
        self.may_revive(by, &retry.downstream).await
    }

    /// Decides whether a task that waits for a time may be started now.
    pub(super) async fn may_try_now(&self, by: &Principal, task: &Task) -> Result<(), AppError> {
        if !by.restrained {
            return Ok(());
        }
        may_hasten(by, task)?;
        self.may_run_again(by, task, None, None).await
    }

    /// Whether a task that waits for a time may be started now. `None` if this is not known, for
    /// example because no host runs that could ask the executor.
    pub(super) async fn may_be_tried_now(&self, by: &Principal, task: &Task) -> Option<bool> {
        match self.may_try_now(by, task).await {
            Ok(()) => Some(true),
            Err(error) if error.kind == ErrorKind::Forbidden => Some(false),
            Err(error) => {
                let id = task.id;
                tracing::warn!("whether {by} may start task {id:#} now is unknown: {error}");
                None
            }
        }
    }

    /// Decides whether dependants that could not run may run now.
    pub(super) async fn may_revive(
        &self,
        by: &Principal,
        downstream: &[Task],
    ) -> Result<(), AppError> {
        if !by.restrained {
            return Ok(());
        }
        for task in downstream {
            let decided = match may_end_anew(by, task, false) {
                Ok(()) => self.may_run_again(by, task, None, None).await,
                refused => refused,
            };
            decided.map_err(|mut error| {
                let name = task.request.name.as_deref();
                let named = name.map_or(String::new(), |name| format!(" (`{name}`)"));
                error.message = format!(
                    "{:#}{named} would run again too: {}",
                    task.id, error.message
                );
                // The settings need not change: a person may do what the caller may not.
                error.hint = error
                    .hint
                    .map(|hint| format!("{hint}, or retry the tasks at a terminal"));
                error
            })?;
        }
        Ok(())
    }

    /// Decides whether a task may run again. `changed` is the new document, if there is one; `said`
    /// are new instructions, if there are any.
    async fn may_run_again(
        &self,
        by: &Principal,
        task: &Task,
        changed: Option<Arc<[u8]>>,
        said: Option<&[u8]>,
    ) -> Result<(), AppError> {
        let id = task.id;
        let set = task.request.set_variables.iter();
        may_set(by, &self.settings.mcp, set.flat_map(|names| names.iter()))?;
        let spec = if let Some(changed) = changed {
            changed.to_vec()
        } else {
            let read = self.read(move |reader| Ok(reader.store.document(DocumentKey::Spec(id))?));
            read.await?.unwrap_or_default()
        };
        let spec = String::from_utf8_lossy(&spec).into_owned();
        let request = &task.request;
        let variables = self.variables_of(Some(task)).await?;
        // The documents to check; `None` stands for one that nobody knows.
        let mut documents = vec![Some(&spec)];
        let told = said.map_or(Told::Nothing, |said| told(&spec, said));
        match &told {
            Told::Nothing => {}
            Told::Document(document) => documents.push(Some(document)),
            Told::Unknown => documents.push(None),
        }
        for document in documents {
            // A plugin that no longer exists cannot state an authority, nor can any plugin if the
            // document is unknown. So the task is assumed to have every authority.
            let authority = match (document, self.plugins.executor(&request.executor)) {
                (Some(document), Ok(executor)) => {
                    self.refuse_uncompiled(executor).await?;
                    let draft = Draft {
                        spec: document.clone(),
                        env: visible(executor.manifest(), &variables),
                        workspace: request.cwd.to_string(),
                        labels: request.labels.clone().into_iter().collect(),
                    };
                    executor.authority(&draft).await
                }
                _ => Authority::full(),
            };
            let work = Work {
                executor: &request.executor,
                class: request.class,
                authority: &authority,
                merge: request.worktree.as_ref().map(|worktree| worktree.merge),
                spec: document.unwrap_or(&spec),
            };
            let verb = match said {
                Some(_) => Verb::Resume(work),
                None => Verb::Retry(work),
            };
            may(by, verb, Some(task), &self.settings.mcp)?;
        }
        self.may_enter_again(by, task, &spec, said.is_some())
            .await?;
        if request.worktree.is_some() {
            self.may_interrupt_resolving(by, id).await?;
        }
        Ok(())
    }
}
