//! `claudine events`

use std::process::ExitCode;

use clap::Args;
use claudine_domain::time::Timestamp;

use super::{
    failure::Failure,
    output, parse,
    session::Session,
    table::{Cell, Column, THE_REST, Table},
    terminal::{Colour, Look},
    times, watch,
};
use crate::{
    api::client::Heard,
    app::{EventQuery, EventView},
    moment::Toward,
    text::short_id,
};

/// Show the event log.
///
/// Each event has a number. `--json` prints one object per line. A program that passes the
/// `sequence` of the last event it saw to `--since` misses nothing, even if it or the host crashes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine events --since 10m
  claudine events -f
  claudine events -f nightly
  claudine events --json --since 4711 | jq -r 'select(.kind == \"done\") | .task'")]
pub(super) struct Events {
    /// Only events of this task: id, end of an id, or name.
    #[arg(value_name = "ID")]
    task: Option<String>,
    /// Only events of this graph: its name or one of its tasks.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "task")]
    graph: Option<String>,
    /// Follow new events; with a task or graph, until it ends.
    ///
    /// Without ID and --since, only new events are shown. If the host goes down, the command waits
    /// for the next one.
    #[arg(short, long)]
    follow: bool,
    /// Only events after this number, or since this time.
    ///
    /// A time is `10m` for ten minutes ago, `18:00`, `yesterday`, `mon 9am`, or
    /// `2026-11-22T14:51:33Z`.
    #[arg(long, value_name = "SEQ|TIME", value_parser = since)]
    since: Option<Since>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    After(u64),
    Time(Timestamp),
}

/// Parses `--since`. A plain number is the number of an event, not of seconds.
fn since(text: &str) -> Result<Since, String> {
    if let Ok(sequence) = text.trim().parse() {
        return Ok(Since::After(sequence));
    }
    parse::moment(text).map(Since::Time).map_err(|_| {
        format!(
            "`{text}` is neither the number of an event nor a time: expected `4711`, {}",
            Toward::Past.expected()
        )
    })
}

const COLUMNS: [Column; 4] = [
    Column::new("AT").wide(8),
    Column::new("TASK").wide(6),
    Column::new("NAME").cut(16, 6),
    Column::new("WORDS").wide(THE_REST).cut(16, 8),
];

impl Events {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let (after, since_ms) = match self.since {
            Some(Since::After(sequence)) => (Some(sequence), None),
            Some(Since::Time(time)) => (None, Some(time.0)),
            None => (None, None),
        };
        let mut events = session.client().events(EventQuery {
            task: self.task,
            graph: self.graph,
            after,
            since_ms,
            follow: self.follow,
        });
        let mut layout = Table::new(&COLUMNS).layout(Look::of_stdout());
        while let Some(heard) = events.next().await? {
            match heard {
                Heard::Event(event) if session.json => output::json_line(&event)?,
                Heard::Event(event) => {
                    let cells = cells(&event, times::now());
                    output::painted(&layout.next_line(&cells))?;
                }
                Heard::Note(note) => output::say(&format!("note: {note}")),
                Heard::HostLeft => output::say(watch::HOST_LEFT),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The cells of an event: `14:51:33  x7tqrp  nightly  attempt 1 started, pid 77`.
fn cells(event: &EventView, now: Timestamp) -> [Cell; 4] {
    let by = event.by.as_ref();
    // If the request came from the owner at a terminal, as most requests do, it is not shown.
    let by = by.filter(|by| !by.is_owner_at_terminal());
    let by = by.map_or_else(String::new, |by| format!(" (by {by})"));
    let words = times::in_text(&format!("{}{by}", event.words), now);
    [
        Cell::painted(Colour::Grey, &times::to_the_second(&event.at, now)),
        Cell::new(short_id(&event.task)),
        Cell::new(event.name.as_deref().unwrap_or("-")),
        match event.fact.get("outcome").and_then(|it| it.as_str()) {
            Some("succeeded") => Cell::painted(Colour::Green, &words),
            Some("cancelled" | "skipped") => Cell::painted(Colour::Grey, &words),
            Some(_) => Cell::painted(Colour::Red, &words),
            None => Cell::new(&words),
        },
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::{Painted, in_each_look};

    #[test]
    fn since_takes_an_event_number_or_a_time() {
        let check = |text: &str, expected: Option<Since>| {
            assert_eq!(since(text).ok(), expected, "{text:?}");
        };
        check("4711", Some(Since::After(4711)));
        check("0", Some(Since::After(0)));
        check("1970-01-01T00:00:07Z", Some(Since::Time(Timestamp(7_000))));
        assert!(matches!(since("10m"), Ok(Since::Time(_))));
        check("-1", None);
        check("1.5.2", None);
        check("soon", None);
        check("99999999999999999999999", None);
    }

    #[test]
    fn an_event_is_shown_on_one_line() {
        let event: EventView = serde_json::from_value(serde_json::json!({
            "sequence": 7, "at": "2026-11-22T14:51:33.042Z", "task": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": "night\x1b[2Jly",
            "words": "attempt 1 failed: exited\nwith code 3", "kind": "attempt_ended", "outcome": "failed",
        }))
        .unwrap();
        let shown = |columns| {
            let look = Look {
                colours: false,
                columns,
            };
            let mut layout = Table::new(&COLUMNS).layout(look);
            let cells = cells(&event, Timestamp(1_795_359_153_042));
            layout.next_line(&cells).as_str().to_owned()
        };
        assert_eq!(
            shown(None),
            "14:51:33  abcdef  night\\u{1b}[2Jly  attempt 1 failed: exited with code 3\n"
        );
        assert_eq!(
            shown(Some(60)),
            "14:51:33  abcdef  night\\u{1b}[2Jly  attempt 1 failed: exite…\n"
        );
        assert_eq!(event.fact["kind"], "attempt_ended");
    }

    #[test]
    fn events_fit_the_width_of_the_terminal() {
        let event = |at: &str, name: Option<&str>, words: &str, outcome: Option<&str>| {
            let mut event = serde_json::json!({
                "sequence": 7, "at": at, "task": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": name,
                "words": words, "kind": "done",
            });
            if let Some(outcome) = outcome {
                event["outcome"] = outcome.into();
            }
            serde_json::from_value::<EventView>(event).unwrap()
        };
        let refused =
            "attempt 1: Bash: cargo test --workspace --all-features -- --nocapture | tee log";
        let events = [
            event(
                "2026-11-21T23:51:33.042Z",
                Some("nightly-build-of-everything"),
                "submitted",
                None,
            ),
            event("2026-11-22T14:51:33.042Z", None, refused, None),
            event(
                "2026-11-22T14:51:34.042Z",
                None,
                "done: failed: exited with code 3",
                Some("failed"),
            ),
            event(
                "2026-11-22T14:51:35.042Z",
                Some("漢字"),
                "done: cancelled",
                Some("cancelled"),
            ),
            event(
                "2026-11-22T14:51:36.042Z",
                Some("fix"),
                "done: succeeded",
                Some("succeeded"),
            ),
        ];
        let drawn = in_each_look(|look| {
            let mut layout = Table::new(&COLUMNS).layout(look);
            let mut shown = Painted::default();
            for event in &events {
                let cells = cells(event, Timestamp(1_795_359_153_042));
                shown.append(&layout.next_line(&cells));
            }
            shown
        });
        insta::assert_snapshot!("events", drawn);
    }
}
