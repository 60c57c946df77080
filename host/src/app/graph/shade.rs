//! How a task looks, by where it stands. Every form has its own colours for these few.

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shade {
    /// It waits, for whatever it may be.
    Waiting,
    Held,
    Running,
    Succeeded,
    Failed,
    /// It never ran, since something before it did not end as it had to.
    UpstreamFailed,
    /// Cancelled or skipped: nobody wants it any more.
    Dropped,
}

/// Fill, border and text of a box. The fill is light and the text dark, so that it can be read on a
/// page of any colour.
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

    /// A state of a later version that is not known here looks like one that waits.
    pub(crate) fn of(outcome: Option<&str>, state: &str) -> Self {
        match (outcome, state) {
            (Some("succeeded"), _) => Self::Succeeded,
            (Some("upstream_failed"), _) => Self::UpstreamFailed,
            (Some("cancelled" | "skipped"), _) => Self::Dropped,
            (Some(_), _) => Self::Failed,
            (None, "running") => Self::Running,
            (None, "held") => Self::Held,
            _ => Self::Waiting,
        }
    }

    /// The name of its class in forms that have classes.
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

    /// For whoever does not know the words of states.
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

    /// What tells it apart without colours.
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

    /// Its colour on a terminal.
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
