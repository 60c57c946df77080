//! The options that say which tasks are meant, the same for a list and for what is done to several.

use clap::{Args, builder::PossibleValuesParser};
use claudine_domain::time::Timestamp;

use super::parse;
use crate::app::{ListFilter, TaskRef, state_words};

/// What `--failed` stands for.
const FAILED: [&str; 3] = ["failed", "timed_out", "lost"];

/// Where help has them.
const HEADING: &str = "Which tasks";

/// Conditions that tasks have to meet, all that are given.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selectors {
    /// In one of these states, or with one of these outcomes, such as `failed,timed_out`.
    #[arg(short, long, value_name = "STATE", value_delimiter = ',', value_parser = PossibleValuesParser::new(state_words()), help_heading = HEADING)]
    state: Vec<String>,
    /// Those that failed: failed, timed_out and lost.
    #[arg(long, help_heading = HEADING)]
    failed: bool,
    /// Those that have not ended.
    #[arg(long, help_heading = HEADING)]
    active: bool,
    /// Of this name; `*` stands for any characters, `?` for one.
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    name: Option<String>,
    /// With this label; with all of them if it is given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse::label, help_heading = HEADING)]
    label: Vec<String>,
    /// Of this group.
    #[arg(short, long, value_name = "NAME", help_heading = HEADING)]
    group: Option<String>,
    /// Of this graph: its name, or one of its tasks. Of several with one name the newest.
    #[arg(long, value_name = "NAME|ID", help_heading = HEADING)]
    graph: Option<String>,
    /// Of this executor.
    #[arg(short, long, value_name = "NAME", help_heading = HEADING)]
    executor: Option<String>,
    /// Those that ended since then, or have not ended: `yesterday`, `9:00`, `2h`.
    #[arg(long, value_name = "TIME", value_parser = parse::moment, help_heading = HEADING)]
    since: Option<Timestamp>,
    /// Those that ended before then; of unfinished ones, those submitted before then.
    #[arg(long, value_name = "TIME", value_parser = parse::moment, help_heading = HEADING)]
    until: Option<Timestamp>,
    /// Those that were submitted from within this one.
    #[arg(long, value_name = "ID", help_heading = HEADING)]
    parent: Option<String>,
}

impl Selectors {
    /// Whether none is given.
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
