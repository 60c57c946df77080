//! The content of a screen at one moment.

use vt100::{Cell, Color, Screen};

/// Style of a character.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Style {
    /// One of the terminal's sixteen colours; `None` is the colour of ordinary text.
    pub(super) colour: Option<u8>,
    pub(super) bold: bool,
    pub(super) reversed: bool,
}

impl Style {
    /// Panics if the cell has a style that cannot be drawn, because the recording would be wrong.
    fn of(cell: &Cell) -> Self {
        assert!(
            !cell.dim() && !cell.italic() && !cell.underline(),
            "text that is dim, italic or underlined is not drawn: {cell:?}"
        );
        assert!(
            cell.bgcolor() == Color::Default,
            "backgrounds are not drawn: {cell:?}"
        );
        let colour = match cell.fgcolor() {
            Color::Default => None,
            Color::Idx(index @ 0..=15) => Some(index),
            other => panic!("{other:?} is not drawn"),
        };
        Self {
            colour,
            bold: cell.bold(),
            reversed: cell.inverse(),
        }
    }
}

/// Text in one style.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Run {
    pub(super) column: usize,
    pub(super) text: String,
    pub(super) style: Style,
}

/// A row of a screen, without trailing blanks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Row(Vec<(char, Style)>);

impl Row {
    fn read(screen: &Screen, row: u16) -> Self {
        let (_, columns) = screen.size();
        let cells = (0..columns.get()).map(|column| {
            let cell = screen.cell(row, column).expect("within the screen");
            assert!(!cell.is_wide(), "wide characters are not drawn: {cell:?}");
            let mut characters = cell.contents().chars();
            let character = characters.next().unwrap_or(' ');
            assert!(characters.next().is_none(), "several characters: {cell:?}");
            (character, Style::of(cell))
        });
        let mut cells: Vec<_> = cells.collect();
        while cells.pop_if(|(c, style)| is_blank(*c, *style)).is_some() {}
        Self(cells)
    }

    pub(super) fn width(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    fn text(&self) -> String {
        self.0.iter().map(|(c, _)| c).collect()
    }

    /// Whether this row is the row `before` with additions that all begin at the column `from` or
    /// further to the right.
    pub(super) fn continues(&self, before: &Self, from: usize) -> bool {
        let Some(more) = self.0.strip_prefix(&before.0[..]) else {
            return false;
        };
        let between = from.saturating_sub(before.width()).min(more.len());
        more[..between]
            .iter()
            .all(|(c, style)| is_blank(*c, *style))
    }

    /// The row as pieces of text without runs of blanks. Characters beyond ASCII are in separate
    /// pieces, because they have another width in many fonts.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut blanks = 0;
        for (column, (character, style)) in self.0.iter().enumerate() {
            if is_blank(*character, *style) {
                blanks += 1;
                continue;
            }
            let fits = |run: &&mut Run| {
                run.style == *style && run.text.is_ascii() == character.is_ascii() && blanks < 2
            };
            match runs.last_mut().filter(fits) {
                Some(run) => {
                    run.text.extend((0..blanks).map(|_| ' '));
                    run.text.push(*character);
                }
                None => runs.push(Run {
                    column,
                    text: character.to_string(),
                    style: *style,
                }),
            }
            blanks = 0;
        }
        runs
    }
}

fn is_blank(character: char, style: Style) -> bool {
    character == ' ' && !style.reversed
}

/// A screen at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Picture {
    /// The normal screen, including rows that have scrolled off its top.
    pub(super) rows: Vec<Row>,
    /// First row that is still visible.
    pub(super) first: usize,
    /// Content of a program that uses the whole screen, such as `top`.
    pub(super) full: Option<Vec<Row>>,
    /// Row and column of the cursor; `None` if the cursor is hidden or text stands under it or to
    /// its right.
    pub(super) cursor: Option<(usize, usize)>,
}

impl Picture {
    /// The picture that follows the picture `before`. The emulator's screen is high enough for all
    /// output, but only `height` rows of it are visible.
    pub(super) fn after(before: Option<&Self>, screen: &Screen, height: u16) -> Self {
        let (first, rows) = before.map_or((0, &[][..]), |it| (it.first, &it.rows));
        if screen.alternate_screen() {
            let full = (0..height).map(|row| Row::read(screen, row)).collect();
            return Self {
                rows: rows.to_vec(),
                first,
                full: Some(full),
                cursor: None,
            };
        }
        let (row, column) = screen.cursor_position();
        let rows = read_used(screen, row);
        let (row, column) = (usize::from(row), usize::from(column));
        let is_shown = !screen.hide_cursor() && rows[row].width() <= column;
        Self {
            first: first.max((row + 1).saturating_sub(usize::from(height))),
            full: None,
            cursor: is_shown.then_some((row, column)),
            rows,
        }
    }

    /// The visible rows.
    #[cfg(test)]
    pub(super) fn seen(&self, height: u16) -> Vec<String> {
        let rows = match &self.full {
            Some(rows) => &rows[..],
            None => &self.rows[self.first..],
        };
        let seen = rows
            .iter()
            .map(Row::text)
            .chain(std::iter::repeat(String::new()));
        seen.take(usize::from(height)).collect()
    }
}

/// The rows down to the last row with content or to the cursor, whichever is lower.
fn read_used(screen: &Screen, cursor: u16) -> Vec<Row> {
    let (height, _) = screen.size();
    assert!(
        cursor + 1 < height.get(),
        "a scene of more than {height} rows would lose rows at the top"
    );
    let mut rows: Vec<Row> = (0..height.get())
        .map(|row| Row::read(screen, row))
        .collect();
    let used = rows.iter().rposition(|row| row.width() > 0);
    rows.truncate(used.map_or(0, |row| row + 1).max(usize::from(cursor) + 1));
    rows
}
