//! From frames to pieces of text and the times at which each is there: what stays on the screen is
//! drawn once.

use std::{collections::BTreeMap, time::Duration};

use super::{
    film::{Film, Frame},
    picture::{Picture, Row, Run},
};

/// When something is there; without an end, to that of the film.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Lasting {
    pub(super) from: Duration,
    pub(super) to: Option<Duration>,
}

/// The usual screen, or the one of programs that take all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Layer {
    Usual,
    Full,
}

/// Text with its row, by when it is there.
pub(super) type Pieces = BTreeMap<(Layer, Lasting), Vec<(usize, Run)>>;

/// The text of the film in pieces. What is typed is there as a whole from its first key on: the
/// cursor hides what is behind it in its row.
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

/// What a row shows, from when on.
fn versions<'f>(
    frames: &'f [Frame],
    at: impl Fn(&'f Picture) -> Option<&'f Row>,
    cursor: impl Fn(&Picture) -> Option<usize>,
) -> Vec<(Duration, Row)> {
    let mut versions: Vec<(Duration, Row)> = Vec::new();
    // From which column on all of the last version's time is hidden, if any.
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

/// Adds the runs of a row. One that the next version has as well stays.
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
