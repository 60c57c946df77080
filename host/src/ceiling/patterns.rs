//! Patterns for all files of a directory except some. Rules that deny something have no exceptions,
//! so the names that are denied are described one by one: those that begin with another character
//! than the name that is left out, those that continue with another one, and so on.
//!
//! The patterns are those of `.gitignore`, as Claude Code reads them. It knows no class of
//! characters that is negated, only one with ranges, and does not distinguish cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The last character that a class names; the first is the space. The two halves of a character of
/// more than sixteen bits are between them. No program keeps settings under a name with others.
const LAST: char = '\u{ffee}';

/// Patterns, relative to a directory, of the names in it that begin with `begin`, except the paths
/// in `free` (which are relative too) and all that is below them.
pub(super) fn all_but(free: &BTreeSet<PathBuf>, begin: &str) -> Vec<String> {
    let names = |path: &PathBuf| -> Vec<String> {
        let names = path.iter();
        names.map(|name| name.to_string_lossy().into()).collect()
    };
    let chains: Vec<Vec<String>> = free.iter().map(names).collect();
    let chains: Vec<&[String]> = chains.iter().map(Vec::as_slice).collect();
    all_but_chains(&chains, begin)
}

fn all_but_chains(free: &[&[String]], begin: &str) -> Vec<String> {
    let mut below: BTreeMap<&str, Vec<&[String]>> = BTreeMap::new();
    for chain in free {
        match chain.split_first() {
            None => return Vec::new(),
            Some((name, rest)) if name.starts_with(begin) => {
                below.entry(name).or_default().push(rest);
            }
            Some(_) => {}
        }
    }
    let names: Vec<&str> = below.keys().copied().collect();
    let mut patterns = Vec::new();
    if names.is_empty() {
        patterns.push(format!("{begin}*"));
    } else {
        add_other_names(&names, begin, true, &mut patterns);
    }
    for (name, rest) in below {
        let deeper = all_but_chains(&rest, "");
        patterns.extend(deeper.iter().map(|pattern| format!("{name}/{pattern}")));
    }
    patterns
}

/// Adds patterns of all names that begin with `begin`, as all of `names` do, and are none of these.
fn add_other_names(names: &[&str], begin: &str, is_first: bool, patterns: &mut Vec<String>) {
    let next = |name: &&str| name.strip_prefix(begin)?.chars().next();
    let next: BTreeSet<char> = names.iter().filter_map(next).collect();
    if !is_first && !names.contains(&begin) {
        // A space at the end of a pattern would count for nothing.
        let exact = begin.strip_suffix(' ').map(|rest| format!("{rest}[ ]"));
        patterns.push(exact.unwrap_or_else(|| begin.to_owned()));
    }
    let other = if next.is_empty() {
        "?".to_owned()
    } else {
        other_than(&next)
    };
    patterns.push(format!("{begin}{other}*"));
    for character in next {
        let begin = format!("{begin}{character}");
        let names = names.iter().copied();
        let names: Vec<&str> = names.filter(|name| name.starts_with(&begin)).collect();
        add_other_names(&names, &begin, false, patterns);
    }
}

/// A class of all characters but these. Ranges begin and end with characters that mean nothing in a
/// pattern. If unusual characters are left out, so are those of their kind, because single ones
/// could mean something.
fn other_than(characters: &BTreeSet<char>) -> String {
    let has = |it: char| {
        characters
            .iter()
            .any(|other| other.eq_ignore_ascii_case(&it))
    };
    let is_usual = |it: &char| it.is_ascii_alphanumeric() || "._-".contains(*it);
    let mut class = "[".to_owned();
    if characters.iter().all(|it| is_usual(it) || !it.is_ascii()) {
        class.push_str(" -,:-@");
    }
    if !has('.') {
        class.push('.');
    }
    for (first, last) in [('0', '9'), ('A', 'Z'), ('a', 'z')] {
        let all: Vec<char> = (first..=last).collect();
        for run in all.split(|it| has(*it)) {
            match run {
                [] => {}
                [one] => class.push(*one),
                [first, .., last] => class.extend([*first, '-', *last]),
            }
        }
    }
    class.push_str(match (has('_'), has('z')) {
        (true, _) => "",
        (false, true) => "_",
        (false, false) => "Z-_",
    });
    class.push('`');
    if characters.iter().all(char::is_ascii) {
        class.extend(['{', '-', LAST]);
    }
    if !has('-') {
        class.push('-');
    }
    class.push(']');
    class
}

/// The path as one that a rule can name, and patterns below it of all that is in the path, except
/// the paths in `free` (which are relative to it) and all that is below them.
pub(super) fn named_but(path: &Path, free: &BTreeSet<PathBuf>) -> (PathBuf, Vec<String>) {
    let (root, pattern) = named(path);
    if free.is_empty() {
        return (root, vec![pattern]);
    }
    let separator = if pattern.is_empty() { "" } else { "/" };
    let patterns = all_but(free, "").into_iter();
    let patterns = patterns.map(|below| format!("{pattern}{separator}{below}"));
    (root, patterns.collect())
}

/// The path as one that a rule can name, and a pattern below it. Characters that a rule would take
/// for a part of a pattern are replaced by the pattern for any character.
fn named(path: &Path) -> (PathBuf, String) {
    let (mut root, mut pattern) = (PathBuf::new(), String::new());
    for name in path {
        let name = name.to_string_lossy();
        if pattern.is_empty() && is_plain(&name) {
            root.push(&*name);
            continue;
        }
        if !pattern.is_empty() {
            pattern.push('/');
        }
        let any = |it: char| {
            let count = if is_plain_character(it) && it != ' ' {
                0
            } else {
                it.len_utf16()
            };
            let own = Some(it).filter(|_| count == 0);
            own.into_iter().chain(std::iter::repeat_n('?', count))
        };
        pattern.extend(name.chars().flat_map(any));
    }
    (root, pattern)
}

fn is_plain(name: &str) -> bool {
    name.trim() == name && name.chars().all(|it| it == '/' || is_plain_character(it))
}

fn is_plain_character(it: char) -> bool {
    it.is_alphanumeric() || "._-+@ ".contains(it)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a class, without its brackets, has this character in either case.
    fn class_has(class: &str, it: char) -> bool {
        let characters: Vec<char> = class.chars().collect();
        let mut rest = &*characters;
        loop {
            rest = match rest {
                [] => return false,
                [first, '-', last, after @ ..] => {
                    let range = *first..=*last;
                    let cases = [it.to_ascii_lowercase(), it.to_ascii_uppercase()];
                    if cases.iter().any(|it| range.contains(it)) {
                        return true;
                    }
                    after
                }
                [one, after @ ..] => {
                    if one.eq_ignore_ascii_case(&it) {
                        return true;
                    }
                    after
                }
            };
        }
    }

    /// Whether a pattern without `/` matches a name, as in Claude Code.
    fn matches(pattern: &str, name: &str) -> bool {
        let mut rest = pattern.chars();
        let mut left = name.chars();
        match rest.next() {
            None => name.is_empty(),
            Some('*') => {
                let rest = rest.as_str();
                let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
                ends.any(|at| matches(rest, name.split_at(at).1))
            }
            Some('?') => left.next().is_some() && matches(rest.as_str(), left.as_str()),
            Some('[') => {
                let (class, rest) = rest.as_str().split_once(']').unwrap_or_default();
                let next = left.next();
                next.is_some_and(|it| class_has(class, it)) && matches(rest, left.as_str())
            }
            Some(own) => {
                let next = left.next();
                let is_same = next.is_some_and(|it| it.eq_ignore_ascii_case(&own));
                is_same && matches(rest.as_str(), left.as_str())
            }
        }
    }

    /// Whether a pattern matches a path or a directory above it.
    fn denies(patterns: &[String], path: &str) -> bool {
        let denies = |pattern: &String| {
            let (pattern, path): (Vec<&str>, Vec<&str>) =
                (pattern.split('/').collect(), path.split('/').collect());
            let mut pairs = pattern.iter().zip(&path);
            pattern.len() <= path.len() && pairs.all(|(pattern, name)| matches(pattern, name))
        };
        patterns.iter().any(denies)
    }

    fn check(free: &[&str], begin: &str, denied: &[&str], allowed: &[&str]) {
        let patterns = all_but(&free.iter().map(PathBuf::from).collect(), begin);
        for path in denied {
            assert!(denies(&patterns, path), "{path}: {patterns:?}");
        }
        for path in allowed {
            assert!(!denies(&patterns, path), "{path}: {patterns:?}");
        }
    }

    #[test]
    fn patterns_deny_all_hidden_files_but_those_below_one_directory() {
        let usual = ".local/state/claudine/worktrees";
        let patterns = all_but(&[PathBuf::from(usual)].into(), ".");
        assert_eq!(patterns.len(), 54);
        let denied = [
            ".ssh/config",
            ".x",
            "..x",
            ".-",
            ".[x]",
            ".^",
            ".~",
            ".é",
            ".a b/c",
            ".l",
            ".loca",
            ".localx",
            ".lo al",
            ".lXcal/state/claudine/worktrees/a",
            ".local2/state/claudine/worktrees/a",
            ".local/share/x",
            ".local/.s",
            ".local/stat",
            ".local/statex/claudine/worktrees/a",
            ".local/state/claudine2/f",
            ".local/state/claudine/env/x",
            ".local/state/claudine/worktree",
            ".local/state/claudine/worktrees2/a",
        ];
        let allowed = [
            "plain",
            "project/.github/x",
            ".local/state/claudine/worktrees/task_1/.github/x",
        ];
        check(&[usual], ".", &denied, &allowed);
        let denied = [&denied[..], &[".local/state/claudine/worktrees/a"]].concat();
        check(&[], ".", &denied, &["plain", "a/.b"]);
        check(&["state/claudine/worktrees"], ".", &denied, &["plain"]);
        check(&[""], ".", &[], &[".x"]);
    }

    #[test]
    fn patterns_leave_out_several_directories_whatever_their_names() {
        let free = [".a/b", ".a/bc/d", ".Qz_ +@.0é-/x"];
        let allowed = [".a/b/f", ".a/bc/d/f", ".Qz_ +@.0é-/x/f"];
        let denied = [
            ".a/f",
            ".a/bd",
            ".a/bcd",
            ".a/bc/e",
            ".b",
            ".ab/b",
            ".Qz",
            ".Qz_ ",
            ".Qz_ +@.1",
            ".Qz_ +@.0e-/x",
            ".Qz_ +@.0é-/y",
            ".Qz_ +@.0é-x/x",
            ".Qz_ +x",
            ".Qzb",
            ".Qx",
        ];
        check(&free, ".", &denied, &allowed);
        check(
            &["state"],
            "",
            &["f", ".f", "stat", "states/f"],
            &["state/f"],
        );
    }

    /// Claude Code would take some of them for something else than themselves.
    #[test]
    fn class_names_no_character_with_a_meaning_except_in_a_range() {
        let all: Vec<char> = (' '..='~')
            .filter(|it| *it != '/')
            .chain(['é', '日'])
            .collect();
        for it in &all {
            let class = other_than(&[*it].into());
            for meant in ['*', '?', '[', '\\', '(', ')', '!', '^', '$', '/'] {
                assert!(!class[1..].contains(meant), "{it}: {class}");
            }
            assert!(class[..class.len() - 1].rfind(']').is_none(), "{class}");
            let inner = class.trim_start_matches('[').trim_end_matches(']');
            assert!(
                !class_has(inner, *it) || !is_plain_character(*it),
                "{it}: {class}"
            );
            if it.is_ascii_alphanumeric() {
                let is_other = |other: &&char| !other.eq_ignore_ascii_case(it);
                let missing = all.iter().filter(is_other);
                let missing: Vec<&char> =
                    missing.filter(|other| !class_has(inner, **other)).collect();
                let expected: &[char] = if it.eq_ignore_ascii_case(&'z') {
                    &['[', '\\', ']', '^']
                } else {
                    &[]
                };
                assert_eq!(missing, expected.iter().collect::<Vec<_>>(), "{class}");
            }
        }
    }

    #[test]
    fn unusual_names_become_patterns() {
        for (path, root, pattern) in [
            ("/a b/c", "/a b/c", ""),
            ("/a/me@host:1", "/a", "me@host?1"),
            ("/a/(x y)/c", "/a", "?x?y?/c"),
            ("/a /b", "/", "a?/b"),
            ("/a/\u{1f642}", "/a", "??"),
        ] {
            let expected = (PathBuf::from(root), pattern.to_owned());
            assert_eq!(named(Path::new(path)), expected, "{path}");
        }
    }
}
