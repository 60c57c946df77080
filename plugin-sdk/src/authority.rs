//! What a task is able to do once it runs.

use crate::bindings::exports::claudine::plugin::executor as wit;

/// How far a task reaches. Each step includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It changes nothing.
    Read,
    /// It changes files of its workspace.
    Edit,
    /// It runs the commands that its spec names, with all that these can do.
    Run,
    /// It may do what the user who runs the host may do.
    Full,
}

impl Step {
    /// The word the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Run => "run",
            Self::Full => "full",
        }
    }
}

/// The authority of a task. If it is not certain, it has to be more rather than less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    step: Step,
    extras: Vec<String>,
}

impl Authority {
    /// Whatever the user may do.
    pub fn full() -> Self {
        Self::of(Step::Full)
    }

    /// A step, and nothing beside it.
    pub fn of(step: Step) -> Self {
        Self {
            step,
            extras: Vec::new(),
        }
    }

    /// Adds something that the step does not include: `network`, `merge`, `push`, `container`.
    #[must_use]
    pub fn with(mut self, extra: impl Into<String>) -> Self {
        let extra = extra.into();
        if !self.extras.contains(&extra) {
            self.extras.push(extra);
        }
        self
    }

    /// At least this step.
    #[must_use]
    pub fn at_least(mut self, step: Step) -> Self {
        self.step = self.step.max(step);
        self
    }

    /// How far it reaches.
    pub fn step(&self) -> Step {
        self.step
    }

    /// What it may do beside its step.
    pub fn extras(&self) -> &[String] {
        &self.extras
    }
}

impl From<Authority> for wit::Reach {
    fn from(authority: Authority) -> Self {
        Self {
            step: authority.step.as_str().to_owned(),
            extras: authority.extras,
            more: Vec::new(),
        }
    }
}
