//! How an attempt is stopped: one signal after another.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// One step in stopping an attempt: a signal to its process groups, and the wait before the next
/// step. The last step is followed by KILL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rung {
    pub signal: String,
    pub wait_ms: u64,
}

/// The steps of most executors. They are left out of a stored task, because reading them takes a
/// tenth of the time for the whole task. Stored tasks depend on these values, so they must never
/// change.
static USUAL: LazyLock<Arc<[Rung]>> = LazyLock::new(|| {
    let rung = |signal: &str, wait_ms| Rung {
        signal: signal.to_owned(),
        wait_ms,
    };
    [rung("TERM", 5_000), rung("KILL", 0)].into()
});

pub(crate) fn usual() -> Arc<[Rung]> {
    USUAL.clone()
}

/// The steps with these signals and waits in milliseconds.
pub fn of<'a>(steps: impl Iterator<Item = (&'a str, u64)> + Clone) -> Arc<[Rung]> {
    let of_usual = USUAL.iter();
    let of_usual = of_usual.map(|rung| (rung.signal.as_str(), rung.wait_ms));
    // Most tasks have these steps, and a copy for each would be made only to be dropped.
    if steps.clone().eq(of_usual) {
        return usual();
    }
    let rung = |(signal, wait_ms): (&str, u64)| Rung {
        signal: signal.to_owned(),
        wait_ms,
    };
    steps.map(rung).collect()
}

pub(crate) fn is_usual(ladder: &Arc<[Rung]>) -> bool {
    **ladder == **USUAL
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::task::{Class, Request};

    #[test]
    fn the_usual_steps_are_left_out_of_a_stored_request_and_keep_their_meaning() {
        let rung = |signal: &str, wait_ms| Rung {
            signal: signal.to_owned(),
            wait_ms,
        };
        let usual = vec![rung("TERM", 5_000), rung("KILL", 0)];
        let longer = vec![rung("INT", 1), rung("TERM", 5_000), rung("KILL", 0)];
        for (ladder, is_stored) in [(usual, false), (longer, true), (Vec::new(), true)] {
            let steps = ladder
                .iter()
                .map(|rung| (rung.signal.as_str(), rung.wait_ms));
            assert_eq!(*of(steps), *ladder);
            let request = Request {
                ladder: ladder.into(),
                ..Request::new("shell", Class::Command)
            };
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(text.contains("\"ladder\""), is_stored, "{text}");
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        }
    }
}
