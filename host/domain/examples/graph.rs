//! Measures the board on graphs: `cargo run --release -p claudine-domain --example graph [TASKS]`.
//!
//! Submits irregular graphs of growing size with ten edges per task. Prints the time to accept
//! them, the memory per task with its edges, the time to load them, and the time from the end of a
//! task until its dependants are ready. Nothing is stored or run.

use std::{
    error::Error,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use claudine_domain::{
    batch::Action,
    board::{Board, Bounds, Stored},
    capacity::{Limits, Slots},
    dependency::{Condition, Dependency},
    id::{AttemptId, TaskId},
    step::{Cause, Ending, Input, Report, Submission, Submit},
    task::{Class, Request},
    time::{MonotonicMs, Now, Timestamp},
};

const EDGES_PER_TASK: u64 = 10;
const SLOTS: u32 = 64;

const NOW: Now = Now {
    wall: Timestamp(1_000_000_000),
    monotonic: MonotonicMs(0),
};

fn main() -> Result<(), Box<dyn Error>> {
    let largest = std::env::args()
        .nth(1)
        .map_or(Ok(100_000), |text| text.parse())?;
    let mut tasks = 1_000;
    while tasks <= largest {
        measure(tasks)?;
        tasks *= 10;
    }
    Ok(())
}

fn measure(tasks: u64) -> Result<(), Box<dyn Error>> {
    let before = resident_bytes()?;
    let spec: Arc<[u8]> = b"{}".as_slice().into();
    let submissions: Vec<Submission> = (0..tasks).map(|number| submission(number, &spec)).collect();
    let mut board = board(Stored::default());
    let began = Instant::now();
    board.step(
        NOW,
        Input::Submit(Submit {
            tasks: submissions,
            ..Submit::default()
        }),
    )?;
    let accepted = began.elapsed();
    drop(board.seal());
    let bytes = resident_bytes()?.saturating_sub(before) / tasks;
    let stored = Stored {
        unfinished: board.unfinished().map(|task| (**task).clone()).collect(),
        ..Stored::default()
    };
    let began = Instant::now();
    let mut board = self::board(stored);
    let loaded = began.elapsed();
    let mut wakes = run(&mut board)?;
    wakes.sort_unstable();
    let at = |share: usize| wakes[(wakes.len() - 1) * share / 100];
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{tasks:>8} tasks: accepted in {accepted:.1?}, {bytes} bytes each, loaded in {loaded:.1?}, from an end to its dependants p50 {:.1} µs, p99 {:.1} µs",
        micros(at(50)),
        micros(at(99))
    );
    Ok(())
}

fn board(stored: Stored) -> Board {
    let limits = Limits {
        slots: Slots::Fixed(SLOTS),
        ..Limits::default()
    };
    let bounds = Bounds {
        unfinished: usize::MAX,
        ..Bounds::default()
    };
    Board::new(stored, limits, bounds, "boot".into())
}

/// Runs all tasks. Returns the time that the board took for each end of a task, including all
/// changes that followed from the end.
fn run(board: &mut Board) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut wakes = Vec::new();
    loop {
        board.admit(NOW);
        let durable = board.pending_batch() - 1;
        let released = board.take_released(durable);
        let (_, effects) = board.seal();
        let effects = released.into_iter().chain(effects);
        let started: Vec<AttemptId> = effects
            .filter_map(|effect| match effect.action {
                Action::Start(attempt) => Some(attempt),
                _ => None,
            })
            .collect();
        if started.is_empty() {
            break;
        }
        for attempt in started {
            let report = Report::Ended(Box::new(success()));
            let began = Instant::now();
            board.step(NOW, Input::Report { attempt, report })?;
            wakes.push(began.elapsed());
        }
    }
    if board.unfinished().next().is_some() {
        return Err("some tasks were never started".into());
    }
    Ok(wakes)
}

/// Makes the task with this number. The task depends on up to ten earlier tasks, which a fixed rule
/// picks.
fn submission(number: u64, spec: &Arc<[u8]>) -> Submission {
    let upstream = |edge: u64| {
        let scattered = number
            .wrapping_mul(EDGES_PER_TASK)
            .wrapping_add(edge)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 20;
        id(scattered % number)
    };
    let edges = if number == 0 { 0 } else { EDGES_PER_TASK };
    let dependencies = (0..edges).map(|edge| Dependency {
        task: upstream(edge),
        condition: Condition::Succeeded,
    });
    Submission {
        id: id(number),
        request: request(number),
        dependencies: dependencies.collect(),
        held: false,
        parent: None,
        spec: spec.clone(),
    }
}

fn id(number: u64) -> TaskId {
    TaskId::new(1_000_000_000, u128::from(number))
}

fn request(number: u64) -> Request {
    Request {
        name: Some(format!("task-{number}")),
        cwd: "/home/someone/project".into(),
        summary: format!("make target-{number}"),
        env_digest: "0f".repeat(32).into(),
        ..Request::new("shell", Class::Command)
    }
}

fn success() -> Ending {
    Ending {
        exit_code: Some(0),
        ..Ending::new(Cause::Success, "")
    }
}

/// Memory of this process, as the kernel counts it.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split_whitespace().nth(1).ok_or("no statm")?.parse()?;
    Ok(pages * 4096)
}
