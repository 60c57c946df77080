//! Tests of a recording of invented output and keys, with given times.

use std::time::{Duration, Instant};

use super::{
    Film, Recorded,
    film::{self, Event},
    svg::draw,
};

const SIZE: (u16, u16) = (20, 4);

/// A film of these events, each with its time in milliseconds.
fn at(times: Vec<(u64, Event)>) -> Film {
    let begin = Instant::now();
    let moment = |(millis, event)| (begin + Duration::from_millis(millis), event);
    let events: Vec<_> = times.into_iter().map(moment).collect();
    film::cut(&events, SIZE)
}

fn output(text: &str) -> Event {
    Event::Output(text.as_bytes().to_vec())
}

/// Somebody types two commands: one scrolls the screen, one uses the whole screen.
fn scene() -> Film {
    let mut times = vec![(0, output("$ "))];
    for (millis, key) in (10..).step_by(10).zip("ls  -l".chars()) {
        times.push((millis, Event::Key(key)));
        times.push((millis + 1, output(&key.to_string())));
    }
    times.push((100, Event::Key('\r')));
    times.push((101, output("\r\n")));
    times.push((900, output("\x1b[31mone\x1b[0m   <two> & ───\r\nthree\r\n")));
    times.push((960, output("fo")));
    times.push((1_000, output("ur\r\n$ ")));
    times.push((1_001, Event::Look(Duration::from_secs(1))));
    times.push((
        1_002,
        output("\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H\x1b[7mtop  1s\x1b[0m"),
    ));
    times.push((2_000, output("\x1b[1;6H\x1b[7m2s\x1b[0m\x1b[3;2Hlow")));
    times.push((2_500, output("\x1b[0m\x1b[?25h\x1b[?1049lq\r\n")));
    times.push((2_600, output("\x1b[2A\r\x1b[1mFOUR\x1b[0m\x1b[2B\r$ ")));
    times.push((2_601, Event::Look(Duration::from_secs(1))));
    at(times)
}

#[test]
fn recording_that_is_read_back_shows_each_frame_at_its_time() {
    let film = scene();
    let svg = draw(&film, "A title", "Some <words>");
    let recorded = Recorded::read(&svg).unwrap();
    assert!(film.frames.len() > 12, "{}", film.frames.len());
    for (index, frame) in film.frames.iter().enumerate() {
        // Times are rounded to thousandths of a second.
        let seen = recorded.seen(frame.at + Duration::from_millis(5)).unwrap();
        let expected: Vec<String> = frame.picture.seen(SIZE.1);
        assert_eq!(seen, expected, "frame {index} at {:?}\n{svg}", frame.at);
    }
    let transcript = recorded.transcript(usize::from(SIZE.0));
    let expected = ["$ ls  -l", "one   <two> & ───", "three", "FOUR", "$ q", "$"];
    assert_eq!(transcript, expected, "{svg}");
}

#[test]
fn line_that_is_typed_key_by_key_is_drawn_once() {
    let svg = draw(&scene(), "A title", "Some words");
    assert_eq!(svg.matches(">$ ls</text>").count(), 1, "{svg}");
    assert!(!svg.contains(">$ l</text>"), "{svg}");
}

#[test]
fn long_gaps_and_waits_are_cut_and_pauses_to_look_are_kept() {
    let check = |times: Vec<(u64, Event)>, expected_ms: &[u64]| {
        let film = at(times);
        let mut found: Vec<_> = film.frames.iter().map(|frame| frame.at).collect();
        found.push(film.length);
        let expected: Vec<_> = expected_ms
            .iter()
            .map(|ms| Duration::from_millis(*ms))
            .collect();
        assert_eq!(found, expected);
    };
    // There is a gap of a minute, and output that is too close together for separate frames.
    check(
        vec![
            (0, output("a")),
            (300, output("b")),
            (60_000, output("c")),
            (60_004, output("d")),
        ],
        &[0, 300, 800, 804],
    );
    // A wait with output in each second is cut to two seconds. After a pause to look, another wait
    // begins.
    let ticks = |from: u64| (from..from + 6).map(|s| (s * 1_000, output(&(s % 10).to_string())));
    let mut times: Vec<_> = ticks(0).collect();
    times.push((5_001, Event::Look(Duration::from_secs(3))));
    times.extend(ticks(6));
    check(
        times,
        &[
            0, 500, 1_000, 1_500, 2_000, 5_500, 6_000, 6_500, 7_000, 7_000,
        ],
    );
}

#[test]
fn drawing_that_could_load_or_run_something_is_refused() {
    let svg = draw(&scene(), "A title", "Some words");
    let check = |from: &str, to: &str, why: &str| {
        assert!(svg.contains(from), "{svg}");
        let refused = Recorded::read(&svg.replacen(from, to, 1)).err();
        let refused = refused
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        assert!(refused.contains(why), "{to}: {refused}");
    };
    check("</svg>", "<script/></svg>", "<script> is not part");
    check("<g ", "<g onclick=\"x\" ", "`onclick` is not part");
    check(".bold{", "@import 'x';.bold{", "loads something");
    check(
        "<title id=\"title\">A title",
        "<title id=\"title\">",
        "no title",
    );
    check("</text>", "</txt>", "text");
}
