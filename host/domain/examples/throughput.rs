//! Measures the board's cost per task: `cargo run --release -p claudine-domain --example throughput
//! [QUEUED]`.
//!
//! Nothing is stored or run: each batch counts as durable as soon as it is sealed, and each attempt
//! ends as soon as it starts. So only the time of the rules is measured.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use claudine_domain::{
    batch::{Action, Effect},
    board::{Board, Bounds, Stored},
    capacity::{Limits, Slots},
    id::{AccountKey, AttemptId, TaskId},
    step::{Cause, Ending, Input, Report, Submission, Submit},
    task::{Class, Priority, Request},
    time::{MonotonicMs, Now, Timestamp},
};

/// Inputs per batch: about as many as arrive during one commit.
const ROUND: usize = 64;
const SLOTS: u32 = 16;

struct Bench {
    board: Board,
    now: Now,
    made: u64,
    spec: Arc<[u8]>,
    running: Vec<AttemptId>,
}

impl Bench {
    fn new() -> Self {
        let limits = Limits {
            slots: Slots::Fixed(SLOTS),
            ..Limits::default()
        };
        let bounds = Bounds {
            unfinished: usize::MAX,
            ..Bounds::default()
        };
        Self {
            board: Board::new(Stored::default(), limits, bounds, "boot".into()),
            now: Now {
                wall: Timestamp(1_000_000_000),
                monotonic: MonotonicMs(0),
            },
            made: 0,
            spec: b"{}".as_slice().into(),
            running: Vec::new(),
        }
    }

    fn submit(&mut self, lane: u64) -> Result<(), Box<dyn Error>> {
        self.made += 1;
        let id = TaskId::new(self.now.wall.0, self.made.into());
        let request = request(self.made, lane);
        let spec = self.spec.clone();
        let submission = Submission {
            id,
            request,
            dependencies: Vec::new(),
            held: false,
            parent: None,
            spec,
        };
        let submit = Submit {
            tasks: vec![submission],
            ..Submit::default()
        };
        self.board.step(self.now, Input::Submit(submit))?;
        Ok(())
    }

    /// Ends the running tasks, starts as many other tasks, and seals the batch. Returns the number
    /// of ended tasks.
    fn round(&mut self) -> Result<usize, Box<dyn Error>> {
        self.now.monotonic.0 += 1;
        self.now.wall.0 += 1;
        let ended = self.running.len();
        for attempt in std::mem::take(&mut self.running) {
            let reports = [
                Report::Started { leader: None },
                Report::Ended(Box::new(ending())),
            ];
            for report in reports {
                let input = Input::Report { attempt, report };
                self.board.step(self.now, input)?;
            }
        }
        self.board.admit(self.now);
        let durable = self.board.pending_batch() - 1;
        let released = self.board.take_released(durable);
        let (batch, effects) = self.board.seal();
        std::hint::black_box(batch);
        let started = |effect: Effect| match effect.action {
            Action::Start(attempt) => Some(attempt),
            _ => None,
        };
        self.running = released
            .into_iter()
            .chain(effects)
            .filter_map(started)
            .collect();
        Ok(ended)
    }

    fn run_all(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut ended = 0;
        while self.board.unfinished().next().is_some() {
            ended += self.round()?;
        }
        Ok(ended)
    }
}

fn request(number: u64, lane: u64) -> Request {
    Request {
        priority: [Priority::P0, Priority::P1, Priority::P2]
            [usize::from(number.to_le_bytes()[0]) % 3],
        cwd: "/srv/project".into(),
        summary: "true".to_owned(),
        timeout: Some(Duration::from_hours(1)),
        env_digest: "0123456789abcdef".into(),
        account: (lane > 0).then(|| AccountKey(format!("account-{lane}"))),
        ..Request::new("shell", Class::Command)
    }
}

fn ending() -> Ending {
    Ending {
        exit_code: Some(0),
        ..Ending::new(Cause::Success, "")
    }
}

fn per(time: Duration, count: usize) -> u128 {
    time.as_nanos() / count.max(1) as u128
}

/// Fills a queue and empties it.
fn measure(queued: usize, lanes: u64) -> Result<(), Box<dyn Error>> {
    let mut bench = Bench::new();
    let begin = Instant::now();
    for number in 0..queued {
        bench.submit(number as u64 % lanes)?;
        if number % ROUND == 0 {
            std::hint::black_box(bench.board.seal());
        }
    }
    let submitted = begin.elapsed();
    bench.board.seal();
    let begin = Instant::now();
    let ended = bench.run_all()?;
    println!(
        "{queued:>9} queued in {lanes:>4} lanes: submit {:>6} ns, start to end {:>6} ns",
        per(submitted, queued),
        per(begin.elapsed(), ended)
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let most = std::env::args()
        .nth(1)
        .map_or(Ok(100_000), |text| text.parse())?;
    let mut queued = 100;
    while queued <= most {
        measure(queued, 1)?;
        queued *= 10;
    }
    for lanes in [4, 100, 1_000] {
        measure(most, lanes)?;
    }
    Ok(())
}
