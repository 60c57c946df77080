//! Ids of tasks, attempts and accounts. The random bits of an id are passed in, since the domain
//! has no randomness.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Crockford's base32 in lower case. Its strings sort like the numbers that they encode. It lacks
/// `i`, `l`, `o` and `u`, which are easily misread.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Values of the digits in [`ALPHABET`]. A stored task has several ids, each with many digits.
static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut index = 0;
    while (index as usize) < ALPHABET.len() {
        values[ALPHABET[index as usize] as usize] = index;
        index += 1;
    }
    values
};
const NO_DIGIT: u8 = u8::MAX;
const PREFIX: &str = "task_";
const DIGITS: usize = 26;
/// Length of a task's id in text.
const TEXT_BYTES: usize = PREFIX.len() + DIGITS;
/// Bits per digit.
const ID_DIGIT_BITS: usize = 5;
/// Number of digits in the short form of a task's id, which people use. The short form is the end
/// of the id.
pub const SHORT_DIGITS: usize = 6;

/// A task's id: 48 bits of milliseconds since the epoch, then 80 random bits, so that ids sort by
/// creation.
///
/// The bytes are big-endian. The id is not stored as a number, since 128-bit numbers are aligned to
/// 16 bytes, which would make each edge of a graph twice as long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId([u8; 16]);

/// Hashes only the random half, which differs even if a whole graph is created in one millisecond.
impl Hash for TaskId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [_, _, _, _, _, _, _, _, random @ ..] = self.0;
        state.write_u64(u64::from_be_bytes(random));
    }
}

impl TaskId {
    /// Makes an id from a time and the low 80 bits of `random`.
    pub fn new(created_ms: u64, random: u128) -> Self {
        Self::from_number((u128::from(created_ms) << 80) | (random & ((1 << 80) - 1)))
    }

    fn made_ms(self) -> u64 {
        u64::try_from(self.number() >> 80).unwrap_or(u64::MAX)
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = [0; TEXT_BYTES];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        let mut rest = self.number();
        for place in digits.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }

    fn from_number(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// Lowest and highest id whose text starts with `prefix` (in either case, with or without
    /// `task_`), or `None` if no id can start with it.
    pub fn range_of_prefix(prefix: &str) -> Option<(Self, Self)> {
        let digits = match prefix.split_at_checked(PREFIX.len()) {
            Some((begin, digits)) if begin.eq_ignore_ascii_case(PREFIX) => digits,
            _ => prefix,
        };
        if digits.is_empty() || digits.len() > DIGITS {
            return None;
        }
        let pad = |digit: char| -> Option<Self> {
            let mut text = digits.to_ascii_lowercase();
            text.extend(std::iter::repeat_n(digit, DIGITS - digits.len()));
            decode(&text).map(Self::from_number)
        };
        // `decode` refuses a first digit above 7, which would need more than 128 bits.
        Some((pad('0')?, pad('z')?))
    }
}

fn decode(digits: &str) -> Option<u128> {
    if digits.len() != DIGITS || digits.as_bytes()[0] > b'7' {
        return None;
    }
    value(digits)
}

fn value(digits: &str) -> Option<u128> {
    digits.bytes().try_fold(0u128, |value, digit| {
        let index = VALUES[usize::from(digit)];
        (index != NO_DIGIT).then(|| (value << ID_DIGIT_BITS) + u128::from(index))
    })
}

/// The last digits of an id. These digits are random, so a few of them are enough to distinguish
/// tasks. The first digits encode the time, and are the same for all tasks of several days.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct IdEnd {
    digits: usize,
    value: u128,
}

impl IdEnd {
    /// Parses digits in either case. There must be fewer digits than in a whole id.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len();
        if !(1..DIGITS).contains(&digits) {
            return None;
        }
        let value = value(&text.to_ascii_lowercase())?;
        Some(Self { digits, value })
    }

    /// The last digits of an id, at most as many as there may be in an end.
    pub fn of(id: TaskId, digits: usize) -> Self {
        let digits = digits.min(DIGITS - 1);
        let bits = digits * ID_DIGIT_BITS;
        Self {
            digits,
            value: id.number() & ((1 << bits) - 1),
        }
    }

    pub fn digits(self) -> usize {
        self.digits
    }

    /// Number that the digits encode. The last digit of an id is the lowest five bits of its
    /// number.
    pub fn value(self) -> u128 {
        self.value
    }

    pub fn fits(self, id: TaskId) -> bool {
        Self::of(id, self.digits) == self
    }
}

/// Writes the whole id or, with `{:#}`, its last digits, by which people name a task.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        let begin = if f.alternate() {
            text.len() - SHORT_DIGITS
        } else {
            0
        };
        // One call, because each call takes longer than encoding the digit.
        f.write_str(str::from_utf8(&text[begin..]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Limit up to which new ids ignore that the clock was set back, and continue from the last id. If
/// the clock was set back further, new ids follow the clock.
const BACK_MS: u64 = 60_000;

/// Makes the ids of one process, each greater than the last, so that they sort in order of
/// creation.
///
/// Within a millisecond, and while the clock is slightly behind, the upper 16 of the random bits
/// count up (into the time if they overflow), and the lower 64 stay random. So ids stay hard to
/// guess, and their texts differ early.
#[derive(Debug, Default)]
pub struct IdSequence {
    last: Option<TaskId>,
}

impl IdSequence {
    /// Makes the next id from the time and fresh random bits.
    pub fn next(&mut self, now_ms: u64, random: u128) -> TaskId {
        let fresh = TaskId::new(now_ms, random);
        let behind_ms = |last: TaskId| last.made_ms().checked_sub(fresh.made_ms());
        let id = match self.last {
            Some(last) if behind_ms(last).is_some_and(|behind| behind <= BACK_MS) => {
                let upper = ((last.number() >> 64) + 1) << 64;
                TaskId::from_number(upper + (random & u128::from(u64::MAX)))
            }
            _ => fresh,
        };
        self.last = Some(id);
        id
    }
}

/// Error for a text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id")]
pub struct ParseIdError(String);

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX)
            .and_then(decode)
            .map(Self::from_number)
            .ok_or_else(|| ParseIdError(text.chars().take(80).collect()))
    }
}

/// Id of an attempt: the id of its task, and the attempt's number, counted from 1. Written as
/// `task_….1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = TEXT_BYTES + ".4294967295".len();
        let mut text = [b'.'; LONGEST];
        let mut begin = LONGEST;
        let mut rest = self.number;
        loop {
            begin -= 1;
            text[begin] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let end_of_task = begin - ".".len();
        begin = end_of_task - TEXT_BYTES;
        text[begin..end_of_task].copy_from_slice(&self.task.text());
        // One call, because each call may let a string grow.
        f.write_str(str::from_utf8(&text[begin..]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseIdError(text.chars().take(80).collect());
        let (task, number) = text.split_once('.').ok_or_else(bad)?;
        // Each id is written in only one way: no sign, no leading zero.
        if !number.starts_with(|digit: char| ('1'..='9').contains(&digit)) {
            return Err(bad());
        }
        Ok(Self {
            task: task.parse()?,
            number: number.parse().map_err(|_| bad())?,
        })
    }
}

/// A login of an agent: its configuration directory and a hash of its credential variables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountKey(pub String);

macro_rules! serde_as_text {
    ($($id:ty),+) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(TaskId, AttemptId);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The clock stands still, advances, or is set back a little.
        #[test]
        fn ids_sort_by_creation(
            moments in proptest::collection::vec((0..3_000u64, any::<u128>()), 2..200),
        ) {
            let mut ids = IdSequence::default();
            let made: Vec<TaskId> = moments
                .iter()
                .map(|(ms, random)| ids.next(1_760_000_000_000 + ms, *random))
                .collect();
            prop_assert!(made.is_sorted_by(|one, next| one < next), "{:?}", made);
            let latest = moments.iter().map(|(ms, _)| 1_760_000_000_000 + ms).max();
            // The time in an id is ahead of the clock only if the upper 16 random bits overflow:
            // after 2^16 ids in one millisecond, or sooner if these bits were already large in the
            // first id.
            prop_assert!(made.iter().all(|id| Some(id.made_ms()) <= latest.map(|ms| ms + 1)));
        }

        /// Sixty-four bits of each id stay random.
        #[test]
        fn ids_made_in_the_same_millisecond_cannot_be_guessed(first: u128, second: u128) {
            let mut ids = IdSequence::default();
            ids.next(5, first);
            prop_assert_eq!(ids.next(5, second).number() & u128::from(u64::MAX), second & u128::from(u64::MAX));
        }
    }

    fn id(number: u128) -> TaskId {
        TaskId::from_bytes(number.to_be_bytes())
    }

    proptest! {
        #[test]
        fn id_and_text_are_equivalent_and_sort_alike(one: u128, other: u128, number in 1..u32::MAX) {
            let [one, other] = [one, other].map(id);
            prop_assert_eq!(one.to_string().parse::<TaskId>(), Ok(one));
            prop_assert_eq!(format!("{one:?}"), one.to_string());
            prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
            prop_assert_eq!(TaskId::from_bytes(one.to_bytes()), one);
            let attempt = AttemptId { task: one, number };
            prop_assert_eq!(attempt.to_string().parse::<AttemptId>(), Ok(attempt));
            let json = serde_json::to_string(&attempt).unwrap();
            prop_assert_eq!(&json, &format!("\"{attempt:?}\""));
            prop_assert_eq!(serde_json::from_str::<AttemptId>(&json).unwrap(), attempt);
        }

        /// A prefix matches exactly the ids that begin with it.
        #[test]
        fn prefix_matches_a_range_of_ids(one: u128, near in 0..u128::from(u64::MAX), digits in 1..=DIGITS) {
            let (one, near) = (id(one), id(one ^ near));
            let text = one.to_string();
            let prefix = &text[..PREFIX.len() + digits];
            let (first, last) = TaskId::range_of_prefix(prefix).unwrap();
            prop_assert_eq!(
                (first..=last).contains(&near),
                near.to_string().starts_with(prefix)
            );
            let bare = prefix[PREFIX.len()..].to_ascii_uppercase();
            prop_assert_eq!(TaskId::range_of_prefix(&bare), Some((first, last)));
            let upper = prefix.to_ascii_uppercase();
            prop_assert_eq!(TaskId::range_of_prefix(&upper), Some((first, last)));
        }

        /// An ending matches exactly the ids that end with it.
        #[test]
        fn ending_matches_the_ids_that_end_with_it(one: u128, near: u128, far in 0..26u32, digits in 1..DIGITS) {
            let (one, near) = (id(one), id(one ^ (near << (5 * far).min(127))));
            let text = one.to_string();
            let end = &text[text.len() - digits..];
            let parsed = IdEnd::parse(end).unwrap();
            prop_assert_eq!(parsed.digits(), digits);
            prop_assert!(parsed.fits(one));
            prop_assert_eq!(parsed.fits(near), near.to_string().ends_with(end));
            prop_assert_eq!(IdEnd::parse(&end.to_ascii_uppercase()), Some(parsed));
            let short = format!("{one:#}");
            prop_assert_eq!(format!("{one:#?}"), text.clone());
            prop_assert!(text.ends_with(&short));
            prop_assert_eq!(short.len(), SHORT_DIGITS);
        }
    }

    #[test]
    fn each_id_has_exactly_one_text() {
        let check = |text: &str, expected: Option<u128>| {
            assert_eq!(text.parse().ok(), expected.map(id), "{text}");
        };
        check("task_00000000000000000000000000", Some(0));
        check("task_00000000000000000000000010", Some(32));
        check("task_7zzzzzzzzzzzzzzzzzzzzzzzzz", Some(u128::MAX));
        // More than 128 bits; too short; too long; another alphabet; no `task_`.
        check("task_80000000000000000000000000", None);
        check("task_0000000000000000000000000", None);
        check("task_000000000000000000000000000", None);
        check("task_0000000000000000000000000u", None);
        check("task_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", None);
        check("00000000000000000000000000", None);
        let attempt = |number: &str| {
            let text = format!("task_00000000000000000000000000.{number}");
            let parsed: Result<AttemptId, _> = text.parse();
            parsed.ok().map(|attempt| attempt.number)
        };
        let found = [
            "1",
            "9",
            "4294967295",
            "4294967296",
            "0",
            "01",
            "+1",
            "",
            "1.1",
        ]
        .map(attempt);
        let [least, digit, most, refused @ ..] = found;
        assert_eq!([least, digit, most], [Some(1), Some(9), Some(u32::MAX)]);
        assert_eq!(refused, [None; 6]);
        let long: Result<TaskId, _> = "x".repeat(1000).parse();
        assert_eq!(
            long.unwrap_err().to_string().len(),
            80 + "`` is not an id".len()
        );
    }

    #[test]
    fn prefix_that_no_id_has_is_refused() {
        let check = |prefix: &str, expected: bool| {
            let range = TaskId::range_of_prefix(prefix);
            assert_eq!(range.is_some(), expected, "{prefix}");
        };
        check("7", true);
        check("8", false);
        check("", false);
        check("task_", false);
        check("l", false);
        check(&"0".repeat(DIGITS), true);
        check(&"0".repeat(DIGITS + 1), false);
    }

    #[test]
    fn ending_that_no_id_has_is_refused() {
        for text in [
            "",
            "l",
            "x7tqru",
            "x7 tqr",
            "größe",
            "task_x7tqrp",
            &"0".repeat(DIGITS),
        ] {
            assert_eq!(IdEnd::parse(text), None, "{text}");
        }
    }

    /// Ids made within one millisecond differ only in their random half.
    #[test]
    fn ids_of_one_millisecond_have_different_hashes() {
        let hash = |random| rustc_hash::FxBuildHasher.hash_one(TaskId::new(1, random));
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn ids_follow_a_clock_that_is_set_far_back() {
        let check = |back_ms: u64, expected_ms: u64| {
            let mut ids = IdSequence::default();
            ids.next(1_000_000, 0);
            assert_eq!(ids.next(1_000_000 - back_ms, 0).made_ms(), expected_ms);
        };
        check(0, 1_000_000);
        check(60_000, 1_000_000);
        check(60_001, 939_999);
    }
}
