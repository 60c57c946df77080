//! Suggests a known name for a misspelled name.

/// A name is suggested if its similarity is above this value. 1 means identical.
const ALIKE: f64 = 0.7;

/// The most similar name, if its similarity is sufficient.
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
    fn the_most_similar_name_is_suggested_for_a_misspelled_name() {
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
