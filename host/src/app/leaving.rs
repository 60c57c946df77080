//! State of a requested shutdown.

use std::sync::Arc;

use claudine_domain::principal::Principal;
use tokio::sync::watch;

use super::{error::AppError, request::DownMode};

/// A requested shutdown.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) mode: DownMode,
    pub(super) by: Arc<Principal>,
}

/// The requested shutdown, and whether the host is ending.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) wanted: watch::Sender<Option<Wanted>>,
    pub(super) leaves: watch::Sender<Option<DownMode>>,
    /// Why the host cannot end as it was asked to.
    pub(super) obstacle: watch::Sender<Option<AppError>>,
}

impl Leaving {
    pub(super) fn new(wanted: Option<Wanted>) -> Self {
        Self {
            wanted: watch::channel(wanted).0,
            leaves: watch::channel(None).0,
            obstacle: watch::channel(None).0,
        }
    }
}

/// The mode of the shutdown after another request. If a drain is requested during a kill, the mode
/// stays `Kill`, and cancelled tasks stay cancelled.
pub(super) fn joined(before: Option<DownMode>, asked: DownMode) -> DownMode {
    match (before, asked) {
        (Some(DownMode::Kill), DownMode::Drain) => DownMode::Kill,
        _ => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_joins_a_kill_and_other_requests_replace_the_mode() {
        use DownMode::{Drain, Kill, Leave};
        let check = |before, asked, expected| assert_eq!(joined(before, asked), expected);
        check(None, Drain, Drain);
        check(Some(Drain), Drain, Drain);
        check(Some(Drain), Kill, Kill);
        check(Some(Kill), Drain, Kill);
        check(Some(Drain), Leave, Leave);
        check(Some(Kill), Leave, Leave);
    }
}
