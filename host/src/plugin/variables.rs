//! Variables that decide which code a program runs or which program is found.
//!
//! Who may set one of them for a granted command may run anything in its place. The list cannot be
//! complete, since each program has such variables of its own: it holds those of the loader, of the search
//! for programs, of shells, of interpreters and of git, which what is granted mostly runs.

/// Whole names.
const NAMES: &[&str] = &[
    "_JAVA_OPTIONS",
    "BASHOPTS",
    "BASH_ENV",
    "BROWSER",
    "BUNDLE_GEMFILE",
    "CDPATH",
    "CLASSPATH",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GLIBC_TUNABLES",
    "GNUMAKEFLAGS",
    "HOME",
    "IFS",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCPATH",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SHELLOPTS",
    "VISUAL",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
];

const PREFIXES: &[&str] = &[
    "BASH_FUNC_",
    "CARGO_",
    "DYLD_",
    "GIT_",
    "LD_",
    "NPM_CONFIG_",
    "RUSTC",
    "RUSTUP_",
    "npm_config_",
];

const SUFFIXES: &[&str] = &["_ASKPASS", "_PRELOAD"];

/// Of git's, those that name a person or a date.
const HARMLESS: &[&str] = &["GIT_AUTHOR_", "GIT_COMMITTER_"];

/// Whether a variable decides which code is run.
pub(crate) fn decides_code(name: &str) -> bool {
    let begins = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    NAMES.contains(&name)
        || (begins(PREFIXES) && !begins(HARMLESS))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_is_told_from_what_does_not() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "LD_AUDIT",
            "PATH",
            "GIT_SSH_COMMAND",
            "GIT_EXTERNAL_DIFF",
            "GIT_CONFIG_COUNT",
            "NODE_OPTIONS",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "PYTHONPATH",
            "PERL5OPT",
            "HOME",
            "MY_PRELOAD",
            "SSH_ASKPASS",
        ] {
            assert!(decides_code(name), "{name}");
        }
        for name in [
            "LANG",
            "GIT_AUTHOR_NAME",
            "TERM",
            "PATHS",
            "OLD_PATH",
            "A",
            "",
        ] {
            assert!(!decides_code(name), "{name}");
        }
    }
}
