//! From what was typed and written, with its times, to frames: what is shown is what there was, and
//! what is cut are waits.

use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

use vt100::Parser;

use super::{Size, picture::Picture};

/// Rows of the emulator: all that a scene writes, so that nothing scrolls out of its sight.
const EVERYTHING: u16 = 100;

/// Longer gaps in output are cut.
const LONGEST_GAP: Duration = Duration::from_millis(500);
/// So is what is left of a wait after this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Output that comes sooner belongs to the frame before it.
const SHORTEST_FRAME: Duration = Duration::from_millis(15);

/// What happened at a terminal.
pub(super) enum Event {
    /// Something was written to it.
    Output(Vec<u8>),
    /// Somebody pressed a key, for which a person takes some time.
    Key(char),
    /// Somebody looks for this long at what there is.
    Look(Duration),
}

/// What was on the screen from then on.
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

/// Cuts the waits out of these events, which are in the order of their times.
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

/// How long a person takes for a key: longer between words, and before a line is sent off.
fn pace(key: char) -> Duration {
    let millis = match key {
        ' ' => 45,
        '\r' => 220,
        _ => 16 + 4 * (u64::from(key) % 5),
    };
    Duration::from_millis(millis)
}
