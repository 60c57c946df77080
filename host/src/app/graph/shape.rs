//! Computes properties of a graph by node numbers: order, connected components and longest chains.

use std::collections::HashMap;

use petgraph::{
    Direction,
    algo::toposort,
    graph::{DiGraph, NodeIndex},
    unionfind::UnionFind,
    visit::EdgeRef,
};

use super::{CriticalPath, Edge, Node};

/// The structure of a graph. Nodes and edges have the numbers of their positions in the graph.
pub(super) struct Shape {
    /// For each node, its outgoing edges and the dependants they lead to, in the order of the
    /// nodes.
    pub(super) after: Vec<Vec<Step>>,
    /// For each node, the number of its dependencies.
    pub(super) before: Vec<usize>,
    /// For each node, the first node of its connected component.
    pub(super) part: Vec<usize>,
    graph: DiGraph<(), usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Step {
    pub(super) to: usize,
    pub(super) edge: usize,
}

/// The longest chain that ends at a node.
struct Best {
    /// Total time, and number of tasks.
    length: (u64, usize),
    /// The previous node, and the edge from that node to this one.
    through: Option<(usize, usize)>,
}

impl Shape {
    /// Leaves out edges to missing nodes. No host sends such an edge, but an answer over a socket
    /// is not trusted.
    pub(super) fn of(nodes: &[Node], edges: &[Edge]) -> Self {
        let number: HashMap<&str, usize> = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| (node.id.as_str(), number))
            .collect();
        let mut graph = DiGraph::with_capacity(nodes.len(), edges.len());
        for _ in nodes {
            graph.add_node(());
        }
        let mut after = vec![Vec::new(); nodes.len()];
        let mut before = vec![0; nodes.len()];
        let mut parts = UnionFind::<usize>::new(nodes.len());
        for (edge, ends) in edges.iter().enumerate() {
            let ends = (number.get(&*ends.from), number.get(&*ends.to));
            if let (Some(&from), Some(&to)) = ends {
                graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), edge);
                after[from].push(Step { to, edge });
                before[to] += 1;
                parts.union(from, to);
            }
        }
        for steps in &mut after {
            steps.sort_unstable();
        }
        let mut first = HashMap::new();
        let part = (0..nodes.len())
            .map(|node| *first.entry(parts.find(node)).or_insert(node))
            .collect();
        Self {
            after,
            before,
            part,
            graph,
        }
    }

    /// Whether the node has no edges.
    pub(super) fn is_alone(&self, node: usize) -> bool {
        self.before[node] == 0 && self.after[node].is_empty()
    }

    /// The longest chain of each component with edges, as nodes and edges. Of two chains with equal
    /// times, the chain with more tasks is taken, because this is the best guess if no times are
    /// known.
    pub(super) fn longest(&self, weight: &[u64]) -> Vec<(Vec<usize>, Vec<usize>)> {
        // The domain refuses cycles. If a faulty host sends one, there is no longest chain.
        let Ok(order) = toposort(&self.graph, None) else {
            return Vec::new();
        };
        let alone = |own: &u64| Best {
            length: (*own, 1),
            through: None,
        };
        let mut best: Vec<Best> = weight.iter().map(alone).collect();
        for node in order {
            for edge in self.graph.edges_directed(node, Direction::Incoming) {
                let from = edge.source().index();
                let (time, tasks) = best[from].length;
                let length = (time.saturating_add(weight[node.index()]), tasks + 1);
                if length > best[node.index()].length {
                    best[node.index()] = Best {
                        length,
                        through: Some((from, *edge.weight())),
                    };
                }
            }
        }
        let mut ends: HashMap<usize, usize> = HashMap::new();
        for node in (0..best.len()).filter(|node| !self.is_alone(*node)) {
            let end = ends.entry(self.part[node]).or_insert(node);
            if best[node].length > best[*end].length {
                *end = node;
            }
        }
        let mut ends: Vec<(usize, usize)> = ends.into_iter().collect();
        ends.sort_unstable();
        ends.into_iter()
            .map(|(_, end)| walk_back(&best, end))
            .collect()
    }
}

fn walk_back(best: &[Best], end: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut nodes, mut edges) = (vec![end], Vec::new());
    let mut at = end;
    while let Some((from, edge)) = best[at].through {
        nodes.push(from);
        edges.push(edge);
        at = from;
    }
    nodes.reverse();
    edges.reverse();
    (nodes, edges)
}

/// Marks the critical paths and returns them.
pub(super) fn mark_critical(nodes: &mut [Node], edges: &mut [Edge]) -> Vec<CriticalPath> {
    let shape = Shape::of(nodes, edges);
    let weight: Vec<u64> = nodes.iter().map(takes_ms).collect();
    let longest = shape.longest(&weight);
    let tell = |(path, steps): (Vec<usize>, Vec<usize>)| {
        for edge in steps {
            edges[edge].critical = true;
        }
        for node in &path {
            nodes[*node].critical = true;
        }
        let sum = |of: &dyn Fn(&Node) -> u64| {
            path.iter()
                .fold(0, |sum: u64, node| sum.saturating_add(of(&nodes[*node])))
        };
        CriticalPath {
            tasks: path.iter().map(|node| nodes[*node].id.clone()).collect(),
            total_ms: sum(&takes_ms),
            remaining_ms: sum(&remaining_ms),
            is_partly_unknown: path.iter().any(|node| is_unknown(&nodes[*node])),
        }
    };
    longest.into_iter().map(tell).collect()
}

/// The time that a task takes in a chain. For a finished task, this is its run time. For another
/// task, it is the expected run time, but at least the time for which the task has been running.
fn takes_ms(node: &Node) -> u64 {
    let elapsed = node.elapsed_ms.unwrap_or(0);
    if node.outcome.is_some() {
        return elapsed;
    }
    elapsed.max(node.expected_ms.unwrap_or(0))
}

pub(super) fn remaining_ms(node: &Node) -> u64 {
    if node.outcome.is_some() {
        return 0;
    }
    let expected = node.expected_ms.unwrap_or(0);
    let elapsed = if node.is_running() {
        node.elapsed_ms.unwrap_or(0)
    } else {
        0
    };
    expected.saturating_sub(elapsed)
}

pub(super) fn is_unknown(node: &Node) -> bool {
    node.outcome.is_none() && node.expected_ms.is_none()
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    /// The critical paths of a graph by their tasks, each with its total and remaining time.
    fn paths(samples: Vec<Sample>, edges: &[(u128, u128)]) -> Vec<(Vec<String>, u64, u64)> {
        let graph = graph(samples, edges);
        graph
            .critical_paths
            .iter()
            .map(|path| {
                let words = path.tasks.iter().map(|id| number_of(id)).collect();
                (words, path.total_ms, path.remaining_ms)
            })
            .collect()
    }

    #[test]
    fn the_longest_chain_is_the_critical_path() {
        let words = |tasks: &[&str]| tasks.iter().map(|task| (*task).to_owned()).collect();
        let check =
            |samples: Vec<Sample>, edges: &[(u128, u128)], expected: &[(&[&str], u64, u64)]| {
                let expected: Vec<(Vec<String>, u64, u64)> = expected
                    .iter()
                    .map(|(tasks, total, remaining)| (words(tasks), *total, *remaining))
                    .collect();
                assert_eq!(paths(samples, edges), expected, "{edges:?}");
            };
        // Nodes without edges have no path.
        check(vec![task(1), task(2)], &[], &[]);
        // Without known times, the path with the most tasks is critical.
        check(
            vec![task(1), task(2), task(3), task(4)],
            &[(1, 2), (2, 3), (1, 3), (1, 4)],
            &[(&["1", "2", "3"], 0, 0)],
        );
        // One slow task can take longer than many quick tasks.
        check(
            vec![
                task(1).succeeded(0, 1_000),
                task(2).succeeded(1_000, 2_000),
                task(3).succeeded(1_000, 60_000),
                task(4).succeeded(2_000, 3_000),
            ],
            &[(1, 2), (2, 4), (1, 3)],
            &[(&["1", "3"], 60_000, 0)],
        );
        // Each component has its own path.
        check(
            vec![task(1), task(2), task(3), task(4), task(5)],
            &[(4, 5), (1, 2)],
            &[(&["1", "2"], 0, 0), (&["4", "5"], 0, 0)],
        );
        // For a running task, the rest of its expected time counts. If the task takes longer than
        // expected, its run time so far counts.
        check(
            vec![
                task(1).running(NOW - 4_000).expected(10_000),
                task(2).expected(20_000),
                task(3).running(NOW - 50_000).expected(10_000),
                task(4),
            ],
            &[(1, 2), (3, 4)],
            &[(&["1", "2"], 30_000, 26_000), (&["3", "4"], 50_000, 0)],
        );
    }

    #[test]
    fn an_edge_to_a_missing_node_is_left_out() {
        let mut graph = graph(vec![task(1), task(2)], &[(1, 2)]);
        graph.edges[0].to = "task_gone".to_owned();
        let shape = Shape::of(&graph.nodes, &graph.edges);
        assert!(shape.is_alone(0) && shape.is_alone(1));
    }

    #[test]
    fn a_cycle_has_no_longest_chain() {
        let graph = graph(vec![task(1), task(2)], &[(1, 2), (2, 1)]);
        assert_eq!(graph.critical_paths, []);
    }
}
