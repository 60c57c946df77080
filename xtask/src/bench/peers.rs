//! Other programs doing the same work, if they are installed.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::median;
use crate::{program, setup::on_path, trial};

/// A peer and its time per task in microseconds; `None` if the peer is not installed.
pub(crate) type Measured = (&'static str, Option<f64>);

/// Runs `count` × `true`, two at a time.
pub(crate) fn two_at_a_time(rounds: usize, count: u32) -> Result<Vec<Measured>> {
    let dir = tempfile::tempdir()?;
    let mut makefile = String::from("all:");
    let mut ninja = String::from("rule t\n command = true\n");
    for n in 0..count {
        write!(makefile, " t{n}")?;
        writeln!(ninja, "build t{n}: t")?;
    }
    makefile.push_str("\n%:\n\t@true\n");
    fs::write(dir.path().join("Makefile"), makefile)?;
    fs::write(dir.path().join("build.ninja"), ninja)?;
    let xargs = format!("seq {count} | xargs -P 2 -n 1 true");
    // Waits for the last two jobs, because the last job may end before the second last.
    let tsp = format!(
        "tsp -S 2; for i in $(seq {count}); do tsp true; done > all; for i in $(tail -2 all); do tsp -w $i; done; tsp -K"
    );
    let each =
        |program: &str, script: &str| time(rounds.min(3), count, program, dir.path(), script);
    Ok(vec![
        ("make -j2", each("make", "make -s -j2")?),
        ("ninja -j2", each("ninja", "ninja -j2 --quiet")?),
        ("xargs -P2", each("xargs", &xargs)?),
        ("tsp -S2, submission included", each("tsp", &tsp)?),
    ])
}

/// Runs `true` for each task, after the tasks with the given numbers.
pub(crate) fn after_one_another(rounds: usize, edges: &[Vec<u32>]) -> Result<Vec<Measured>> {
    let dir = tempfile::tempdir()?;
    let count = u32::try_from(edges.len())?;
    let last = count.saturating_sub(1);
    let mut makefile = format!("all: t{last}\n");
    let mut ninja = String::from("rule t\n command = true\n");
    for (n, after) in edges.iter().enumerate() {
        let mut inputs = String::new();
        for other in after {
            write!(inputs, " t{other}")?;
        }
        writeln!(makefile, "t{n}:{inputs}\n\t@true")?;
        writeln!(ninja, "build t{n}: t{inputs}")?;
    }
    fs::write(dir.path().join("Makefile"), makefile)?;
    fs::write(dir.path().join("build.ninja"), ninja)?;
    let each =
        |program: &str, script: &str| time(rounds.min(3), count, program, dir.path(), script);
    let mut measured = vec![
        ("make -j2", each("make", "make -s -j2")?),
        ("ninja -j2", each("ninja", "ninja -j2 --quiet")?),
    ];
    if edges.iter().all(|after| after.len() <= 1) {
        // `tsp` cannot express that a task comes after several others.
        let tsp = format!(
            "tsp -S 1; tsp true > last; for i in $(seq {last}); do tsp -d true > last; done; tsp -w $(cat last); tsp -K"
        );
        measured.push(("tsp -d, submission included", each("tsp", &tsp)?));
    }
    Ok(measured)
}

fn time(rounds: usize, count: u32, program: &str, dir: &Path, script: &str) -> Result<Option<f64>> {
    if on_path(program).is_none() {
        return Ok(None);
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        let mut shell = program::command("sh", ["-c", script]);
        shell.current_dir(dir).env("TS_SOCKET", dir.join("tsp"));
        let begin = Instant::now();
        program::output(&mut shell)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    Ok(Some(median(&times)))
}

/// A `pueued` with its own directory.
pub(crate) struct Pueue {
    dir: TempDir,
    daemon: Child,
    /// Time from the start of `pueued` to its first answer.
    pub(crate) first_answer_ms: f64,
}

impl Pueue {
    /// Starts `pueued`; returns `None` if it is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        if on_path("pueued").is_none() || on_path("pueue").is_none() {
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let place = dir.path().display();
        let config = format!(
            "shared:\n  pueue_directory: {place}\n  runtime_directory: {place}\n  use_unix_socket: true\nclient: {{}}\ndaemon: {{}}\n"
        );
        fs::write(dir.path().join("pueue.yml"), config)?;
        let begin = Instant::now();
        let mut daemon = program::command("pueued", ["--config"]);
        daemon
            .arg(dir.path().join("pueue.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = daemon.spawn().context("cannot start pueued")?;
        let mut pueue = Self {
            dir,
            daemon,
            first_answer_ms: 0.0,
        };
        trial::until("pueued to answer", || {
            program::succeeds(&mut pueue.command(&["status"])).then_some(())
        })?;
        pueue.first_answer_ms = begin.elapsed().as_secs_f64() * 1e3;
        Ok(Some(pueue))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program::command("pueue", ["--config", &self.config()]);
        command.args(arguments);
        command
    }

    pub(crate) fn config(&self) -> String {
        self.dir.path().join("pueue.yml").display().to_string()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }
}

impl Drop for Pueue {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.kill().and_then(|()| self.daemon.wait()) {
            eprintln!("cannot end pueued: {error}");
        }
    }
}
