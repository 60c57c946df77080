//! Redraws a graph in place as it changes, until all of its tasks have ended.
//!
//! Nothing is written while nothing changes. If the graph has more lines than the terminal, lines
//! in the middle are left out, because lines that have left the screen cannot be redrawn.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, IsTerminal},
    time::Duration,
};

use super::{
    failure::Failure,
    output,
    session::{self, Session},
    terminal::{self, Look},
    watch::{HOST_LEFT, host_stopped, tell_obstacles, tell_obstacles_of},
};
use crate::{
    api::{
        client::{Client, ClientError, Seen},
        rest::LONGEST_WAIT,
    },
    app::{
        GraphQuery,
        graph::{self, Graph, Node, TextLook},
    },
    clock,
};

/// Pause between two requests for the graph, unless the next task ends earlier.
const EVERY: Duration = Duration::from_secs(1);
/// Pause in place of [`EVERY`] if requests take long, as for a large graph: this multiple of the
/// time that the last request took.
const REST: u32 = 9;

/// Waits until all of these tasks have ended, by waiting for one task after the other. Reports what
/// keeps them from ending.
pub(super) async fn to_their_ends(session: &Session, ids: &[&str]) -> Result<(), Failure> {
    reporting(session, ids, output::say).await
}

/// [`to_their_ends`] with another way to report.
async fn reporting(session: &Session, ids: &[&str], say: impl Fn(&str)) -> Result<(), Failure> {
    let named: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    tokio::select! {
        ended = in_turn(session, ids) => ended,
        never = tell_obstacles(session, &named, say) => match never {},
    }
}

/// Passes each text on once.
fn each_once(say: impl Fn(&str)) -> impl Fn(&str) {
    let told = RefCell::new(BTreeSet::new());
    move |text: &str| {
        if told.borrow_mut().insert(text.to_owned()) {
            say(text);
        }
    }
}

async fn in_turn(session: &Session, ids: &[&str]) -> Result<(), Failure> {
    let waiter = session::enclosing_attempt();
    let each = |seen: Seen<'_>| match seen {
        Seen::Task(_) => {}
        Seen::HostLeft => output::say(HOST_LEFT),
        Seen::HostStopped(pid) => output::say(&host_stopped(pid)),
    };
    for id in ids {
        let waiting = session
            .client()
            .wait_done(id, waiter.as_deref(), LONGEST_WAIT, each);
        waiting.await?;
    }
    Ok(())
}

/// Waits until all tasks of a graph have ended, and reports what keeps them from ending. Meanwhile
/// draws the graph on a terminal, if asked to.
pub(super) async fn to_its_end(
    session: &Session,
    query: &GraphQuery,
    is_drawn: bool,
) -> Result<Graph, Failure> {
    let screen = RefCell::new(Screen::default());
    if !is_drawn || !io::stdout().is_terminal() {
        return followed(session, query, &screen, false).await;
    }
    let is_meant = |id: &str| screen.borrow().unfinished.contains(id);
    let say = |text: &str| screen.borrow_mut().say(text);
    tokio::select! {
        ended = Box::pin(followed(session, query, &screen, true)) => ended,
        never = tell_obstacles_of(session, is_meant, say) => match never {},
    }
}

/// [`to_its_end`] without reports of obstacles if the graph is drawn.
async fn followed(
    session: &Session,
    query: &GraphQuery,
    screen: &RefCell<Screen>,
    is_drawn: bool,
) -> Result<Graph, Failure> {
    let client = session.client();
    let mut has_host = false;
    let mut is_seen = false;
    // An obstacle may be there while one task after the other is waited for.
    let say = each_once(output::say);
    loop {
        let begun = clock::monotonic();
        let graph = match client.graph(query).await {
            Err(ClientError::Stopped(pid)) if is_seen => {
                outlast(screen, client, pid).await;
                continue;
            }
            Err(error) if is_seen => return Err(client.start().removed().unwrap_or(error).into()),
            graph => graph?,
        };
        is_seen = true;
        let took = clock::monotonic().saturating_sub(begun);
        if is_drawn {
            screen.borrow_mut().draw(&graph)?;
        }
        let Some(next) = next_to_end(&graph) else {
            return Ok(graph);
        };
        if is_drawn {
            // A host is started only at the beginning, so that one that is stopped stays stopped.
            if !std::mem::replace(&mut has_host, true) {
                match client.reach().await {
                    Err(ClientError::Stopped(pid)) => outlast(screen, client, pid).await,
                    reached => drop(reached?),
                }
            }
            let limit = EVERY.max(took * REST);
            match client.wait_a_while(&next.id, limit).await {
                Err(ClientError::Stopped(pid)) => outlast(screen, client, pid).await,
                waited => waited?,
            }
        } else {
            reporting(session, &[&next.id], &say).await?;
        }
    }
}

/// Reports that the host is stopped by a signal, and waits until it is not.
async fn outlast(screen: &RefCell<Screen>, client: &Client, pid: u32) {
    screen.borrow_mut().say(&host_stopped(pid));
    client.continued().await;
}

fn unfinished(graph: &Graph) -> impl Iterator<Item = &Node> + Clone {
    graph.nodes.iter().filter(|node| node.outcome.is_none())
}

/// The unfinished task that is likely to end first.
fn next_to_end(graph: &Graph) -> Option<&Node> {
    let mut left = unfinished(graph);
    let running = left.clone().find(|node| node.is_running());
    running.or_else(|| left.next())
}

/// Contents of the terminal.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    size: (usize, usize),
    /// Ids of the unfinished tasks that were last drawn.
    unfinished: BTreeSet<String>,
}

impl Screen {
    fn draw(&mut self, graph: &Graph) -> Result<(), Failure> {
        let Look { colours, columns } = Look::of_stdout();
        let rows = terminal::stdout_rows();
        let shown = graph::text(graph, TextLook { colours, columns });
        let shown = output::as_shown(shown.as_str());
        let lines = fitted(shown.lines().map(str::to_owned).collect(), rows);
        let size = (rows, columns.unwrap_or_default());
        self.unfinished = unfinished(graph).map(|node| node.id.clone()).collect();
        let written = change(&self.lines, &lines, self.size == size);
        (self.lines, self.size) = (lines, size);
        if written.is_empty() {
            return Ok(());
        }
        output::bytes(written.as_bytes())
    }

    /// Shows a message. The graph is then drawn again below it.
    fn say(&mut self, text: &str) {
        self.lines.clear();
        output::say(text);
    }
}

/// Output that replaces the old lines by the new ones. If the size of the terminal has changed,
/// lines may have moved, so everything is redrawn.
fn change(before: &[String], lines: &[String], same_size: bool) -> String {
    if before == lines && same_size {
        return String::new();
    }
    let mut written = match before.len() {
        0 => String::new(),
        _ if !same_size => "\x1b[2J\x1b[H".to_owned(),
        up => format!("\r\x1b[{up}A"),
    };
    for line in lines {
        written.push_str(line);
        written.push_str("\x1b[K\n");
    }
    written.push_str("\x1b[J");
    written
}

/// Cuts the lines to the height of the terminal, less one line for the cursor. Keeps the first
/// lines and the summary after the last empty line.
fn fitted(lines: Vec<String>, rows: usize) -> Vec<String> {
    let room = rows.saturating_sub(1).max(2);
    if lines.len() <= room {
        return lines;
    }
    let foot = lines.iter().rposition(String::is_empty);
    let foot = foot.map_or(&[][..], |empty| &lines[empty..]);
    // Only the end of the summary is kept if the summary is long, as with many critical paths.
    let foot = &foot[foot.len().saturating_sub(room / 2)..];
    let head = room.saturating_sub(foot.len() + 1);
    let left_out = lines.len() - head - foot.len();
    let mut fitted = lines[..head].to_vec();
    fitted.push(format!(
        "… {left_out} more lines: `claudine graph` shows all"
    ));
    fitted.extend_from_slice(foot);
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_obstacle_that_lasts_is_reported_once() {
        let said = RefCell::new(Vec::new());
        let say = each_once(|text: &str| said.borrow_mut().push(text.to_owned()));
        for text in ["full", "full", "stuck", "full"] {
            say(text);
        }
        assert_eq!(*said.borrow(), ["full", "stuck"]);
    }

    #[test]
    fn an_unchanged_graph_is_not_redrawn() {
        let check = |before: &str, after: &str, same_size: bool, expected: &str| {
            assert_eq!(change(&lines(before), &lines(after), same_size), expected);
        };
        check("", "a\nb", false, "a\x1b[K\nb\x1b[K\n\x1b[J");
        check("a\nb", "a\nb", true, "");
        check("a\nb", "a", true, "\r\x1b[2Aa\x1b[K\n\x1b[J");
        check("a", "a", false, "\x1b[2J\x1b[Ha\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_graph_higher_than_the_terminal_is_shown_without_its_middle_lines() {
        let check = |text: &str, rows: usize, expected: &str| {
            assert_eq!(fitted(lines(text), rows), lines(expected), "{rows} rows");
        };
        let graph = "a\nb\nc\nd\ne\n\npath\nfoot";
        check(graph, 9, graph);
        let expected = "a\nb\n… 3 more lines: `claudine graph` shows all\n\npath\nfoot";
        check(graph, 7, expected);
        let expected = "… 7 more lines: `claudine graph` shows all\nfoot";
        check(graph, 3, expected);
        check(graph, 0, expected);
        let plain = "a\nb\nc\nd\ne";
        let expected = "a\nb\n… 3 more lines: `claudine graph` shows all";
        check(plain, 4, expected);
    }
}
