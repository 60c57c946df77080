//! The output form as an SVG picture.
//!
//! Boxes are as wide as their text. The font of the text has a fixed width, so that the width of a
//! box is known in advance. A legend below explains colours and lines. Tooltips on boxes have the
//! full name and the id.

mod layout;
mod style;

use std::collections::HashMap;

use self::layout::{Layout, Point, Route, Size, Wanted};
use super::{
    super::error::{AppError, ErrorKind},
    Edge, Graph, Node, caption,
    shade::Shade,
};
use crate::text::{columns, harmless_lines};

/// Size limits of a picture; larger pictures are unreadable and slow to lay out.
const MOST_NODES: usize = 1_000;
const MOST_EDGES: usize = 4_000;
const LONGEST_TITLE: usize = 32;
/// Width of a character at 13 and at 11 pixels, slightly more than in the widest of the fonts named
/// in the style.
const NAME_COLUMN: f64 = 8.2;
const NOTE_COLUMN: f64 = 6.9;
const BOX_HEIGHT: f64 = 46.0;
const BOX_PADDING: f64 = 14.0;
const LEAST_BOX: f64 = 96.0;
const TAG_HEIGHT: f64 = 16.0;
const MARGIN: f64 = 24.0;
const LEGEND_HEIGHT: f64 = 22.0;
/// Radius of the bends of edges.
const BEND: f64 = 10.0;

pub(crate) fn svg(graph: &Graph) -> Result<String, AppError> {
    let drawn = Drawing::of(graph)?;
    let legend = legend(graph);
    let width = drawn.layout.size.width.max(legend.width) + 2.0 * MARGIN;
    let left = (width - drawn.layout.size.width) / 2.0;
    let below = drawn.layout.size.height + 2.0 * MARGIN;
    let height = below + legend.height + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">
<title>Tasks and what they wait for</title>
<style>
{}</style>
<defs>
{}{}</defs>
<rect class=\"paper\" width=\"100%\" height=\"100%\"/>
<g transform=\"translate({left:.1} {MARGIN})\">
",
        style::style(),
        head("head"),
        head("critical-head"),
    );
    // Boxes are drawn last, so that they cover edges that pass behind them.
    for (edge, route) in drawn.edges.iter().zip(&drawn.layout.routes) {
        svg += &edge_shape(edge, route);
    }
    for ((edge, wanted), route) in drawn
        .edges
        .iter()
        .zip(&drawn.wanted)
        .zip(&drawn.layout.routes)
    {
        svg += &tag_shape(edge, wanted.label, route.label);
    }
    for ((node, size), middle) in graph
        .nodes
        .iter()
        .zip(&drawn.sizes)
        .zip(&drawn.layout.boxes)
    {
        svg += &box_shape(node, *size, *middle);
    }
    svg += &format!(
        "</g>\n<g class=\"legend\" transform=\"translate({MARGIN} {below:.1})\">\n{}</g>\n</svg>\n",
        legend.shapes
    );
    Ok(svg)
}

/// The parts of the drawing with their positions.
struct Drawing<'a> {
    edges: Vec<&'a Edge>,
    wanted: Vec<Wanted>,
    sizes: Vec<Size>,
    layout: Layout,
}

impl<'a> Drawing<'a> {
    fn of(graph: &'a Graph) -> Result<Self, AppError> {
        let (nodes, edges) = (graph.nodes.len(), graph.edges.len());
        if nodes > MOST_NODES || edges > MOST_EDGES {
            return Err(AppError::new(
                ErrorKind::Limit,
                format!(
                    "{nodes} tasks with {edges} edges are too many for a picture; the limits are {MOST_NODES} and {MOST_EDGES}"
                ),
            )
            .hint("select one of the tasks to see its part of the graph, or use another format"));
        }
        let sizes: Vec<Size> = graph.nodes.iter().map(box_size).collect();
        let numbers: HashMap<&str, usize> = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| (node.id.as_str(), number))
            .collect();
        let mut known = Vec::with_capacity(edges);
        let mut wanted = Vec::with_capacity(edges);
        for edge in &graph.edges {
            let ends = (numbers.get(&*edge.from), numbers.get(&*edge.to));
            if let (Some(&from), Some(&to)) = ends {
                let label = tag_size(edge);
                wanted.push(Wanted { from, to, label });
                known.push(edge);
            }
        }
        let layout = layout::lay_out(&sizes, &wanted)
            .map_err(|error| AppError::new(ErrorKind::Internal, error.to_string()))?;
        Ok(Self {
            edges: known,
            wanted,
            sizes,
            layout,
        })
    }
}

fn box_size(node: &Node) -> Size {
    let name = columns(&caption::title(node, LONGEST_TITLE)) as f64 * NAME_COLUMN;
    let note = columns(&caption::subtitle(node)) as f64 * NOTE_COLUMN;
    Size {
        width: (name.max(note) + 2.0 * BOX_PADDING).max(LEAST_BOX),
        height: BOX_HEIGHT,
    }
}

fn tag_size(edge: &Edge) -> Size {
    Size {
        width: columns(&caption::condition(edge)) as f64 * NOTE_COLUMN + 8.0,
        height: TAG_HEIGHT,
    }
}

fn box_shape(node: &Node, size: Size, middle: Point) -> String {
    let Point { x, y } = middle;
    let Size { width, height } = size;
    let (left, top) = (x - width / 2.0, y - height / 2.0);
    let critical = if node.critical { " critical" } else { "" };
    let whole = node.name.as_deref().unwrap_or(&node.summary);
    let told = format!(
        "{}\n{}\n{} · {}",
        harmless_lines(whole).replace('\t', " "),
        node.id,
        node.executor,
        caption::subtitle(node)
    );
    format!(
        "<g class=\"node {class}{critical}\" id=\"{id}\"><title>{told}</title><rect class=\"box\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"7\"/><text class=\"name\" x=\"{x:.1}\" y=\"{name_y:.1}\">{name}</text><text class=\"note\" x=\"{x:.1}\" y=\"{note_y:.1}\">{note}</text></g>\n",
        class = node.shade().as_str(),
        id = escaped(&node.id),
        told = escaped(&told),
        name_y = y - 4.0,
        name = escaped(&caption::title(node, LONGEST_TITLE)),
        note_y = y + 13.0,
        note = escaped(&caption::subtitle(node)),
    )
}

fn edge_shape(edge: &Edge, route: &Route) -> String {
    let head = if edge.critical {
        "critical-head"
    } else {
        "head"
    };
    format!(
        "<g class=\"edge {}\"><path class=\"route\" d=\"{}\" marker-end=\"url(#{head})\"/></g>\n",
        edge_class(edge),
        path(&route.points),
    )
}

fn tag_shape(edge: &Edge, size: Size, middle: Point) -> String {
    let critical = if edge.critical { " critical" } else { "" };
    format!(
        "<g class=\"tag{critical}\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>\n",
        middle.x - size.width / 2.0,
        middle.y - size.height / 2.0,
        size.width,
        size.height,
        middle.x,
        middle.y + 3.8,
        escaped(&caption::condition(edge)),
    )
}

/// The class for a condition; an unknown condition looks like the default.
fn edge_class(edge: &Edge) -> String {
    let condition = match edge.condition.as_str() {
        "completed" => "completed",
        "any" => "any",
        _ => "succeeded",
    };
    let critical = if edge.critical { " critical" } else { "" };
    format!("{condition}{critical}")
}

/// A path through the points with rounded bends.
fn path(points: &[Point]) -> String {
    let Some((first, rest)) = points.split_first() else {
        return String::new();
    };
    let mut path = format!("M{:.1} {:.1}", first.x, first.y);
    for (at, corner) in rest.iter().enumerate() {
        let before = if at == 0 { first } else { &rest[at - 1] };
        let Some(after) = rest.get(at + 1) else {
            path += &format!("L{:.1} {:.1}", corner.x, corner.y);
            break;
        };
        let (into, out) = (near(corner, before), near(corner, after));
        path += &format!(
            "L{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}",
            into.x, into.y, corner.x, corner.y, out.x, out.y
        );
    }
    path
}

/// A point between a corner and its neighbour: near the corner, and at most halfway to the
/// neighbour.
fn near(corner: &Point, neighbour: &Point) -> Point {
    let (x, y) = (neighbour.x - corner.x, neighbour.y - corner.y);
    let length = x.hypot(y);
    if length == 0.0 {
        return *corner;
    }
    let part = (BEND / length).min(0.5);
    Point {
        x: corner.x + x * part,
        y: corner.y + y * part,
    }
}

fn head(class: &str) -> String {
    format!(
        "<marker id=\"{class}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"{class}\" d=\"M0 1L10 5L0 9z\"/></marker>\n"
    )
}

struct Legend {
    shapes: String,
    width: f64,
    height: f64,
}

/// A legend of the colours and lines in the graph, with one row for boxes and one for edges.
fn legend(graph: &Graph) -> Legend {
    let mut shapes = String::new();
    let mut width: f64 = 0.0;
    let mut row = 0.0;
    let mut put = |items: &[(String, &str)]| {
        if items.is_empty() {
            return;
        }
        let mut x = 0.0;
        for (sample, word) in items {
            shapes += &format!(
                "<g transform=\"translate({x:.1} {row:.1})\">{sample}<text x=\"30\" y=\"11\">{word}</text></g>\n"
            );
            x += 30.0 + columns(word) as f64 * NOTE_COLUMN + 18.0;
        }
        width = width.max(x);
        row += LEGEND_HEIGHT;
    };
    let used = |shade: &Shade| graph.nodes.iter().any(|node| node.shade() == *shade);
    let boxes: Vec<_> = Shade::ALL
        .into_iter()
        .filter(used)
        .map(|shade| {
            let sample = format!(
                "<rect class=\"box {}\" width=\"22\" height=\"14\" rx=\"3\"/>",
                shade.as_str()
            );
            (sample, shade.in_words())
        })
        .collect();
    put(&boxes);
    let line =
        |class: &str| format!("<g class=\"{class}\"><path class=\"route\" d=\"M0 7L22 7\"/></g>");
    let means = [
        ("succeeded", "after success"),
        ("completed", "after it finished, in success or not"),
        ("any", "after any end"),
    ];
    let mut lines: Vec<_> = means
        .into_iter()
        .filter(|(condition, _)| graph.edges.iter().any(|edge| edge.condition == *condition))
        .map(|(condition, word)| (line(condition), word))
        .collect();
    if !graph.critical_paths.is_empty() {
        lines.push((line("critical"), "critical path"));
    }
    put(&lines);
    Legend {
        shapes,
        width,
        height: row,
    }
}

/// Escapes text for XML. XML cannot contain U+FFFE and U+FFFF, not even escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use super::{super::samples::*, *};

    /// The area of a box or label in the picture.
    #[derive(Debug)]
    struct Area {
        left: f64,
        top: f64,
        right: f64,
        bottom: f64,
    }

    fn areas(svg: &str, before: &str) -> Vec<Area> {
        let of = |shape: &str| {
            let number = |name: &str| -> f64 {
                let at = shape.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
                let rest = &shape[at..];
                rest[..rest.find('"').unwrap()].parse().unwrap()
            };
            let (left, top) = (number("x"), number("y"));
            Area {
                left,
                top,
                right: left + number("width"),
                bottom: top + number("height"),
            }
        };
        svg.match_indices(before)
            .map(|(at, _)| {
                let shape = &svg[at + before.len() - 6..];
                of(&shape[..shape.find("/>").unwrap()])
            })
            .collect()
    }

    /// All boxes of a picture, of nodes and of labels.
    fn boxes(svg: &str) -> Vec<Area> {
        let mut all = areas(svg, "</title><rect ");
        all.extend(areas(svg, "<g class=\"tag\"><rect "));
        all.extend(areas(svg, "<g class=\"tag critical\"><rect "));
        all
    }

    fn overlap(one: &Area, other: &Area) -> bool {
        // Coordinates are rounded to one decimal place.
        let slack = 0.15;
        one.left + slack < other.right
            && other.left + slack < one.right
            && one.top + slack < other.bottom
            && other.top + slack < one.bottom
    }

    #[track_caller]
    fn check_nothing_overlaps(graph: &Graph) {
        let svg = svg(graph).unwrap();
        let boxes = boxes(&svg);
        assert_eq!(boxes.len(), graph.nodes.len() + graph.edges.len());
        for (at, one) in boxes.iter().enumerate() {
            for other in &boxes[..at] {
                assert!(!overlap(one, other), "{one:?} and {other:?}");
            }
        }
    }

    /// 200 tasks with random but repeatable dependencies on earlier ones, and names of various
    /// lengths.
    fn large(seed: u64, reach: u64) -> Graph {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let mut samples = Vec::new();
        let mut edges = std::collections::BTreeMap::new();
        for number in 1..=200_u128 {
            let name = "step-".repeat(1 + usize::try_from(below(9)).unwrap());
            let sample = named(task(number), &format!("{name}{number}"));
            samples.push(match below(4) {
                0 => sample.succeeded(NOW - 90_000, NOW - below(60_000)),
                1 => sample.running(NOW - below(60_000)).expected(90_000),
                2 => sample.failed(NOW - 90_000, NOW - 10_000),
                _ => sample,
            });
            for _ in 0..below(3) {
                let back = 1 + u128::from(below(reach));
                if back < number {
                    let condition =
                        ["succeeded", "completed", "any"][usize::try_from(below(3)).unwrap()];
                    edges.insert((number - back, number), condition);
                }
            }
        }
        let edges: Vec<_> = edges
            .into_iter()
            .map(|((from, to), condition)| (from, to, condition))
            .collect();
        graph_with(samples, &edges)
    }

    #[test]
    fn no_boxes_overlap() {
        check_nothing_overlaps(&release());
        check_nothing_overlaps(&awkward());
        for seed in 1..=5 {
            check_nothing_overlaps(&large(seed, 8));
            check_nothing_overlaps(&large(seed, 150));
        }
        // A fan-out and fan-in.
        let middle: Vec<_> = (2..200).flat_map(|task| [(1, task), (task, 200)]).collect();
        check_nothing_overlaps(&graph((1..=200).map(task).collect(), &middle));
        check_nothing_overlaps(&graph((1..=200).map(task).collect(), &[]));
        let chain: Vec<_> = (1..200).map(|task| (task, task + 1)).collect();
        check_nothing_overlaps(&graph((1..=200).map(task).collect(), &chain));
    }

    #[test]
    fn the_picture_of_a_sample_graph_is_as_recorded() {
        insta::assert_snapshot!("svg", svg(&release()).unwrap());
    }

    #[test]
    fn names_are_escaped() {
        let svg = svg(&awkward()).unwrap();
        assert!(
            svg.contains("say &quot;hi&quot; &amp; &lt;b&gt;bo"),
            "{svg}"
        );
        assert!(!svg.contains("<b>"));
        let allowed = |c: char| c == '\n' || !c.is_control() && c != '\u{fffe}';
        assert!(svg.chars().all(allowed));
    }

    #[test]
    fn an_empty_graph_has_a_picture() {
        let svg = svg(&graph(Vec::new(), &[])).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_graph_too_large_for_a_picture_is_refused() {
        let graph = graph((1..=1_001).map(task).collect(), &[]);
        let error = svg(&graph).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Limit);
        assert!(error.message.starts_with("1001 tasks with 0 edges"));
    }
}
