//! Options that select tasks, shared by `list` and commands that act on several tasks.

use clap::{
    Args,
    builder::{NonEmptyStringValueParser, PossibleValuesParser},
};
use claudine_domain::time::Timestamp;

use super::parse;
use crate::app::{ListFilter, TaskRef, state_words};

/// Outcomes that `--failed` selects.
const FAILED: [&str; 3] = ["failed", "timed_out", "lost"];

/// Heading of these options in the help.
const HEADING: &str = "Selection";

/// Conditions on tasks. A task has to meet all conditions that are given.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selectors {
    /// By state or outcome, such as `failed,timed_out`.
    #[arg(short, long, value_name = "STATE", value_delimiter = ',', hide_possible_values = true, long_help = state_help(), value_parser = PossibleValuesParser::new(state_words()), help_heading = HEADING)]
    state: Vec<String>,
    /// Failed, timed out and lost tasks.
    #[arg(long, help_heading = HEADING)]
    failed: bool,
    /// Unfinished tasks.
    #[arg(long, help_heading = HEADING)]
    active: bool,
    /// By name, with `*` and `?` as wildcards.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    name: Option<String>,
    /// By label; repeat it to require several labels.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse::label, help_heading = HEADING)]
    label: Vec<String>,
    /// By group.
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    group: Option<String>,
    /// By graph: its name or one of its tasks.
    ///
    /// If several graphs have this name, the newest is meant; if several of them are unfinished,
    /// `cancel`, `hold` and `release` refuse to choose.
    #[arg(long, value_name = "NAME|ID", help_heading = HEADING)]
    graph: Option<String>,
    /// By executor.
    #[arg(short, long, value_name = "NAME", hide_short_help = true, value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    executor: Option<String>,
    /// Unfinished, or ended since `yesterday`, `9:00`, `2h`.
    #[arg(long, value_name = "TIME", value_parser = parse::moment, help_heading = HEADING)]
    since: Option<Timestamp>,
    /// Ended, or submitted if unfinished, before this time.
    #[arg(long, value_name = "TIME", value_parser = parse::moment, help_heading = HEADING)]
    until: Option<Timestamp>,
    /// Submitted from within this task.
    #[arg(long, value_name = "ID", hide_short_help = true, help_heading = HEADING)]
    parent: Option<String>,
}

/// Long help of `--state`, with all possible values.
fn state_help() -> String {
    format!(
        "By state or outcome, such as `failed,timed_out`\n\nValues: {}",
        state_words().join(", ")
    )
}

impl Selectors {
    /// Whether no option is given.
    pub(super) fn are_none(&self) -> bool {
        self.clone().filter() == ListFilter::default()
    }

    pub(super) fn filter(self) -> ListFilter {
        let active = self.active.then_some("active");
        let failed = self.failed.then_some(FAILED).into_iter().flatten();
        let words = active.into_iter().chain(failed).map(str::to_owned);
        ListFilter {
            state: self.state.into_iter().chain(words).collect(),
            name: self.name,
            executor: self.executor,
            label: self.label,
            group: self.group,
            graph: self.graph,
            parent: self.parent.map(TaskRef),
            since_ms: self.since.map(|at| at.0),
            until_ms: self.until.map(|at| at.0),
            before: None,
            limit: None,
        }
    }
}
