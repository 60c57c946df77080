//! The terminal during the live view: an alternate screen in raw mode. The terminal is restored
//! when the view ends, is suspended or panics.

use std::{
    fmt::Write as _,
    io::{self, Write},
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use crossterm::terminal;
use ratatui_core::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::{
    super::{
        output,
        terminal::{Colour, Look},
    },
    draw::Row,
};
use crate::panics;

/// Switches to the alternate screen and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";
/// Begins a synchronised update. A terminal that supports this shows the update in one step.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[0m\x1b[?2026l";
/// Size of a terminal that does not report its size.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Whether the terminal must be restored; static so that the panic hook can read it.
static IS_ON: AtomicBool = AtomicBool::new(false);

pub(super) struct Screen {
    /// Current contents of the screen.
    shown: Buffer,
    colours: bool,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !panics::is_caught() {
                restore();
            }
            before(panic);
        }));
        let mut screen = Self {
            shown: Buffer::empty(Rect::ZERO),
            colours: Look::of_stdout().colours,
        };
        screen.resume()?;
        Ok(screen)
    }

    /// Switches the terminal to raw mode and to the alternate screen, at the start or after a
    /// suspension. The next frame redraws everything.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        terminal::enable_raw_mode()?;
        IS_ON.store(true, Ordering::SeqCst);
        self.forget();
        put(ENTER)
    }

    /// Restores the terminal.
    pub(super) fn leave() {
        restore();
    }

    /// Redraws everything with the next frame.
    pub(super) fn forget(&mut self) {
        self.shown = Buffer::empty(Rect::ZERO);
    }

    /// Columns and lines of the terminal.
    pub(super) fn size() -> (u16, u16) {
        match terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => (width, height),
            _ => USUAL_SIZE,
        }
    }

    /// Writes the cells that have changed, if any.
    pub(super) fn draw(&mut self, rows: &[Row], size: (u16, u16)) -> io::Result<()> {
        match self.update(rows, size) {
            Some(text) => put(&text),
            None => Ok(()),
        }
    }

    /// The output that changes the current contents into these lines; `None` if nothing changes.
    fn update(&mut self, rows: &[Row], (width, height): (u16, u16)) -> Option<String> {
        let area = Rect::new(0, 0, width, height);
        let mut next = Buffer::empty(area);
        for (y, row) in (0..height).zip(rows) {
            self.put_row(&mut next, y, row);
        }
        let is_new = self.shown.area != area;
        if is_new {
            self.shown = Buffer::empty(area);
        }
        let written = written(&self.shown.diff(&next));
        self.shown = next;
        match (is_new, written.is_empty()) {
            (false, true) => None,
            (false, false) => Some(format!("{BEGIN}{written}{END}")),
            (true, _) => Some(format!("{BEGIN}\x1b[0m\x1b[2J{written}{END}")),
        }
    }

    fn put_row(&self, buffer: &mut Buffer, y: u16, row: &Row) {
        let width = buffer.area.width;
        let mut x = 0;
        for piece in &row.pieces {
            let text = output::as_shown(&piece.text);
            let left = usize::from(width.saturating_sub(x));
            let style = self.style(piece.colour);
            (x, _) = buffer.set_stringn(x, y, text, left, style);
        }
        if row.is_selected {
            let line = Rect::new(0, y, width, 1);
            buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }

    fn style(&self, colour: Option<Colour>) -> Style {
        let style = Style::new();
        match colour {
            Some(Colour::Bold) => style.add_modifier(Modifier::BOLD),
            Some(colour) if self.colours => style.fg(match colour {
                Colour::Red => Color::Red,
                Colour::Green => Color::Green,
                Colour::Yellow => Color::Yellow,
                Colour::Magenta => Color::Magenta,
                Colour::Cyan => Color::Cyan,
                Colour::Grey | Colour::Bold => Color::DarkGray,
            }),
            _ => style,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once. Errors are ignored, since a closed terminal cannot be restored.
fn restore() {
    if IS_ON.swap(false, Ordering::SeqCst) {
        drop(put(LEAVE));
        drop(terminal::disable_raw_mode());
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The changed cells as terminal output.
fn written(changed: &[(u16, u16, &Cell)]) -> String {
    let mut text = String::new();
    let mut cursor = None;
    let mut style = None;
    for (x, y, cell) in changed {
        if cursor != Some((*x, *y)) {
            // Writing to a string never fails.
            write!(text, "\x1b[{};{}H", y + 1, x + 1).unwrap_or_default();
        }
        let wanted = (cell.fg, cell.modifier);
        if style != Some(wanted) {
            text.push_str(&sgr(wanted));
            style = Some(wanted);
        }
        text.push_str(cell.symbol());
        let width = u16::try_from(crate::text::columns(cell.symbol())).unwrap_or(1);
        cursor = Some((x + width.max(1), *y));
    }
    text
}

fn sgr((colour, modifier): (Color, Modifier)) -> String {
    let mut text = "\x1b[0".to_owned();
    if modifier.contains(Modifier::BOLD) {
        text.push_str(";1");
    }
    if modifier.contains(Modifier::REVERSED) {
        text.push_str(";7");
    }
    text.push_str(match colour {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Magenta => ";35",
        Color::Cyan => ";36",
        Color::DarkGray => ";90",
        _ => "",
    });
    text.push('m');
    text
}

#[cfg(test)]
mod tests {
    use claudine_domain::time::Timestamp;

    use super::*;
    use crate::api::cli::top::draw::{
        self,
        tests::{NOW, model},
    };

    const SIZE: (u16, u16) = (80, 24);

    /// The output at the start of the view, and the output of each of the next seconds.
    fn updates(seconds: u64) -> Vec<String> {
        let mut screen = Screen {
            shown: Buffer::empty(Rect::ZERO),
            colours: true,
        };
        let mut model = model();
        let updates = (0..=seconds).map(|second| {
            let now = Timestamp(NOW.0 + 1_000 * second);
            let rows = draw::screen(&mut model, SIZE.0, SIZE.1, now);
            screen.update(&rows, SIZE).unwrap_or_default()
        });
        updates.collect()
    }

    #[test]
    fn each_line_is_written_in_its_colours() {
        let first = updates(0).concat();
        // Each move of the cursor begins a new line of the snapshot.
        let pieces = first.split('\u{1b}').map(|piece| {
            let command = piece.chars().find(char::is_ascii_alphabetic);
            let line_end = if command == Some('H') { "\n" } else { "" };
            format!("{line_end}␛{piece}")
        });
        insta::assert_snapshot!("in_colour", pieces.skip(1).collect::<String>());
    }

    #[test]
    fn few_bytes_are_written_while_tasks_run() {
        for update in &updates(5)[1..] {
            assert!((1..200).contains(&update.len()), "{update:?}");
            assert!(!update.contains("\x1b[2J"), "{update:?}");
        }
    }

    #[test]
    fn only_changed_cells_are_written() {
        let area = Rect::new(0, 0, 10, 2);
        let mut before = Buffer::empty(area);
        before.set_string(0, 0, "one two", Style::new());
        let mut after = before.clone();
        assert_eq!(written(&before.diff(&after)), "");
        after.set_string(4, 0, "tea", Style::new().fg(Color::Red));
        assert_eq!(written(&before.diff(&after)), "\x1b[1;5H\x1b[0;31mtea");
        let mut wide = before.clone();
        wide.set_string(0, 1, "漢a", Style::new().add_modifier(Modifier::REVERSED));
        assert_eq!(written(&before.diff(&wide)), "\x1b[2;1H\x1b[0;7m漢a");
    }
}
