//! Draws a film as an animated SVG: text in fixed cells, which CSS shows and hides. Readers who
//! prefer no motion, and viewers without animation, see the last frame.

use std::time::Duration;

use super::{
    film::Film,
    picture::{Picture, Run, Style},
    pieces::{self, Lasting, Layer},
};

/// Size of a cell, and the distance of the text's baseline from the top of the cell.
pub(super) const CELL: (f64, f64) = (8.4, 17.0);
pub(super) const BASELINE: f64 = 13.0;

const PADDING: f64 = 14.0;
const GROUND: &str = "#10151c";
const USUAL: &str = "#d5dbe3";

/// A terminal's colours by number, each readable on the background.
const COLOURS: [&str; 16] = [
    "#6b7480", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#d5dbe3",
    "#8d96a1", "#ffa198", "#a5f0ac", "#f0d27a", "#a5d6ff", "#e2c5ff", "#a5f3f7", "#f4f7fa",
];

const FONTS: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',\
                     'Liberation Mono',monospace";

/// Draws the film. Screen readers read the title and the description.
pub fn draw(film: &Film, title: &str, description: &str) -> String {
    let mut drawing = Drawing {
        film,
        styles: String::new(),
        body: String::new(),
    };
    drawing.usual();
    drawing.full();
    let Drawing { styles, body, .. } = drawing;
    let colours = COLOURS.iter().enumerate();
    let colours: Vec<_> = colours
        .map(|(index, colour)| format!(".c{index}{{fill:{colour}}}"))
        .collect();
    let colours = colours.concat();
    let (columns, rows) = film.size;
    let (x, y) = (f64::from(columns) * CELL.0, f64::from(rows) * CELL.1);
    let (inner_x, inner_y) = (number(x), number(y));
    let (outer_x, outer_y) = (number(x + 2.0 * PADDING), number(y + 2.0 * PADDING));
    // The outline is one unit wide, and extends by half a unit to each side of its position.
    let edge_x = number(x + 2.0 * PADDING - 1.0);
    let edge_y = number(y + 2.0 * PADDING - 1.0);
    let seconds = number(film.length.as_secs_f64());
    let (title, description) = (escaped(title), escaped(description));
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{outer_x}" height="{outer_y}" viewBox="0 0 {outer_x} {outer_y}" role="img" aria-labelledby="title description">
<title id="title">{title}</title>
<desc id="description">{description}</desc>
<style>
text{{font:14px {FONTS};fill:{USUAL}}}
.ground{{fill:{GROUND}}}.edge{{stroke:#3d444d}}.block{{fill:#9aa4b0}}
{colours}.usual{{fill:{USUAL}}}.back{{fill:{GROUND}}}.bold{{font-weight:bold}}
@media (prefers-reduced-motion:no-preference){{
.moves{{animation:{seconds}s step-end infinite}}
{styles}}}
</style>
<rect class="ground edge" x=".5" y=".5" width="{edge_x}" height="{edge_y}" rx="8"/>
<svg x="{PADDING}" y="{PADDING}" width="{inner_x}" height="{inner_y}">
{body}</svg>
</svg>
"#
    )
}

struct Drawing<'f> {
    film: &'f Film,
    styles: String,
    body: String,
}

impl Drawing<'_> {
    /// The normal screen with its cursor, which scroll together.
    fn usual(&mut self) {
        let moved = |picture: &Picture| (0.0, -to_f64(picture.first) * CELL.1);
        self.animate("scroll", &self.changes(|picture| css(moved(picture))));
        let last = attribute(self.last().map_or((0.0, 0.0), moved));
        self.line(&format!(r#"<g class="moves scroll" transform="{last}">"#));
        self.pieces(Layer::Usual, 'u');
        self.cursor();
        self.line("</g>");
    }

    /// The cursor, and the cover that hides the part of its row that is not typed yet.
    fn cursor(&mut self) {
        let place = |(row, column): (usize, usize)| (to_f64(column) * CELL.0, to_f64(row) * CELL.1);
        let states = self.changes(|picture| match picture.cursor {
            Some(cursor) => format!("visibility:visible;{}", css(place(cursor))),
            None => "visibility:hidden".to_owned(),
        });
        self.animate("cursor", &states);
        let last = self.last().and_then(|picture| picture.cursor);
        let visibility = visibility(last.is_some());
        let last = attribute(place(last.unwrap_or_default()));
        let rest = number(f64::from(self.film.size.0) * CELL.0);
        let (width, height) = CELL;
        self.line(&format!(
            r#"<g class="moves cursor" visibility="{visibility}" transform="{last}"><rect class="ground" width="{rest}" height="{height}"/><rect class="block" width="{width}" height="{height}"/></g>"#
        ));
    }

    /// Content of a program that uses the whole screen.
    fn full(&mut self) {
        let states = |picture: &Picture| visibility(picture.full.is_some());
        let changes = self.changes(|picture| format!("visibility:{}", states(picture)));
        self.animate("full", &changes);
        let last = self.last().map_or("hidden", states);
        self.line(&format!(
            r#"<g class="moves full" visibility="{last}"><rect class="ground" width="100%" height="100%"/>"#
        ));
        self.pieces(Layer::Full, 'f');
        self.line("</g>");
    }

    /// The text of a layer, in groups named by this letter and a number.
    fn pieces(&mut self, wanted: Layer, letter: char) {
        let all = pieces::of(self.film);
        let pieces = all.iter().filter(|((layer, _), _)| *layer == wanted);
        for (index, ((_, lasting), runs)) in pieces.enumerate() {
            let name = format!("{letter}{index}");
            let Lasting { from, to } = *lasting;
            let state = |is_shown| format!("visibility:{}", visibility(is_shown));
            let mut states = vec![(from, state(true))];
            if !from.is_zero() {
                states.insert(0, (Duration::ZERO, state(false)));
            }
            states.extend(to.map(|to| (to, state(false))));
            self.animate(&name, &states);
            let last = visibility(to.is_none());
            self.line(&format!(r#"<g class="moves {name}" visibility="{last}">"#));
            for (row, run) in runs {
                self.run(*row, run);
            }
            self.line("</g>");
        }
    }

    /// Draws text. Reversed text is drawn on a rectangle of the text's colour.
    fn run(&mut self, row: usize, run: &Run) {
        let x = number(to_f64(run.column) * CELL.0);
        let width = number(to_f64(run.text.chars().count()) * CELL.0);
        let top = to_f64(row) * CELL.1;
        let Style {
            colour,
            bold,
            reversed,
        } = run.style;
        let mut class = colour.map_or(String::new(), |index| format!("c{index}"));
        let mut text = escaped(&run.text);
        if reversed {
            let filled = if class.is_empty() { "usual" } else { &class };
            let (y, height) = (number(top), number(CELL.1));
            self.line(&format!(
                r#"<rect class="{filled}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
            ));
            class = String::from("back");
            // Several ordinary blanks in a row would be shown as one.
            text = text.replace(' ', "\u{a0}");
        }
        if bold {
            class.push_str(" bold");
        }
        let class = match class.trim_start() {
            "" => String::new(),
            class => format!(r#" class="{class}""#),
        };
        let y = number(top + BASELINE);
        self.line(&format!(
            r#"<text x="{x}" y="{y}" textLength="{width}" lengthAdjust="spacingAndGlyphs"{class}>{text}</text>"#
        ));
    }

    /// Adds keyframes. Each state lasts until the next state, and the last state until the end.
    fn animate(&mut self, name: &str, states: &[(Duration, String)]) {
        let length = self.film.length.as_secs_f64();
        let frames = states.iter().map(|(at, state)| {
            let percent = number(at.as_secs_f64() / length * 100.0);
            format!("{percent}%{{{state}}}")
        });
        let frames = frames.collect::<Vec<_>>().concat();
        let style = format!(".{name}{{animation-name:{name}}}@keyframes {name}{{{frames}}}\n");
        self.styles.push_str(&style);
    }

    /// The successive values of a property of the frames, each with the time from which it applies.
    /// The first value applies from the beginning.
    fn changes(&self, of: impl Fn(&Picture) -> String) -> Vec<(Duration, String)> {
        let mut changes: Vec<(Duration, String)> = Vec::new();
        for frame in &self.film.frames {
            let state = of(&frame.picture);
            match changes.last() {
                None => changes.push((Duration::ZERO, state)),
                Some((_, last)) if *last == state => {}
                Some(_) => changes.push((frame.at, state)),
            }
        }
        changes
    }

    fn last(&self) -> Option<&Picture> {
        self.film.frames.last().map(|frame| &frame.picture)
    }

    fn line(&mut self, text: &str) {
        self.body.push_str(text);
        self.body.push('\n');
    }
}

fn visibility(is_shown: bool) -> &'static str {
    if is_shown { "visible" } else { "hidden" }
}

fn css((x, y): (f64, f64)) -> String {
    format!("transform:translate({}px,{}px)", number(x), number(y))
}

fn attribute((x, y): (f64, f64)) -> String {
    format!("translate({},{})", number(x), number(y))
}

/// A number with at most two decimals.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).expect("a row or a column").into()
}

/// Escapes text for XML. Panics if it contains control characters, which XML does not allow.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        assert!(!c.is_control(), "{c:?} in the text to draw: {text:?}");
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
    }
    escaped
}
