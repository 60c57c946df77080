//! Reads a recording back as text at a given time. It refuses elements that our drawings do not
//! use, above all elements that could load or run something.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use roxmltree::{Document, Node};

use super::svg::{BASELINE, CELL};

/// The elements of a drawing.
const ELEMENTS: &[&str] = &["svg", "title", "desc", "style", "rect", "g", "text"];

/// States of an animation, each with the moment from which it applies, in hundredths of the film's
/// length.
type States = Vec<(f64, String)>;

/// A recording that was read.
pub struct Recorded {
    length_s: f64,
    rows: usize,
    texts: Vec<Text>,
    states: BTreeMap<String, States>,
}

struct Text {
    row: usize,
    column: usize,
    said: String,
    /// Groups (`<g>`) that contain the text, outermost first.
    groups: Vec<Group>,
}

#[derive(Clone)]
struct Group {
    name: String,
    /// Whether the group is visible in a viewer without animation.
    is_visible: bool,
}

impl Recorded {
    pub fn read(svg: &str) -> Result<Self> {
        let document = Document::parse(svg)?;
        for node in document.descendants().filter(Node::is_element) {
            check(&node)?;
        }
        let named = |name: &'static str| {
            let mut nodes = document.descendants();
            nodes.find(move |node| node.has_tag_name(name))
        };
        let style = named("style")
            .and_then(|node| node.text())
            .context("no style")?;
        for piece in ["@import", "url("] {
            ensure!(!style.contains(piece), "`{piece}` loads something");
        }
        for name in ["title", "desc"] {
            let said = named(name).and_then(|node| node.text());
            ensure!(said.is_some_and(|text| !text.is_empty()), "no {name}");
        }
        let inner = document.root_element();
        let inner = inner.children().find(|node| node.has_tag_name("svg"));
        let inner = inner.context("no screen")?;
        let texts = inner.descendants().filter(|node| node.has_tag_name("text"));
        Ok(Self {
            length_s: length(style)?,
            rows: place(attribute(&inner, "height")?, 0.0, CELL.1)?,
            texts: texts.map(|node| Text::read(&node)).collect::<Result<_>>()?,
            states: keyframes(style)?,
        })
    }

    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.length_s)
    }

    /// The visible rows at this time.
    pub fn seen(&self, at: Duration) -> Result<Vec<String>> {
        let percent = at.as_secs_f64() / self.length_s * 100.0;
        let is_full = self.state("full", percent).contains("visible");
        let mut rows = self.layer(is_full, percent);
        if is_full {
            rows.resize(self.rows, String::new());
            return Ok(rows);
        }
        let cursor = self.state("cursor", percent);
        if cursor.contains("visible") {
            let (column, row) = translation(cursor)?;
            rows.resize(rows.len().max(row + 1), String::new());
            rows[row] = rows[row].chars().take(column).collect();
        }
        let (_, first) = translation(self.state("scroll", percent))?;
        rows.resize(rows.len().max(first + self.rows), String::new());
        let seen = rows[first..][..self.rows].iter();
        Ok(seen.map(|row| row.trim_end().to_owned()).collect())
    }

    /// All lines of the normal screen at the end of the film, including those that have scrolled
    /// off. A row that fills the whole width is joined with the next row, because its line was
    /// wrapped.
    pub fn transcript(&self, columns: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut goes_on = false;
        for row in self.layer(false, 100.0) {
            let is_full = row.chars().count() == columns;
            match lines.last_mut().filter(|_| goes_on) {
                Some(line) => line.push_str(&row),
                None => lines.push(row),
            }
            goes_on = is_full;
        }
        lines
    }

    /// Content of one of the two screens at this time, including rows that have scrolled off.
    fn layer(&self, full: bool, percent: f64) -> Vec<String> {
        let mut rows: Vec<Vec<char>> = Vec::new();
        for text in &self.texts {
            let is_of_it = text.groups.iter().any(|group| group.name == "full") == full;
            if !is_of_it || !self.is_there(text, percent) {
                continue;
            }
            rows.resize(rows.len().max(text.row + 1), Vec::new());
            let row = &mut rows[text.row];
            let end = text.column + text.said.chars().count();
            row.resize(row.len().max(end), ' ');
            for (cell, c) in row[text.column..].iter_mut().zip(text.said.chars()) {
                *cell = c;
            }
        }
        rows.into_iter().map(String::from_iter).collect()
    }

    fn is_there(&self, text: &Text, percent: f64) -> bool {
        let Some(group) = text.groups.last() else {
            return true;
        };
        match self.state(&group.name, percent) {
            "" => group.is_visible,
            state => state.contains("visible"),
        }
    }

    /// The state of the animation of this name at this time; empty if there is no such animation.
    fn state(&self, name: &str, percent: f64) -> &str {
        let states = self.states.get(name).map_or(&[][..], Vec::as_slice);
        let passed = states.iter().take_while(|(from, _)| *from <= percent);
        passed.last().map_or("", |(_, state)| state)
    }
}

impl Text {
    fn read(node: &Node) -> Result<Self> {
        let ancestors = node.ancestors().filter(|node| node.has_tag_name("g"));
        let mut groups = ancestors
            .map(|node| Group::read(&node))
            .collect::<Result<Vec<_>>>()?;
        groups.reverse();
        Ok(Self {
            row: place(attribute(node, "y")?, BASELINE, CELL.1)?,
            column: place(attribute(node, "x")?, 0.0, CELL.0)?,
            said: node.text().context("no text")?.replace('\u{a0}', " "),
            groups,
        })
    }
}

impl Group {
    fn read(node: &Node) -> Result<Self> {
        let class = attribute(node, "class")?;
        let name = class
            .strip_prefix("moves ")
            .context("the class of a <g> does not begin with `moves`")?;
        Ok(Self {
            name: name.to_owned(),
            is_visible: node.attribute("visibility") != Some("hidden"),
        })
    }
}

fn check(node: &Node) -> Result<()> {
    let name = node.tag_name().name();
    ensure!(
        ELEMENTS.contains(&name),
        "<{name}> is not part of a drawing"
    );
    for attribute in node.attributes() {
        let name = attribute.name();
        if name.starts_with("on") || name.ends_with("href") || name == "style" {
            bail!("`{name}` is not part of a drawing");
        }
    }
    Ok(())
}

fn attribute<'a>(node: &Node<'a, '_>, name: &str) -> Result<&'a str> {
    let found = node.attribute(name);
    found.with_context(|| format!("no `{name}` of <{}>", node.tag_name().name()))
}

/// The row or column whose cell has this coordinate.
fn place(text: &str, origin: f64, cell: f64) -> Result<usize> {
    let value: f64 = text
        .parse()
        .with_context(|| format!("{text:?} is not a number"))?;
    let count = (value - origin) / cell;
    ensure!(
        (count - count.round()).abs() < 0.01 && count > -0.01,
        "{text} is not the position of a cell"
    );
    format!("{:.0}", count.round().abs())
        .parse()
        .context("the number of a cell is too large")
}

/// Column and row of `transform:translate(…px,…px)`. The sign of the row is ignored: the cursor is
/// moved down by a positive distance, and the screen is scrolled up by a negative distance.
fn translation(state: &str) -> Result<(usize, usize)> {
    let inner = state
        .split_once("translate(")
        .and_then(|(_, rest)| rest.split_once(')'));
    let (x, y) = inner
        .and_then(|(inner, _)| inner.split_once(','))
        .with_context(|| format!("no translation: {state}"))?;
    let y = y.trim_start_matches('-').trim_end_matches("px");
    Ok((
        place(x.trim_end_matches("px"), 0.0, CELL.0)?,
        place(y, 0.0, CELL.1)?,
    ))
}

/// The film's length in seconds, from `.moves{animation:…s step-end infinite}`.
fn length(style: &str) -> Result<f64> {
    let rest = style.split_once(".moves{animation:").map(|(_, rest)| rest);
    let seconds = rest
        .and_then(|rest| rest.split_once('s'))
        .context("no length")?
        .0;
    seconds
        .parse()
        .with_context(|| format!("{seconds:?} is not a number"))
}

/// States of all animations, by name.
fn keyframes(style: &str) -> Result<BTreeMap<String, States>> {
    let mut all = BTreeMap::new();
    for part in style.split("@keyframes ").skip(1) {
        let (name, rest) = part.split_once('{').context("keyframes without states")?;
        let (states, _) = rest.split_once("}}").context("keyframes without an end")?;
        let states = states.split('}').map(|state| {
            let (percent, state) = state.split_once("%{").context("a state without a time")?;
            let percent: f64 = percent.parse().with_context(|| format!("{percent:?}"))?;
            Ok((percent, state.to_owned()))
        });
        let states: States = states.collect::<Result<_>>()?;
        ensure!(
            states.is_sorted_by(|a, b| a.0 < b.0) && states.first().is_some_and(|it| it.0 == 0.0),
            "the states of `{name}` are not ordered by time"
        );
        all.insert(name.to_owned(), states);
    }
    Ok(all)
}
