//! Variables that name places in which programs look for code and settings, such as `PATH`.
//!
//! A relative place, and an empty entry of a list, means the directory in which a program happens
//! to run. For a task of a restrained principal, and for git of the host, this directory is one
//! that a client names, and its files may come from anywhere.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// Variables with such lists.
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
/// Lists of libraries that every program loads. A name without a slash is not looked up in the
/// directory in which the program runs.
const PRELOADED: [&str; 2] = ["LD_AUDIT", "LD_PRELOAD"];
/// Variables with a single path.
const PLACES: [&str; 15] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "BASH_ENV",
    "BUN_INSPECT_PRELOAD",
    "GH_CONFIG_DIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "OPENSSL_CONF",
    "RIPGREP_CONFIG_PATH",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "ZDOTDIR",
];
/// Variables with options of the programs in which Claude Code may run.
const OPTIONS: [&str; 2] = ["BUN_OPTIONS", "NODE_OPTIONS"];
/// Those of the options that name code or settings, without their dashes.
const LOADING: [&str; 12] = [
    "config",
    "env-file",
    "env-file-if-exists",
    "experimental-config-file",
    "experimental-default-config-file",
    "experimental-loader",
    "import",
    "loader",
    "openssl-config",
    "preload",
    "require",
    "snapshot-blob",
];
/// With this variable Perl looks in the directory in which it runs, too.
const UNSAFE_PERL: &str = "PERL_USE_UNSAFE_INC";
pub(crate) const PATH: &str = "PATH";
/// The `PATH` if no entry is left. An empty one would mean the directory of the program.
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// Those of the variables that name relative places, without these places, and [`UNSAFE_PERL`]
/// without effect. `None` stands for a variable of which nothing is left: it is to be removed,
/// because Bun, for example, fails if a variable is empty.
pub(crate) fn without_relative(
    variables: &BTreeMap<String, String>,
) -> Vec<(String, Option<String>)> {
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
    let preloaded = PRELOADED.iter().filter_map(|name| {
        let value = variables.get(*name)?;
        let all = value.split(|it: char| it == ':' || it.is_whitespace());
        let is_safe = |it: &&str| it.starts_with('/') || !it.contains('/');
        let left: Vec<&str> = all.filter(is_safe).collect();
        let left = left.join(":");
        (left != *value).then(|| ((*name).to_owned(), left))
    });
    let perl = variables.get(UNSAFE_PERL).filter(|value| *value != "0");
    let perl = perl.map(|_| (UNSAFE_PERL.to_owned(), "0".to_owned()));
    let changed = lists.chain(preloaded).chain(perl);
    let changed = changed.map(|(name, left)| (name, Some(left).filter(|left| !left.is_empty())));
    let places = variables
        .iter()
        .filter(|(name, value)| is_relative_place(name.as_ref(), value.as_ref()));
    let options = OPTIONS.iter().filter_map(|name| {
        let value = variables.get_key_value(*name)?;
        loads_by_relative_name(value.1).then_some(value)
    });
    let removed = places.chain(options);
    let removed = removed.map(|(name, _)| (name.clone(), None));
    changed.chain(removed).collect()
}

/// Whether a variable names a single place, and the place is relative.
pub(crate) fn is_relative_place(name: &OsStr, value: &OsStr) -> bool {
    let value = value.as_bytes();
    let names_a_place = PLACES.iter().any(|known| name == *known);
    names_a_place && !value.is_empty() && !value.starts_with(b"/")
}

/// Whether one of these options names code or settings without an absolute path. Such a name may be
/// looked up in the directory in which the program runs, and so may that of a package. Short
/// options count as such, because most of them are.
fn loads_by_relative_name(options: &str) -> bool {
    let words: Vec<&str> = options.split_whitespace().collect();
    words.iter().enumerate().any(|(at, word)| {
        if word.starts_with('/') {
            return false;
        }
        let Some(option) = word.strip_prefix("--") else {
            return true;
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, words.get(at + 1).copied()),
        };
        // For Node.js an underscore in a name means a dash.
        let name = name.replace('_', "-");
        LOADING.contains(&name.as_str()) && !value.is_some_and(|value| value.starts_with('/'))
    })
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
            let lists = without_relative(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
            let first = lists.into_iter().next();
            // An empty value stands for a removed variable.
            first.map(|(_, value)| value.unwrap_or_default())
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

    #[test]
    fn relative_places_and_options_that_load_by_relative_names_are_left_out() {
        let check = |name: &str, value: &str, expected: Option<&str>| {
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let found = without_relative(&given).pop();
            // An empty value stands for a removed variable.
            let found = found.map(|(_, value)| value.unwrap_or_default());
            assert_eq!(found.as_deref(), expected, "{name}={value}");
        };
        check("XDG_CONFIG_HOME", ".xdg", Some(""));
        check("XDG_CONFIG_HOME", "~/.config", Some(""));
        check("XDG_CONFIG_HOME", "/home/me/.config", None);
        check("XDG_CONFIG_HOME", "", None);
        check("BASH_ENV", "./benv", Some(""));
        for name in [
            "GIT_CONFIG_GLOBAL",
            "GIT_CONFIG_SYSTEM",
            "GIT_EXEC_PATH",
            "OPENSSL_CONF",
            "RIPGREP_CONFIG_PATH",
            "ZDOTDIR",
        ] {
            check(name, "~/own", Some(""));
            check(name, "/home/me/own", None);
        }
        check("ENV", "production", None);
        check("LD_PRELOAD", "./pl.so", Some(""));
        check(
            "LD_PRELOAD",
            "lib/a.so /b.so:libc.so.6",
            Some("/b.so:libc.so.6"),
        );
        check("LD_PRELOAD", "libjemalloc.so.2", None);
        check("LD_AUDIT", "../a.so", Some(""));
        for kept in [
            "",
            "--max-old-space-size=4096 --dns-result-order=ipv4first",
            "--require /opt/a.js --import=/opt/b.js",
            "--openssl-legacy-provider",
        ] {
            check("NODE_OPTIONS", kept, None);
        }
        for removed in [
            "--require ./a.js",
            "--require=tsx",
            "--import tsx",
            "--experimental_loader=./a.mjs",
            "--snapshot-blob ./a.blob",
            "-r /opt/a.js",
            "--max-old-space-size=4096 --require",
            "--experimental-default-config-file",
        ] {
            check("NODE_OPTIONS", removed, Some(""));
        }
        check("BUN_OPTIONS", "--preload ./setup.ts", Some(""));
        check("BUN_OPTIONS", "--config=bunfig.toml", Some(""));
        check("BUN_OPTIONS", "--smol", None);
        // An empty variable would not do for every program.
        for name in ["BUN_INSPECT_PRELOAD", "LD_PRELOAD", "PYTHONPATH"] {
            let given = BTreeMap::from([(name.to_owned(), "./a".to_owned())]);
            assert_eq!(without_relative(&given), [(name.to_owned(), None)]);
        }
    }
}
