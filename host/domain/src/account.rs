//! Usage limits of accounts: which account has met a limit, until when, and which attempt tests the
//! limit first afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::AttemptId, principal::Principal, time::Timestamp};

/// First wait if the service did not say when the limit ends. The wait doubles each time the limit
/// still holds.
pub const FIRST_WAIT: Duration = Duration::from_mins(5);
/// Longest wait if the service did not say when the limit ends.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// Longest wait if the service said when the limit ends: a week, which is the longest window of a
/// limit, and a day in case clocks differ. Without this bound, a wrong end could park the account's
/// tasks for ever.
pub const LONGEST_TOLD: Duration = Duration::from_hours(8 * 24);
/// Shortest wait if the service said when the limit ends. Without this bound, a service that always
/// says that its limit ends at once would be asked endlessly. This shortest wait doubles each time
/// the limit is met again, until it is as long as [`FIRST_WAIT`].
pub const LEAST_WAIT: Duration = Duration::from_secs(1);

/// An account at a usage limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parked {
    pub until: Timestamp,
    /// Time until which the limit stands for the tasks of unrestrained principals, if a restrained
    /// principal has let the limit be tested earlier. Otherwise this principal could end the wait
    /// of these tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_until: Option<Timestamp>,
    /// Number of times in a row that the limit was met and the service did not say when the limit
    /// ends.
    pub guesses: u32,
    /// Number of times in a row that the limit was met. Reports that came while the account was
    /// parked are not counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u32,
    /// Attempt that starts first after `until`. The account's other attempts wait for its result.
    #[serde(default)]
    pub probe: Option<AttemptId>,
    /// Name of the limit in a word or two, if the executor gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl Parked {
    /// Time until which the tasks of this submitter wait.
    pub fn until_for(&self, submitter: &Principal) -> Timestamp {
        let stands = self.stands_until.filter(|_| !submitter.restrained);
        stands.map_or(self.until, |stands| stands.max(self.until))
    }

    /// The same limit, which is to be tested now.
    pub(crate) fn doubted(&self, now: Timestamp, by_restrained: bool) -> Self {
        let stands = self.until_for(&Principal::default());
        Self {
            until: self.until.min(now),
            stands_until: (by_restrained && stands > now).then_some(stands),
            ..self.clone()
        }
    }

    /// The same limit after the clock was set back: no wait is longer than the longest wait that
    /// could begin now.
    pub(crate) fn shortened(&self, now: Timestamp) -> Self {
        let longest = now.after(LONGEST_TOLD);
        Self {
            until: self.until.min(now.after(self.longest())),
            stands_until: self.stands_until.map(|stands| stands.min(longest)),
            ..self.clone()
        }
    }

    /// Longest wait for this limit. It depends on whether the service said when the limit ends.
    fn longest(&self) -> Duration {
        if self.guesses > 0 {
            LONGEST_WAIT
        } else {
            LONGEST_TOLD
        }
    }

    /// Parks the account from `now`. The wait is the time that the service named. If the service
    /// named none, the wait doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`].
    ///
    /// Attempts that run at the same time report the same limit several times. While the account is
    /// parked, a report without an end therefore changes nothing. A report with an end replaces a
    /// guessed end, and replaces a known end only if the reported end is later.
    pub fn from_limit(now: Timestamp, told: Option<Duration>, before: Option<&Self>) -> Self {
        let in_force = before.filter(|parked| parked.until > now);
        let guesses = before.map_or(0, |parked| parked.guesses);
        let met_before = before.map_or(0, |parked| parked.times);
        let times = met_before.saturating_add(u32::from(in_force.is_none()));
        let stands_until = before.and_then(|parked| parked.stands_until);
        let stands_until = stands_until.filter(|stands| *stands > now);
        match (told, in_force) {
            (None, Some(parked)) => parked.clone(),
            (None, None) => Self {
                until: now
                    .after((FIRST_WAIT * 2u32.saturating_pow(guesses.min(8))).min(LONGEST_WAIT)),
                stands_until,
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
                    stands_until,
                    guesses: 0,
                    times,
                    probe: None,
                    limit: None,
                }
            }
        }
    }
}

/// Shortest wait after the limit was met this many times in a row.
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
    fn wait_for_limit_without_end_doubles_from_5_min_to_1_h() {
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
    fn limit_with_a_known_end_lasts_until_that_end_and_resets_the_guesses() {
        let guessed = Parked::from_limit(Timestamp(0), None, None);
        let told = Parked::from_limit(Timestamp(10), Some(Duration::from_secs(90)), Some(&guessed));
        assert_eq!(
            told,
            Parked {
                until: Timestamp(90_010),
                stands_until: None,
                guesses: 0,
                times: 1,
                probe: None,
                limit: None,
            }
        );
    }

    /// The time until which the limit stands for others was read from a clock that was wrong.
    #[test]
    fn after_the_clock_was_set_back_no_limit_stands_longer_than_a_limit_can() {
        let (now, late) = (Timestamp(1_000), Timestamp(u64::MAX));
        let parked = Parked {
            stands_until: Some(late),
            ..Parked::from_limit(now, None, None)
        };
        let shortened = parked.shortened(now);
        assert_eq!(shortened.stands_until, Some(now.after(LONGEST_TOLD)));
        assert_eq!(shortened.until, parked.until);
        assert_eq!(shortened.shortened(now), shortened);
    }

    #[test]
    fn wait_for_a_limit_that_always_ends_at_once_doubles_from_1_s_to_5_min() {
        let mut now = Timestamp(1_000);
        let mut parked = None;
        let mut waits = Vec::new();
        for _ in 0..11 {
            let again = Parked::from_limit(now, Some(Duration::ZERO), parked.as_ref());
            // A second report of the same limit, by an attempt that ran at the same time, changes
            // nothing.
            let beside = Parked::from_limit(now, Some(Duration::ZERO), Some(&again));
            assert_eq!(beside, again);
            waits.push((again.until.0 - now.0) / 1_000);
            (now, parked) = (again.until, Some(again));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        // A later end lengthens the wait.
        let hours = Duration::from_hours(5);
        let told = Parked::from_limit(now, Some(hours), parked.as_ref());
        assert_eq!(told.until, now.after(hours));
    }
}
