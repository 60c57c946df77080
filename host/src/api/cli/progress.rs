//! The progress line at the foot of the terminal while a command waits.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use claudine_domain::time::Timestamp;

use super::{
    terminal::harmless,
    text::{self, span},
    times,
};
use crate::{app::TaskRow, clock, text::short_id};

/// Limit of the tasks that are named; the others are counted.
const TOLD: usize = 3;

/// The state as a word. A task that a list calls `ready` is called `queued` here, because the task
/// may wait for long.
fn word(task: &TaskRow) -> String {
    match text::state(task).as_str() {
        "ready" => "queued".to_owned(),
        word => harmless(word),
    }
}

/// Progress of one task.
pub(super) struct OfTask {
    word: String,
    brief: Option<String>,
    doing: Option<String>,
    began: Duration,
}

impl OfTask {
    pub(super) fn new() -> Self {
        Self {
            word: "submitted".to_owned(),
            brief: None,
            doing: None,
            began: clock::monotonic(),
        }
    }

    pub(super) fn note(&mut self, task: &TaskRow) {
        self.word = word(task);
        self.doing = task.doing.as_deref().map(harmless);
        if task.state == "running" || task.outcome.is_some() {
            self.brief = None;
        }
    }

    /// Sets the reason why the task waits; none if the task does not wait.
    pub(super) fn note_brief(&mut self, brief: Option<String>) {
        self.brief = brief.map(|brief| harmless(&brief));
    }

    /// The line: `running 12s  Bash: npm test`, `queued 24s · CPU busy (2.1 of 1.6 cores)`.
    pub(super) fn text(&self) -> String {
        let elapsed = span(clock::monotonic().saturating_sub(self.began));
        let brief = self.brief.as_ref();
        let brief = brief.map_or_else(String::new, |brief| format!(" · {brief}"));
        let doing = self.doing.as_ref();
        let doing = doing.map_or_else(String::new, |doing| format!("  {doing}"));
        format!("{} {elapsed}{brief}{doing}", self.word)
    }
}

/// Progress of several tasks, in the order in which they were named.
pub(super) struct OfMany {
    ids: Vec<String>,
    ended: HashSet<String>,
    rows: HashMap<String, TaskRow>,
    briefs: HashMap<String, String>,
}

impl OfMany {
    pub(super) fn new(rows: impl IntoIterator<Item = TaskRow>) -> Self {
        let mut ids = Vec::new();
        let mut ended = HashSet::new();
        let mut all = HashMap::new();
        for row in rows {
            if row.outcome.is_some() {
                ended.insert(row.id.clone());
            }
            ids.push(row.id.clone());
            all.insert(row.id.clone(), row);
        }
        Self {
            ids,
            ended,
            rows: all,
            briefs: HashMap::new(),
        }
    }

    pub(super) fn note_end(&mut self, id: &str) {
        self.ended.insert(id.to_owned());
    }

    /// Updates the tasks with these rows. Ignores rows of other tasks.
    pub(super) fn note(&mut self, rows: Vec<TaskRow>) {
        for row in rows {
            if let Some(known) = self.rows.get_mut(&row.id) {
                *known = row;
            }
        }
    }

    pub(super) fn note_brief(&mut self, id: &str, brief: Option<String>) {
        match brief {
            Some(brief) => self.briefs.insert(id.to_owned(), harmless(&brief)),
            None => self.briefs.remove(id),
        };
    }

    /// Ids of the tasks that the line names and that do not run. The line shows what these tasks
    /// wait for.
    pub(super) fn waiting(&self) -> Vec<String> {
        let told = self.open().take(TOLD).filter(|row| row.state != "running");
        told.map(|row| row.id.clone()).collect()
    }

    /// Tasks that have not ended, running ones first.
    fn open(&self) -> impl Iterator<Item = &TaskRow> {
        let open = || {
            let ids = self.ids.iter().filter(|id| !self.ended.contains(*id));
            ids.filter_map(|id| self.rows.get(id))
        };
        let runs = |row: &&TaskRow| row.state == "running";
        open()
            .filter(runs)
            .chain(open().filter(move |row| !runs(row)))
    }

    /// The line: `1/3 done · b running 40s (~55s) · c waits for b`.
    pub(super) fn text(&self, now: Timestamp) -> String {
        let mut parts = vec![format!("{}/{} done", self.ended.len(), self.ids.len())];
        let told = self.open().take(TOLD);
        parts.extend(told.map(|row| self.part(row, now)));
        let more = self.open().count().saturating_sub(TOLD);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        parts.join(" · ")
    }

    fn part(&self, row: &TaskRow, now: Timestamp) -> String {
        let name = called(row);
        if row.state == "running" {
            let expected = row.expected_ms.map(Duration::from_millis);
            let expected = expected.map_or_else(String::new, |it| format!(" (~{})", span(it)));
            let ran = times::ran(row, now).map_or_else(String::new, |ran| format!(" {ran}"));
            return format!("{name} {}{ran}{expected}", word(row));
        }
        match self.briefs.get(&row.id) {
            Some(brief) => format!("{name} {brief}"),
            None => format!("{name} {}", word(row)),
        }
    }
}

/// The line about running tasks: `2 running: suite 12s, ren 3s`.
pub(super) fn running(rows: &[TaskRow], all: usize, now: Timestamp) -> String {
    let told = rows.iter().take(TOLD).map(|row| {
        let ran = times::ran(row, now).map_or_else(String::new, |ran| format!(" {ran}"));
        format!("{}{ran}", called(row))
    });
    let told: Vec<String> = told.collect();
    let more = all.saturating_sub(told.len());
    let more = (more > 0).then(|| format!("{more} more"));
    let told: Vec<String> = told.into_iter().chain(more).collect();
    if told.is_empty() {
        return format!("{all} running");
    }
    format!("{all} running: {}", told.join(", "))
}

/// The name of a task, or the end of its id.
pub(super) fn called(row: &TaskRow) -> String {
    harmless(row.name.as_deref().unwrap_or_else(|| short_id(&row.id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    /// 2026-11-22T14:52:33.042Z
    const NOW: Timestamp = Timestamp(1_795_359_153_042);

    fn row(id: &str, more: serde_json::Value) -> TaskRow {
        let mut json = serde_json::json!({"id": id, "name": id, "outcome": null});
        for (key, value) in more.as_object().into_iter().flatten() {
            json[key] = value.clone();
        }
        task(json).row
    }

    #[test]
    fn the_progress_line_names_three_unfinished_tasks_and_counts_the_others() {
        let running = serde_json::json!({
            "state": "running", "started_at": "2026-11-22T14:51:53.042Z", "expected_ms": 55_000,
        });
        let mut many = OfMany::new([
            row(
                "a",
                serde_json::json!({"state": "done", "outcome": "failed"}),
            ),
            row("c", serde_json::json!({"state": "blocked"})),
            row("b", running),
        ]);
        assert_eq!(
            many.text(NOW),
            "1/3 done · b running 40s (~55s) · c blocked"
        );
        assert_eq!(many.waiting(), ["c"]);
        many.note_brief("c", Some("waits for b".to_owned()));
        assert_eq!(
            many.text(NOW),
            "1/3 done · b running 40s (~55s) · c waits for b"
        );
        many.note(vec![
            row("c", serde_json::json!({"state": "ready"})),
            row("other", serde_json::json!({"state": "running"})),
        ]);
        many.note_brief("c", None);
        many.note_end("b");
        assert_eq!(many.text(NOW), "2/3 done · c queued");
        let crowd =
            (0..9).map(|number| row(&format!("t{number}"), serde_json::json!({"state": "ready"})));
        assert_eq!(
            OfMany::new(crowd).text(NOW),
            "0/9 done · t0 queued · t1 queued · t2 queued · 6 more"
        );
    }

    #[test]
    fn running_tasks_are_named_with_their_run_time() {
        let runs = |id: &str| {
            let started =
                serde_json::json!({"state": "running", "started_at": "2026-11-22T14:52:21.042Z"});
            row(id, started)
        };
        assert_eq!(running(&[], 0, NOW), "0 running");
        let two = [runs("suite"), runs("ren\u{1b}[2J")];
        assert_eq!(
            running(&two, 2, NOW),
            "2 running: suite 12s, ren\\u{1b}[2J 12s"
        );
        assert_eq!(
            running(&two, 9, NOW),
            "9 running: suite 12s, ren\\u{1b}[2J 12s, 7 more"
        );
    }
}
