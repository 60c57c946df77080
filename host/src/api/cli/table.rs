//! Tables for people: never wider than the terminal, and not cut in a pipe.
//!
//! If the terminal is too narrow, long text is first cut to its preferred width, then `Early`
//! columns are left out, then text is cut to its smallest width, then `Late` columns are left out,
//! and finally columns are left out from the right until the rest fits. If only one column remains,
//! it is cut.

use super::terminal::{Colour, Look, Painted, fit, harmless};
use crate::text::columns as width_of;

/// Spaces between two columns.
const GAP: usize = 2;
/// Width of the last column in tables that are printed row by row. It is larger than a terminal, so
/// that the column gets the rest of the line.
pub(super) const THE_REST: usize = 4_096;

/// Properties of a column that do not depend on the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    is_right: bool,
    /// Whether the column is left out if it is empty in all rows.
    is_optional: bool,
    /// Minimum width, for rows that are added later.
    wide: usize,
    /// Preferred and smallest width if the text is cut. The text is cut below the preferred width
    /// before a `Late` column is left out.
    cut: Option<(usize, usize)>,
    goes: Option<Goes>,
}

/// When a column is left out of a narrow table. Columns with lower numbers are left out first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Goes {
    /// Before other columns are cut below their preferred width.
    Early(u8),
    /// Before other columns are cut below their smallest width.
    Late(u8),
}

impl Column {
    pub(super) const fn new(heading: &'static str) -> Self {
        Self {
            heading,
            is_right: false,
            is_optional: false,
            wide: 0,
            cut: None,
            goes: None,
        }
    }

    /// Aligns the column right, for numbers.
    pub(super) const fn right(mut self) -> Self {
        self.is_right = true;
        self
    }

    pub(super) const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    pub(super) const fn wide(mut self, wide: usize) -> Self {
        self.wide = wide;
        self
    }

    /// Allows the text to be cut to the preferred width `well`, and down to `least` once all
    /// `Early` columns are left out.
    pub(super) const fn cut(mut self, well: usize, least: usize) -> Self {
        self.cut = Some((well, least));
        self
    }

    pub(super) const fn goes(mut self, goes: Goes) -> Self {
        self.goes = Some(goes);
        self
    }
}

/// Text of a cell: escaped and on one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: harmless(text).trim_end().to_owned(),
            colour: None,
        }
    }

    pub(super) fn painted(colour: Colour, text: &str) -> Self {
        Self {
            colour: Some(colour),
            ..Self::new(text)
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

/// Headings and rows.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The headings and the rows; empty if there are no rows.
    pub(super) fn shown(&self, look: Look) -> Painted {
        let mut shown = Painted::default();
        if self.is_empty() {
            return shown;
        }
        let layout = self.layout(look);
        shown.append(&layout.line(&self.headings()));
        for row in &self.rows {
            shown.append(&layout.line(row));
        }
        shown
    }

    /// The headings and rows as separate lines without line ends.
    pub(super) fn lines(&self, look: Look) -> Vec<Vec<Piece>> {
        let layout = self.layout(look);
        let headings = self.headings();
        let all = std::iter::once(&headings).chain(&self.rows);
        all.map(|cells| layout.pieces(cells)).collect()
    }

    fn headings(&self) -> Vec<Cell> {
        let headings = self.columns.iter();
        headings
            .map(|column| Cell::painted(Colour::Grey, column.heading))
            .collect()
    }

    /// Positions and widths of the columns, also for rows that are added later.
    pub(super) fn layout(&self, look: Look) -> Layout {
        let mut kept: Vec<Place> = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| width_of(&cell.text)).max().unwrap_or(0);
            if widest > 0 || !column.is_optional {
                kept.push(Place {
                    index,
                    width: widest.max(width_of(column.heading)).max(column.wide),
                    column: *column,
                });
            }
        }
        if let Some(room) = look.columns {
            make_fit(&mut kept, room);
        }
        Layout { places: kept, look }
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    width: usize,
    column: Column,
}

impl Place {
    fn well(&self) -> usize {
        let well = self.column.cut.map_or(self.width, |(well, _)| well);
        well.min(self.width)
    }

    fn least(&self) -> usize {
        let least = self.column.cut.map_or(self.width, |(_, least)| least);
        least.min(self.width)
    }
}

fn total(places: &[Place], width: impl Fn(&Place) -> usize) -> usize {
    let gaps = GAP * places.len().saturating_sub(1);
    places.iter().map(width).sum::<usize>() + gaps
}

fn make_fit(places: &mut Vec<Place>, room: usize) {
    let is_early = |goes: Goes| matches!(goes, Goes::Early(_));
    while total(places, Place::well) > room && drop_next(places, is_early) {}
    while total(places, Place::least) > room && drop_next(places, |_| true) {}
    for floor in [Place::well, Place::least] {
        for at in (0..places.len()).rev() {
            let over = total(places, |place| place.width).saturating_sub(room);
            let least = floor(&places[at]);
            places[at].width = places[at].width.saturating_sub(over).max(least);
        }
    }
    while total(places, |place| place.width) > room && places.len() > 1 {
        places.pop();
    }
    if let [only] = places.as_mut_slice() {
        only.width = only.width.min(room);
    }
}

/// Leaves out the next column that may be left out; returns whether there was such a column.
fn drop_next(places: &mut Vec<Place>, may_go: impl Fn(Goes) -> bool) -> bool {
    let going = |place: &Place| place.column.goes.filter(|goes| may_go(*goes));
    let next = places.iter().enumerate();
    let next = next.filter_map(|(at, place)| Some((going(place)?, at)));
    let Some((_, at)) = next.min() else {
        return false;
    };
    places.remove(at);
    true
}

/// Positions and widths of the columns.
#[derive(Debug)]
pub(super) struct Layout {
    places: Vec<Place>,
    look: Look,
}

impl Layout {
    /// A row of a table that is printed row by row. Columns grow with their text.
    pub(super) fn next_line(&mut self, cells: &[Cell]) -> Painted {
        for place in &mut self.places {
            let width = cells
                .get(place.index)
                .map_or(0, |cell| width_of(&cell.text));
            let most = place.column.cut.map_or(width, |(well, _)| well);
            place.width = place.width.max(width.min(most));
        }
        if let Some(room) = self.look.columns {
            let over = total(&self.places, |place| place.width).saturating_sub(room);
            if let Some(last) = self.places.last_mut() {
                last.width = last.width.saturating_sub(over).max(1);
            }
        }
        self.line(cells)
    }

    /// A row with its newline, without spaces at its end.
    fn line(&self, cells: &[Cell]) -> Painted {
        let mut line = Painted::default();
        for piece in self.pieces(cells) {
            match piece.colour {
                Some(colour) => self.look.paint(&mut line, colour, &piece.text),
                None => line.push(&piece.text),
            }
        }
        line.push("\n");
        line
    }

    fn pieces(&self, cells: &[Cell]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut gap = 0;
        for place in &self.places {
            let cell = cells.get(place.index);
            let Some(cell) = cell.filter(|cell| !cell.text.is_empty()) else {
                gap += place.width + GAP;
                continue;
            };
            let text = match self.look.columns {
                Some(_) => fit(&cell.text, place.width),
                None => cell.text.clone(),
            };
            let padding = place.width.saturating_sub(width_of(&text));
            let (before, after) = if place.column.is_right {
                (padding, 0)
            } else {
                (0, padding)
            };
            if gap + before > 0 {
                pieces.push(Piece {
                    text: " ".repeat(gap + before),
                    colour: None,
                });
            }
            pieces.push(Piece {
                text,
                colour: cell.colour,
            });
            gap = after + GAP;
        }
        pieces
    }
}

/// Part of a line in one colour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) colour: Option<Colour>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] = [
        Column::new("ID"),
        Column::new("KIND").goes(Goes::Early(1)),
        Column::new("COST").right().optional(),
        Column::new("ENDED").goes(Goes::Late(1)),
        Column::new("WHAT").cut(16, 6),
    ];

    fn table(cost: &str) -> Table {
        let mut table = Table::new(&COLUMNS);
        for id in ["a7", "b"] {
            let what = Cell::new("Make all of the tests pass\nagain");
            table.row([id.into(), "shell".into(), cost.into(), "12:30".into(), what]);
        }
        table
    }

    fn first_row(cost: &str, columns: Option<usize>) -> String {
        let look = Look {
            colours: false,
            columns,
        };
        let shown = table(cost).shown(look);
        shown.as_str().lines().nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn narrow_tables_leave_out_columns_and_cut_text_in_order() {
        let check = |columns: Option<usize>, expected: &str| {
            assert_eq!(first_row("", columns), expected, "{columns:?}");
        };
        let whole = "a7  shell  12:30  Make all of the tests pass again";
        check(None, whole);
        check(Some(50), whole);
        check(Some(40), "a7  shell  12:30  Make all of the tests…");
        check(Some(34), "a7  shell  12:30  Make all of the…");
        check(Some(33), "a7  12:30  Make all of the tests…");
        check(Some(20), "a7  12:30  Make all…");
        check(Some(17), "a7  12:30  Make …");
        check(Some(16), "a7  Make all of…");
        check(Some(10), "a7  Make …");
        check(Some(9), "a7");
        check(Some(3), "a7");
        check(Some(1), "…");
    }

    #[test]
    fn numbers_are_aligned_right_and_empty_columns_are_left_out() {
        assert_eq!(
            first_row("$1", None),
            "a7  shell    $1  12:30  Make all of the tests pass again"
        );
        assert!(!table("").shown(WIDE).as_str().contains("COST"));
    }

    const WIDE: Look = Look {
        colours: false,
        columns: None,
    };

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 1..90 {
            let look = Look {
                colours: false,
                columns: Some(columns),
            };
            for cost in ["", "$14.00"] {
                let shown = table(cost).shown(look);
                let widest = shown.as_str().lines().map(width_of).max();
                assert!(widest <= Some(columns), "{columns}: {}", shown.as_str());
            }
        }
    }

    #[test]
    fn colours_do_not_count_as_width_and_escape_codes_in_cells_are_made_visible() {
        let mut table = Table::new(&[Column::new("STATE"), Column::new("NAME")]);
        table.row([
            Cell::painted(Colour::Red, "✗ failed"),
            Cell::new("a\u{1b}[2J"),
        ]);
        let look = Look {
            colours: true,
            columns: Some(40),
        };
        assert_eq!(
            table.shown(look).as_str(),
            "\x1b[90mSTATE\x1b[0m     \x1b[90mNAME\x1b[0m\n\x1b[31m✗ failed\x1b[0m  a\\u{1b}[2J\n"
        );
    }

    #[test]
    fn rows_added_later_are_aligned_with_the_columns() {
        let columns = [
            Column::new("AT").wide(5),
            Column::new("NAME").cut(4, 2),
            Column::new("WORDS").wide(THE_REST).cut(8, 4),
        ];
        let look = |columns| Look {
            colours: false,
            columns,
        };
        let mut layout = Table::new(&columns).layout(look(Some(24)));
        let mut check = |cells: [&str; 3], expected: &str| {
            let line = layout.next_line(&cells.map(Cell::new));
            assert_eq!(line.as_str(), format!("{expected}\n"));
        };
        check(
            ["14:51", "", "attempt 1 started"],
            "14:51        attempt 1 …",
        );
        check(["14:51", "nightly", "done"], "14:51  nig…  done");
        check(
            ["Nov 22 14:51", "a", "attempt 2"],
            "Nov 22 14:51  a     att…",
        );
        check(["14:51", "b", "c"], "14:51         b     c");
        let mut pipe = Table::new(&columns).layout(look(None));
        let line = pipe.next_line(&["14:51", "nightly", "attempt 1 started"].map(Cell::new));
        assert_eq!(line.as_str(), "14:51  nightly  attempt 1 started\n");
    }
}
