//! Categories of tasks by state. Every output form has its own colours for these categories.

use crate::app::view::ENDED_PHASE;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shade {
    /// Not running yet, for any reason except a hold.
    Waiting,
    Held,
    Running,
    Succeeded,
    Failed,
    /// Never ran, because a dependency was not met.
    UpstreamFailed,
    /// Cancelled or skipped.
    Dropped,
}

/// Fill, border and text colour of a box. Light fill with dark text is readable on any page.
pub(super) struct Paint {
    pub(super) fill: &'static str,
    pub(super) line: &'static str,
    pub(super) ink: &'static str,
}

impl Shade {
    pub(super) const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Held,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::UpstreamFailed,
        Self::Dropped,
    ];

    /// A state that only later versions know is shown as waiting. A task whose process has ended
    /// without a host is shown as waiting too, because it waits for a host.
    pub(crate) fn of(outcome: Option<&str>, state: &str, phase: Option<&str>) -> Self {
        match (outcome, state) {
            (Some("succeeded"), _) => Self::Succeeded,
            (Some("upstream_failed"), _) => Self::UpstreamFailed,
            (Some("cancelled" | "skipped"), _) => Self::Dropped,
            (Some(_), _) => Self::Failed,
            (None, "running") if phase != Some(ENDED_PHASE) => Self::Running,
            (None, "held") => Self::Held,
            _ => Self::Waiting,
        }
    }

    /// Name of the category's class, for output forms that have classes.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::UpstreamFailed => "upstream_failed",
            Self::Dropped => "dropped",
        }
    }

    pub(super) fn paint(self) -> Paint {
        let (fill, line, ink) = match self {
            Self::Waiting => ("#f1f3f5", "#868e96", "#343a40"),
            Self::Held => ("#f3e8ff", "#9333ea", "#4c1d95"),
            Self::Running => ("#dbeafe", "#2563eb", "#1e3a8a"),
            Self::Succeeded => ("#dcfce7", "#16a34a", "#14532d"),
            Self::Failed => ("#fee2e2", "#dc2626", "#7f1d1d"),
            Self::UpstreamFailed => ("#ffedd5", "#ea580c", "#7c2d12"),
            Self::Dropped => ("#e9ecef", "#adb5bd", "#495057"),
        };
        Paint { fill, line, ink }
    }

    /// Description for people who do not know the states.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed, timed out or lost",
            Self::UpstreamFailed => "upstream failed",
            Self::Dropped => "cancelled or skipped",
        }
    }

    /// Symbol that identifies the category without colours.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Waiting => "○",
            Self::Held => "⏸",
            Self::Running => "●",
            Self::Succeeded => "✓",
            Self::Failed => "✗",
            Self::UpstreamFailed | Self::Dropped => "⊘",
        }
    }

    /// Colour on a terminal.
    pub(crate) fn ansi(self) -> u8 {
        match self {
            Self::Waiting => 33,
            Self::Held => 35,
            Self::Running => 36,
            Self::Succeeded => 32,
            Self::Failed | Self::UpstreamFailed => 31,
            Self::Dropped => 90,
        }
    }
}
