//! Turns frames into pieces of text, each with the period in which it is visible, so that text that
//! stays on the screen is drawn only once.

use std::{collections::BTreeMap, time::Duration};

use super::{
    film::{Film, Frame},
    picture::{Picture, Row, Run},
};

/// Period in which a piece of text is visible. A period without an end lasts to the end of the
/// film.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Lasting {
    pub(super) from: Duration,
    pub(super) to: Option<Duration>,
}

/// The normal screen, or the screen of programs that use the whole terminal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Layer {
    Usual,
    Full,
}

/// Pieces of text with their rows, by layer and period.
pub(super) type Pieces = BTreeMap<(Layer, Lasting), Vec<(usize, Run)>>;

/// The text of the film in pieces. A typed line is drawn as a whole from its first key on; the
/// cursor hides the part of its row that is not typed yet.
pub(super) fn of(film: &Film) -> Pieces {
    let mut pieces = Pieces::new();
    let pictures = || film.frames.iter().map(|frame| &frame.picture);
    let usual = pictures().map(|it| it.rows.len()).max().unwrap_or(0);
    for row in 0..usual {
        let cursor = |picture: &Picture| {
            let (cursor_row, column) = picture.cursor?;
            (cursor_row == row).then_some(column)
        };
        let versions = versions(&film.frames, |picture| picture.rows.get(row), cursor);
        add(&mut pieces, Layer::Usual, row, versions);
    }
    for row in 0..usize::from(film.size.1) {
        let versions = versions(
            &film.frames,
            |picture| picture.full.as_ref()?.get(row),
            |_| None,
        );
        add(&mut pieces, Layer::Full, row, versions);
    }
    pieces
}

/// Successive contents of a row, each with the time from which it is shown.
fn versions<'f>(
    frames: &'f [Frame],
    at: impl Fn(&'f Picture) -> Option<&'f Row>,
    cursor: impl Fn(&Picture) -> Option<usize>,
) -> Vec<(Duration, Row)> {
    let mut versions: Vec<(Duration, Row)> = Vec::new();
    // First column that was hidden, with all columns to its right, during the last version's whole
    // period; `None` if there was none.
    let mut hidden: Option<usize> = None;
    for Frame { at: time, picture } in frames {
        let row = at(picture).cloned().unwrap_or_default();
        let cursor = cursor(picture);
        match versions.last_mut() {
            Some((_, last)) if *last == row => {
                hidden = hidden.zip(cursor).map(|(a, b)| a.max(b));
            }
            Some((_, last)) if hidden.is_some_and(|from| row.continues(last, from)) => {
                *last = row;
                hidden = hidden.zip(cursor).map(|(a, b)| a.max(b));
            }
            _ => {
                versions.push((*time, row));
                hidden = cursor;
            }
        }
    }
    versions
}

/// Adds the pieces of a row. A piece stays visible if the next version of the row has it too.
fn add(pieces: &mut Pieces, layer: Layer, row: usize, versions: Vec<(Duration, Row)>) {
    let mut there: BTreeMap<Run, Duration> = BTreeMap::new();
    let mut add = |run: Run, from: Duration, to: Option<Duration>| {
        let lasting = Lasting { from, to };
        pieces.entry((layer, lasting)).or_default().push((row, run));
    };
    for (time, version) in versions {
        let runs = version.runs();
        for (run, from) in there.extract_if(.., |run, _| !runs.contains(run)) {
            add(run, from, Some(time));
        }
        for run in runs {
            there.entry(run).or_insert(time);
        }
    }
    for (run, from) in there {
        add(run, from, None);
    }
}
