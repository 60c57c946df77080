//! Draws the live view as lines: a pure function of the model, the time and the size of the screen.

use claudine_domain::time::Timestamp;

use super::{
    super::{
        pause,
        table::{Cell, Column, Goes, Piece, Table},
        terminal::{Colour, Look},
        text, times,
        transcript::Drawing,
    },
    model::{Mode, Model},
};
use crate::{
    app::{LogEnd, TaskRow},
    text::{ShortIds, columns as width_of, fit, harmless, wrapped},
};

/// Number of lines that are reserved for tasks. Output is shown only if the screen has more lines.
const LEAST_TASKS: u16 = 6;
/// Limit of the output lines below the tasks.
const MOST_TAIL: u16 = 12;

const COLUMNS: [Column; 8] = [
    Column::new(""),
    Column::new("ID"),
    Column::new("STATE").cut(17, 8),
    Column::new("NAME").optional().cut(24, 6),
    Column::new("TIME").right().optional().goes(Goes::Late(1)),
    Column::new("COST").right().optional().goes(Goes::Late(2)),
    Column::new("ENDED").optional().goes(Goes::Early(1)),
    Column::new("DOING").cut(20, 8),
];

/// A line of the screen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Row {
    pub(super) pieces: Vec<Piece>,
    /// Whether the whole line is highlighted.
    pub(super) is_selected: bool,
}

impl Row {
    fn of(pieces: Vec<Piece>) -> Self {
        Self {
            pieces,
            is_selected: false,
        }
    }

    /// Cuts the line to the width of the screen.
    fn within(mut self, width: usize) -> Self {
        let mut left = width;
        for piece in &mut self.pieces {
            if width_of(&piece.text) > left {
                piece.text = match left {
                    0 => String::new(),
                    left => fit(&piece.text, left),
                };
            }
            left -= width_of(&piece.text).min(left);
        }
        self
    }

    fn text(colour: Option<Colour>, text: &str) -> Self {
        Self::of(vec![Piece {
            text: harmless(text),
            colour,
        }])
    }
}

/// Numbers of lines for the parts of the screen.
struct Areas {
    tasks: u16,
    tail: u16,
}

impl Areas {
    /// Divides the lines of a screen into head, headings, tasks, title of the output, output and
    /// foot.
    fn of(height: u16) -> Self {
        let inner = height.saturating_sub(3);
        let spare = inner.saturating_sub(LEAST_TASKS + 1);
        let tail = spare.min(inner / 3).min(MOST_TAIL);
        let title = u16::from(tail > 0);
        Self {
            tasks: inner - tail - title,
            tail,
        }
    }
}

/// All lines of the screen, from the top; each fits the width.
pub(super) fn screen(model: &mut Model, width: u16, height: u16, now: Timestamp) -> Vec<Row> {
    let width = usize::from(width);
    let mut rows = match &model.mode {
        Mode::Text(_) => text_rows(model, width, height),
        Mode::Help => help_rows(),
        _ => task_rows(model, width, height, now),
    };
    rows.truncate(usize::from(height.saturating_sub(1)));
    rows.resize(usize::from(height.saturating_sub(1)), Row::default());
    rows.push(foot(model, width));
    rows.into_iter().map(|row| row.within(width)).collect()
}

/// The head and all tasks, for `--once`.
pub(super) fn once(model: &mut Model, look: Look, now: Timestamp) -> Vec<Row> {
    model.make_room(usize::MAX);
    let mut rows = vec![head(model)];
    rows.extend(table(model, look, now).into_iter().map(Row::of));
    rows.extend(nothing(model));
    rows
}

/// Advice if no tasks are shown.
fn nothing(model: &Model) -> Vec<Row> {
    let lines: &[&str] = if model.sequence.is_none() || model.shown().len() > 0 {
        &[]
    } else if model.filter.is_empty() {
        &[
            "",
            "  claudine run -- COMMAND     run a command in the background",
            "  claudine delegate 'PROMPT'  hand a prompt to an agent",
        ]
    } else if model.part_shown().is_some() {
        &["", "  none of the tasks shown matches the filter"]
    } else {
        &["", "  no task matches the filter"]
    };
    lines.iter().map(|line| Row::text(None, line)).collect()
}

fn task_rows(model: &mut Model, width: usize, height: u16, now: Timestamp) -> Vec<Row> {
    let areas = Areas::of(height);
    model.make_room(usize::from(areas.tasks));
    let look = Look {
        colours: true,
        columns: Some(width),
    };
    let mut rows = vec![head(model)];
    let mut lines = table(model, look, now).into_iter();
    rows.extend(lines.next().map(Row::of));
    let selected = model.place();
    let seen = lines.enumerate().skip(model.first).take(model.room);
    rows.extend(seen.map(|(at, pieces)| Row {
        pieces,
        is_selected: Some(at) == selected,
    }));
    rows.extend(nothing(model));
    if areas.tail > 0 {
        rows.resize(usize::from(areas.tasks + 2), Row::default());
        rows.extend(tail(model, width, usize::from(areas.tail)));
    }
    rows
}

/// The first line: `2 running · 5 queued · 1 needs you · $3.20 today`.
fn head(model: &Model) -> Row {
    let mut parts = text::standing(&model.counts);
    if model.sequence.is_none() {
        if model.away.is_none() {
            parts.push("asking the host".to_owned());
        }
    } else if model.counts.total == 0 {
        parts.push("no tasks".to_owned());
    } else if model.counts.running + model.counts.queued == 0 {
        parts.insert(0, "nothing runs".to_owned());
    }
    if let Some((shown, all)) = model.part_shown() {
        parts.push(format!("{shown} of {all} shown"));
    }
    let needing = model.needing_somebody();
    let you = match needing {
        0 => None,
        1 => Some("1 needs you".to_owned()),
        count => Some(format!("{count} need you")),
    };
    let spent = match (model.spent_usd, model.daily_usd) {
        (spent, Some(daily)) => Some(format!(
            "{} of {} today",
            text::usd(spent),
            text::usd(daily)
        )),
        (spent, None) => (spent > 0.0).then(|| format!("{} today", text::usd(spent))),
    };
    let mut pieces = Vec::new();
    let mut add = |text: &str, colour: Option<Colour>| {
        if !pieces.is_empty() {
            pieces.push(Piece {
                text: " · ".to_owned(),
                colour: Some(Colour::Grey),
            });
        }
        pieces.push(Piece {
            text: harmless(text),
            colour,
        });
    };
    if let Some(away) = &model.away {
        add(away, Some(Colour::Red));
    } else if let Some(kept) = pause::head(&model.queue) {
        add(&kept, Some(Colour::Yellow));
    }
    for part in &parts {
        add(part, Some(Colour::Bold));
    }
    if let Some(you) = you {
        add(&you, Some(Colour::Magenta));
    }
    if let Some(spent) = spent {
        add(&spent, None);
    }
    Row::of(pieces)
}

/// The headings and the visible tasks.
fn table(model: &Model, look: Look, now: Timestamp) -> Vec<Vec<Piece>> {
    let short = ShortIds::among(model.shown().map(|row| row.id.as_str()));
    let selected = model.place();
    let mut table = Table::new(&COLUMNS);
    for (at, task) in model.shown().enumerate() {
        let pointer = if Some(at) == selected { "▸" } else { "" };
        table.row(cells(task, pointer, short, now));
    }
    if table.is_empty() {
        return Vec::new();
    }
    table.lines(look)
}

fn cells(task: &TaskRow, pointer: &str, short: ShortIds, now: Timestamp) -> [Cell; 8] {
    let state = format!("{} {}", text::mark(task), text::state(task));
    let cost = task.cost_usd.filter(|cost| *cost > 0.0);
    let ended = task
        .finished_at
        .as_deref()
        .filter(|_| task.outcome.is_some());
    [
        Cell::new(pointer),
        Cell::new(short.of(&task.id)),
        Cell::painted(text::colour(task), &state),
        Cell::new(task.name.as_deref().unwrap_or_default()),
        Cell::new(&time(task, now)),
        Cell::new(&cost.map_or_else(String::new, text::usd)),
        Cell::new(&ended.map_or_else(String::new, |ended| times::at(ended, now))),
        Cell::new(&doing(task, now)),
    ]
}

/// The run time: `12s`, or, if the expected run time is known, `12s/~20s` for a running task and
/// `~20s` for a task that waits.
fn time(task: &TaskRow, now: Timestamp) -> String {
    let ran = times::ran(task, now).unwrap_or_default();
    let expected = task.expected_ms.filter(|_| task.outcome.is_none());
    let Some(expected) = expected else { return ran };
    let expected = times::span(std::time::Duration::from_millis(expected));
    if task.state == "running" {
        format!("{ran}/~{expected}")
    } else {
        format!("~{expected}")
    }
}

/// The current action, the reason for waiting, or the reason of the end; without any of these, the
/// request.
fn doing(task: &TaskRow, now: Timestamp) -> String {
    let reason = task.reason.as_ref().map(|reason| reason.message.as_str());
    let said = match (task.outcome.as_deref(), task.state.as_str()) {
        (Some("succeeded"), _) => None,
        (Some(_), _) => reason.map(str::to_owned),
        (None, "running") => task.doing.clone(),
        (None, "held") => task.held_by.as_ref().map(|by| format!("held by {by}")),
        (None, "waiting") => task.until.as_ref().map(|until| {
            let until = times::at(until, now);
            match reason {
                Some(reason) => format!("until {until}: {reason}"),
                None => format!("until {until}"),
            }
        }),
        (None, "blocked") => Some(format!("waits for others: {}", task.summary)),
        _ => None,
    };
    said.unwrap_or_else(|| task.summary.clone())
}

/// The title of the selected task, and the last lines of its output.
fn tail(model: &Model, width: usize, most: usize) -> Vec<Row> {
    let Some(task) = model.selected() else {
        return Vec::new();
    };
    let name = task.name.as_deref().unwrap_or(&task.summary);
    let title = format!("── {} ", fit(&harmless(name), width.saturating_sub(6)));
    let rule = "─".repeat(width.saturating_sub(width_of(&title)));
    let mut rows = vec![Row::text(Some(Colour::Grey), &format!("{title}{rule}"))];
    let lines = model.tail().unwrap_or_default();
    let skipped = lines.len().saturating_sub(most);
    let lines = lines.iter().skip(skipped);
    rows.extend(lines.map(|line| Row::text(None, &fit(&harmless(line), width))));
    rows
}

fn text_rows(model: &mut Model, width: usize, height: u16) -> Vec<Row> {
    let room = usize::from(height.saturating_sub(2));
    model.make_room(room);
    let Mode::Text(text) = &model.mode else {
        return Vec::new();
    };
    let title = fit(&harmless(&text.title), width);
    let mut rows = vec![Row::text(Some(Colour::Bold), &title)];
    let lines = text.lines.iter();
    let lines: Vec<String> = lines
        .map(|line| wrapped(&harmless(line), width, 2))
        .flat_map(|line| line.split('\n').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    model.note_rows(lines.len());
    let Mode::Text(text) = &model.mode else {
        return rows;
    };
    let end = lines.len().saturating_sub(text.below);
    let seen = lines.iter().take(end).skip(end.saturating_sub(room));
    rows.extend(seen.map(|line| Row::text(None, line)));
    rows
}

const HELP: [&str; 14] = [
    "Keys",
    "  ↑ ↓ j k        select a task; also PgUp PgDn Home End",
    "  enter          show its output",
    "  w              explain its state",
    "  c              cancel it (asks first)",
    "  r              retry it",
    "  h              hold it; release it if it is held",
    "  /              filter by text: name, state, id, prompt or command",
    "  esc            clear the filter; quit if there is none",
    "  ?              this help",
    "  q              quit; Ctrl-Z suspends",
    "",
    "Unfinished tasks come first, then the last 20 finished ones.",
    "A time such as 12s/~20s: running for 12s, expected to take 20s.",
];

fn help_rows() -> Vec<Row> {
    HELP.iter().map(|line| Row::text(None, line)).collect()
}

/// The question, the notice or the keys at the foot of the screen.
fn foot(model: &Model, width: usize) -> Row {
    let (colour, line) = match &model.mode {
        Mode::Cancel(task) => {
            let id = crate::text::short_id(task);
            (
                Colour::Yellow,
                format!("Cancel {id}? y cancels it, any other key does not"),
            )
        }
        Mode::Filter => (Colour::Bold, format!("/{}", model.filter)),
        Mode::Help => (Colour::Grey, "any key closes this".to_owned()),
        _ if model.notice.is_some() => {
            let notice = model.notice.clone().unwrap_or_default();
            (Colour::Yellow, notice)
        }
        Mode::Text(text) => {
            let more = if text.below > 0 { ", more below" } else { "" };
            (Colour::Grey, format!("↑ ↓ scroll  q back{more}"))
        }
        Mode::Tasks => {
            let filter = if model.filter.is_empty() {
                "/ filter".to_owned()
            } else {
                format!("/{} (esc clears it)", model.filter)
            };
            let keys = "enter logs  c cancel  r retry  h hold  w why";
            (Colour::Grey, format!("{keys}  {filter}  ? help  q quit"))
        }
    };
    Row::text(Some(colour), &fit(&harmless(&line), width))
}

/// The last lines of an output without colours; for an agent, the last lines of its transcript.
pub(super) fn lines_of_end(end: &LogEnd) -> Vec<String> {
    let drawing = Drawing {
        look: Look {
            colours: false,
            columns: None,
        },
        now: times::now(),
        has_times: end.is_transcript,
    };
    let drawn = drawing.draw(&end.items);
    drawn.as_str().lines().map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{
        api::cli::{exit::tests::task, top::model::tests::press},
        app::Overview,
    };

    /// 2026-11-22T14:52:33.042Z
    pub(in crate::api::cli::top) const NOW: Timestamp = Timestamp(1_795_359_153_042);

    fn overview(tasks: Vec<serde_json::Value>) -> Overview {
        let mut whole = serde_json::json!({
            "sequence": 17, "has_more": false, "spent_today_usd": 3.2,
            "counts": {"running": 2, "queued": 1, "held": 1, "failed": 1, "total": 378},
        });
        let rows = tasks.into_iter().enumerate().map(|(number, json)| {
            let mut row = task(json).row;
            row.id = format!("task_01kb2m8r4zq8w3v5x7y9abc{number:03}");
            serde_json::to_value(row).unwrap()
        });
        whole["tasks"] = rows.collect();
        serde_json::from_value(whole).unwrap()
    }

    pub(in crate::api::cli::top) fn model() -> Model {
        let at = |time: &str| format!("2026-11-22T14:{time}.042Z");
        let mut model = Model::new();
        model.apply(overview(vec![
            serde_json::json!({
                "name": "review", "executor": "claude", "state": "running", "phase": "live", "outcome": null,
                "started_at": at("52:21"), "expected_ms": 20_000, "cost_usd": 0.25,
                "doing": "Bash: cargo test --workspace --all-features\u{1b}[2J",
            }),
            serde_json::json!({"state": "running", "phase": "stopping", "outcome": null, "started_at": at("51:33")}),
            serde_json::json!({
                "name": "漢字", "executor": "claude", "state": "waiting", "outcome": null, "until": "2026-11-22T20:15:00Z",
                "started_at": at("51:33"), "ran_ms": 2_000, "reason": {"class": "rate_limit", "message": "usage limit"},
            }),
            serde_json::json!({"name": "deploy", "state": "held", "outcome": null, "held_by": "owner"}),
            serde_json::json!({
                "outcome": "failed", "finished_at": at("52:00"), "started_at": at("51:58"), "ran_ms": 2_000,
                "reason": {"class": "conflict", "message": "merge conflict in cart.py"},
            }),
            serde_json::json!({"outcome": "succeeded", "finished_at": at("51:00"), "ran_ms": 400, "summary": "cargo build"}),
        ]));
        let selected = model.selected().unwrap().id.clone();
        let lines = (1..=20).map(|line| format!("line {line}")).collect();
        model.set_tail(selected, lines);
        model
    }

    fn shown(model: &mut Model, width: u16, height: u16) -> String {
        let rows = screen(model, width, height, NOW);
        assert_eq!(rows.len(), usize::from(height));
        let mut text = String::new();
        for row in rows {
            let line: String = row.pieces.into_iter().map(|piece| piece.text).collect();
            assert!(width_of(&line) <= usize::from(width), "{width}: {line}");
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }

    #[test]
    fn the_screen_is_drawn_at_common_sizes() {
        insta::assert_snapshot!("at_80", shown(&mut model(), 80, 24));
        insta::assert_snapshot!("at_120", shown(&mut model(), 120, 30));
    }

    #[test]
    fn lines_fit_a_screen_of_any_size() {
        let mut model = model();
        for (width, height) in [(1, 1), (2, 3), (10, 4), (20, 9), (40, 12), (300, 80)] {
            shown(&mut model, width, height);
            model.mode = Mode::Help;
            let rows = screen(&mut model, width, height, NOW);
            assert_eq!(rows.len(), usize::from(height));
            model.mode = Mode::Tasks;
        }
    }

    #[test]
    fn the_screen_says_how_many_tasks_of_a_long_queue_it_shows() {
        let mut model = model();
        let text = shown(&mut model, 80, 24);
        assert!(!text.contains("of 4 shown"), "{text}");
        let mut long = overview(vec![serde_json::json!({"state": "ready", "outcome": null})]);
        long.has_more = true;
        model.apply(long);
        assert!(shown(&mut model, 80, 24).contains("1 of 4 shown"));
        press(&mut model, "/nothing has this name\n");
        let text = shown(&mut model, 80, 24);
        assert!(text.contains("none of the tasks shown matches"), "{text}");
        // While no host runs, the screen does not say that it is asking the host.
        model.away = Some("no host is running; waiting for one".to_owned());
        model.sequence = None;
        let text = shown(&mut model, 80, 24);
        assert!(text.starts_with("no host is running"), "{text}");
        assert!(!text.contains("asking the host"), "{text}");
    }

    #[test]
    fn without_tasks_the_screen_suggests_first_commands() {
        let mut model = Model::new();
        assert!(shown(&mut model, 80, 24).contains("asking the host"));
        let mut nothing = overview(Vec::new());
        nothing.counts = Some(crate::app::Counts::default());
        model.apply(nothing);
        let text = shown(&mut model, 80, 24);
        assert!(text.starts_with("no tasks"), "{text}");
        assert!(text.contains("claudine run -- COMMAND"), "{text}");
    }
}
