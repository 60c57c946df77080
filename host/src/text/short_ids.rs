//! Ids as people are shown them: the end, which is all that tells one from another.

use std::collections::HashSet;

/// How many of the last characters are shown, if they tell apart what is shown together.
const USUAL_CHARS: usize = 6;

/// The end of an id, where it is the only one or others may be as short.
pub(crate) fn short_id(id: &str) -> &str {
    end(id, USUAL_CHARS)
}

/// How much is shown of each of several ids, so that no two of them look the same.
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
    // What is no id is shown whole rather than cut within a character.
    digits.get(from..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_long_as_tells_them_apart() {
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
        // Twice the same is one id.
        let same = "task_01kb2m8r4zq8w3v5x7y9abcdef";
        check(&[same, same], &["abcdef", "abcdef"]);
        check(&["a", "ä".repeat(9).as_str()], &["a", "äää"]);
    }

    #[test]
    fn an_id_alone_is_its_end() {
        assert_eq!(short_id("task_01kb2m8r4zq8w3v5x7y9abcdef"), "abcdef");
        assert_eq!(short_id("task_1"), "1");
        assert_eq!(short_id(""), "");
        assert_eq!(short_id("aäääb"), "aäääb");
    }
}
