//! Lists of directories in which programs look for code, such as `PATH`.
//!
//! A relative entry of such a list, and an empty one, means the directory in which a program
//! happens to run. For a task of a restrained principal, and for git of the host, this directory is
//! one that a client names, and its files may come from anywhere.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// Variables with such lists. The programs for which they are ignore them if they are empty, except
/// for `PATH`.
const LISTS: [&str; 8] = [
    PATH,
    LIBRARIES,
    "GEM_PATH",
    "NODE_PATH",
    "PERL5LIB",
    "PERLLIB",
    "PYTHONPATH",
    "RUBYLIB",
];
/// The list whose entries may also be separated by semicolons.
const LIBRARIES: &str = "LD_LIBRARY_PATH";
/// With this variable Perl looks in the directory in which it runs, too.
const UNSAFE_PERL: &str = "PERL_USE_UNSAFE_INC";
pub(crate) const PATH: &str = "PATH";
/// The `PATH` if no entry is left. An empty one would mean the directory of the program.
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// Those of the variables that are lists with entries that are not absolute, without these entries,
/// and [`UNSAFE_PERL`] without effect.
pub(crate) fn absolute_lists(variables: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let lists = LISTS.iter().filter_map(|name| {
        let value = variables.get(*name)?;
        let separates = |it: char| it == ':' || (*name == LIBRARIES && it == ';');
        let left: Vec<&str> = value
            .split(separates)
            .filter(|it| it.starts_with('/'))
            .collect();
        let left = match left.as_slice() {
            [] if *name == PATH => USUAL.to_owned(),
            left => left.join(":"),
        };
        (left != *value).then(|| ((*name).to_owned(), left))
    });
    let perl = variables.get(UNSAFE_PERL).filter(|value| *value != "0");
    let perl = perl.map(|_| (UNSAFE_PERL.to_owned(), "0".to_owned()));
    lists.chain(perl).collect()
}

/// A `PATH` without the entries that are not absolute.
pub(crate) fn absolute_path(path: &OsStr) -> OsString {
    let entries = path.as_bytes().split(|byte| *byte == b':');
    let left: Vec<&[u8]> = entries.filter(|entry| entry.starts_with(b"/")).collect();
    if left.is_empty() {
        USUAL.into()
    } else {
        OsString::from_vec(left.join(&b':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_empty_entries_of_lists_are_left_out() {
        let left = |name: &str, value: &str| {
            let lists = absolute_lists(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
            lists.into_iter().next().map(|(_, value)| value)
        };
        let check = |value: &str, expected: &str| {
            assert_eq!(left(PATH, value).as_deref(), Some(expected), "{value}");
            assert_eq!(absolute_path(value.as_ref()), expected, "{value}");
        };
        check("./node_modules/.bin:/a:/b", "/a:/b");
        check(":/a", "/a");
        check("/a::/b:", "/a:/b");
        check("bin:.:", USUAL);
        check("", USUAL);
        assert_eq!(left(PATH, "/a:/b/../c"), None);
        assert_eq!(absolute_path("/a:/b/../c".as_ref()), "/a:/b/../c");
        assert_eq!(left("LD_LIBRARY_PATH", "/a:").as_deref(), Some("/a"));
        assert_eq!(left("PYTHONPATH", "src").as_deref(), Some(""));
        assert_eq!(left("PYTHONPATH", "/a"), None);
        assert_eq!(left("PYTHONPATH", ""), None);
        assert_eq!(
            left("LD_LIBRARY_PATH", "/a;lib;/b").as_deref(),
            Some("/a:/b")
        );
        assert_eq!(left("PERLLIB", ".:/a").as_deref(), Some("/a"));
        assert_eq!(left("PERL_USE_UNSAFE_INC", "1").as_deref(), Some("0"));
        assert_eq!(left("PERL_USE_UNSAFE_INC", "0"), None);
        assert_eq!(left("CDPATH", "."), None);
    }
}
