//! `claudine logs`

use std::{
    convert::Infallible,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use claudine_domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    failure::Failure, named, output, parse, session::Session, terminal::Look, times,
    transcript::Drawing, watch,
};
use crate::{
    api::client::{Followed, Follower},
    app::{Item, LogChannel, LogQuery, gap_text},
};

/// Show the output of a task.
///
/// On a terminal, the output of an agent is shown as a transcript: its text, tool calls, results,
/// denials and cost. In a pipe, for commands, and with --raw or --offset, the output itself is
/// copied, standard error to standard error. The order is exact within a stream; between the two
/// streams it is the order in which they were read. A line on standard output marks output that was
/// left out because of --max-output. With --raw or --offset, this line goes to standard error, so
/// that standard output is copied byte for byte.
#[derive(Debug, Args)]
#[command(
    visible_alias = "log",
    after_help = "\
Examples:
  claudine logs -f nightly
  claudine logs -n 20 --stream stderr x7tqrp
  claudine logs --since 10m -f nightly
  claudine logs --raw review | jq .
  claudine logs nightly 2>/dev/null | less -R"
)]
pub(super) struct Logs {
    /// Id, end of an id, or name [default: the newest; with -f the newest running one].
    #[arg(value_name = "ID")]
    task: Option<String>,
    /// Follow the output, through retries, until the task ends.
    #[arg(short, long)]
    follow: bool,
    /// Print the last N lines.
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<u64>,
    /// Print the original bytes, for agents too.
    #[arg(long)]
    raw: bool,
    /// Print one stream only.
    #[arg(long, value_name = "STREAM")]
    stream: Option<Stream>,
    /// Number of the attempt [default: the last one].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Skip this many bytes.
    #[arg(long, value_name = "BYTES", conflicts_with = "tail")]
    offset: Option<u64>,
    /// Print output since this time, such as `10m` or `18:00`.
    ///
    /// Also `yesterday`, `mon 9am` or `2026-11-22T14:51:33Z`; `10m` is ten minutes ago.
    #[arg(long, value_name = "TIME", value_parser = parse::moment, conflicts_with_all = ["tail", "offset"])]
    since: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let stream = self.stream.map(|stream| match stream {
            Stream::Stdout => "stdout".to_owned(),
            Stream::Stderr => "stderr".to_owned(),
        });
        let query = LogQuery {
            stream,
            attempt: self.attempt,
            tail: self.tail,
            offset: self.offset,
            since_ms: self.since.map(|time| time.0),
            follow: self.follow,
            transcript: self.is_for_people(session),
            stderr_offset: None,
        };
        let drawing = Drawing {
            look: Look::of_stdout(),
            now: times::now(),
            has_times: true,
        };
        let task = if self.follow {
            named::or_running(session, self.task.clone()).await?
        } else {
            named::or_last_told(session, self.task.clone()).await?
        };
        let mut follower = session.client().follow(&task, query);
        let copying = self.copy(session, &mut follower, drawing);
        let escapes = if self.follow {
            tokio::select! {
                copied = copying => copied?,
                never = Box::pin(tell_obstacles(session, &task)) => match never {},
            }
        } else {
            copying.await?
        };
        // Resets colours, because output that was cut off may have left them switched on.
        if escapes && io::stdout().is_terminal() {
            output::bytes(b"\x1b[0m")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the output to its end. Returns whether there are escape sequences in it.
    async fn copy(
        &self,
        session: &Session,
        follower: &mut Follower<'_>,
        drawing: Drawing,
    ) -> Result<bool, Failure> {
        // Without the mark, the lines that were cut would look like one line.
        let is_exact = self.raw || self.offset.is_some();
        let has_marks = !is_exact && !matches!(self.stream, Some(Stream::Stderr));
        let (mut escapes, mut in_line) = (false, false);
        while let Some(piece) = follower.next().await? {
            if session.json {
                output::json_line(&Piece::of(&piece))?;
            } else if let Followed::Items(items) = &piece {
                show(drawing, items)?;
            } else if let (Followed::Gap(bytes), true) = (&piece, has_marks) {
                let before = if in_line { "\n" } else { "" };
                output::text(&format!("{before}{}\n", gap_text(*bytes)))?;
                in_line = false;
            } else {
                watch::write(&piece)?;
                if let Followed::Bytes(LogChannel::Stdout, bytes) = &piece {
                    in_line = !bytes.ends_with(b"\n");
                }
                escapes |= matches!(&piece, Followed::Bytes(_, bytes) if bytes.contains(&0x1b));
            }
        }
        Ok(escapes)
    }

    /// Whether the output of an agent is shown as a transcript. In a pipe and with `--raw`,
    /// `--json` or `--offset`, its bytes are written instead.
    fn is_for_people(&self, session: &Session) -> bool {
        !self.raw && !session.json && self.offset.is_none() && io::stdout().is_terminal()
    }
}

/// Reports, each once, what keeps the task from ending.
async fn tell_obstacles(session: &Session, task: &str) -> Infallible {
    // A name may mean another task later. If the task cannot be read, following it fails too.
    let found = session.client().status(task).await;
    let id = found.map_or_else(|_| task.to_owned(), |found| found.id.clone());
    watch::tell_obstacles(session, &[id], output::say).await
}

/// Writes each item to standard output or standard error, as the task did.
fn show(drawing: Drawing, items: &[Item]) -> Result<(), Failure> {
    for items in items.chunk_by(|one, next| one.stream == next.stream) {
        let drawn = drawing.draw(items);
        match items.first().map(|item| item.stream) {
            Some(LogChannel::Stderr) => io::stderr().lock().write_all(drawn.as_str().as_bytes())?,
            _ => output::painted(&drawn)?,
        }
    }
    Ok(())
}

/// A line of `logs --json`. Invalid UTF-8 is replaced; `logs` without `--json` has the exact bytes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Piece {
    Text {
        stream: LogChannel,
        text: String,
    },
    /// This many bytes were left out here, because the output is over its limit, or somebody cut
    /// the log short.
    LeftOut {
        left_out_bytes: u64,
    },
}

impl Piece {
    fn of(piece: &Followed) -> Self {
        match piece {
            Followed::Bytes(stream, bytes) => Self::Text {
                stream: *stream,
                text: String::from_utf8_lossy(bytes).into_owned(),
            },
            // This does not happen, because items are not requested with --json.
            Followed::Items(items) => Self::Text {
                stream: LogChannel::Stdout,
                text: items.iter().map(|item| &*item.text).collect(),
            },
            Followed::Gap(bytes) => Self::LeftOut {
                left_out_bytes: *bytes,
            },
        }
    }
}
