//! State of the live view, and the effects of keys. Nothing here asks a host or draws.

use std::{cmp::Reverse, collections::HashMap};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::app::{Action, Counts, Overview, QueueView, TaskRow};

/// Limit of the finished tasks that are shown.
const ENDED: usize = 20;
/// Number of rows above which everything is read again.
const MOST_ROWS: usize = 3_000;
/// Number of unfinished rows below which everything is read again, if the last complete answer left
/// out tasks, finished or not.
const FEW_ROWS: u64 = 300;
/// Classes of failures that a person has to resolve.
const NEEDS_SOMEBODY: [&str; 3] = ["conflict", "permission", "budget"];

/// Content of the screen, or the question that it shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Tasks,
    /// The filter is being typed.
    Filter,
    Help,
    /// The cancellation of this task is to be confirmed.
    Cancel(String),
    /// Text about a task on the whole screen.
    Text(Text),
}

/// Text that may be longer than the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Text {
    pub(super) task: String,
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// Number of screen lines that the text takes.
    pub(super) rows: usize,
    /// Number of lines below the visible ones; 0 at the end.
    pub(super) below: usize,
    /// Whether this is output that may grow.
    pub(super) grows: bool,
}

/// An effect that a key has outside the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Quit,
    Suspend,
    Redraw,
    Act(Action, String),
    Why(String),
    Logs(String),
}

#[derive(Debug)]
pub(super) struct Model {
    rows: HashMap<String, TaskRow>,
    /// Ids of the tasks that match the filter, in the order shown.
    order: Vec<String>,
    pub(super) counts: Counts,
    pub(super) spent_usd: f64,
    pub(super) daily_usd: Option<f64>,
    pub(super) queue: QueueView,
    /// Number of the last event that the rows include; none before the first answer.
    pub(super) sequence: Option<u64>,
    has_more: bool,
    selected: Option<String>,
    /// Position of the first visible task.
    pub(super) first: usize,
    /// Number of tasks that fit the screen.
    pub(super) room: usize,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The result of the last action.
    pub(super) notice: Option<String>,
    /// The reason why the host does not answer.
    pub(super) away: Option<String>,
    /// The task whose output was read last, and its last lines.
    tail: Option<(String, Vec<String>)>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            rows: HashMap::new(),
            order: Vec::new(),
            counts: Counts::default(),
            spent_usd: 0.0,
            daily_usd: None,
            queue: QueueView::default(),
            sequence: None,
            has_more: false,
            selected: None,
            first: 0,
            room: 1,
            filter: String::new(),
            mode: Mode::Tasks,
            notice: None,
            away: None,
            tail: None,
        }
    }

    /// Applies an answer of the host, which has either all tasks or only the changed ones.
    pub(super) fn apply(&mut self, told: Overview) {
        if told.changes_since.is_none() {
            self.rows.clear();
            self.has_more = told.has_more;
        }
        let rows = told.tasks.into_iter();
        self.rows.extend(rows.map(|row| (row.id.clone(), row)));
        self.counts = told.counts.unwrap_or(self.counts);
        (self.spent_usd, self.daily_usd) = (told.spent_today_usd, told.daily_usd);
        self.queue = told.queue;
        self.sequence = Some(told.sequence);
        self.away = None;
        self.forget_old_ends();
        self.sort();
    }

    /// Whether everything must be read again instead of only the changes: if there are too many
    /// rows, or if too few of the host's unfinished tasks are left of those that were read.
    pub(super) fn wants_all(&self) -> bool {
        let has_few = || self.part_shown().is_some_and(|(shown, _)| shown < FEW_ROWS);
        self.rows.len() > MOST_ROWS || has_few()
    }

    /// If the host has more unfinished tasks than were read: the number of tasks that were read,
    /// and the number of all unfinished tasks.
    pub(super) fn part_shown(&self) -> Option<(u64, u64)> {
        let Counts {
            running,
            queued,
            held,
            ..
        } = self.counts;
        let (shown, all) = (self.active().count() as u64, running + queued + held);
        (self.has_more && shown < all).then_some((shown, all))
    }

    fn active(&self) -> impl Iterator<Item = &TaskRow> {
        self.rows.values().filter(|row| row.outcome.is_none())
    }

    fn forget_old_ends(&mut self) {
        let ended = self.rows.values().filter(|row| row.outcome.is_some());
        let mut ended: Vec<_> = ended.map(|row| (end_of(row), row.id.clone())).collect();
        ended.sort();
        for (_, id) in ended.into_iter().rev().skip(ENDED) {
            self.rows.remove(&id);
        }
    }

    fn sort(&mut self) {
        let seen = self.place();
        let filter = self.filter.to_lowercase();
        let mut order: Vec<&TaskRow> = self
            .rows
            .values()
            .filter(|row| passes(row, &filter))
            .collect();
        order.sort_by_cached_key(|row| (rank(row), Reverse(end_of(row)), Reverse(row.id.clone())));
        self.order = order.into_iter().map(|row| row.id.clone()).collect();
        // The selection follows its task. If the task is gone, the task now at its position is
        // selected.
        if self.place_of_selected().is_none() {
            self.select(seen.unwrap_or(0));
        }
        self.keep_in_view();
    }

    /// The tasks in the order shown.
    pub(super) fn shown(&self) -> impl ExactSizeIterator<Item = &TaskRow> {
        let rows = self.order.iter().filter_map(|id| self.rows.get(id));
        rows.collect::<Vec<_>>().into_iter()
    }

    pub(super) fn selected(&self) -> Option<&TaskRow> {
        self.rows.get(self.selected.as_ref()?)
    }

    pub(super) fn place(&self) -> Option<usize> {
        self.place_of_selected()
    }

    fn place_of_selected(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.order.iter().position(|id| id == selected)
    }

    fn select(&mut self, place: usize) {
        let place = place.min(self.order.len().saturating_sub(1));
        self.selected = self.order.get(place).cloned();
        self.keep_in_view();
    }

    /// Removes the selection, for `--once`.
    pub(super) fn select_none(&mut self) {
        self.selected = None;
    }

    fn keep_in_view(&mut self) {
        let place = self.place().unwrap_or(0);
        let room = self.room.max(1);
        let last = self.order.len().saturating_sub(room);
        self.first = self
            .first
            .clamp((place + 1).saturating_sub(room), place)
            .min(last);
    }

    /// Sets the number of screen lines that the text takes. If the user has scrolled up, the
    /// visible lines stay in place as the text grows.
    pub(super) fn note_rows(&mut self, rows: usize) {
        if let Mode::Text(text) = &mut self.mode {
            let more = rows.saturating_sub(text.rows);
            if text.below > 0 && text.rows > 0 {
                text.below += more;
            }
            text.rows = rows;
            text.below = text.below.min(rows.saturating_sub(self.room));
        }
    }

    /// Sets the number of tasks that fit the screen.
    pub(super) fn make_room(&mut self, room: usize) {
        self.room = room;
        self.keep_in_view();
    }

    /// Number of tasks that continue only if a person acts.
    pub(super) fn needing_somebody(&self) -> usize {
        let needs = |row: &&TaskRow| {
            let class = row.reason.as_ref().map(|reason| reason.class.as_str());
            let outcome = row.outcome.as_deref();
            row.state == "held"
                || (outcome.is_some_and(|outcome| outcome != "succeeded")
                    && class.is_some_and(|class| NEEDS_SOMEBODY.contains(&class)))
        };
        self.rows.values().filter(needs).count()
    }

    /// Whether a task is running, so that its run time must be redrawn.
    pub(super) fn is_running(&self) -> bool {
        self.rows.values().any(|row| row.state == "running")
    }

    pub(super) fn tail(&self) -> Option<&[String]> {
        let (task, lines) = self.tail.as_ref()?;
        (Some(task) == self.selected.as_ref()).then_some(lines.as_slice())
    }

    pub(super) fn set_tail(&mut self, task: String, lines: Vec<String>) {
        self.tail = Some((task, lines));
    }

    /// Shows a text, or updates the output that is shown already.
    pub(super) fn set_text(&mut self, text: Text) {
        if let Mode::Text(shown) = &mut self.mode
            && shown.task == text.task
            && shown.grows
            && text.grows
        {
            shown.lines = text.lines;
            return;
        }
        self.mode = Mode::Text(text);
    }

    /// Applies a key to the model; returns an effect outside of it.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Wish::Quit),
                KeyCode::Char('z') => Some(Wish::Suspend),
                KeyCode::Char('l') => Some(Wish::Redraw),
                _ => None,
            };
        }
        match &mut self.mode {
            Mode::Tasks => self.key_at_tasks(key.code),
            Mode::Filter => {
                self.key_at_filter(key.code);
                None
            }
            Mode::Help => {
                self.mode = Mode::Tasks;
                None
            }
            Mode::Cancel(task) => {
                let task = std::mem::take(task);
                self.mode = Mode::Tasks;
                (key.code == KeyCode::Char('y')).then_some(Wish::Act(Action::Cancel, task))
            }
            Mode::Text(text) => {
                if !text.key(key.code, self.room) {
                    self.mode = Mode::Tasks;
                }
                None
            }
        }
    }

    fn key_at_tasks(&mut self, code: KeyCode) -> Option<Wish> {
        let place = self.place().unwrap_or(0);
        let selected = self.selected.clone();
        match code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Esc if self.filter.is_empty() => return Some(Wish::Quit),
            KeyCode::Esc => {
                self.filter.clear();
                self.sort();
            }
            KeyCode::Up | KeyCode::Char('k') => self.select(place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(place + 1),
            KeyCode::PageUp => self.select(place.saturating_sub(self.room)),
            KeyCode::PageDown => self.select(place + self.room),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Enter => return selected.map(Wish::Logs),
            KeyCode::Char('w') => return selected.map(Wish::Why),
            KeyCode::Char('r') => return Some(Wish::Act(Action::Retry, selected?)),
            KeyCode::Char('c') => self.mode = Mode::Cancel(selected?),
            KeyCode::Char('h') => {
                let is_held = self.selected()?.state == "held";
                let action = if is_held {
                    Action::Release
                } else {
                    Action::Hold
                };
                return Some(Wish::Act(action, selected?));
            }
            _ => {}
        }
        None
    }

    fn key_at_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Tasks,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Tasks;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) => self.filter.push(c),
            _ => return,
        }
        self.sort();
    }
}

impl Text {
    /// Scrolls the text; returns false for a key that closes the text.
    fn key(&mut self, code: KeyCode, room: usize) -> bool {
        let most = self.rows.saturating_sub(room);
        self.below = match code {
            KeyCode::Up | KeyCode::Char('k') => self.below + 1,
            KeyCode::Down | KeyCode::Char('j') => self.below.saturating_sub(1),
            KeyCode::PageUp => self.below + room,
            KeyCode::PageDown | KeyCode::Char(' ') => self.below.saturating_sub(room),
            KeyCode::Home | KeyCode::Char('g') => most,
            KeyCode::End | KeyCode::Char('G') => 0,
            _ => return false,
        }
        .min(most);
        true
    }
}

/// Position in the sort order. Running tasks come first, then unfinished tasks by how near they are
/// to running, then finished tasks.
fn rank(row: &TaskRow) -> u8 {
    match (row.outcome.is_some(), row.state.as_str()) {
        (true, _) => 5,
        (false, "running") => 0,
        (false, "ready") => 1,
        (false, "waiting") => 2,
        (false, "held") => 3,
        (false, _) => 4,
    }
}

/// Time of the end as a string. RFC 3339 times in UTC with milliseconds sort correctly as strings.
fn end_of(row: &TaskRow) -> Option<String> {
    row.outcome.as_ref().and(row.finished_at.clone())
}

/// Whether a field of the task contains the filter, which must be in lower case.
fn passes(row: &TaskRow, filter: &str) -> bool {
    let shown = [
        row.name.as_deref().unwrap_or_default(),
        &row.summary,
        &row.id,
        &row.state,
        row.outcome.as_deref().unwrap_or_default(),
        row.group.as_deref().unwrap_or_default(),
        &row.executor,
    ];
    shown
        .iter()
        .any(|text| text.to_lowercase().contains(filter))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::exit::tests::task;

    fn row(number: u32, json: serde_json::Value) -> TaskRow {
        let mut row = task(json).row;
        row.id = format!("task_{number:05}");
        row
    }

    fn running(number: u32) -> TaskRow {
        row(
            number,
            serde_json::json!({"state": "running", "outcome": null}),
        )
    }

    fn ended(number: u32, second: u32) -> TaskRow {
        let at = format!("2026-11-22T14:51:{second:02}.000Z");
        row(number, serde_json::json!({"finished_at": at}))
    }

    fn told(tasks: Vec<TaskRow>, changes_since: Option<u64>) -> Overview {
        Overview {
            tasks,
            sequence: 1,
            changes_since,
            counts: None,
            has_more: false,
            spent_today_usd: 0.0,
            daily_usd: None,
            queue: QueueView::default(),
        }
    }

    fn model(tasks: Vec<TaskRow>) -> Model {
        let mut model = Model::new();
        model.apply(told(tasks, None));
        model.make_room(5);
        model
    }

    fn order(model: &Model) -> Vec<u32> {
        let ids = model.shown().map(|row| row.id.trim_start_matches("task_"));
        ids.map(|id| id.parse().unwrap()).collect()
    }

    /// Presses keys, one for each character.
    pub(in crate::api::cli::top) fn press(model: &mut Model, keys: &str) -> Option<Wish> {
        let mut wish = None;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            wish = model.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        wish
    }

    #[test]
    fn unfinished_tasks_come_first_then_the_last_finished_tasks() {
        let mut tasks: Vec<_> = (0..30).map(|number| ended(number, number)).collect();
        tasks.push(row(
            40,
            serde_json::json!({"state": "blocked", "outcome": null}),
        ));
        tasks.push(running(41));
        tasks.push(row(
            42,
            serde_json::json!({"state": "ready", "outcome": null}),
        ));
        tasks.push(running(43));
        let mut model = model(tasks);
        let expected: Vec<u32> = [43, 41, 42, 40].into_iter().chain((10..30).rev()).collect();
        assert_eq!(order(&model), expected);
        // A task ends and is now the first of the finished tasks. The oldest finished task is
        // dropped.
        model.apply(told(vec![ended(41, 59)], Some(1)));
        let expected: Vec<u32> = [43, 42, 40, 41].into_iter().chain((11..30).rev()).collect();
        assert_eq!(order(&model), expected);
    }

    #[test]
    fn everything_is_read_again_only_if_unfinished_tasks_are_missing() {
        let check = |unfinished: u64, expected: bool| {
            let mut model = model(Vec::new());
            model.apply(Overview {
                has_more: true,
                counts: Some(Counts {
                    running: unfinished,
                    total: 100,
                    ..Counts::default()
                }),
                ..told(vec![running(1), ended(2, 2)], None)
            });
            assert_eq!(model.wants_all(), expected, "{unfinished}");
        };
        // The other tasks of the host have ended.
        check(1, false);
        check(2, true);
    }

    #[test]
    fn the_selection_follows_its_task() {
        let mut model = model(vec![running(1), running(2), running(3)]);
        press(&mut model, "j");
        assert_eq!(model.selected().unwrap().id, "task_00002");
        model.apply(told(vec![running(4)], Some(1)));
        assert_eq!(model.selected().unwrap().id, "task_00002");
        assert_eq!(model.place(), Some(2));
        // The selected task is gone, so the task at its position, here the last one, is selected.
        model.apply(told(vec![running(1), running(3)], None));
        assert_eq!(model.selected().unwrap().id, "task_00001");
        press(&mut model, "gggGj");
        assert_eq!(model.place(), Some(1));
    }

    #[test]
    fn the_selected_task_is_always_visible() {
        let mut model = model((0..100).map(running).collect());
        for (keys, first) in [("jjjjj", 1), ("G", 95), ("kkkkk", 94), ("g", 0)] {
            press(&mut model, keys);
            assert_eq!(model.first, first, "{keys}");
        }
        model.make_room(200);
        assert_eq!(model.first, 0);
    }

    #[test]
    fn each_key_has_its_effect() {
        let task = || "task_00001".to_owned();
        let mut model = model(vec![running(1)]);
        let mut check = |keys: &str, expected: Option<Wish>| {
            assert_eq!(press(&mut model, keys), expected, "{keys:?}");
        };
        check("\n", Some(Wish::Logs(task())));
        check("w", Some(Wish::Why(task())));
        check("r", Some(Wish::Act(Action::Retry, task())));
        check("h", Some(Wish::Act(Action::Hold, task())));
        check("c", None);
        check("n", None);
        check("cy", Some(Wish::Act(Action::Cancel, task())));
        check("?q", None);
        check("q", Some(Wish::Quit));
        check("/nope\n", None);
        check("r", None);
        check("\u{1b}r", Some(Wish::Act(Action::Retry, task())));
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!(model.key(control('c')), Some(Wish::Quit));
        assert_eq!(model.key(control('z')), Some(Wish::Suspend));
    }

    #[test]
    fn tasks_that_wait_for_a_person_are_counted() {
        let json = |class: &str, outcome: &str| {
            serde_json::json!({
                "outcome": outcome, "finished_at": "2026-11-22T14:51:00.000Z",
                "reason": {"class": class, "message": "it says why"},
            })
        };
        let held = row(1, serde_json::json!({"state": "held", "outcome": null}));
        let conflict = row(2, json("conflict", "failed"));
        let exit = row(3, json("exit", "failed"));
        let by_hand = row(4, json("conflict", "succeeded"));
        let model = model(vec![held, conflict, exit, by_hand]);
        assert_eq!(model.needing_somebody(), 2);
    }
}
