//! Filters of task lists.

use claudine_domain::{
    attempt::Phase,
    id::TaskId,
    outcome::Outcome,
    session::is_same_session,
    task::{State, Task},
    time::Timestamp,
};

use super::{OUTCOMES, Status, unrecorded};

/// Conditions for tasks. A task passes the filter if it meets all of them. States, an exact name,
/// `group`, `graph`, `parent` and `before` are looked up in an index. The other conditions are
/// tested on one task after another, newest first, until the page is full. If hardly any task meets
/// a condition, such as a label, all tasks are tested, which takes some 3 µs for each task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) states: States,
    pub(crate) name: Option<Name>,
    pub(crate) executor: Option<String>,
    /// Labels, as keys and values. A task must have all of them.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) group: Option<String>,
    /// The first task of the graph to which the tasks belong.
    pub(crate) graph: Option<TaskId>,
    pub(crate) parent: Option<TaskId>,
    /// If set, only tasks that ended at this time or later, or have not ended.
    pub(crate) since: Option<Timestamp>,
    /// If set, only tasks that ended before this time, and tasks that were created before it and
    /// have not ended.
    pub(crate) until: Option<Timestamp>,
    /// If set, only tasks older than this task.
    pub(crate) before: Option<TaskId>,
    /// Whether the tasks of restrained principals are left out.
    pub(crate) unrestrained: bool,
    /// If set, only tasks of which an attempt has reported this session, or whose document names
    /// it. Ids are compared in their normal form.
    pub(crate) session: Option<String>,
}

impl Filter {
    pub(crate) fn in_state(status: Status) -> Self {
        Self {
            states: States::of([status]),
            ..Self::default()
        }
    }

    /// Whether a task meets all conditions.
    pub(crate) fn allows(&self, task: &Task) -> bool {
        let request = &task.request;
        let ended = match task.state {
            State::Done { at, .. } => Some(at),
            _ => None,
        };
        let graph = request.graph.as_ref().map(|graph| graph.first);
        let name = request.name.as_deref();
        let mut labels = self.labels.iter();
        self.states.allow(task)
            && (self.name.as_ref()).is_none_or(|wanted| name.is_some_and(|it| wanted.is_met_by(it)))
            && (self.executor.as_ref()).is_none_or(|executor| *request.executor == **executor)
            && labels.all(|(key, value)| request.labels.get(key) == Some(value))
            && (self.group.is_none() || request.group == self.group)
            && (self.graph.is_none() || graph == self.graph)
            && (self.parent.is_none() || request.parent == self.parent)
            && self.before.is_none_or(|before| task.id < before)
            && !(self.unrestrained && request.by.restrained)
            && self.session.as_ref().is_none_or(|session| {
                let reported = task.attempts.iter().filter_map(|it| it.session.as_ref());
                let reported = reported.map(|reported| reported.id.as_str());
                let mut all = reported.chain(request.resumes_session.as_deref());
                all.any(|one| is_same_session(one, session))
            })
            && self
                .since
                .is_none_or(|since| ended.is_none_or(|ended| ended >= since))
            && self.until.is_none_or(|until| {
                task.id < TaskId::new(until.0, 0) && ended.is_none_or(|ended| ended < until)
            })
    }
}

/// A task name, or a pattern of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Is(String),
    /// A pattern: `*` matches any number of characters, and `?` matches one character.
    Like(String),
}

impl Name {
    pub(crate) fn parse(text: &str) -> Self {
        if !text.contains(['*', '?']) {
            return Self::Is(text.to_owned());
        }
        // Several `*` in a row mean the same as a single `*`, but take longer to match.
        let mut pattern = String::with_capacity(text.len());
        for c in text.chars() {
            if c != '*' || !pattern.ends_with('*') {
                pattern.push(c);
            }
        }
        Self::Like(pattern)
    }

    fn is_met_by(&self, name: &str) -> bool {
        match self {
            Self::Is(wanted) => name == wanted,
            Self::Like(pattern) => is_like(name, pattern),
        }
    }
}

/// Whether a pattern matches the whole name. On a mismatch, the last `*` is made to match one more
/// character. Earlier `*` never need to match more characters.
fn is_like(name: &str, pattern: &str) -> bool {
    let (mut left, mut wanted) = (name.chars(), pattern.chars());
    // The part of the pattern after the last `*`, and the part of the name with which it was
    // compared.
    let mut last: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = left.clone();
        match (wanted.next(), left.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                left = before;
                last = Some((wanted.clone(), left.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(c), Some(found)) if c == found => {}
            _ => {
                let Some((after, tried)) = &mut last else {
                    return false;
                };
                if tried.next().is_none() {
                    return false;
                }
                (wanted, left) = (after.clone(), tried.clone());
            }
        }
    }
}

/// The phase of a task whose process has ended, but whose end is not recorded yet.
pub(crate) const ENDED_PHASE: &str = "ended";
/// The words for the phases of running tasks.
const PHASES: [&str; 7] = [
    "preparing",
    "starting",
    "live",
    "stopping",
    "finishing",
    "settling",
    ENDED_PHASE,
];

/// The word for the phase of a running task; `None` for other tasks, and for a task with an
/// assigned attempt, which is shown as `ready`.
pub(crate) fn phase_word(task: &Task) -> Option<&'static str> {
    if unrecorded::is_marked(task) {
        return Some(ENDED_PHASE);
    }
    match task.phase()? {
        Phase::Assigned => None,
        Phase::Preparing => Some("preparing"),
        Phase::Starting => Some("starting"),
        Phase::Live => Some("live"),
        Phase::Stopping(_) => Some("stopping"),
        Phase::Finishing => Some("finishing"),
        Phase::Settling => Some("settling"),
    }
}

/// The states that a filter allows. If none is named, any state is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct States {
    statuses: Vec<Status>,
    /// The phases of running tasks that are allowed, in addition to the allowed statuses.
    phases: Vec<&'static str>,
}

/// Error: the word names no state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown state or outcome '{0}'; use one of {all}", all = words().join(", "))]
pub(crate) struct UnknownStatus(String);

/// Words that mean a set of statuses.
const SETS: [&str; 4] = ["active", "queued", "done", "completed"];

/// Every word that [`States::parse`] accepts.
pub(crate) fn words() -> Vec<&'static str> {
    let unfinished = Status::all().filter(|status| !status.is_done());
    let outcomes = Status::all().filter(|status| status.is_done());
    let words = unfinished.map(Status::as_str).chain(PHASES);
    let words = words.chain(outcomes.map(Status::as_str)).chain(SETS);
    words.collect()
}

impl States {
    pub(crate) fn of(statuses: impl IntoIterator<Item = Status>) -> Self {
        Self {
            statuses: statuses.into_iter().collect(),
            phases: Vec::new(),
        }
    }

    /// All statuses of unfinished tasks.
    pub(crate) fn unfinished() -> Self {
        Self::of(Status::all().filter(|status| !status.is_done()))
    }

    /// Every outcome except success.
    pub(crate) fn unsuccessful() -> Self {
        let others = OUTCOMES
            .into_iter()
            .filter(|outcome| *outcome != Outcome::Succeeded);
        Self::of(others.map(Status::Done))
    }

    /// Parses states, phases and outcomes by the words that are shown to users. A string may
    /// contain several words, separated by commas.
    pub(crate) fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, UnknownStatus> {
        let mut states = Self::default();
        for text in texts {
            for word in text.split(',') {
                states.add_word(word.trim())?;
            }
        }
        Ok(states)
    }

    fn add_word(&mut self, word: &str) -> Result<(), UnknownStatus> {
        let spelt = word.replace('-', "_");
        if let Some(status) = Status::all().find(|status| status.as_str() == spelt) {
            self.add(status);
        } else if let Some(phase) = PHASES.into_iter().find(|phase| *phase == spelt) {
            if !self.phases.contains(&phase) {
                self.phases.push(phase);
            }
        } else {
            match spelt.as_str() {
                "active" => self.add_all(|status| !status.is_done()),
                "queued" => {
                    self.add_all(|status| !status.is_done() && *status != Status::Running);
                }
                "done" => self.add_all(|status| status.is_done()),
                "completed" => self.add(Status::Done(Outcome::Succeeded)),
                _ => return Err(UnknownStatus(word.chars().take(80).collect())),
            }
        }
        Ok(())
    }

    fn add(&mut self, status: Status) {
        if !self.statuses.contains(&status) {
            self.statuses.push(status);
        }
    }

    fn add_all(&mut self, which: impl Fn(&Status) -> bool) {
        Status::all()
            .filter(which)
            .for_each(|status| self.add(status));
    }

    pub(crate) fn are_any(&self) -> bool {
        self.statuses.is_empty() && self.phases.is_empty()
    }

    /// The statuses that a task may have.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let also = (!self.phases.is_empty()).then_some(Status::Running);
        let mut statuses = self.statuses.clone();
        statuses.extend(also.filter(|running| !self.statuses.contains(running)));
        statuses
    }

    /// Whether the filter may allow a task of this status.
    pub(crate) fn may_be(&self, status: Status) -> bool {
        self.are_any() || self.statuses().contains(&status)
    }

    /// Limits the allowed states to those with this status. [`Self::may_be`] must be true for the
    /// status.
    pub(crate) fn only(&self, status: Status) -> Self {
        if self.are_any() || self.statuses.contains(&status) {
            return Self::of([status]);
        }
        Self {
            statuses: Vec::new(),
            phases: self.phases.clone(),
        }
    }

    pub(crate) fn allow(&self, task: &Task) -> bool {
        if self.are_any() || self.statuses.contains(&Status::of(task)) {
            return true;
        }
        phase_word(task).is_some_and(|word| self.phases.contains(&word))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::store::samples::tasks;

    fn parse(text: &str) -> Result<States, UnknownStatus> {
        States::parse([text])
    }

    #[test]
    fn states_and_outcomes_are_parsed_from_their_words() {
        let check = |text: &str, expected: &[Status]| {
            assert_eq!(parse(text).unwrap().statuses(), expected, "{text}");
        };
        check("waiting", &[Status::Waiting]);
        check("running", &[Status::Running]);
        check("starting,stopping", &[Status::Running]);
        check("ready, held", &[Status::Ready, Status::Held]);
        check("timed-out", &[Status::Done(Outcome::TimedOut)]);
        check("completed", &[Status::Done(Outcome::Succeeded)]);
        check("done", &OUTCOMES.map(Status::Done));
        let queued = [
            Status::Blocked,
            Status::Waiting,
            Status::Held,
            Status::Ready,
        ];
        check("queued", &queued);
        check("active", &[&queued[..], &[Status::Running]].concat());
        check("failed,failed", &[Status::Done(Outcome::Failed)]);
        for wrong in ["Done", "", "ready,", "assigned", "failed;lost"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_state_names_every_accepted_word() {
        let refusal = parse("nope").unwrap_err().to_string();
        for word in words() {
            assert!(refusal.contains(word), "{refusal}");
            assert!(parse(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn every_task_is_found_by_the_word_that_is_shown_for_its_state() {
        let ended = tasks().into_iter().map(|mut task| {
            unrecorded::mark(&mut task);
            task
        });
        for task in tasks().into_iter().chain(ended) {
            let shown = phase_word(&task).unwrap_or(Status::of(&task).as_str());
            assert!(parse(shown).unwrap().allow(&task), "{shown}");
            let others = words().into_iter().filter(|word| *word != shown);
            for word in others.filter(|word| PHASES.contains(word)) {
                assert!(!parse(word).unwrap().allow(&task), "{shown} as {word}");
            }
        }
    }

    #[test]
    fn a_state_filter_that_is_narrowed_to_one_status_still_checks_phases() {
        for task in tasks() {
            let status = Status::of(&task);
            for text in [
                "preparing,ready",
                "live,failed",
                "running,live",
                "active",
                "done",
            ] {
                let states = parse(text).unwrap();
                if states.may_be(status) {
                    let limited = states.only(status);
                    assert_eq!(limited.allow(&task), states.allow(&task), "{text}");
                    assert_eq!(limited.statuses(), [status], "{text}");
                }
            }
        }
        let any = States::default().only(Status::Held);
        assert_eq!(any, States::of([Status::Held]));
    }

    #[test]
    fn a_name_with_a_wildcard_is_a_pattern() {
        let check = |text: &str, expected: Name| assert_eq!(Name::parse(text), expected, "{text}");
        check("test", Name::Is("test".to_owned()));
        check("a[b]", Name::Is("a[b]".to_owned()));
        check("test*", Name::Like("test*".to_owned()));
        check("***a**b?*", Name::Like("*a*b?*".to_owned()));
    }

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                is_like(name, pattern),
                expected,
                "{name:?} like {pattern:?}"
            );
        };
        check("*", "", true);
        check("*", "größe", true);
        check("?", "ö", true);
        check("?", "", false);
        check("test*", "test", true);
        check("test*", "tests", true);
        check("test*", "a test", false);
        check("*test", "testtest", true);
        check("*ab*ab?", "ababab", false);
        check("*ab*ab?", "abababc", true);
        check("a*b*c", "a-b-b-c-c", true);
        check("a*b*c", "a-c-b", false);
        check("[ab]*", "[ab]c", true);
        check("[ab]*", "ac", false);
        let long = "a".repeat(256);
        check(&"*a".repeat(100), &long, true);
        check(&format!("{}b", "*a".repeat(100)), &long, false);
    }
}
