//! Variables that name places in which programs look for code and settings, such as `PATH`.
//!
//! A relative place, and an empty entry of a list, means the directory in which a program happens
//! to run. For a task of a restrained principal, and for git of the host, this directory is one
//! that a client names, and its files may come from anywhere.
//!
//! No list of such variables is complete, so two tables decide: [`known`] has names with a known
//! meaning, and [`ENDS`] has the ends of names that usually have this meaning. In addition, a value
//! that begins as only a relative path does is one, whatever its variable.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::shims::{Shims, USUAL};

/// What the value of a variable names.
#[derive(Clone, Copy)]
enum Kind {
    /// The home directory. Programs take an empty one for a directory, too.
    Home,
    /// A file or a directory.
    Place,
    /// A file or a directory, according to the end of the name, unless the value is no path.
    LikelyPlace,
    /// Places with one of these characters between them.
    List(&'static [char]),
    /// Such a list, according to the end of the name, unless the value is no path.
    LikelyList,
    /// Libraries that every program loads. A name without a slash is not looked up in the directory
    /// in which the program runs.
    Preloaded,
    /// A program. A name without a slash is looked up in [`PATH`].
    Program,
    /// A command, which a shell runs.
    Command,
    /// Options of a program, and whether they name code or settings by a relative path.
    Options(fn(&str) -> bool),
    /// Something that a program looks up in its directory even by a plain name.
    Never,
    /// Perl looks in the directory in which it runs, too.
    UnsafePerl,
    /// A text that names no place, whatever it looks like.
    Text,
}

/// The ends of names, and what variables with such names usually are.
const ENDS: [(&str, Kind); 45] = [
    ("_PATH", Kind::LikelyList),
    ("_DIRS", Kind::LikelyList),
    ("_HOME", Kind::LikelyPlace),
    ("_DIR", Kind::LikelyPlace),
    ("_DIRECTORY", Kind::LikelyPlace),
    ("_FOLDER", Kind::LikelyPlace),
    ("_ROOT", Kind::LikelyPlace),
    ("TMPDIR", Kind::LikelyPlace),
    ("_FILE", Kind::LikelyPlace),
    ("_CONFIG", Kind::LikelyPlace),
    ("USERCONFIG", Kind::LikelyPlace),
    ("GLOBALCONFIG", Kind::LikelyPlace),
    ("_CONF", Kind::LikelyPlace),
    ("RC", Kind::LikelyPlace),
    ("GOENV", Kind::LikelyPlace),
    ("_CREDENTIALS", Kind::LikelyPlace),
    ("_CERT", Kind::LikelyPlace),
    ("_CERTS", Kind::LikelyPlace),
    ("_CERTIFICATE", Kind::LikelyPlace),
    ("_CACERT", Kind::LikelyPlace),
    ("_CAINFO", Kind::LikelyPlace),
    ("_CAPATH", Kind::LikelyPlace),
    ("_BUNDLE", Kind::LikelyPlace),
    ("_KEYFILE", Kind::LikelyPlace),
    ("USERBASE", Kind::LikelyPlace),
    ("STARTUP", Kind::LikelyPlace),
    ("_PRELOAD", Kind::LikelyPlace),
    ("_SOCK", Kind::LikelyPlace),
    ("_SOCKET", Kind::LikelyPlace),
    ("ASKPASS", Kind::Program),
    ("_BIN", Kind::Program),
    ("_SHELL", Kind::Program),
    ("EDITOR", Kind::Command),
    ("VISUAL", Kind::Command),
    ("PAGER", Kind::Command),
    ("BROWSER", Kind::Command),
    ("_COMMAND", Kind::Command),
    ("_SSH", Kind::Command),
    ("_RSH", Kind::Command),
    ("_WRAPPER", Kind::Command),
    ("_LAUNCHER", Kind::Command),
    ("_OPTIONS", Kind::Options(name_a_relative_path)),
    ("OPTS", Kind::Options(name_a_relative_path)),
    ("FLAGS", Kind::Options(name_a_relative_path)),
    ("_ARGS", Kind::Options(name_a_relative_path)),
];
/// An end of names that [`ENDS`] does not mean by `RC`.
const SOURCES: &str = "SRC";

/// What the variable with this name is, in capital letters.
fn known(name: &str) -> Option<Kind> {
    let kind = match name {
        "HOME" => Kind::Home,
        "CLASSPATH" | "GCONV_PATH" | "GEM_PATH" | "GOPATH" | "KRB5_CONFIG" | "KUBECONFIG"
        | "LOCPATH" | "NODE_PATH" | "PATH" | "PERL5LIB" | "PERLLIB" | "PYTHONPATH" | "RUBYLIB"
        | "R_LIBS" | "R_LIBS_USER" | "SSL_CERT_DIR" => Kind::List(&[':']),
        "LD_LIBRARY_PATH" => Kind::List(&[':', ';']),
        "LD_AUDIT" | "LD_PRELOAD" => Kind::Preloaded,
        "ANTHROPIC_CONFIG_DIR"
        | "AWS_CONFIG_FILE"
        | "AWS_SHARED_CREDENTIALS_FILE"
        | "AWS_WEB_IDENTITY_TOKEN_FILE"
        | "BASH_ENV"
        | "BUN_INSPECT_PRELOAD"
        | "CLAUDE_CODE_CLIENT_KEY"
        | "CLOUDSDK_CONFIG"
        | "CONDA_PREFIX"
        | "CURL_HOME"
        | "DOCKER_CONFIG"
        | "GEM_HOME"
        | "GH_CONFIG_DIR"
        | "GIT_CONFIG"
        | "GIT_CONFIG_GLOBAL"
        | "GIT_CONFIG_SYSTEM"
        | "GIT_SSL_CAINFO"
        | "GIT_SSL_CAPATH"
        | "GIT_SSL_CERT"
        | "GIT_SSL_KEY"
        | "GNUPGHOME"
        | "GOBIN"
        | "GOOGLE_APPLICATION_CREDENTIALS"
        | "GOROOT"
        | "INPUTRC"
        | "NETRC"
        | "NODE_COMPILE_CACHE"
        | "NODE_EXTRA_CA_CERTS"
        | "NPM_CONFIG_PREFIX"
        | "OPENSSL_CONF"
        | "OPENSSL_ENGINES"
        | "OPENSSL_MODULES"
        | "OTEL_EXPORTER_OTLP_CLIENT_KEY"
        | "PYTHONHOME"
        | "PYTHONPYCACHEPREFIX"
        | "PYTHONSTARTUP"
        | "PYTHONUSERBASE"
        | "R_ENVIRON"
        | "R_ENVIRON_USER"
        | "R_PROFILE"
        | "R_PROFILE_USER"
        | "SSL_CERT_FILE"
        | "TERMINFO"
        | "TMPDIR"
        | "VIRTUAL_ENV"
        | "WGETRC"
        | "XDG_CACHE_HOME"
        | "XDG_CONFIG_HOME"
        | "XDG_DATA_HOME"
        | "XDG_STATE_HOME"
        | "ZDOTDIR" => Kind::Place,
        // Only some shells read a file of this name, and many other programs mean something else.
        "ENV" | "GIT_SSH" | "SHELL" => Kind::Program,
        "AR"
        | "CC"
        | "CLAUDE_CODE_SHELL_PREFIX"
        | "CXX"
        | "GIT_EXTERNAL_DIFF"
        | "LD"
        | "LESSCLOSE"
        | "LESSOPEN"
        | "MAKE" => Kind::Command,
        "BUN_OPTIONS" | "NODE_OPTIONS" => Kind::Options(load_by_relative_name),
        "PERL5OPT" => Kind::Options(load_into_perl),
        "RUBYOPT" => Kind::Options(load_into_ruby),
        "JAVA_TOOL_OPTIONS" | "JDK_JAVA_OPTIONS" | "_JAVA_OPTIONS" | "JAVA_OPTS" => {
            Kind::Options(load_into_java)
        }
        "GIT_CONFIG_PARAMETERS" | "PERL5DB" => Kind::Never,
        "PERL_USE_UNSAFE_INC" => Kind::UnsafePerl,
        "EMAIL"
        | "GIT_AUTHOR_EMAIL"
        | "GIT_AUTHOR_NAME"
        | "GIT_COMMITTER_EMAIL"
        | "GIT_COMMITTER_NAME"
        | "OLDPWD"
        | "PWD"
        | "_" => Kind::Text,
        // Lua takes code, too, and a version may be at the end of the name.
        _ if name.starts_with("LUA_INIT") => Kind::Never,
        _ if name.starts_with("LUA_PATH") || name.starts_with("LUA_CPATH") => Kind::List(&[';']),
        // Parts of settings are judged together.
        _ if is_setting_of_git(name) => Kind::Text,
        _ => return None,
    };
    Some(kind)
}

/// What a variable with this name, in capital letters, usually is.
fn likely(name: &str) -> Option<Kind> {
    let mut ends = ENDS.iter();
    let (end, kind) = ends.find(|(end, _)| name.ends_with(end))?;
    (*end != "RC" || !name.ends_with(SOURCES)).then_some(*kind)
}

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
/// Options of Java that name code, without the name.
const LOADING_JAVA: [&str; 4] = [
    "-javaagent:",
    "-agentpath:",
    "-Xbootclasspath/a:",
    "-Xbootclasspath/p:",
];
/// The ends of the names of places in settings of git and properties of Java, in small letters.
const SETTINGS_WITH_PLACES: [&str; 15] = [
    "path",
    "file",
    "dir",
    "dirs",
    "directory",
    "home",
    "template",
    "worktree",
    "cainfo",
    "sslcert",
    "sslkey",
    "store",
    "policy",
    "properties",
    "flags",
];
/// The ends of the names of settings of git that have commands.
const SETTINGS_WITH_COMMANDS: [&str; 18] = [
    "command",
    "cmd",
    "editor",
    "pager",
    "helper",
    "fsmonitor",
    "textconv",
    "smudge",
    "clean",
    "process",
    "driver",
    "external",
    "askpass",
    "program",
    "uploadpack",
    "receivepack",
    "gitproxy",
    "difffilter",
];
/// Values that are no path.
const WORDS: [&str; 9] = [
    "true", "false", "yes", "no", "on", "off", "auto", "never", "always",
];
pub(crate) const PATH: &str = "PATH";

/// What is left of the value of a variable.
enum Left {
    All,
    Part(String),
    /// The variable is to be removed, because Bun, for example, fails if a variable is empty.
    Nothing,
}

/// Those of the variables that name relative places, without these places. `None` stands for a
/// variable of which nothing is left. Variables that the client may set itself are not judged by
/// the ends of their names or by their values. Reads links.
pub(crate) fn without_relative(
    variables: &BTreeMap<String, String>,
    may_be_set: impl Fn(&str) -> bool,
) -> Vec<(String, Option<String>)> {
    let shims = Shims::of(|name| variables.get(name).map(PathBuf::from));
    let has_bad_settings = variables
        .iter()
        .any(|(name, value)| is_relative_setting(variables, name, value));
    let changed = variables.iter().filter_map(|(name, value)| {
        if has_bad_settings && is_setting_of_git(name) {
            return Some((name.clone(), None));
        }
        match left(name, value, may_be_set(name), &shims) {
            Left::All => None,
            Left::Part(part) => Some((name.clone(), Some(part))),
            Left::Nothing => Some((name.clone(), None)),
        }
    });
    changed.collect()
}

/// What git of the host gets of a variable.
pub(crate) fn absolute_part(name: &OsStr, value: OsString) -> Option<OsString> {
    if name == PATH {
        return Some(absolute_path(&value));
    }
    let shims = Shims::default();
    match left(
        &name.to_string_lossy(),
        &value.to_string_lossy(),
        false,
        &shims,
    ) {
        Left::All => Some(value),
        // A part of a value that is no UTF-8 is not the part of the value itself.
        Left::Part(part) => value.to_str().map(|_| part.into()),
        Left::Nothing => None,
    }
}

fn left(name: &str, value: &str, may_be_set: bool, shims: &Shims) -> Left {
    let upper = name.to_ascii_uppercase();
    let by_end = || likely(&upper).filter(|_| !may_be_set);
    let is_bad = match known(&upper).or_else(by_end) {
        Some(Kind::Text) => return Left::All,
        Some(Kind::Home) => !is_absolute(value.as_bytes()),
        Some(Kind::Place) => !value.is_empty() && !is_absolute(value.as_bytes()),
        Some(Kind::LikelyPlace) => may_be_path(value) && !is_absolute(value.as_bytes()),
        Some(Kind::List(separators)) => return of_list(name, value, separators, shims),
        Some(Kind::LikelyList) if may_be_path(value) => return of_list(name, value, &[':'], shims),
        Some(Kind::Preloaded) => return of_preloaded(value),
        Some(Kind::Program) => value.contains('/') && !is_absolute(value.as_bytes()),
        Some(Kind::Command) => names_relative_path(value, true),
        Some(Kind::Options(load_relative)) => load_relative(value),
        Some(Kind::Never) => !value.is_empty(),
        Some(Kind::UnsafePerl) if value != "0" => return Left::Part("0".to_owned()),
        Some(Kind::LikelyList | Kind::UnsafePerl) | None => false,
    };
    if is_bad || (!may_be_set && begins_relative(value)) {
        Left::Nothing
    } else {
        Left::All
    }
}

fn of_list(name: &str, value: &str, separators: &[char], shims: &Shims) -> Left {
    let entries = value.split(separators);
    let is_fixed =
        |it: &&str| is_absolute(it.as_bytes()) && !(name == PATH && shims.has(Path::new(it)));
    let left: Vec<&str> = entries.filter(is_fixed).collect();
    let between = if separators == [';'] { ";" } else { ":" };
    match left.as_slice() {
        [] if name == PATH => Left::Part(USUAL.to_owned()),
        left => part(value, left.join(between)),
    }
}

fn of_preloaded(value: &str) -> Left {
    let all = value.split(|it: char| it == ':' || it.is_whitespace());
    let is_safe = |it: &&str| is_absolute(it.as_bytes()) || !it.contains('/');
    let left: Vec<&str> = all.filter(is_safe).collect();
    part(value, left.join(":"))
}

fn part(value: &str, left: String) -> Left {
    if left == value {
        Left::All
    } else if left.is_empty() {
        Left::Nothing
    } else {
        Left::Part(left)
    }
}

/// Whether a path means the same file in every directory. The directories of the process itself
/// depend on it.
pub(crate) fn is_absolute(path: &[u8]) -> bool {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    let own: [&[&[u8]]; 3] = [
        &[b"proc", b"self"],
        &[b"proc", b"thread-self"],
        &[b"dev", b"fd"],
    ];
    path.starts_with(b"/") && !own.iter().any(|own| names.starts_with(own))
}

/// Whether a value could be meant as a path, and not as a switch, a number, an address or a text.
fn may_be_path(value: &str) -> bool {
    let is_number = value.starts_with(|it: char| it.is_ascii_digit())
        && value.chars().all(|it| it.is_ascii_digit() || it == '.');
    let is_word = WORDS.iter().any(|word| value.eq_ignore_ascii_case(word));
    let is_text = ["{", "[", "-----BEGIN "]
        .iter()
        .any(|begin| value.starts_with(begin));
    let is_address = value.split_once("://").is_some_and(|(scheme, _)| {
        let is_part = |it: char| it.is_ascii_alphanumeric() || "+-.".contains(it);
        !scheme.is_empty() && scheme.chars().all(is_part)
    });
    !(value.is_empty() || is_number || is_word || is_text || is_address)
}

/// Whether a value begins as only a relative path does. A mark before it says that a file or a
/// command follows.
fn begins_relative(value: &str) -> bool {
    let path = value.trim_start_matches(['@', '!', '|']).trim_start();
    let is_own = path.starts_with('/') && !is_absolute(path.as_bytes());
    path == "." || path == ".." || path.starts_with("./") || path.starts_with("../") || is_own
}

/// Whether one of these options has a relative path.
fn name_a_relative_path(options: &str) -> bool {
    names_relative_path(options, false)
}

/// Whether a word of this text is a relative path with a slash. A shell replaces the home
/// directory at the beginning of a word.
fn names_relative_path(text: &str, is_shell: bool) -> bool {
    let text = text.replace(['"', '\''], "");
    let is_between = |it: char| it.is_whitespace() || "=:,;|&<>()`!@".contains(it);
    text.split(is_between).any(|piece| {
        let Some(at) = piece.find('/') else {
            return piece == "." || piece == "..";
        };
        let (before, path) = piece.split_at(at);
        match before.as_bytes() {
            b"~" | b"$HOME" | b"${HOME}" if is_shell => false,
            // A short option may be before its value.
            b"" | [b'-', _] => !is_absolute(path.as_bytes()),
            _ => true,
        }
    })
}

/// Whether one of these options names code or settings without an absolute path. Such a name may be
/// looked up in the directory in which the program runs, and so may that of a package. Short
/// options count as such, because most of them are.
fn load_by_relative_name(options: &str) -> bool {
    let is_full = |path: &str| is_absolute(path.as_bytes());
    let words: Vec<&str> = options.split_whitespace().collect();
    words.iter().enumerate().any(|(at, word)| {
        if is_full(word) {
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
        LOADING.contains(&name.as_str()) && !value.is_some_and(is_full)
    })
}

/// Whether one of these options of Perl, which need no dash, names a module or a place that is not
/// absolute. Options may be joined, so all letters of a word are checked.
fn load_into_perl(options: &str) -> bool {
    !options.split_whitespace().all(|word| {
        let word = word.strip_prefix('-').unwrap_or(word);
        let places = word
            .strip_prefix('I')
            .or_else(|| word.strip_prefix("Mlib="));
        if let Some(places) = places {
            return places.split(',').all(|place| is_absolute(place.as_bytes()));
        }
        let is_plain = |it: char| it.is_ascii_digit() || "DUtTwW".contains(it);
        match word.strip_prefix('C') {
            Some(encodings) => encodings.chars().all(|it| it.is_ascii_alphanumeric()),
            None => word.chars().all(is_plain),
        }
    })
}

/// Whether one of these options of Ruby names a library or a place that is not absolute.
fn load_into_ruby(options: &str) -> bool {
    !options.split_whitespace().all(|word| {
        let places = word.strip_prefix("-I").or_else(|| word.strip_prefix("-r"));
        if let Some(places) = places {
            return places.split(':').all(|place| is_absolute(place.as_bytes()));
        }
        let is_plain = ["-d", "-v", "-w", "-U", "-W", "-W0", "-W1", "-W2"].contains(&word);
        let is_known = ["--", "-W:", "-E"]
            .iter()
            .any(|begin| word.starts_with(begin));
        is_plain || (is_known && !name_a_relative_path(word))
    })
}

/// Whether one of these options of Java names code or settings without an absolute path. A word
/// that is no option is the value of the option before it, such as a class path.
fn load_into_java(options: &str) -> bool {
    let all_are_full = |places: &str| places.split(':').all(|it| is_absolute(it.as_bytes()));
    options.split_whitespace().any(|word| {
        let loading = LOADING_JAVA
            .iter()
            .find_map(|begin| word.strip_prefix(begin));
        if let Some(given) = loading {
            let places = given.split('=').next().unwrap_or(given);
            return !all_are_full(places);
        }
        if !word.starts_with('-') {
            return !all_are_full(word);
        }
        let names_relative_place = word.split_once('=').is_some_and(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let has_place = SETTINGS_WITH_PLACES.iter().any(|end| name.ends_with(end));
            has_place && may_be_path(value) && !all_are_full(value)
        });
        names_relative_place || name_a_relative_path(word)
    })
}

/// Whether a variable is a part of the settings that git reads from variables.
fn is_setting_of_git(name: &str) -> bool {
    name == "GIT_CONFIG_COUNT"
        || name.starts_with("GIT_CONFIG_KEY_")
        || name.starts_with("GIT_CONFIG_VALUE_")
}

/// Whether this variable has the value of a setting of git that names a relative place. Git itself
/// replaces the home directory.
fn is_relative_setting(variables: &BTreeMap<String, String>, name: &str, value: &str) -> bool {
    let Some(number) = name.strip_prefix("GIT_CONFIG_VALUE_") else {
        return false;
    };
    let key = variables.get(&format!("GIT_CONFIG_KEY_{number}"));
    let key = key.map(|key| key.to_ascii_lowercase()).unwrap_or_default();
    let is_one_of = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    let is_full = value == "*" || value.starts_with("~/") || is_absolute(value.as_bytes());
    let is_command = is_one_of(&SETTINGS_WITH_COMMANDS) || key.starts_with("alias.");
    begins_relative(value)
        || (is_one_of(&SETTINGS_WITH_PLACES) && may_be_path(value) && !is_full)
        || (is_command && names_relative_path(value, true))
}

/// A `PATH` without the entries that are not absolute.
pub(crate) fn absolute_path(path: &OsStr) -> OsString {
    let entries = path.as_bytes().split(|byte| *byte == b':');
    let left: Vec<&[u8]> = entries.filter(|entry| is_absolute(entry)).collect();
    if left.is_empty() {
        USUAL.into()
    } else {
        OsString::from_vec(left.join(&b':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    /// Checks what is left of each variable, which is written as `NAME=VALUE`. An empty value
    /// stands for a removed variable.
    fn check(all: &[&str], expected: impl Fn(&str) -> Option<String>) {
        for variable in all {
            let (name, value) = variable.split_once('=').unwrap_or((*variable, ""));
            let found = without_relative(&given(name, value), |_| false).pop();
            let found = found.map(|(_, value)| value.unwrap_or_default());
            assert_eq!(found, expected(name), "{variable}");
        }
    }

    #[test]
    fn variables_of_the_kinds_that_name_places_are_removed_if_they_are_relative() {
        let removed = |_: &str| Some(String::new());
        check(
            &[
                "HOME=.",
                "HOME=hm",
                "HOME=",
                "HOME=/proc/self/cwd",
                "CLAUDE_CONFIG_DIR=/proc/self/cwd/.claude",
                "GOOGLE_APPLICATION_CREDENTIALS=adc.json",
                "GOOGLE_APPLICATION_CREDENTIALS=./service-account.json",
                "ANTHROPIC_CONFIG_DIR=.anthropic",
                "PYTHONUSERBASE=.pyuser",
                "PYTHONSTARTUP=start.py",
                "PYTHONHOME=py",
                "PERL5OPT=-Mlib=lib -MSetup",
                "PERL5OPT=MSetup",
                "PERL5OPT=-wMSetup",
                "PERL5OPT=-Ilib",
                "PERL5OPT=-d:Setup",
                "PERL5DB=BEGIN { require 'x.pl' }",
                "RUBYOPT=-r./setup",
                "RUBYOPT=-rsetup",
                "RUBYOPT=-w -Ilib",
                "RUBYOPT=-wrsetup",
                "RUBYOPT=-Kursetup",
                "JAVA_TOOL_OPTIONS=-Xmx1g -javaagent:agent.jar",
                "JDK_JAVA_OPTIONS=@options",
                "_JAVA_OPTIONS=-cp lib.jar",
                "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=trust.jks",
                "JAVA_TOOL_OPTIONS=-XX:Flags=.hotspotrc",
                "MAVEN_OPTS=-Dx=./y",
                "GEM_HOME=gems",
                "LUA_INIT=@init.lua",
                "LUA_INIT_5_4=require 'setup'",
                "LUA_PATH=./?.lua;;",
                "ZDOTDIR=zsh",
                "WGETRC=wgetrc",
                "NETRC=netrc",
                "KUBECONFIG=kube/config",
                "INPUTRC=.inputrc",
                "ENV=./env",
                "GCONV_PATH=gconv",
                "LOCPATH=locale",
                "OPENSSL_MODULES=modules",
                "SSL_CERT_FILE=ca.pem",
                "SSL_CERT_DIR=certs",
                "NODE_EXTRA_CA_CERTS=ca.pem",
                "NODE_COMPILE_CACHE=1",
                "CLOUDSDK_CONFIG=gcloud",
                "DOCKER_CONFIG=~/.docker",
                "KRB5_CONFIG=krb5.conf",
                "CURL_HOME=.",
                "TMPDIR=tmp",
                "npm_config_userconfig=.npmrc",
                "SOME_TOOL_CONFIG_FILE=tool.toml",
                "SOME_TOOL_HOME=tool",
                "SOME_TOOL_PATH=bin:lib",
                "SOME_TOOL_PATH=/dev/fd/3",
                "ANYTHING=./x",
                "ANYTHING=../x",
                "ANYTHING=..",
                "ANYTHING=/proc/self/cwd/x",
                "ANYTHING=//proc/./thread-self/cwd",
                "GIT_SSH=tools/ssh",
                "GIT_ASKPASS=~/askpass",
                "GIT_SSH_COMMAND=ssh -F config/ssh",
                "GIT_SSH_COMMAND=ssh -o ProxyCommand=./proxy",
                "EDITOR=bin/edit",
                "CLAUDE_CODE_SHELL_PREFIX=tools/wrap",
                "PAGER=less -k./keys",
                "GIT_CONFIG_PARAMETERS='core.hooksPath'='.githooks'",
            ],
            removed,
        );
        check(&["SOME_PATH=lib:/a:"], |_| Some("/a".to_owned()));
        check(&["LUA_CPATH=?.so;/a/?.so"], |_| Some("/a/?.so".to_owned()));
    }

    #[test]
    fn variables_that_name_no_relative_place_stay() {
        check(
            &[
                "LANG=C.UTF-8",
                "TERM=xterm",
                "LS_COLORS=rs=0:di=01;34:*.tar=01;31",
                "XDG_SESSION_TYPE=tty",
                "XDG_RUNTIME_DIR=/run/user/1000",
                "SSH_AUTH_SOCK=/run/user/1000/agent",
                "CARGO_HOME=/home/me/.cargo",
                "SOMETHING_PATH=auto",
                "SOMETHING_DIR=1",
                "SOMETHING_FILE=",
                "SOMETHING_PATH=https://example.org/a",
                "SOMETHING_CONFIG={\"a\":\"./b\"}",
                "SRC=src",
                "NO_PROXY=localhost,.example.org",
                "http_proxy=http://proxy:8080/",
                "DISPLAY=:0",
                "GIT_AUTHOR_NAME=.x",
                "GIT_AUTHOR_NAME=./x",
                "PWD=./x",
                "ANYTHING=.x",
                "ANTHROPIC_AUTH_TOKEN=a/b+c==",
                "ANTHROPIC_MODEL=provider/model",
                "AWS_PROFILE=work",
                "PERL5OPT=-w -CSDA -I/opt/perl -Mlib=/opt/a,/opt/b",
                "RUBYOPT=-W0 --yjit -r/opt/setup",
                "JAVA_TOOL_OPTIONS=-Xmx4g -Dfile.encoding=UTF-8 -javaagent:/opt/a.jar=x",
                "EDITOR=vim",
                "PAGER=less -R",
                "SHELL=/bin/bash",
                "GIT_SSH=ssh",
                "GIT_SSH_COMMAND=ssh -i ~/.ssh/work -F/etc/ssh/config 2>/dev/null",
                "LESSOPEN=| /usr/bin/lesspipe %s",
                "CFLAGS=-O2 -I/usr/include",
                "HOME=/home/me",
                "ENV=production",
                "OPENSSL_CONF=/dev/null",
            ],
            |_| None,
        );
        // What a client may set means what the client says.
        let found = without_relative(&given("OUT_DIR", "./out"), |name| name == "OUT_DIR");
        assert_eq!(found, []);
        let found = without_relative(&given("PYTHONUSERBASE", "lib"), |_| true);
        assert_eq!(found, [("PYTHONUSERBASE".to_owned(), None)]);
    }

    #[test]
    fn settings_of_git_in_variables_are_removed_together_if_one_is_relative() {
        let removed = |key: &str, value: &str| {
            let all = [
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", key),
                ("GIT_CONFIG_VALUE_0", value),
            ];
            let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let found = without_relative(&BTreeMap::from(all), |_| false);
            assert!(found.iter().all(|(_, left)| left.is_none()), "{found:?}");
            found.len()
        };
        for (key, value) in [
            ("core.hooksPath", ".githooks"),
            ("core.hooksPath", "./hooks"),
            ("core.fsmonitor", "tools/monitor"),
            ("alias.x", "!./x"),
            ("filter.x.clean", "sh -c tools/clean"),
        ] {
            assert_eq!(removed(key, value), 3, "{key}={value}");
        }
        for (key, value) in [
            ("safe.directory", "*"),
            ("core.hooksPath", "/dev/null"),
            ("core.excludesFile", "~/.gitignore"),
            ("credential.helper", "!gh auth git-credential"),
            ("remote.origin.url", "git@example.org:a/b.git"),
            ("user.name", "A/B"),
        ] {
            assert_eq!(removed(key, value), 0, "{key}={value}");
        }
    }

    #[test]
    fn git_of_the_host_gets_only_what_is_absolute() {
        let left = |name: &str, value: &str| absolute_part(name.as_ref(), value.into());
        assert_eq!(left("HOME", "hm"), None);
        assert_eq!(left("SSL_CERT_DIR", "certs:/a"), Some("/a".into()));
        assert_eq!(left("PATH", "bin:/a"), Some("/a".into()));
        let other = OsString::from_vec(b"/home/\xff".to_vec());
        assert_eq!(absolute_part("HOME".as_ref(), other.clone()), Some(other));
        let lists = OsString::from_vec(b"/\xff:b".to_vec());
        assert_eq!(absolute_part("SSL_CERT_DIR".as_ref(), lists), None);
    }

    #[test]
    fn relative_and_empty_entries_of_lists_are_left_out() {
        let left = |name: &str, value: &str| {
            let lists = without_relative(&given(name, value), |_| false);
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
        let check = |value: &str, expected: &str| {
            assert_eq!(left(PATH, value).as_deref(), Some(expected), "{value}");
            assert_eq!(
                Shims::default().without(value.as_ref()),
                expected,
                "{value}"
            );
            // Your own tasks, and git for them, find the programs of version managers.
            assert_eq!(absolute_path(value.as_ref()), value);
        };
        check("/h/.asdf/shims:/a", "/a");
        check(
            "/a:/h/.local/share/mise/shims/:/h/.volta/bin:/b/shims/.",
            "/a",
        );
        check("/h/.local/share/aquaproj-aqua/bin", USUAL);
        for value in ["/h/.volta", "/shims/bin", "/a/volta/bin:/a/my-shims"] {
            assert_eq!(left(PATH, value), None);
            assert_eq!(Shims::default().without(value.as_ref()), value);
        }
        assert_eq!(left("PYTHONPATH", "/a/shims"), None);
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
        assert_eq!(left("CDPATH", ":/a"), None);
    }

    #[test]
    fn relative_places_and_options_that_load_by_relative_names_are_left_out() {
        let check = |name: &str, value: &str, expected: Option<&str>| {
            let found = without_relative(&given(name, value), |_| false).pop();
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
            let found = without_relative(&given(name, "./a"), |_| false);
            assert_eq!(found, [(name.to_owned(), None)]);
        }
    }
}
