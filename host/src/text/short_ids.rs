//! Shortens ids for people. Only the end of an id is shown, because ids that were made at about the
//! same time begin with the same characters.

use std::collections::HashSet;

/// Usual number of characters of a shortened id. It is used if it distinguishes all ids that are
/// shown together.
const USUAL_CHARS: usize = 6;

/// The end of an id, in the usual length, for an id that is shown alone.
pub(crate) fn short_id(id: &str) -> &str {
    end(id, USUAL_CHARS)
}

/// The length to which several ids are shortened so that they still differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShortIds {
    chars: usize,
}

impl ShortIds {
    pub(crate) fn among<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let ids: HashSet<&str> = ids.into_iter().collect();
        let longest = ids.iter().map(|id| id.len()).max().unwrap_or(0);
        let tells_apart = |chars: &usize| {
            let mut seen = HashSet::with_capacity(ids.len());
            ids.iter().all(|id| seen.insert(end(id, *chars)))
        };
        let chars = (USUAL_CHARS..longest).find(tells_apart);
        Self {
            chars: chars.unwrap_or(longest.max(USUAL_CHARS)),
        }
    }

    pub(crate) fn of(self, id: &str) -> &str {
        end(id, self.chars)
    }
}

fn end(id: &str, chars: usize) -> &str {
    let digits = id.strip_prefix("task_").unwrap_or(id);
    let from = digits.len().saturating_sub(chars);
    // A string that is not an id is returned whole if it would be cut within a character.
    digits.get(from..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_long_as_needed_to_differ() {
        let check = |ids: &[&str], expected: &[&str]| {
            let short = ShortIds::among(ids.iter().copied());
            let found: Vec<&str> = ids.iter().map(|id| short.of(id)).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&["task_01kb2m8r4zq8w3v5x7y9abcdef"], &["abcdef"]);
        check(
            &[
                "task_01kb2m8r4zq8w3v5x7y9abcdef",
                "task_01kb2m8r4zq8w3v5x7y9abcdeg",
            ],
            &["abcdef", "abcdeg"],
        );
        check(
            &[
                "task_01kb2m8r4zq8w3v5x7y9abcdef",
                "task_01kb2m8r4zq8w3v5x7y8abcdef",
            ],
            &["9abcdef", "8abcdef"],
        );
        // An id that occurs twice counts once.
        let same = "task_01kb2m8r4zq8w3v5x7y9abcdef";
        check(&[same, same], &["abcdef", "abcdef"]);
        check(&["a", "ä".repeat(9).as_str()], &["a", "äää"]);
    }

    #[test]
    fn a_single_id_has_the_usual_length() {
        assert_eq!(short_id("task_01kb2m8r4zq8w3v5x7y9abcdef"), "abcdef");
        assert_eq!(short_id("task_1"), "1");
        assert_eq!(short_id(""), "");
        assert_eq!(short_id("aäääb"), "aäääb");
    }
}
