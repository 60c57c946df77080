//! Usage limits of accounts: who is at one, until when, and who may try first when it is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::AttemptId, time::Timestamp};

/// The first wait where the service did not say when the limit ends; doubled each time it is still
/// there.
pub const FIRST_WAIT: Duration = Duration::from_mins(5);
/// The longest such wait.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The longest wait, whatever the service said: a week, which is the longest window of a limit, and
/// a day for clocks that differ. An end that is told wrongly would keep the account's tasks for
/// ever.
pub const LONGEST_TOLD: Duration = Duration::from_hours(8 * 24);
/// The least wait, whatever the service said; doubled each time the limit is met again after it, up
/// to [`FIRST_WAIT`]. A service that says "at once" would be asked without end.
pub const LEAST_WAIT: Duration = Duration::from_secs(1);

/// An account at a usage limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parked {
    pub until: Timestamp,
    /// How often in a row the limit was hit without its end being told.
    pub guesses: u32,
    /// How often in a row the limit was met, each time after the wait before was over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u32,
    /// After `until`, one attempt goes first; the others wait for what it finds.
    #[serde(default)]
    pub probe: Option<AttemptId>,
    /// Which limit it is, in a word or two, where its executor said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl Parked {
    /// The longest that such a limit is waited for.
    pub(crate) fn longest(&self) -> Duration {
        if self.guesses > 0 {
            LONGEST_WAIT
        } else {
            LONGEST_TOLD
        }
    }

    /// Parks from `now` on: as long as the service said, else by doubling from [`FIRST_WAIT`] to
    /// [`LONGEST_WAIT`]. Attempts that were under way together meet one limit several times, so
    /// what comes while the account is parked already lengthens the wait only where the service
    /// told of a later end.
    pub fn from_limit(now: Timestamp, told: Option<Duration>, before: Option<&Self>) -> Self {
        let in_force = before.filter(|parked| parked.until > now);
        let guesses = before.map_or(0, |parked| parked.guesses);
        let met_before = before.map_or(0, |parked| parked.times);
        let times = met_before.saturating_add(u32::from(in_force.is_none()));
        match (told, in_force) {
            (None, Some(parked)) => parked.clone(),
            (None, None) => Self {
                until: now
                    .after((FIRST_WAIT * 2u32.saturating_pow(guesses.min(8))).min(LONGEST_WAIT)),
                guesses: guesses.saturating_add(1),
                times,
                probe: None,
                limit: None,
            },
            (Some(wait), in_force) => {
                let earlier = in_force.filter(|parked| parked.guesses == 0);
                let end = now.after(wait.clamp(least_wait(times), LONGEST_TOLD));
                Self {
                    until: earlier.map_or(end, |told| told.until.max(end)),
                    guesses: 0,
                    times,
                    probe: None,
                    limit: None,
                }
            }
        }
    }
}

/// The least wait before something that went wrong so often in a row is tried again.
pub(crate) fn least_wait(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    (LEAST_WAIT * 2u32.pow(doublings)).min(FIRST_WAIT)
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_without_an_end_doubles_from_five_minutes_to_an_hour() {
        let now = Timestamp(1_000);
        let mut parked = Parked::from_limit(now, None, None);
        let mut waits = vec![parked.until.0 - now.0];
        for _ in 0..5 {
            let probed = parked.until;
            parked = Parked::from_limit(probed, None, Some(&parked));
            waits.push(parked.until.0 - probed.0);
        }
        assert_eq!(
            waits,
            [300_000, 600_000, 1_200_000, 2_400_000, 3_600_000, 3_600_000]
        );
    }

    #[test]
    fn a_limit_with_an_end_lasts_to_that_end_and_forgets_the_guesses() {
        let guessed = Parked::from_limit(Timestamp(0), None, None);
        let told = Parked::from_limit(Timestamp(10), Some(Duration::from_secs(90)), Some(&guessed));
        assert_eq!(
            told,
            Parked {
                until: Timestamp(90_010),
                guesses: 0,
                times: 1,
                probe: None,
                limit: None,
            }
        );
    }

    #[test]
    fn a_limit_that_is_told_to_be_over_at_once_is_waited_for_longer_each_time() {
        let mut now = Timestamp(1_000);
        let mut parked = None;
        let mut waits = Vec::new();
        for _ in 0..11 {
            let again = Parked::from_limit(now, Some(Duration::ZERO), parked.as_ref());
            // An attempt that was under way beside it says the same, and that counts once.
            let beside = Parked::from_limit(now, Some(Duration::ZERO), Some(&again));
            assert_eq!(beside, again);
            waits.push((again.until.0 - now.0) / 1_000);
            (now, parked) = (again.until, Some(again));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        // What is told to last longer lasts so long.
        let hours = Duration::from_hours(5);
        let told = Parked::from_limit(now, Some(hours), parked.as_ref());
        assert_eq!(told.until, now.after(hours));
    }
}
