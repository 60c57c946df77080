//! Finds what could make two different names look the same, except that letters of different
//! scripts may look alike: a Cyrillic `о` is allowed, because names in all languages are.

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::is_harmful;

/// The number of accents that a letter has at most.
const ACCENTS_MAX: usize = 2;
/// The number of combining characters that a letter of any script has at most.
const MARKS_MAX: usize = 4;
/// Makes an emoji of the character before it, if that character has such a look.
const EMOJI_SELECTOR: char = '\u{FE0F}';

/// What makes a name look like another name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LookAlike {
    /// A character that shows as nothing.
    Unseen(char),
    /// A character that shows as whatever a font or a program chooses, or as nothing.
    Undefined(char),
    /// A blank that is not a space.
    Blank(char),
    TwoSpaces,
    /// A combining mark that belongs to no character.
    LooseMark,
    TooManyMarks,
    /// A character in another form than the composed one. The text is the whole name in its
    /// composed form.
    NotComposed(String),
}

impl std::fmt::Display for LookAlike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unseen(EMOJI_SELECTOR) => f.write_str(
                "a character that cannot be seen (the variation selector U+FE0F; leave it out, \
                 except where it makes an emoji)",
            ),
            Self::Unseen(c) => {
                write!(
                    f,
                    "a character that cannot be seen (U+{:04X})",
                    u32::from(*c)
                )
            }
            Self::Undefined(c) => {
                write!(
                    f,
                    "a character without a defined look (U+{:04X})",
                    u32::from(*c)
                )
            }
            Self::Blank('\u{3000}') => {
                f.write_str("an ideographic space (U+3000) in place of an ordinary space (U+0020)")
            }
            Self::Blank(c) => {
                write!(
                    f,
                    "a blank (U+{:04X}) in place of an ordinary space (U+0020)",
                    u32::from(*c)
                )
            }
            Self::TwoSpaces => f.write_str("two spaces in a row"),
            Self::LooseMark => f.write_str("a combining mark without a letter"),
            Self::TooManyMarks => f.write_str("too many combining marks in a row"),
            Self::NotComposed(composed) => {
                write!(
                    f,
                    "a character that is not in its composed form (NFC: `{composed}`)"
                )
            }
        }
    }
}

/// The first thing in a name that could make it look like another name, and its position in
/// characters. Letters of all scripts are allowed, with the marks that they need.
pub(crate) fn look_alike(name: &str) -> Option<(usize, LookAlike)> {
    let chars: Vec<char> = name.chars().collect();
    let (mut accents, mut marks) = (0, 0);
    for (at, c) in chars.iter().copied().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at).copied());
        let after = chars.get(at + 1).copied();
        let found = if is_joiner(c) {
            // Joiners are a part of Persian words and of emoji, but between other characters they
            // cannot be seen.
            let joined = [before, after].map(|c| c.is_some_and(|c| !c.is_ascii() && !is_joiner(c)));
            (joined != [true; 2]).then_some(LookAlike::Unseen(c))
        } else if c == EMOJI_SELECTOR && before.is_some_and(becomes_emoji) {
            None
        } else if is_unseen(c) {
            Some(LookAlike::Unseen(c))
        } else if is_undefined(c) {
            Some(LookAlike::Undefined(c))
        } else if c != ' ' && is_space(c) {
            Some(LookAlike::Blank(c))
        } else if c == ' ' && before == Some(' ') {
            Some(LookAlike::TwoSpaces)
        } else {
            None
        };
        if let Some(found) = found {
            return Some((at, found));
        }
        if c.width() != Some(0) {
            (accents, marks) = (0, 0);
            continue;
        }
        if before.is_none_or(|before| before == ' ') {
            return Some((at, LookAlike::LooseMark));
        }
        accents += usize::from(is_accent(c));
        marks += 1;
        if accents > ACCENTS_MAX || marks > MARKS_MAX {
            return Some((at, LookAlike::TooManyMarks));
        }
    }
    not_composed(name)
}

/// The first character that is not in the composed form of the name (NFC), in which names that are
/// made of the same letters are equal. This form also has only one order for the marks of a letter.
fn not_composed(name: &str) -> Option<(usize, LookAlike)> {
    if is_nfc(name) {
        return None;
    }
    let composed: String = name.nfc().collect();
    let mut pairs = name.chars().zip(composed.chars());
    let at = pairs.position(|(one, other)| one != other);
    Some((at.unwrap_or_default(), LookAlike::NotComposed(composed)))
}

/// Whether a combining mark may follow the letters of any script.
fn is_accent(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36F}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

/// Whether [`EMOJI_SELECTOR`] makes a wide emoji of this character, which is narrow without it.
/// Digits are left out, because many programs show them unchanged.
fn becomes_emoji(c: char) -> bool {
    let emoji = String::from_iter([c, EMOJI_SELECTOR]);
    !c.is_ascii() && c.width() == Some(1) && emoji.width() == 2
}

/// Whether a character shows as nothing or as a space. A program or a model may read a text as if
/// it were not there. Joiners and variation selectors count too, although they are part of ordinary
/// text.
pub(crate) fn is_blank(c: char) -> bool {
    is_space(c) || is_harmful(c) || is_joiner(c) || is_unseen(c)
}

/// Whether a character shows as a space. U+2800 is a pattern of Braille without dots.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{2800}'
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

/// Whether a character shows as nothing. The characters for which [`is_harmful`] is true are left
/// out.
fn is_unseen(c: char) -> bool {
    matches!(c,
        // Variation selectors, and the place of an object.
        '\u{FE00}'..='\u{FE0F}' | '\u{FFFC}'
        // Format characters of shorthand, hieroglyphs and music.
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{13430}'..='\u{1343F}' | '\u{1D173}'..='\u{1D17A}')
}

/// Whether Unicode does not say what the character looks like: its look is private, it is not
/// assigned yet, or it will never be a character.
fn is_undefined(c: char) -> bool {
    matches!(
        get_general_category(c),
        GeneralCategory::PrivateUse | GeneralCategory::Unassigned
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_others_are_found() {
        let check = |name: &str, at: usize, expected: LookAlike| {
            assert_eq!(look_alike(name), Some((at, expected)), "{name:?}");
        };
        let unseen = [
            '\u{FE0F}',
            '\u{FE00}',
            '\u{FFFC}',
            '\u{1D173}',
            '\u{1D17A}',
            '\u{200C}',
            '\u{200D}',
        ];
        for c in unseen {
            check(&format!("mi{c}ne"), 2, LookAlike::Unseen(c));
            check(&format!("mine{c}"), 4, LookAlike::Unseen(c));
        }
        let undefined = [
            '\u{E000}',
            '\u{F8FF}',
            '\u{10FFFD}',
            '\u{10FFFF}',
            '\u{1FFFE}',
            '\u{FDD0}',
            '\u{FFFF}',
            '\u{378}',
            '\u{2065}',
        ];
        for c in undefined {
            check(&format!("mine{c}"), 4, LookAlike::Undefined(c));
        }
        // These characters look the same without the selector.
        for name in ["1\u{FE0F}", "é\u{FE0F}", "🚀\u{FE0F}", "測\u{FE0F}"] {
            check(name, 1, LookAlike::Unseen('\u{FE0F}'));
        }
        check("❤\u{FE0F}\u{FE0F}", 2, LookAlike::Unseen('\u{FE0F}'));
        check("é\u{200D}\u{200D}é", 1, LookAlike::Unseen('\u{200D}'));
        for c in [
            '\u{A0}', '\u{2009}', '\u{202F}', '\u{205F}', '\u{3000}', '\u{2800}',
        ] {
            check(&format!("a{c}b"), 1, LookAlike::Blank(c));
        }
        check("a  b", 2, LookAlike::TwoSpaces);
        check("\u{301}a", 0, LookAlike::LooseMark);
        check("a \u{301}b", 2, LookAlike::LooseMark);
        check("e\u{301}\u{301}\u{301}", 3, LookAlike::TooManyMarks);
        let stacked = "\u{1019}\u{102D}\u{102F}\u{1037}\u{102D}\u{102F}";
        check(stacked, 5, LookAlike::TooManyMarks);
        for (name, at, composed) in [
            ("cafe\u{301}", 3, "caf\u{E9}"),
            ("tiê\u{301}ng Việt", 2, "ti\u{1EBF}ng Việt"),
            ("A\u{30A}ngström", 0, "\u{C5}ngström"),
            ("\u{212B}ngström", 0, "\u{C5}ngström"),
            ("\u{1112}\u{1161}\u{11AB}", 0, "\u{D55C}"),
            // Two marks in another order.
            ("\u{5E9}\u{5C1}\u{5B8}", 1, "\u{5E9}\u{5B8}\u{5C1}"),
        ] {
            check(name, at, LookAlike::NotComposed(composed.to_owned()));
        }
    }

    #[test]
    fn names_in_other_languages_are_allowed() {
        for name in [
            "nightly build",
            "größe",
            "caf\u{E9}",
            "ti\u{1EBF}ng Việt",
            "тесты",
            "テスト",
            "測試",
            "한글 시험",
            "اختبار",
            "بَيْت",
            "می\u{200C}خواهم",
            "परीक्षण",
            "\u{1019}\u{103C}\u{102D}\u{102F}\u{1037}",
            "ที่นี่",
            "שָׁלוֹם",
            "🚀 deploy",
            "👩\u{200D}🔧",
            "❤\u{FE0F} care",
            "🏳\u{FE0F}\u{200D}🌈",
            "👩\u{200D}❤\u{FE0F}\u{200D}👩",
        ] {
            assert_eq!(look_alike(name), None, "{name}");
        }
    }
}
