//! Positions of boxes, edges and labels, computed by a library.
//!
//! The layered (Sugiyama) layout reserves space for the labels of edges, so that nothing overlaps.

use dugong::{
    EdgeLabel, GraphLabel, LabelPos, NodeLabel, RankDir,
    graphlib::{Graph, GraphOptions},
};

/// Gaps between boxes of a rank, between edges, and between ranks.
const NODE_GAP: f64 = 22.0;
const EDGE_GAP: f64 = 12.0;
const RANK_GAP: f64 = 56.0;
/// Preferred ratio of width to height, about that of a screen.
const BEST_RATIO: f64 = 1.6;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// An edge to place, with the numbers of its nodes.
pub(super) struct Wanted {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Size,
}

pub(super) struct Route {
    pub(super) points: Vec<Point>,
    /// Centre of the label.
    pub(super) label: Point,
}

pub(super) struct Layout {
    pub(super) size: Size,
    /// Centres of the boxes.
    pub(super) boxes: Vec<Point>,
    pub(super) routes: Vec<Route>,
}

/// The library failed to place a box or an edge. This is not known to happen if the graph has no
/// cycle.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    #[error("the layout failed: {0}")]
    Failed(#[from] dugong::LayoutError),
    #[error("the layout is incomplete")]
    Incomplete,
}

/// Lays the graph out from left to right or from top to bottom, whichever is nearer to the ratio of
/// a screen.
pub(super) fn lay_out(boxes: &[Size], edges: &[Wanted]) -> Result<Layout, LayoutError> {
    let across = lay_out_towards(RankDir::LR, boxes, edges)?;
    let down = lay_out_towards(RankDir::TB, boxes, edges)?;
    let strain = |layout: &Layout| {
        (layout.size.width / layout.size.height / BEST_RATIO)
            .ln()
            .abs()
    };
    // Prefers left to right, because a column of names is easier to read than a row.
    if strain(&across) <= strain(&down) || edges.is_empty() {
        Ok(across)
    } else {
        Ok(down)
    }
}

fn lay_out_towards(
    direction: RankDir,
    boxes: &[Size],
    edges: &[Wanted],
) -> Result<Layout, LayoutError> {
    let mut graph: Graph<NodeLabel, EdgeLabel, GraphLabel> = Graph::new(GraphOptions {
        directed: true,
        multigraph: false,
        compound: false,
    });
    graph.set_graph(GraphLabel {
        rankdir: direction,
        nodesep: NODE_GAP,
        edgesep: EDGE_GAP,
        ranksep: RANK_GAP,
        ..GraphLabel::default()
    });
    for (number, size) in boxes.iter().enumerate() {
        let node = NodeLabel {
            width: size.width,
            height: size.height,
            ..NodeLabel::default()
        };
        graph.set_node(key(number), node);
    }
    for edge in edges {
        let label = EdgeLabel {
            width: edge.label.width,
            height: edge.label.height,
            labelpos: LabelPos::C,
            weight: 1.0,
            ..EdgeLabel::default()
        };
        graph.set_edge_with_label(key(edge.from), key(edge.to), label);
    }
    dugong::layout(&mut graph)?;
    read(&graph, boxes.len(), edges).ok_or(LayoutError::Incomplete)
}

fn read(
    graph: &Graph<NodeLabel, EdgeLabel, GraphLabel>,
    boxes: usize,
    edges: &[Wanted],
) -> Option<Layout> {
    let place = |x: Option<f64>, y: Option<f64>| Some(Point { x: x?, y: y? });
    let middle = |number| {
        let node = graph.node(&key(number))?;
        place(node.x, node.y)
    };
    let route = |edge: &Wanted| {
        let found = graph.edge(&key(edge.from), &key(edge.to), None)?;
        let points = found.points.iter();
        Some(Route {
            points: points.map(|at| Point { x: at.x, y: at.y }).collect(),
            label: place(found.x, found.y)?,
        })
    };
    Some(Layout {
        size: Size {
            width: graph.graph().width,
            height: graph.graph().height,
        },
        boxes: (0..boxes).map(middle).collect::<Option<_>>()?,
        routes: edges.iter().map(route).collect::<Option<_>>()?,
    })
}

fn key(number: usize) -> String {
    format!("n{number}")
}
