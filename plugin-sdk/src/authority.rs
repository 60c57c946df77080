//! The abilities of a running task.

use crate::bindings::exports::claudine::plugin::executor as wit;

/// How much a task can do. Each step includes the steps before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Changes nothing.
    Read,
    /// Changes files of its workspace.
    Edit,
    /// Runs the commands that its spec names, with everything that these commands can do.
    Run,
    /// Does anything that the user who runs the host may do.
    Full,
}

impl Step {
    /// The word in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Run => "run",
            Self::Full => "full",
        }
    }
}

/// The authority of a task. If an executor is not certain, it must return more authority rather
/// than less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    step: Step,
    extras: Vec<String>,
}

impl Authority {
    /// Everything that the user may do.
    pub fn full() -> Self {
        Self::of(Step::Full)
    }

    /// The authority of this step, without extras.
    pub fn of(step: Step) -> Self {
        Self {
            step,
            extras: Vec::new(),
        }
    }

    /// Adds an extra that the step does not include: `network`, `merge`, `push`, `container`.
    #[must_use]
    pub fn with(mut self, extra: impl Into<String>) -> Self {
        let extra = extra.into();
        if !self.extras.contains(&extra) {
            self.extras.push(extra);
        }
        self
    }

    /// Raises the authority to this step, if its step is lower.
    #[must_use]
    pub fn at_least(mut self, step: Step) -> Self {
        self.step = self.step.max(step);
        self
    }

    /// The step.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The extras.
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
