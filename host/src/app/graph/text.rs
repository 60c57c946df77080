//! The output form as lines of text, with one line for each task.
//!
//! A task is below the first of its dependencies; below its other dependencies, an arrow refers to
//! the task's line. If a task has only one dependant, the dependant is directly below the task at
//! the same depth, so a chain of a thousand tasks is a column and not a staircase.

use super::{Graph, caption, shape::Shape};
use crate::text::{Painted, ShortIds, columns, fit};

/// Colours and width of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TextLook {
    pub(crate) colours: bool,
    /// Width limit. If there is no limit, only excessively long names are cut.
    pub(crate) columns: Option<usize>,
}

const GREY: u8 = 90;
const BOLD: u8 = 1;
/// Marks a task on a critical path if there is no bold type.
const ON_PATH: &str = " ◆";
/// Marks a reference to a task whose line is further up.
const AGAIN: &str = "↑";
/// Minimum width of names, even on narrow terminals.
const LEAST_TITLE: usize = 12;
const LONGEST_TITLE: usize = 80;
/// Maximum width of the titles, after which the columns of states and times begin.
const WIDEST_COLUMN: usize = 64;
/// Maximum width of a prefix. The beginning of a wider prefix is cut off.
const DEEPEST: usize = 40;

/// A line before its columns are aligned.
struct Line {
    /// Branches and arrows.
    lead: String,
    mark: &'static str,
    title: String,
    /// Text after the title; never cut.
    tag: &'static str,
    /// The node shown in the columns; none for a reference to another line.
    node: Option<usize>,
}

impl Line {
    /// Width before the title.
    fn before(&self) -> usize {
        columns(&self.lead) + columns(self.mark) + 1
    }
}

/// A node that is still to be shown, with the prefix of its own line and the prefix of its
/// dependants' lines.
struct Next {
    node: usize,
    lead: String,
    below: String,
}

pub(crate) fn text(graph: &Graph, look: TextLook) -> Painted {
    let shape = Shape::of(&graph.nodes, &graph.edges);
    let mut shown = vec![false; graph.nodes.len()];
    let mut text = Painted::default();
    let mut lines = Vec::new();
    let mut breaks = Vec::new();
    let mut last_part: Option<usize> = None;
    for root in roots(&shape) {
        if shown[root] {
            continue;
        }
        // Components with edges are separated by empty lines; tasks without edges form one list.
        let part = (!shape.is_alone(root)).then(|| shape.part[root]);
        if part != last_part && !lines.is_empty() {
            breaks.push(lines.len());
        }
        last_part = part;
        hang(graph, &shape, root, &mut shown, &mut lines, look);
    }
    let widths = Widths::of(graph, &lines, look);
    for (at, line) in lines.iter().enumerate() {
        if breaks.contains(&at) {
            text.push("\n");
        }
        write(&mut text, graph, line, &widths, look);
    }
    if !graph.critical_paths.is_empty() {
        text.push("\n");
    }
    for path in &graph.critical_paths {
        let path = caption::critical(path);
        if look.colours {
            look.paint(&mut text, BOLD, &path);
        } else {
            text.push(&format!("{} {path}", ON_PATH.trim_start()));
        }
        text.push("\n");
    }
    if graph.nodes.len() > 1 {
        let before = if graph.critical_paths.is_empty() {
            "\n"
        } else {
            ""
        };
        text.push(&format!("{before}{}\n", caption::foot(graph)));
    }
    text
}

/// All nodes in the order in which they may become roots: by component, and within a component
/// nodes without dependencies first. A node with dependencies becomes a root only because of a
/// cycle; in a graph without cycles, it is reached from a node without dependencies.
fn roots(shape: &Shape) -> Vec<usize> {
    let mut roots: Vec<usize> = (0..shape.part.len()).collect();
    roots.sort_by_key(|node| (shape.part[*node], shape.before[*node] > 0, *node));
    roots
}

/// Adds the lines of a root and of all its descendants not shown before. Not recursive, because a
/// graph may be deeper than the stack.
fn hang(
    graph: &Graph,
    shape: &Shape,
    root: usize,
    shown: &mut [bool],
    lines: &mut Vec<Line>,
    look: TextLook,
) {
    let mut stack = vec![Next {
        node: root,
        lead: String::new(),
        below: String::new(),
    }];
    while let Some(Next { node, lead, below }) = stack.pop() {
        let again = std::mem::replace(&mut shown[node], true);
        let this = &graph.nodes[node];
        lines.push(Line {
            lead,
            mark: if again { AGAIN } else { this.shade().mark() },
            title: caption::title(this, LONGEST_TITLE),
            tag: if this.critical && !again && !look.colours {
                ON_PATH
            } else {
                ""
            },
            node: (!again).then_some(node),
        });
        if again {
            continue;
        }
        let after = &shape.after[node];
        let alone = matches!(after.as_slice(), [only] if !shown[only.to]);
        let mut children = Vec::with_capacity(after.len());
        for (index, step) in after.iter().enumerate() {
            let (branch, beyond) = match (alone, index + 1 == after.len()) {
                (true, _) => ("↓", ""),
                (false, true) => ("╰─", "   "),
                (false, false) => ("├─", "│  "),
            };
            let edge = &graph.edges[step.edge];
            let condition = if edge.condition == caption::USUAL {
                String::new()
            } else {
                format!("[{}]", caption::condition(edge))
            };
            children.push(Next {
                node: step.to,
                lead: format!("{}{branch}{condition} ", shallow(&below, look)),
                below: format!("{below}{beyond}"),
            });
        }
        stack.extend(children.into_iter().rev());
    }
}

/// Shortens a prefix to leave room for the rest of the line.
fn shallow(prefix: &str, look: TextLook) -> String {
    let deepest = look
        .columns
        .map_or(DEEPEST, |columns| DEEPEST.min(columns / 3));
    if columns(prefix) <= deepest {
        return prefix.to_owned();
    }
    let kept = deepest.saturating_sub(1);
    let end: String = prefix.chars().skip(prefix.chars().count() - kept).collect();
    format!("⋯{end}")
}

/// Widths of the columns; `None` for a column that does not fit.
struct Widths {
    title: usize,
    state: usize,
    time: Option<usize>,
    /// Short ids of the tasks.
    ids: Option<ShortIds>,
}

impl Widths {
    fn of(graph: &Graph, lines: &[Line], look: TextLook) -> Self {
        let widest = |of: &dyn Fn(&Line) -> usize| lines.iter().map(of).max().unwrap_or(0);
        let of_node = |line: &Line, text: &dyn Fn(&super::Node) -> String| {
            line.node
                .map_or(0, |node| columns(&text(&graph.nodes[node])))
        };
        let state = widest(&|line| of_node(line, &caption::state));
        let time = widest(&|line| of_node(line, &time));
        let title = widest(&|line| line.before() + columns(&line.title) + columns(line.tag));
        let ids = ShortIds::among(graph.nodes.iter().map(|node| node.id.as_str()));
        let id = widest(&|line| of_node(line, &|node| ids.of(&node.id).to_owned()));
        let least = widest(&|line| {
            let title = columns(&line.title).min(LEAST_TITLE);
            line.before() + title + columns(line.tag)
        });
        let room = look.columns.unwrap_or(usize::MAX);
        let left = |others: usize| room.saturating_sub(others).max(LEAST_TITLE);
        let fits = |others: usize| least + others <= room;
        let (with_id, with_time) = (state + time + id + 6, state + time + 4);
        let (left, has_time, has_id) = if fits(with_id) {
            (left(with_id), true, true)
        } else if fits(with_time) {
            (left(with_time), true, false)
        } else {
            (left(state + 2), false, false)
        };
        Self {
            title: title.min(WIDEST_COLUMN).min(left),
            state,
            time: has_time.then_some(time),
            ids: has_id.then_some(ids),
        }
    }
}

fn time(node: &super::Node) -> String {
    caption::time(node).unwrap_or_else(|| "-".to_owned())
}

fn write(text: &mut Painted, graph: &Graph, line: &Line, widths: &Widths, look: TextLook) {
    look.paint(text, GREY, &line.lead);
    let before = line.before() + columns(line.tag);
    let room = widths.title.saturating_sub(before).max(LEAST_TITLE);
    let title = match look.columns {
        Some(_) => fit(&line.title, room),
        None => line.title.clone(),
    };
    let Some(node) = line.node.map(|node| &graph.nodes[node]) else {
        look.paint(text, GREY, &format!("{} {title}", line.mark));
        text.push("\n");
        return;
    };
    let shade = node.shade();
    look.paint(text, shade.ansi(), line.mark);
    text.push(" ");
    if node.critical {
        look.paint(text, BOLD, &title);
    } else {
        text.push(&title);
    }
    text.push(line.tag);
    let padding = widths.title.saturating_sub(before + columns(&title));
    let mut gap = padding + 2;
    let mut cell = |words: &str, width: usize, code: Option<u8>| {
        text.push(&" ".repeat(gap));
        match code {
            Some(code) => look.paint(text, code, words),
            None => text.push(words),
        }
        gap = width.saturating_sub(columns(words)) + 2;
    };
    cell(&caption::state(node), widths.state, Some(shade.ansi()));
    if let Some(width) = widths.time {
        cell(&time(node), width, None);
    }
    if let Some(ids) = widths.ids {
        cell(ids.of(&node.id), 0, Some(GREY));
    }
    text.push("\n");
}

impl TextLook {
    fn paint(self, text: &mut Painted, code: u8, words: &str) {
        text.push_in(self.colours.then_some(code), words);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};
    use crate::text::short_id;

    const PLAIN: TextLook = TextLook {
        colours: false,
        columns: None,
    };

    #[test]
    fn each_task_has_a_line() {
        insta::assert_snapshot!("text", text(&release(), PLAIN).as_str());
        insta::assert_snapshot!("text_awkward", text(&awkward(), PLAIN).as_str());
    }

    #[test]
    fn text_for_a_terminal_is_coloured_and_fits_its_width() {
        let look = TextLook {
            colours: true,
            columns: Some(80),
        };
        let shown = text(&release(), look);
        insta::assert_snapshot!("text_terminal", shown.as_str().replace('\x1b', "␛"));
        for line in text(
            &awkward(),
            TextLook {
                colours: false,
                ..look
            },
        )
        .as_str()
        .lines()
        {
            assert!(columns(line) <= 80, "{line}");
        }
    }

    #[test]
    fn a_chain_is_drawn_in_one_column_and_a_comb_stays_narrow() {
        let chain: Vec<_> = (1..=5_000).map(task).collect();
        let edges: Vec<_> = (1..5_000).map(|task| (task, task + 1)).collect();
        let chain = text(&graph(chain, &edges), PLAIN);
        let chain = chain.as_str();
        assert_eq!(chain.lines().count(), 5_003);
        assert!(chain.lines().all(|line| columns(line) < 100));
        // Each task has two dependants, of which the second continues the comb.
        let comb: Vec<_> = (1..=400).map(task).collect();
        let edges: Vec<_> = (1..199)
            .flat_map(|task| [(task, task + 200), (task, task + 1)])
            .collect();
        let comb = text(&graph(comb, &edges), PLAIN);
        let comb = comb.as_str();
        assert!(comb.lines().all(|line| columns(line) < 140));
    }

    #[test]
    fn every_task_and_every_edge_is_shown_once() {
        let release = release();
        let text = text(&release, PLAIN);
        let text = text.as_str();
        for node in &release.nodes {
            let short = short_id(&node.id);
            assert_eq!(text.matches(short).count(), 1, "{}", node.id);
        }
        let edges = text
            .lines()
            .filter(|line| line.contains(['↓', '├', '╰']))
            .count();
        assert_eq!(edges, release.edges.len());
    }

    #[test]
    fn a_cycle_is_shown_once() {
        let text = text(&graph(vec![task(1), task(2)], &[(1, 2), (2, 1)]), PLAIN);
        assert_eq!(text.as_str().lines().count(), 5);
    }
}
