//! Which of the names there are somebody may have meant.

/// How alike two names have to be, from 0 to 1.
const ALIKE: f64 = 0.7;

/// The name that is most like a word, if one is like it at all.
pub(crate) fn similar<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        let alike = strsim::jaro_winkler(word, name);
        if alike > best.map_or(ALIKE, |(alike, _)| alike) {
            best = Some((alike, name));
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn a_typo_finds_the_name_that_was_meant() {
        let check = |word: &str, expected: Option<&str>| {
            let found = similar(word, ["gpu", "nightly", "night"]);
            assert_eq!(found, expected, "{word}");
        };
        check("gpu", Some("gpu"));
        check("gpus", Some("gpu"));
        check("nigthly", Some("nightly"));
        check("nigh", Some("night"));
        check("deploy", None);
        check("", None);
    }
}
