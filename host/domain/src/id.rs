//! Identities: tasks, attempts, accounts. They are made outside (randomness does not belong here) and parsed at the edge.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Crockford's base32 in lower case: sorts as its number does, and has no `i`, `l`, `o`, `u` to be misread.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "task_";
const DIGITS: usize = 26;

/// A task's identity: 48 bits of milliseconds since the epoch, then 80 random bits, so that ids sort by creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u128);

impl TaskId {
    /// Makes an id from a time and random bits; of the random value the low 80 bits are used.
    pub fn new(created_ms: u64, random: u128) -> Self {
        Self((u128::from(created_ms) << 80) | (random & ((1 << 80) - 1)))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The lowest and the highest id whose text starts with `prefix` (with or without `task_`), or `None` if no id can.
    pub fn range_of_prefix(prefix: &str) -> Option<(Self, Self)> {
        let digits = prefix.strip_prefix(PREFIX).unwrap_or(prefix);
        if digits.is_empty() || digits.len() > DIGITS {
            return None;
        }
        let pad = |digit: char| -> Option<Self> {
            let mut text = digits.to_ascii_lowercase();
            text.extend(std::iter::repeat_n(digit, DIGITS - digits.len()));
            decode(&text).map(Self)
        };
        // A first digit above 7 would need more than 128 bits: `decode` says no, and there is no such id.
        Some((pad('0')?, pad('z')?))
    }
}

fn decode(digits: &str) -> Option<u128> {
    if digits.len() != DIGITS || digits.as_bytes()[0] > b'7' {
        return None;
    }
    digits.bytes().try_fold(0u128, |value, digit| {
        let index = ALPHABET.iter().position(|known| *known == digit)?;
        Some((value << 5) | index as u128)
    })
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; DIGITS];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(PREFIX)?;
        text.iter()
            .try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id")]
pub struct ParseIdError(String);

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX)
            .and_then(decode)
            .map(Self)
            .ok_or_else(|| ParseIdError(text.chars().take(80).collect()))
    }
}

/// One execution of a task, numbered from 1. Its text is `task_….1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.number)
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
        // One text for each id: no sign, no leading zero.
        if !number.starts_with(|digit: char| ('1'..='9').contains(&digit)) {
            return Err(bad());
        }
        Ok(Self {
            task: task.parse()?,
            number: number.parse().map_err(|_| bad())?,
        })
    }
}

/// One login of an agent: its configuration directory and a hash of its credential variables.
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
