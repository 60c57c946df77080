//! The output form of a Mermaid flowchart. GitHub and other forges draw such a flowchart if it is
//! in Markdown.

use std::collections::HashMap;

use super::{Graph, caption, shade::Shade};

const CRITICAL: &str = "#d97706";
const LONGEST_TITLE: usize = 48;

pub(crate) fn mermaid(graph: &Graph) -> String {
    let mut mermaid = String::from("flowchart LR\n");
    for (number, node) in graph.nodes.iter().enumerate() {
        let title = quoted(&caption::title(node, LONGEST_TITLE));
        let subtitle = quoted(&caption::subtitle(node));
        let class = node.shade().as_str();
        mermaid += &format!("  n{number}[\"{title}<br/>{subtitle}\"]:::{class}\n");
    }
    push_edges(&mut mermaid, graph);
    push_styles(&mut mermaid, graph);
    mermaid
}

fn push_edges(mermaid: &mut String, graph: &Graph) {
    let numbers: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(number, node)| (node.id.as_str(), number))
        .collect();
    let mut critical = Vec::new();
    let ends = |edge: &super::Edge| Some((numbers.get(&*edge.from)?, numbers.get(&*edge.to)?));
    let known = graph
        .edges
        .iter()
        .filter_map(|edge| Some((edge, ends(edge)?)));
    for (count, (edge, (from, to))) in known.enumerate() {
        let arrow = if edge.condition == caption::USUAL {
            "-->"
        } else {
            "-.->"
        };
        let condition = quoted(&caption::condition(edge));
        *mermaid += &format!("  n{from} {arrow}|\"{condition}\"| n{to}\n");
        if edge.critical {
            critical.push(count.to_string());
        }
    }
    if !critical.is_empty() {
        let critical = critical.join(",");
        *mermaid += &format!("  linkStyle {critical} stroke:{CRITICAL},stroke-width:3px\n");
    }
}

fn push_styles(mermaid: &mut String, graph: &Graph) {
    let used = |shade: &Shade| graph.nodes.iter().any(|node| node.shade() == *shade);
    for shade in Shade::ALL.into_iter().filter(used) {
        let paint = shade.paint();
        *mermaid += &format!(
            "  classDef {} fill:{},stroke:{},color:{}\n",
            shade.as_str(),
            paint.fill,
            paint.line,
            paint.ink
        );
    }
    let on_path: Vec<String> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.critical)
        .map(|(number, _)| format!("n{number}"))
        .collect();
    if !on_path.is_empty() {
        *mermaid += &format!(
            "  classDef critical stroke:{CRITICAL},stroke-width:3px\n  class {} critical\n",
            on_path.join(",")
        );
    }
}

/// Escapes characters that are special in HTML, Markdown or Mermaid as numeric entities.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut before: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let digits_before = quoted.bytes().all(|byte| byte.is_ascii_digit());
        let special = match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '*' | '%' | '\\' | '|' => true,
            // Two tildes strike text through.
            '~' => before == Some('~') || chars.peek() == Some(&'~'),
            // An underscore is special only around a word, where it means emphasis.
            '_' => !is_word(before) || !is_word(chars.peek().copied()),
            // At the beginning of a text, a minus or plus sign makes a list.
            '-' | '+' => before.is_none(),
            '.' | ')' => digits_before && before.is_some(),
            _ => false,
        };
        if special {
            quoted += &format!("#{};", u32::from(c));
        } else {
            quoted.push(c);
        }
        before = Some(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    #[test]
    fn the_mermaid_form_of_sample_graphs_is_as_recorded() {
        insta::assert_snapshot!("mermaid", mermaid(&release()));
        insta::assert_snapshot!("mermaid_awkward", mermaid(&awkward()));
    }

    #[test]
    fn special_characters_are_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(quoted(text), expected);
        check("plain-text 1.5", "plain-text 1.5");
        check("a\"b", "a#34;b");
        check("#quot;", "#35;quot;");
        check("<b>", "#60;b#62;");
        check("snake_case _it_", "snake_case #95;it#95;");
        check("- no", "#45; no");
        check("12. no", "12#46; no");
        check("%%{init", "#37;#37;{init");
    }
}
