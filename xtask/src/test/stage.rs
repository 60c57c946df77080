//! Stages: prints a heading before each, its time after it, and a table of all at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The stages that were run, in order.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<Stage>,
    left_out: Vec<&'static str>,
}

struct Stage {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

impl Stages {
    /// Runs one stage; returns its result, or `None` if the stage failed.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        stage: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        eprintln!("\n=== {name} ===");
        let begin = Instant::now();
        let result = stage();
        let took = begin.elapsed();
        let (made, error) = match result {
            Ok(made) => (Some(made), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        match &error {
            None => eprintln!("=== {name}: passed in {:.1} s ===", took.as_secs_f64()),
            Some(error) => eprintln!(
                "=== {name}: FAILED in {:.1} s: {error} ===",
                took.as_secs_f64()
            ),
        }
        self.done.push(Stage { name, took, error });
        made
    }

    /// Adds a check that cannot be made on this machine to the table.
    pub(crate) fn leave_out(&mut self, what: &'static str) {
        eprintln!("=== SKIPPED: {what} ===");
        self.left_out.push(what);
    }

    /// Prints the table; returns whether all stages passed.
    pub(crate) fn print_table(&self) -> bool {
        println!("\n{:<32} {:>9}  result", "stage", "seconds");
        for Stage { name, took, error } in &self.done {
            let result = if error.is_none() { "passed" } else { "FAILED" };
            println!("{name:<32} {:>9.1}  {result}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|stage| stage.took).sum();
        println!("{:<32} {:>9.1}", "all", total.as_secs_f64());
        for Stage { name, error, .. } in &self.done {
            if let Some(error) = error {
                println!("{name}: {error}");
            }
        }
        for what in &self.left_out {
            println!("SKIPPED: {what}");
        }
        self.done.iter().all(|stage| stage.error.is_none())
    }
}
