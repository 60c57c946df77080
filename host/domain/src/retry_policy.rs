//! Retries of failed attempts, and the delays before them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    attempt::Attempt,
    id::AttemptId,
    outcome::{Outcome, ReasonClass},
};

/// Retries after failures of some classes. A task without a policy is not retried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Maximum number of attempts after the first.
    pub limit: u32,
    #[serde(default)]
    pub backoff: Backoff,
    /// Classes that are retried. If empty, all classes that may be retried except `lost`, since
    /// nobody knows how much a lost attempt had done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<ReasonClass>,
}

/// Limits of the delays before retries: each delay is random, and its limit grows by a factor from
/// one retry to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backoff {
    pub initial: Duration,
    pub factor: u32,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            factor: 2,
            max: Duration::from_mins(5),
        }
    }
}

/// Whether an automatic retry can help. It cannot if it would end in the same way, or if a person
/// must decide about it.
pub fn may_be_retried(class: ReasonClass) -> bool {
    !matches!(
        class,
        ReasonClass::Auth
            | ReasonClass::Invalid
            | ReasonClass::Conflict
            | ReasonClass::Budget
            | ReasonClass::Permission
            | ReasonClass::Cancelled
    )
}

impl RetryPolicy {
    /// Delay before the next attempt, or `None` if no attempt follows. `attempts` are all attempts
    /// so far. If the task has an account, an attempt that met a usage limit does not count: see
    /// [`counts`].
    pub(crate) fn delay_after(
        &self,
        id: AttemptId,
        attempts: &[Attempt],
        has_account: bool,
        outcome: Outcome,
        class: Option<ReasonClass>,
    ) -> Option<Duration> {
        let class = class?;
        let failed = matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::Lost);
        let used = used(attempts, has_account);
        if !failed || !self.covers(class) || used > self.limit {
            return None;
        }
        Some(self.backoff.delay(used.saturating_sub(1), id))
    }

    /// Whether failures of this class are retried, up to the limit.
    pub fn covers(&self, class: ReasonClass) -> bool {
        may_be_retried(class)
            && if self.on.is_empty() {
                class != ReasonClass::Lost
            } else {
                self.on.contains(&class)
            }
    }
}

/// Number of attempts that count towards the limit.
pub(crate) fn used(attempts: &[Attempt], has_account: bool) -> u32 {
    let counted = attempts.iter().filter(|it| counts(it, has_account));
    u32::try_from(counted.count()).unwrap_or(u32::MAX)
}

/// Whether an attempt counts towards the limit. An attempt does not count if it met a usage limit
/// for which the task's account was parked, if it never began, or if no executor ran. If there is
/// no account to park, a usage limit counts like any other failure, because otherwise the task
/// would be retried endlessly.
fn counts(attempt: &Attempt, has_account: bool) -> bool {
    let Some(ended) = &attempt.ended else {
        return false;
    };
    let limited = ended
        .reason
        .as_ref()
        .is_some_and(|reason| reason.class == ReasonClass::RateLimit);
    let is_parked = limited && has_account;
    !is_parked && !ended.never_began && !attempt.by_hand
}

impl Backoff {
    /// "Full jitter" (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): any
    /// delay from zero to the grown delay. The delay is derived from the attempt's id, since the id
    /// holds 80 random bits and the domain has no randomness.
    fn delay(self, retries_before: u32, id: AttemptId) -> Duration {
        let grown = self
            .initial
            .saturating_mul(self.factor.saturating_pow(retries_before))
            .min(self.max);
        let nanos = u64::try_from(grown.as_nanos()).unwrap_or(u64::MAX);
        let share = (u128::from(spread(id)) * u128::from(nanos)) >> 64;
        Duration::from_nanos(u64::try_from(share).unwrap_or(nanos))
    }
}

/// Derives 64 evenly spread bits from an attempt's id: the finisher of SplitMix64 (Steele, Lea,
/// Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn spread(id: AttemptId) -> u64 {
    let bits = u128::from_be_bytes(id.task.to_bytes());
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = bits as u64 ^ (bits >> 64) as u64;
    let mut z = folded.wrapping_add(u64::from(id.number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TaskId;

    /// The outputs were published for the seed 1234567, and are known to be evenly spread.
    #[test]
    fn bits_derived_from_attempt_ids_equal_published_outputs_of_splitmix64() {
        let check = |random: u128| {
            let task = TaskId::new(0, random);
            let spread = [1, 2, 3, 4, 5].map(|number| spread(AttemptId { task, number }));
            let published = [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ];
            assert_eq!(spread, published);
        };
        check(1_234_567);
        // Both halves of an id enter the seed.
        check((0x8 << 64) | (0x12_d687 ^ 0x8));
    }
}
