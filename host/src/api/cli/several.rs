//! Commands that act on one or several tasks, which are named or selected.
//!
//! Named tasks are acted on at once. Selected tasks are listed first, and a person at a terminal is
//! asked for confirmation. Without a terminal `--yes` is required.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use claudine_domain::id::TaskId;

use super::{
    failure::Failure,
    named, output,
    select::Selectors,
    session::Session,
    table::{Column, Table},
    terminal::{Look, Painted, fit, harmless},
    text, times,
};
use crate::{
    api::status,
    app::{
        Action, AppError, ErrorKind, IDS_MAX, Still, TaskActed, TaskActions, TaskRef, TasksActed,
    },
    text::{ShortIds, short_id},
};

/// Limit of the tasks and the errors that are listed.
const SHOWN: usize = 10;
const NAME_COLUMNS: usize = 40;

/// The tasks to act on.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Ids, ends of ids or names; `-` for standard input.
    #[arg(value_name = "ID")]
    tasks: Vec<String>,
    /// All tasks to which this command applies.
    #[arg(long, help_heading = "Selection")]
    all: bool,
    /// Skip the confirmation.
    #[arg(short, long, help_heading = "Selection")]
    yes: bool,
    #[command(flatten)]
    selectors: Selectors,
}

impl Which {
    /// The named task, if exactly one is named.
    pub(super) fn single(&self) -> Option<&str> {
        match self.tasks.as_slice() {
            [task] if task != "-" => Some(task),
            _ => None,
        }
    }

    /// Whether no task is named or selected.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && !self.all && self.selectors.are_none()
    }

    /// Acts on the tasks and reports the results; `tell` reports the result for a single task.
    pub(super) async fn act(
        self,
        session: &Session,
        asked: TaskActions,
        tell: impl Fn(&TaskActed) -> Result<(), Failure>,
    ) -> Result<ExitCode, Failure> {
        let action = asked.action;
        let is_single = self.tasks.len() == 1 && self.tasks != ["-"];
        let was_asked = self.tasks.is_empty() && !self.yes;
        let Some(acted) = self.acted(session, asked).await? else {
            output::say("nothing was changed");
            return Ok(ExitCode::FAILURE);
        };
        if let ([task], true) = (acted.tasks.as_slice(), is_single)
            && let Some(error) = &task.error
        {
            return Err(Failure::App(error.clone()));
        }
        if session.json {
            output::json(&acted)?;
        } else {
            if !was_asked && let Some(warning) = beyond_settings(&acted.tasks) {
                output::say(&warning);
            }
            match acted.tasks.as_slice() {
                [] => output::say(&format!("no matching task can be {}", action.past())),
                [task] if task.error.is_none() => tell(task)?,
                tasks => tell_all(action, tasks, &tell)?,
            }
        }
        Ok(code(&acted.tasks).into())
    }

    /// Acts on the tasks. Returns none if the user did not confirm.
    async fn acted(
        self,
        session: &Session,
        mut asked: TaskActions,
    ) -> Result<Option<TasksActed>, Failure> {
        let word = asked.action.word();
        let client = session.client();
        match (
            self.tasks.is_empty(),
            self.selectors.are_none() && !self.all,
        ) {
            (true, true) => {
                return Err(Failure::Usage(format!(
                    "nothing to {word}: name tasks, select some (--label, --name, --state, \
                     --group, --graph, …), or give --all"
                )));
            }
            (false, false) => {
                return Err(Failure::Usage(format!(
                    "tasks to {word} are either named or selected, not both"
                )));
            }
            (false, true) => {
                let mut all = TasksActed::default();
                for some in named::several(self.tasks)?.chunks(IDS_MAX) {
                    asked.ids = some.iter().cloned().map(TaskRef).collect();
                    all.add(client.act(&asked).await?);
                }
                return Ok(Some(all));
            }
            (true, false) => {}
        }
        asked.filter = Some(self.selectors.filter());
        if !self.yes {
            if !can_ask() {
                return Err(Failure::Usage(format!(
                    "without a terminal the selection cannot be confirmed: add --yes (-y), or \
                     name the tasks to {word}"
                )));
            }
            let dry_run = TaskActions {
                dry_run: true,
                ..asked.clone()
            };
            let found = client.act(&dry_run).await?;
            if found.tasks.is_empty() {
                return Ok(Some(found));
            }
            output::say_painted(&preview(&found, Look::of_stderr()));
            if let Some(warning) = beyond_settings(&found.tasks) {
                output::say(&warning);
            }
            if !confirmed(&question(asked.action, &found))? {
                return Ok(None);
            }
            asked.expect = Some(found.found);
        }
        Ok(Some(client.act(&asked).await?))
    }
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for confirmation; every answer but yes means no.
fn confirmed(question: &str) -> Result<bool, Failure> {
    output::ask(question);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| {
        let message = format!("the answer cannot be read: {error}");
        AppError::new(ErrorKind::Internal, message)
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The question: `Cancel 8 tasks of release (x7tqrp)? [y/N] `.
fn question(action: Action, found: &TasksActed) -> String {
    let mut word = action.word().to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let graph = found.graph.as_ref().map_or_else(String::new, |graph| {
        let id = short_id(&graph.id);
        match &graph.name {
            Some(name) => format!(" of {} ({id})", shown_name(name)),
            None => format!(" of the graph of {id}"),
        }
    });
    format!("{word} {}{graph}? [y/N] ", text::tasks(found.found))
}

const COLUMNS: [Column; 4] = [
    Column::new("ID"),
    Column::new("STATE"),
    Column::new("NAME").optional().cut(24, 6),
    Column::new("WHAT").cut(24, 8),
];

/// A table of the first selected tasks.
fn preview(found: &TasksActed, look: Look) -> Painted {
    let short = ShortIds::among(found.tasks.iter().map(|task| task.id.as_str()));
    let mut table = Table::new(&COLUMNS);
    for task in found.tasks.iter().take(SHOWN) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.row([
            short.of(&task.id).into(),
            text(&task.was).into(),
            text(&task.name).into(),
            text(&task.summary).into(),
        ]);
    }
    let mut shown = table.shown(look);
    let more = found.tasks.len().saturating_sub(SHOWN);
    if more > 0 {
        shown.push(&format!("… and {more} more\n"));
    }
    shown
}

fn tell_all(
    action: Action,
    tasks: &[TaskActed],
    tell: &impl Fn(&TaskActed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (done, failed): (Vec<_>, Vec<_>) = tasks.iter().partition(|task| task.error.is_none());
    if matches!(action, Action::Retry | Action::Resume) && !io::stdout().is_terminal() {
        // The ids are the input of a next command, as after an action on a single task.
        done.iter().try_for_each(|task| output::line(&task.id))?;
    }
    for task in failed.iter().take(SHOWN) {
        if let Some(error) = &task.error {
            output::say(&format!("error: {}: {error}", named(task)));
            if let Some(hint) = &error.hint {
                output::say(&format!("hint: {hint}"));
            }
        }
    }
    let more = failed.len().saturating_sub(SHOWN);
    if more > 0 {
        output::say(&format!("… and {more} more"));
    }
    if let ([task], []) = (done.as_slice(), failed.as_slice()) {
        return tell(task);
    }
    for line in warnings(&done) {
        output::say(&times::in_text(&line, times::now()));
    }
    output::say(&summary(action, &done, failed.len()));
    Ok(())
}

/// Says how many clients' tasks run that the settings would refuse now. A person may run them, but
/// may not know that they are among the tasks.
fn beyond_settings(tasks: &[TaskActed]) -> Option<String> {
    let beyond = tasks
        .iter()
        .filter(|task| task.beyond_settings && task.error.is_none());
    let (tasks, they) = match beyond.count() {
        0 => return None,
        1 => ("1 task of a client is".to_owned(), "it runs"),
        count => (format!("{count} tasks of clients are"), "they run"),
    };
    Some(format!(
        "warning: {tasks} beyond what the settings (mcp.…) allow clients now; {they} because you \
         ask for it"
    ))
}

/// The first warnings, and the number of the others.
fn warnings(done: &[&TaskActed]) -> Vec<String> {
    let warned = done
        .iter()
        .filter_map(|task| Some((task, task.warning.as_ref()?)));
    let mut lines: Vec<String> = warned
        .map(|(task, warning)| format!("warning: {}: {warning}", named(task)))
        .collect();
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.truncate(SHOWN);
        let s = if more == 1 { "" } else { "s" };
        lines.push(format!("… and {more} more warning{s}"));
    }
    lines
}

/// The summary: `cancelled 7 tasks; 1 could not be cancelled`.
fn summary(action: Action, done: &[&TaskActed], failed: usize) -> String {
    let past = action.past();
    let downstream: usize = done.iter().filter_map(|task| task.downstream).sum();
    // Dependants that were named or selected too are already counted.
    let already = done.iter().filter(|task| task.already).count();
    let downstream = downstream.saturating_sub(already);
    let held = done.iter().filter(|task| task.held).count();
    let is_settling = |task: &&&TaskActed| task.still == Some(Still::Settling);
    let settling = done.iter().filter(is_settling).count();
    // A task that is still held after a release was not released.
    let kept = if action == Action::Release {
        already
    } else {
        0
    };
    let told = match action {
        Action::Cancel => cancelled(done),
        _ => format!("{past} {}", text::tasks(done.len() - kept)),
    };
    let parts = [
        Some(told),
        (kept > 0).then(|| format!("{kept} still held by others")),
        Still::may_succeed(settling),
        (downstream > 0).then(|| text::wait_again(downstream, "them")),
        (held > 0).then(|| format!("{held} of them held: `claudine release` lets them start")),
        (failed > 0).then(|| format!("{failed} could not be {past}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// How many tasks are cancelled, and how many have yet to end.
fn cancelled(done: &[&TaskActed]) -> String {
    let has_yet_to_end = |task: &&&TaskActed| task.still.is_some() || task.already;
    let cancelling = done.iter().filter(has_yet_to_end).count();
    match (done.len() - cancelling, cancelling) {
        (count, 0) => format!("cancelled {}", text::tasks(count)),
        (0, _) => format!("cancelling {}", text::tasks(cancelling)),
        (count, _) => format!("cancelled {}, cancelling {cancelling}", text::tasks(count)),
    }
}

fn named(task: &TaskActed) -> String {
    match &task.name {
        Some(name) => shown_name(name),
        None if task.id.parse::<TaskId>().is_ok() => short_id(&task.id).to_owned(),
        // The text in the request, which names no task.
        None => shown_name(&task.id),
    }
}

fn shown_name(name: &str) -> String {
    fit(&harmless(name), NAME_COLUMNS)
}

/// Exit code of the first task for which the action failed.
fn code(tasks: &[TaskActed]) -> u8 {
    let first = tasks.iter().find_map(|task| task.error.as_ref());
    first.map_or(0, |error| status::of(error.kind).exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    fn task(name: Option<&str>) -> TaskActed {
        TaskActed {
            id: "task_01kb2m8r4zq8w3v5x7y9abcdef".to_owned(),
            name: name.map(str::to_owned),
            was: Some("running".to_owned()),
            summary: Some("cargo test\nand more".to_owned()),
            ..TaskActed::default()
        }
    }

    fn graph(name: Option<&str>, tasks: Vec<TaskActed>) -> TasksActed {
        let found = serde_json::json!({
            "found": tasks.len(), "done": tasks.len(), "failed": 0, "tasks": tasks,
            "graph": {"id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": name},
        });
        serde_json::from_value(found).unwrap_or_default()
    }

    #[test]
    fn warnings_that_are_left_out_are_counted() {
        let warned = TaskActed {
            warning: Some("look out".to_owned()),
            ..task(Some("deploy"))
        };
        let (quiet, line) = (task(None), "warning: deploy: look out");
        assert_eq!(warnings(&[&quiet, &warned]), [line]);
        let many = vec![&warned; SHOWN + 2];
        let lines = warnings(&many);
        assert_eq!(lines[..SHOWN], vec![line; SHOWN]);
        assert_eq!(lines[SHOWN..], ["… and 2 more warnings"]);
        let lines = warnings(&many[1..]);
        assert_eq!(lines[SHOWN..], ["… and 1 more warning"]);
    }

    #[test]
    fn clients_tasks_beyond_the_settings_are_counted() {
        let beyond = TaskActed {
            beyond_settings: true,
            ..task(None)
        };
        let refused = TaskActed {
            error: Some(AppError::new(ErrorKind::Conflict, "no")),
            ..beyond.clone()
        };
        let told = |tasks: &[&TaskActed]| {
            let tasks: Vec<TaskActed> = tasks.iter().copied().cloned().collect();
            beyond_settings(&tasks).unwrap_or_default()
        };
        assert_eq!(told(&[&task(None), &refused]), "");
        let one = told(&[&beyond, &task(None), &refused]);
        assert_eq!(
            one,
            "warning: 1 task of a client is beyond what the settings (mcp.…) allow clients now; \
             it runs because you ask for it"
        );
        let two = told(&[&beyond, &beyond]);
        assert!(two.contains("2 tasks of clients are beyond"), "{two}");
    }

    #[test]
    fn the_question_names_the_action_the_number_of_tasks_and_the_graph() {
        let check = |action, found: &TasksActed, expected: &str| {
            assert_eq!(question(action, found), expected);
        };
        let two = vec![task(None), task(None)];
        let none = TasksActed {
            graph: None,
            ..graph(None, two.clone())
        };
        check(Action::Cancel, &none, "Cancel 2 tasks? [y/N] ");
        let release = graph(Some("release"), two.clone());
        let expected = "Retry 2 tasks of release (abcdef)? [y/N] ";
        check(Action::Retry, &release, expected);
        let hostile = graph(Some("a\u{1b}[2J\nb"), vec![task(None)]);
        let expected = "Hold 1 task of a\\u{1b}[2J b (abcdef)? [y/N] ";
        check(Action::Hold, &hostile, expected);
        let unnamed = graph(None, two);
        let expected = "Release 2 tasks of the graph of abcdef? [y/N] ";
        check(Action::Release, &unnamed, expected);
    }

    #[test]
    fn the_preview_fits_the_width_of_the_terminal() {
        let long = "n".repeat(200);
        let tasks = (0..12).map(|_| task(Some(&long))).collect();
        let look = Look {
            colours: false,
            columns: Some(60),
        };
        let shown = preview(&graph(None, tasks), look);
        let lines: Vec<&str> = shown.as_str().lines().collect();
        assert_eq!(lines.len(), 12);
        assert_eq!(lines.last(), Some(&"… and 2 more"));
        assert!(lines.iter().all(|line| crate::text::columns(line) <= 60));
        let mut tasks = vec![task(Some(&long)), task(Some("fix")), task(None)];
        tasks[1].id = "task_01kb2m8r4zq8w3v5x7y8abcdef".to_owned();
        let found = graph(None, tasks);
        insta::assert_snapshot!("preview", in_each_look(|look| preview(&found, look)));
    }

    #[test]
    fn the_summary_counts_successes_and_failures() {
        let one = TaskActed {
            downstream: Some(2),
            held: true,
            ..task(None)
        };
        let two = [&one, &one];
        let check = |action, done: &[&TaskActed], failed, expected: &str| {
            assert_eq!(summary(action, done, failed), expected);
        };
        let plain = task(None);
        check(Action::Cancel, &[&plain; 8], 0, "cancelled 8 tasks");
        let settling = TaskActed {
            still: Some(Still::Settling),
            ..task(None)
        };
        let expected = "cancelled 1 task, cancelling 1; 1 of them may still succeed, because their \
                        work is being settled";
        check(Action::Cancel, &[&plain, &settling], 0, expected);
        let stopping = TaskActed {
            still: Some(Still::Stopping),
            ..task(None)
        };
        let already = TaskActed {
            already: true,
            ..task(None)
        };
        let expected = "cancelling 2 tasks; 1 could not be cancelled";
        check(Action::Cancel, &[&stopping, &already], 1, expected);
        check(
            Action::Hold,
            &[&plain],
            2,
            "held 1 task; 2 could not be held",
        );
        let expected = "retried 2 tasks; 4 more tasks wait for them again; \
             2 of them held: `claudine release` lets them start";
        check(Action::Retry, &two, 0, expected);
        let with_it = TaskActed {
            already: true,
            ..task(None)
        };
        let after = TaskActed {
            downstream: Some(1),
            ..task(None)
        };
        check(Action::Retry, &[&after, &with_it], 0, "retried 2 tasks");
        let expected = "released 1 task; 2 still held by others";
        check(Action::Release, &[&plain, &with_it, &with_it], 0, expected);
    }

    #[test]
    fn a_reference_to_no_task_is_not_shortened_like_an_id() {
        let unknown = TaskActed {
            id: "nonexist".to_owned(),
            ..TaskActed::default()
        };
        assert_eq!(named(&unknown), "nonexist");
        assert_eq!(named(&task(None)), "abcdef");
    }

    #[test]
    fn the_first_failure_decides_the_exit_code() {
        let failed = |kind| TaskActed {
            error: Some(AppError::new(kind, "no")),
            ..task(None)
        };
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[task(None)]), 0);
        let tasks = [
            task(None),
            failed(ErrorKind::Invalid),
            failed(ErrorKind::Conflict),
        ];
        assert_eq!(code(&tasks), 2);
    }
}
