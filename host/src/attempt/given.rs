//! What an attempt is given of other attempts: those of tasks whose output it uses, and the one that it goes on from.

use std::{path::PathBuf, sync::Arc};

use claudine_domain::{batch::DocumentKey, id::AttemptId, task::Task};
use serde_json::{Map, Value};

use super::run::Runner;
use crate::{
    checkpoint::{
        self, CheckpointError,
        files::{self, Given},
        words::{Resumed, Used, before_prompt},
    },
    engine::Launch,
    layout::Layout,
    plugin::Failure,
    store::Store,
};

/// The document for the executor with what stands before its prompt, and what children find in their environment.
pub(super) struct Handed {
    pub(super) spec: String,
    pub(super) variables: Vec<(String, String)>,
    /// What was said, where the attempt right before this one is gone on from.
    pub(super) context: Option<String>,
}

impl Runner {
    /// Gathers it, and writes the files. A host that takes the attempt up finds them there.
    pub(super) async fn hand_over(
        &self,
        launch: &Launch,
        spec: String,
        previous: Option<u32>,
    ) -> Result<Handed, Failure> {
        let (store, layout) = (self.store.clone(), self.layout.clone());
        let (attempt, task) = (launch.attempt, launch.task.clone());
        let handing = move || hand_over(&*store, &layout, attempt, &task, &spec, previous);
        tokio::task::spawn_blocking(handing)
            .await
            .unwrap_or_else(|panic| Err(Failure::new("plugin", panic.to_string())))
    }
}

fn hand_over(
    store: &dyn Store,
    layout: &Layout,
    attempt: AttemptId,
    task: &Arc<Task>,
    spec: &str,
    previous: Option<u32>,
) -> Result<Handed, Failure> {
    let given = gather(store, layout, task)?;
    files::write(layout, attempt, &given).map_err(|error| {
        Failure::new(
            "resource",
            format!("the results of other tasks cannot be written for it: {error}"),
        )
    })?;
    let directory = layout.inputs(attempt);
    let variables = files::variables(&directory, &given);
    let paths: Vec<PathBuf> = files::names(&given.used)
        .into_iter()
        .map(|name| directory.join(name))
        .collect();
    let goes_on = task.resumes.is_some() && task.resumes == previous;
    let context = given.resumed.as_ref().map(|(_, context)| context.clone());
    Ok(Handed {
        spec: with_prompt(spec, &given, &paths),
        variables,
        context: context.filter(|_| goes_on),
    })
}

fn gather(store: &dyn Store, layout: &Layout, task: &Task) -> Result<Given, Failure> {
    let mut used = Vec::with_capacity(task.request.with_output_of.len());
    for id in &task.request.with_output_of {
        used.push(checkpoint::of_task(store, layout, *id).map_err(failure)?);
    }
    let resumed = match task.resumes {
        None => None,
        Some(number) => {
            let checkpoint =
                checkpoint::of_attempt(store, layout, task, number).map_err(failure)?;
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
    Failure::new(class, format!("what it is to be given: {error}"))
}

/// A document without a `prompt` stays as it is: nothing is ever put into a script or a command line.
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
