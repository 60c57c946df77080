//! Usage limits of accounts: who is at one, until when, and who may try first when it is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::AttemptId, time::Timestamp};

/// The first wait where the service did not say when the limit ends; doubled each time it is still there.
pub const FIRST_WAIT: Duration = Duration::from_mins(5);
/// The longest such wait.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// An account at a usage limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parked {
    pub until: Timestamp,
    /// How often in a row the limit was hit without its end being told.
    pub guesses: u32,
    /// After `until`, one attempt goes first; the others wait for what it finds.
    #[serde(default)]
    pub probe: Option<AttemptId>,
}

impl Parked {
    /// Parks from `now` on: as long as the service said, else by doubling from [`FIRST_WAIT`] to [`LONGEST_WAIT`]. Attempts that were under
    /// way together meet one limit several times, so what comes while the account is parked already lengthens the wait only where the
    /// service told of a later end.
    pub fn from_limit(now: Timestamp, told: Option<Duration>, before: Option<&Self>) -> Self {
        let in_force = before.filter(|parked| parked.until > now);
        let guesses = before.map_or(0, |parked| parked.guesses);
        match (told, in_force) {
            (None, Some(parked)) => parked.clone(),
            (None, None) => Self {
                until: now
                    .after((FIRST_WAIT * 2u32.saturating_pow(guesses.min(8))).min(LONGEST_WAIT)),
                guesses: guesses.saturating_add(1),
                probe: None,
            },
            (Some(wait), in_force) => {
                let earlier = in_force.filter(|parked| parked.guesses == 0);
                Self {
                    until: earlier.map_or(now.after(wait), |told| told.until.max(now.after(wait))),
                    guesses: 0,
                    probe: None,
                }
            }
        }
    }
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
        let told = Parked::from_limit(
            Timestamp(10),
            Some(Duration::from_millis(90)),
            Some(&guessed),
        );
        assert_eq!(
            told,
            Parked {
                until: Timestamp(100),
                guesses: 0,
                probe: None
            }
        );
    }
}
