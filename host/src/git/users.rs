//! The user's settings of git, and what these lead to: further files with settings
//! (`include.path`), and files and directories with what git runs. Whoever can write one of them
//! decides what git of the host, or the user's own git, runs.
//!
//! Git itself tells only of the files that it reads at the moment: those of a condition
//! (`includeIf`) that does not hold in a directory are missing there, and so are files that do not
//! exist yet. So the files are read here.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use crate::accounts::{self, Account};

/// How deep files may be included. Beyond this, git fails.
pub(super) const DEPTH_MAX: usize = 10;

/// Settings with commands that git, a hook or `git lfs` runs, by the names of their sections.
/// Commands for diffs are not among them: the host's git runs none of these.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("core", &["alternaterefscommand", "gitproxy", "sshcommand"]),
    ("credential", &["helper"]),
    ("filter", &["clean", "process", "smudge"]),
    ("hook", &["command"]),
    ("lfs", &["clean", "path", "smudge"]),
    ("merge", &["driver"]),
    ("remote", &["receivepack", "uploadpack"]),
    ("uploadpack", &["packobjectshook"]),
];

/// Settings with a directory of hooks, or of files that become hooks in a new repository.
const DIRECTORIES: [(&str, &str); 2] = [("core", "hookspath"), ("init", "templatedir")];

/// The setting with a file that decides to which files filters apply.
const ATTRIBUTES: (&str, &str) = ("core", "attributesfile");

/// Characters that a missing file of a command hardly has: the word is a pattern or the like.
const OF_PATTERNS: [char; 7] = ['*', '?', '[', '{', '$', '%', '^'];

/// The files with which git begins to read settings that are no repository's, whether they exist or
/// not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsersFiles {
    pub(super) settings: Vec<PathBuf>,
    pub(super) attributes: Vec<PathBuf>,
    pub(super) home: Option<PathBuf>,
    /// The directory in which git is installed.
    pub(super) prefix: Option<PathBuf>,
}

/// What the user's settings of git consist of and lead to, by the names that are given there. Some
/// of it may not exist.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) files: BTreeSet<PathBuf>,
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// A setting in a file. The names are in lower case, and that of the section has no subsection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) name: String,
    pub(super) value: String,
}

impl UsersFiles {
    /// The file that everybody has in this home directory.
    #[cfg(test)]
    pub(crate) fn of_home(home: &Path) -> Self {
        Self {
            settings: vec![home.join(".gitconfig")],
            home: Some(home.to_owned()),
            ..Self::default()
        }
    }

    /// Reads the files, as they are now.
    pub(crate) fn led_to(&self) -> Led {
        let mut led = Led::default();
        led.files.extend(self.attributes.iter().cloned());
        // A file counts with the fewest steps that lead to it.
        let mut next: VecDeque<(PathBuf, usize)> = VecDeque::new();
        next.extend(self.settings.iter().map(|file| (file.clone(), 0)));
        let mut seen = BTreeSet::new();
        while let Some((file, depth)) = next.pop_front() {
            if depth > DEPTH_MAX || !seen.insert(file.clone()) {
                continue;
            }
            for entry in entries_of(&file) {
                if let "include" | "includeif" = entry.section.as_str() {
                    let beside = file.parent().filter(|_| entry.name == "path");
                    let included = beside.and_then(|beside| self.place(&entry.value, beside));
                    next.extend(included.map(|included| (included, depth + 1)));
                } else {
                    self.add(&entry, &mut led);
                }
            }
        }
        led.files.extend(seen);
        led
    }

    /// Adds the places that a setting names. A relative one is in the repository in which git runs.
    fn add(&self, entry: &Entry, led: &mut Led) {
        let setting = (entry.section.as_str(), entry.name.as_str());
        let is_command = |(section, names): &(&str, &[&str])| {
            *section == setting.0 && names.contains(&setting.1)
        };
        if COMMANDS.iter().any(is_command) {
            let programs = words(&entry.value).into_iter();
            let programs = programs.filter_map(|word| self.program(&word));
            led.files.extend(programs);
        } else if DIRECTORIES.contains(&setting) || setting == ATTRIBUTES {
            let place = self.place(&entry.value, Path::new(""));
            let place = place.filter(|place| place.is_absolute());
            if setting == ATTRIBUTES {
                led.files.extend(place);
            } else {
                led.directories.extend(place);
            }
        }
    }

    /// The path that a value means in a file in this directory.
    pub(super) fn place(&self, value: &str, beside: &Path) -> Option<PathBuf> {
        let value = value.strip_prefix(":(optional)").unwrap_or(value);
        if let Some(rest) = value.strip_prefix("%(prefix)/") {
            return Some(self.prefix.as_ref()?.join(rest));
        }
        let Some(named) = value.strip_prefix('~') else {
            return (!value.is_empty()).then(|| beside.join(value));
        };
        let (user, rest) = named.split_once('/').unwrap_or((named, ""));
        let home = match user {
            "" => self.home.clone(),
            // Git does not find a user without a line there, unless a network knows the user.
            user => accounts::home_of(Account::Name(user)),
        };
        Some(home?.join(rest))
    }

    /// The file that a word of a command names, if the file could be run or read by it.
    fn program(&self, word: &str) -> Option<PathBuf> {
        let in_home = ["~/", "$HOME/", "${HOME}/"];
        let in_home = in_home.iter().find_map(|home| word.strip_prefix(home));
        let path = match in_home {
            Some(rest) => self.home.as_ref()?.join(rest),
            None if word.starts_with('/') => PathBuf::from(word),
            None => return None,
        };
        let could_be_one = if let Ok(found) = fs::metadata(&path) {
            found.is_file()
        } else {
            // An agent could make the file.
            let parent = path.parent().filter(|parent| parent.parent().is_some());
            !path.to_string_lossy().contains(OF_PATTERNS) && parent.is_some_and(Path::is_dir)
        };
        could_be_one.then_some(path)
    }
}

/// The settings in a file. A file that cannot be read has none, for git either.
fn entries_of(file: &Path) -> Vec<Entry> {
    // A pipe would have no end.
    if !fs::metadata(file).is_ok_and(|found| found.is_file()) {
        return Vec::new();
    }
    let text = fs::read(file).unwrap_or_default();
    entries(&String::from_utf8_lossy(&text))
}

/// The settings in the text of a file. Lines that git refuses are left out.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let text = text.replace("\r\n", "\n");
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut section = String::new();
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        if let Some(header) = rest.strip_prefix('[') {
            (section, rest) = section_of(header);
            continue;
        }
        let end = rest.find(['=', '#', ';', '\n']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if let Some(after) = after.strip_prefix('=') {
            let (value, after) = value_of(after);
            found.push(Entry {
                section: section.clone(),
                name: name.trim().to_lowercase(),
                value,
            });
            rest = after;
        } else {
            rest = after.split_once('\n').map_or("", |(_, after)| after);
        }
    }
}

/// The name of the section whose header begins with this text, and the text after the header.
fn section_of(text: &str) -> (String, &str) {
    let is_end = |it: char| it.is_whitespace() || "\"].".contains(it);
    let name = text[..text.find(is_end).unwrap_or(text.len())].to_lowercase();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, it) in text.char_indices() {
        match it {
            '\n' => return (name, &text[at..]),
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ']' if !is_quoted => return (name, &text[at + 1..]),
            _ => {}
        }
    }
    (name, "")
}

/// The value at the beginning of a text, and the text after its line.
fn value_of(text: &str) -> (String, &str) {
    let mut value = String::new();
    // The length of the value without blanks at its end.
    let mut kept = 0;
    let (mut is_quoted, mut is_comment) = (false, false);
    let mut all = text.char_indices();
    let mut after = "";
    while let Some((at, it)) = all.next() {
        match it {
            '\n' => {
                after = &text[at..];
                break;
            }
            _ if is_comment => {}
            '#' | ';' if !is_quoted => is_comment = true,
            '"' => is_quoted = !is_quoted,
            '\\' => {
                let escaped = all.next().map(|(_, it)| it).filter(|it| *it != '\n');
                value.extend(escaped.map(|it| match it {
                    't' => '\t',
                    'n' => '\n',
                    'b' => '\u{8}',
                    it => it,
                }));
                kept = value.len();
            }
            it if it.is_whitespace() && !is_quoted => {
                if !value.is_empty() {
                    value.push(it);
                }
            }
            it => {
                value.push(it);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    (value, after)
}

/// The words of a command for a shell, as far as they can be known without running it.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut all = command.chars();
    while let Some(it) = all.next() {
        let is_literal = quote.is_some();
        let ends_word = it.is_whitespace() || ";|&()<>=!`".contains(it);
        if quote == Some(it) {
            quote = None;
        } else if !is_literal && (it == '"' || it == '\'') {
            quote = Some(it);
        } else if !is_literal && ends_word {
            words.push(String::new());
        } else {
            let it = if it == '\\' && quote != Some('\'') {
                all.next()
            } else {
                Some(it)
            };
            if let Some(word) = words.last_mut() {
                word.extend(it);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs::File, io::Write, process::Command};

    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn files_of_settings_are_read_as_git_reads_them() {
        let text = "\u{feff}; a comment\r\n[Include] path = ~/a # more\n\
            \tPath=\" b ;c\" \n[includeIf \"gitdir:~/x]\\\"/\"]\n path = d\\\n e f  \n\
            [filter \"x\"] required\nclean = sh \\\"q\\\" \\\\ 'z'\n[core]\nbare=\n\
            [hook.y]\ncommand = last";
        let found = entries(text);
        let found: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|it| (&*it.section, &*it.name, &*it.value))
            .collect();
        let expected = [
            ("include", "path", "~/a"),
            ("include", "path", " b ;c"),
            ("includeif", "path", "d e f"),
            ("filter", "clean", r#"sh "q" \ 'z'"#),
            ("core", "bare", ""),
            ("hook", "command", "last"),
        ];
        assert_eq!(found, expected);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs::write(&file, text).unwrap();
        let told = Command::new("git")
            .args(["config", "--no-includes", "-z", "--list", "--file"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        let told: Vec<&str> = told
            .split_terminator('\0')
            .filter_map(|one| Some(one.split_once('\n')?.1))
            .collect();
        assert_eq!(told, expected.map(|(.., value)| value));
    }

    #[test]
    fn commands_are_split_into_words() {
        let check = |command: &str, expected: &[&str]| {
            assert_eq!(words(command), expected, "{command}");
        };
        check("git-lfs clean -- %f", &["git-lfs", "clean", "--", "%f"]);
        check("'/a b/c' \"$HOME/d\";~/e", &["/a b/c", "$HOME/d", "~/e"]);
        check(
            "!/a\\ b --file=/c|/d>/e",
            &["/a b", "--file", "/c", "/d", "/e"],
        );
        check("", &[]);
        check("'unclosed x", &["unclosed x"]);
    }

    #[test]
    fn users_settings_lead_to_all_files_that_they_include_and_to_what_git_runs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            ".gitconfig",
            "[include]\npath = dot/one\n[INCLUDEIF \"gitdir:/no/\"]\nPATH=~/two\n",
        );
        // A circle, a file beside the including one, and a file that does not exist.
        put(
            "dot/one",
            "[include]\npath=../.gitconfig\npath = three\npath = missing\n",
        );
        put(
            "dot/three",
            "[core]\nhooksPath = ~/hooks\nattributesFile = ~/attributes\nexcludesFile = ~/e\n\
             [init]\ntemplateDir = relative\n[filter \"x\"]\nclean = ~/bin/clean --all\n\
             smudge = sh $HOME/bin/new /tmp/../no/such /\n[diff \"x\"]\ntextconv = ~/bin/clean2\n\
             [credential \"https://a\"]\nhelper = !\\\"${HOME}/bin/a b\\\"\n[merge \"x\"]\n\
             driver = ~/bin/*.sh ~/bin\n",
        );
        for name in ["bin/clean", "bin/clean2", "bin/a b"] {
            put(name, "");
        }
        let files = UsersFiles {
            attributes: vec![root.join("usual")],
            ..UsersFiles::of_home(&root)
        };
        let Led {
            files: found,
            directories,
        } = files.led_to();
        let names: BTreeSet<PathBuf> = found
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_owned())
            .collect();
        let expected = [
            ".gitconfig",
            "attributes",
            "bin/a b",
            "bin/clean",
            "bin/new",
            "dot/../.gitconfig",
            "dot/missing",
            "dot/one",
            "dot/three",
            "two",
            "usual",
        ];
        // The circle gives the same files by longer names, until git would fail.
        let names: BTreeSet<PathBuf> = names
            .into_iter()
            .filter(|name| !name.starts_with("dot/../dot"))
            .collect();
        assert_eq!(names, paths(&expected));
        assert_eq!(directories, BTreeSet::from([root.join("hooks")]));
    }

    #[test]
    fn values_name_places_as_for_git() {
        let files = UsersFiles {
            home: Some("/h".into()),
            prefix: Some("/p".into()),
            ..UsersFiles::default()
        };
        for (value, expected) in [
            ("~/a", Some("/h/a")),
            ("~", Some("/h")),
            ("~no-such-user/a", None),
            ("%(prefix)/etc/a", Some("/p/etc/a")),
            (":(optional)~/a", Some("/h/a")),
            ("a/b", Some("/d/a/b")),
            ("/a", Some("/a")),
            ("", None),
        ] {
            let found = files.place(value, Path::new("/d"));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{value}");
        }
    }

    /// A file is included only down to the depth at which git still includes it.
    #[test]
    fn chain_of_files_is_followed_as_far_as_git_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=DEPTH_MAX + 1 {
            let mut file = File::create(dir.path().join(number.to_string())).unwrap();
            write!(file, "[include]\npath = {}\n", number + 1).unwrap();
        }
        let files = UsersFiles {
            settings: vec![dir.path().join("0")],
            ..UsersFiles::default()
        };
        assert_eq!(files.led_to().files.len(), DEPTH_MAX + 1);
    }
}
