//! Submits thousands of tasks over connections that are kept open, and waits for their ends.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{http::Connection, trial::Trial};

/// A request for one task.
pub(crate) fn request(trial: &Trial, executor: &str, spec: &Value) -> String {
    request_of_many(trial, executor, spec, 1)
}

/// A request for the same task many times.
pub(crate) fn request_of_many(trial: &Trial, executor: &str, spec: &Value, count: usize) -> String {
    let task = json!({ "executor": executor, "spec": spec, "working_directory": trial.work() });
    of_tasks(trial, &vec![task; count])
}

/// A request for these tasks, which share one environment.
pub(crate) fn of_tasks(trial: &Trial, tasks: &[Value]) -> String {
    let environment = json!({ "base": { "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": trial.root(), "LANG": "C.UTF-8" } });
    json!({ "environment": environment, "tasks": tasks }).to_string()
}

pub(crate) fn submit(connection: &mut Connection, request: &str) -> Result<String> {
    let (status, answer) = connection.ask("POST", "/v1/tasks", Some(request))?;
    ensure!(
        status == 200 || status == 201,
        "a task was refused: {answer}"
    );
    Ok(answer["tasks"][0]["id"]
        .as_str()
        .context("an id")?
        .to_owned())
}

/// Submits all tasks of one request; returns their ids in the request's order.
pub(crate) fn submit_together(connection: &mut Connection, request: &str) -> Result<Vec<String>> {
    let (status, answer) = connection.ask("POST", "/v1/tasks", Some(request))?;
    ensure!(
        status == 200 || status == 201,
        "a request was refused: {answer}"
    );
    let tasks = answer["tasks"].as_array().context("tasks")?;
    let ids = tasks
        .iter()
        .map(|task| Some(task["id"].as_str()?.to_owned()));
    ids.collect::<Option<_>>().context("an id for each task")
}

/// Submits the same request `count` times over `callers` connections at once; returns the ids.
pub(crate) fn submit_many(
    trial: &Trial,
    request: &str,
    count: usize,
    callers: usize,
) -> Result<Vec<String>> {
    let connections = (0..callers)
        .map(|_| trial.connect())
        .collect::<Result<Vec<Connection>>>()?;
    let share = |caller: usize| count / callers + usize::from(caller < count % callers);
    let submit_share = |(caller, mut connection): (usize, Connection)| {
        (0..share(caller))
            .map(|_| submit(&mut connection, request))
            .collect::<Result<Vec<String>>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|mine| scope.spawn(move || submit_share(mine)))
            .collect();
        let mut ids = Vec::with_capacity(count);
        for thread in threads {
            ids.extend(thread.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        Ok(ids)
    })
}

/// Waits until all of these tasks have ended; fails if one of them did not succeed.
pub(crate) fn all_succeed(connection: &mut Connection, ids: &[String]) -> Result<()> {
    // Waits for the last task first. Tasks end roughly in order, so waiting for the earlier tasks
    // then takes no time.
    for id in ids.iter().rev() {
        let task = wait(connection, id)?;
        ensure!(
            task["outcome"] == "succeeded",
            "a task did not succeed: {task:#}"
        );
    }
    Ok(())
}

pub(crate) fn wait(connection: &mut Connection, id: &str) -> Result<Value> {
    loop {
        let (status, task) = connection.ask(
            "GET",
            &format!("/v1/tasks/{id}/wait?timeout_ms=50000"),
            None,
        )?;
        ensure!(status == 200, "cannot wait for {id}: {task}");
        if task["state"] == "done" {
            return Ok(task);
        }
    }
}

/// Starts a task that occupies a slot until a file of this name exists in its directory.
pub(crate) fn hold_slot(trial: &Trial, connection: &mut Connection, file: &str) -> Result<String> {
    let script = format!("until test -e {file}; do sleep 0.01; done");
    let id = submit(
        connection,
        &request(trial, "shell", &json!({ "script": script })),
    )?;
    crate::trial::until("a task to run", || {
        let (_, task) = connection
            .ask("GET", &format!("/v1/tasks/{id}"), None)
            .ok()?;
        (task["phase"] == "live").then_some(())
    })?;
    Ok(id)
}
