//! Turns keys and output, with their times, into frames. Everything shown is real; only waits are
//! cut.

use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

use vt100::Parser;

use super::{Size, picture::Picture};

/// Rows of the emulator: enough for all output of a scene, so that nothing is lost by scrolling.
const EVERYTHING: u16 = 100;

/// Length to which longer gaps in output are cut.
const LONGEST_GAP: Duration = Duration::from_millis(500);
/// Longest total of all gaps between one key press and the next; further gaps are cut out.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Shortest time between two frames. Output that follows sooner belongs to the previous frame.
const SHORTEST_FRAME: Duration = Duration::from_millis(15);

/// An event at a terminal.
pub(super) enum Event {
    /// Output.
    Output(Vec<u8>),
    /// A key press, for which a person takes some time.
    Key(char),
    /// A pause in which somebody looks at the screen.
    Look(Duration),
}

/// Content of the screen and the time from which it is shown.
pub(super) struct Frame {
    pub(super) at: Duration,
    pub(super) picture: Picture,
}

/// A recording.
pub struct Film {
    pub(super) size: Size,
    pub(super) frames: Vec<Frame>,
    pub(super) length: Duration,
}

/// Cuts the waits out of these events, which are ordered by time.
pub(super) fn cut(events: &[(Instant, Event)], size: Size) -> Film {
    let (columns, height) = size;
    let rows = |count| NonZeroU16::new(count).expect("a screen with room");
    let mut emulator = Parser::new(rows(EVERYTHING), rows(columns), 0);
    let mut frames: Vec<Frame> = Vec::new();
    let (mut now, mut waited) = (Duration::ZERO, Duration::ZERO);
    let mut before = None;
    for (time, event) in events {
        let gap = before.map_or(Duration::ZERO, |before| time.duration_since(before));
        before = Some(*time);
        match event {
            Event::Key(key) => {
                now += pace(*key);
                waited = Duration::ZERO;
            }
            Event::Look(time) => {
                now += *time;
                waited = Duration::ZERO;
            }
            Event::Output(bytes) => {
                let shown = gap
                    .min(LONGEST_GAP)
                    .min(LONGEST_WAIT.saturating_sub(waited));
                waited += shown;
                now += shown;
                emulator.process(bytes);
                let last = frames.last().map(|frame| &frame.picture);
                let picture = Picture::after(last, emulator.screen(), height);
                push(&mut frames, now, picture);
            }
        }
    }
    Film {
        size,
        frames,
        length: now,
    }
}

fn push(frames: &mut Vec<Frame>, at: Duration, picture: Picture) {
    match frames.last_mut() {
        Some(last) if last.picture == picture => {}
        Some(last) if at.saturating_sub(last.at) < SHORTEST_FRAME => last.picture = picture,
        _ => frames.push(Frame { at, picture }),
    }
}

/// Time that a person takes for a key: longer between words and before the end of a line.
fn pace(key: char) -> Duration {
    let millis = match key {
        ' ' => 45,
        '\r' => 220,
        _ => 16 + 4 * (u64::from(key) % 5),
    };
    Duration::from_millis(millis)
}
