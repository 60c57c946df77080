//! A day of use as one test: a person types into a shell of 80 columns while several agents work,
//! and reads the screen, until all work is merged on the next day.
//!
//! Tasks are named by the ids on the screen, and suggested commands are typed as printed. Only the
//! machine's clock and the Messages API are simulated.

mod agents;
mod budget;
mod clock;
mod conflict;
mod denial;
mod hand_over;
mod limit;
mod night;
mod schemas;
mod shell;
mod summary;

use std::{fs, time::Duration};

use crate::world::{Login, World, git};

use clock::Clock;
use shell::Shell;

/// Half past four in the afternoon.
const START: Duration = Duration::from_mins(16 * 60 + 30);
/// Time from the start until two in the night, when the usage limit ends.
const LIMIT: Duration = Duration::from_mins(9 * 60 + 30);
/// Time from the start until half past eight on the next day.
const NIGHT: Duration = Duration::from_hours(16);

struct Day {
    // The shell is dropped before the host, because dropping the host may end programs in the
    // shell.
    shell: Shell,
    world: World,
    clock: Clock,
}

/// Endings of the tasks' ids, as shown on the screen.
struct Tasks {
    total: String,
    currency: String,
    notes: String,
    slow: String,
}

#[test]
fn a_day_of_work_needs_only_the_ids_and_commands_on_the_screen() {
    let day = Day::begin();
    let tasks = day.hands_over();
    day.meets_a_conflict(&tasks);
    day.answers_match_their_schemas();
    day.resolves_it(&tasks);
    day.finds_a_budget_spent(&tasks);
    let rename = day.is_told_of_a_denial();
    let parked = day.meets_a_usage_limit();
    day.answers_match_their_schemas();
    let day = day.sleeps();
    day.finds_yesterdays_failure(&rename);
    day.allows_more(&rename);
    day.sees_the_limit_over(&parked);
    day.sums_up(&tasks, &rename, &parked);
    day.answers_match_their_schemas();
}

impl Day {
    /// Makes a project under git, and starts a shell in its directory.
    fn begin() -> Self {
        let clock = Clock::at(START);
        let script = agents::first_day(clock.after(LIMIT));
        let world = World::with(script, Login::Subscription, |host| {
            let variables = clock.variables().into_iter();
            variables.fold(host, |host, (name, value)| host.env(name, value))
        });
        git(&world, &["init", "-q", "-b", "main"]);
        git(&world, &["config", "user.name", "Dana"]);
        git(&world, &["config", "user.email", "dana@example.org"]);
        let work = world.host.work();
        fs::write(work.join("cart.py"), "total = sum(prices)\n").unwrap();
        fs::write(work.join("README.md"), "# Shop\n").unwrap();
        git(&world, &["add", "-A"]);
        git(&world, &["commit", "-q", "-m", "Begin"]);
        Self {
            shell: Shell::open(&world.host),
            world,
            clock,
        }
    }

    /// Delegates a prompt; returns the ending of the printed id.
    #[track_caller]
    fn delegates(&self, options: &str, prompt: &str) -> String {
        let shown = self
            .shell
            .types(&format!("claudine delegate {options} '{prompt}'"));
        shown.only().to_owned()
    }
}
