//! The output form for Graphviz.
//!
//! No background is drawn, because boxes are light with dark text, and lines are grey, which is
//! visible on white and on black.

use super::{Graph, caption};

const LINE: &str = "#7d8590";
const CRITICAL: &str = "#d97706";
const LONGEST_TITLE: usize = 48;

pub(crate) fn dot(graph: &Graph) -> String {
    let mut dot = format!(
        "digraph claudine {{
  graph [rankdir=LR, bgcolor=transparent, nodesep=0.3, ranksep=0.6, fontname=\"Helvetica,Arial,sans-serif\"];
  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica,Arial,sans-serif\", fontsize=12];
  edge [color=\"{LINE}\", fontcolor=\"{LINE}\", fontname=\"Helvetica,Arial,sans-serif\", fontsize=10];
"
    );
    for node in &graph.nodes {
        let paint = node.shade().paint();
        let (line, width) = if node.critical {
            (CRITICAL, 3)
        } else {
            (paint.line, 1)
        };
        let title = quoted(&caption::title(node, LONGEST_TITLE));
        let subtitle = quoted(&caption::subtitle(node));
        dot += &format!(
            "  \"{id}\" [label=\"{title}\\n{subtitle}\", tooltip=\"{id}\", fillcolor=\"{}\", color=\"{line}\", fontcolor=\"{}\", penwidth={width}];\n",
            paint.fill,
            paint.ink,
            id = quoted(&node.id),
        );
    }
    for edge in &graph.edges {
        let critical = if edge.critical {
            format!(", color=\"{CRITICAL}\", penwidth=3")
        } else {
            String::new()
        };
        let style = match edge.condition.as_str() {
            "completed" => ", style=dashed",
            "any" => ", style=dotted",
            _ => "",
        };
        dot += &format!(
            "  \"{}\" -> \"{}\" [label=\"{}\"{style}{critical}];\n",
            quoted(&edge.from),
            quoted(&edge.to),
            quoted(&caption::condition(edge)),
        );
    }
    dot.push_str("}\n");
    dot
}

/// Escapes text in quotes: a backslash begins an escape such as `\N`, and an ampersand begins an
/// entity.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('&', "&amp;")
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    #[test]
    fn the_dot_form_of_sample_graphs_is_as_recorded() {
        insta::assert_snapshot!("dot", dot(&release()));
        insta::assert_snapshot!("dot_awkward", dot(&awkward()));
    }
}
