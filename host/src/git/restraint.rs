//! Git for the task of a restrained principal. Its agent may write files, and its worktree may have
//! the files of a branch that nobody has read. Neither must decide which programs the host's git
//! runs:
//!
//! - Programs that the settings of the repository itself name do not run. The git directory may
//!   have another name than `.git`, or include a file of the checkout, and an agent that may only
//!   edit files writes there.
//! - Filters and merge drivers that the user has configured for all repositories run, because they
//!   are the user's, but not in the checkout: a relative command would run a file of the branch.
//! - Git fetches no object that is missing (of a partial clone): the settings of the repository
//!   name the server and the programs that connect to it.
//! - Git changes no repository in which it would follow a link when it writes, and does nothing in
//!   one in which it would read without an end, or in which it could use other refs, objects or
//!   submodules than those that are looked at for links.
//!
//! A program is disabled by its name, so the names are looked up before each command that could run
//! one. Somebody could still add a name in the moment between this look and the command. What keeps
//! git from fetching needs no look.

use std::{borrow::Cow, collections::BTreeMap, io, path::Path};

use claudine_domain::principal::Principal;
use serde::{Deserialize, Serialize};

use super::{
    At, Git, GitError,
    environment::Variables,
    foreign::{NO_LAZY_FETCH, NO_PROTOCOL},
    settings::few_enough,
    spec::{Program, Purpose, SHORT, Spec},
    traps::{Trap, leads_elsewhere, refuse_unusual},
    unusable,
};
use crate::{clock, command::Finished};

/// What git may do for a task of a restrained principal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Restraint {
    /// Whether the task may use the network.
    pub(crate) has_network: bool,
}

impl Restraint {
    /// The restraint of git while a request of a restrained principal is examined. Looking at a
    /// repository needs no network, whatever the requested task may do.
    pub(crate) const OF_A_REQUEST: Self = Self { has_network: false };

    /// The restraint while a request of this principal is examined or answered.
    pub(crate) fn of_request_by(by: &Principal) -> Option<Self> {
        by.restrained.then_some(Self::OF_A_REQUEST)
    }
}

/// Settings that name a program which git, or a filter that is its own, runs for files, or the
/// directory from which `git lfs` copies files.
pub(super) const FOR_FILES: &str = concat!(
    r"filter\..*\.(clean|smudge|process|required)",
    r"|merge\..*\.driver",
    r"|submodule\..*\.update",
    r"|lfs\.extension\..*\.(clean|smudge)",
    r"|lfs\.storage",
);

/// Settings that name, or allow, a program which connects to a remote, or which git runs when it
/// fetches. Git itself does not fetch, but `git lfs` reads some of them.
pub(super) const TO_CONNECT: &str = concat!(
    r"core\.(sshcommand|gitproxy|alternaterefscommand)",
    r"|credential\.(.*\.)?helper",
    r"|protocol\.(.*\.)?allow",
    r"|remote\..*\.(uploadpack|vcs)",
    r"|lfs\.customtransfer\..*",
    r"|lfs\.(.*\.)?standalonetransferagent",
);

/// The setting with the directory in which `git lfs` keeps its files.
const LFS_STORAGE: &str = "lfs.storage";

/// Settings by which a repository could have its parts elsewhere.
const OF_PARTS: &str = r"extensions\..*|submodule\..*\.gitdir";

/// Commands that are meant to connect to a remote.
const CONNECT: [&str; 2] = ["push", SUBMODULE];
const SUBMODULE: &str = "submodule";

/// The variable by which `git lfs` leaves pointers in place of files, and downloads none.
const NO_LFS: (&str, &str) = ("GIT_LFS_SKIP_SMUDGE", "1");

/// The scopes of settings that are the user's, or given with a command. All others are those of a
/// repository.
pub(super) const OF_USER: [&str; 3] = ["system", "global", "command"];

/// What a filter begins with to leave the checkout. `git lfs` finds the checkout by the variable.
/// Git has set it to a relative path, or not at all, and has set `GIT_DIR` to an absolute one.
const LEAVE: &str = "GIT_WORK_TREE=$PWD && export GIT_WORK_TREE && cd / || exit 1; ";

/// What a merge driver of the user begins and ends with to run in a new directory with the three
/// versions of the file, which git names by relative paths. Git takes the exit status 129 for an
/// error and not for a conflict. The driver may end with a comment.
const MOVE: &str = "from=$PWD && apart=$(mktemp -d) && cp %A %O %B \"$apart\" && \
                    cd \"$apart\" || exit 129; ( ";
const MOVE_BACK: &str = "\n); code=$?; cp %A \"$from\" && cd / && rm -rf \"$apart\" || exit 129; \
                         exit $code";

/// Merges a file as git does if it has no driver.
const PLAIN_MERGE: &str = "git merge-file -q --marker-size=%L %A %O %B || exit 1";

/// The changes that restrain one command.
#[derive(PartialEq, Eq, Debug, Default)]
struct Limits {
    settings: Vec<(String, String)>,
    /// Whether the repository itself names a filter.
    has_own_filters: bool,
    /// Whether the repository itself names a program to connect to a remote.
    has_own_to_connect: bool,
    /// The first setting by which parts of the repository could be elsewhere.
    leads_elsewhere: Option<String>,
}

impl Git {
    /// The same setup for the task or the request of a restrained principal, or of somebody else if
    /// there is no restraint.
    pub(crate) fn restrained(self, restraint: Option<Restraint>) -> Self {
        let Some(Restraint { has_network }) = restraint else {
            return Self {
                restraint: None,
                ..self
            };
        };
        let git = self.without_fetch();
        let variables = git.variables.without_usual_shims();
        let variables = if has_network {
            variables
        } else {
            variables.with_missing(&[NO_LFS])
        };
        Self {
            restraint,
            variables,
            ..git
        }
    }

    /// The same setup in a checkout of the user, where the filters of the repository must go on to
    /// apply to its files. Missing objects are not fetched there either.
    pub(crate) fn in_users_checkout(&self, dir: &Path) -> Self {
        Self {
            restraint: None,
            ..self.in_dir(dir)
        }
    }

    pub(super) fn is_restrained(&self) -> bool {
        self.restraint.is_some()
    }

    /// Runs a command as the restraint changes it.
    pub(super) async fn run_restrained(
        &self,
        spec: &Spec,
        folds_case: bool,
    ) -> Result<Finished, GitError> {
        if spec.purpose == Purpose::Changes {
            self.refuse_traps().await?;
        }
        let (spec, variables) = self.limited(spec, folds_case).await?;
        self.run_at(&self.at, &spec, &variables, folds_case).await
    }

    /// The variables of a command at this place. If there is a restraint, the `PATH` has no
    /// programs of version managers, and this fails if the place has something that git must not
    /// meet whatever it does.
    pub(super) async fn safe_variables<'a>(
        &self,
        at: &At,
        variables: &'a Variables,
    ) -> Result<Cow<'a, Variables>, GitError> {
        if !self.is_restrained() {
            return Ok(Cow::Borrowed(variables));
        }
        let variables = variables.clone();
        let looked = self.look_at_files(move |_| variables.without_shims());
        let variables = match clock::within(SHORT, looked).await {
            Some(variables) => variables?,
            None => return Err(unusable(self.dir())(io::ErrorKind::TimedOut.into())),
        };
        // Which git is found by the variables decides where some values of settings lead.
        refuse_unusual(at, &variables).await?;
        Ok(Cow::Owned(variables))
    }

    async fn limited<'a>(
        &self,
        spec: &'a Spec,
        folds_case: bool,
    ) -> Result<(Cow<'a, Spec>, Variables), GitError> {
        let variables = self.variables.clone();
        if spec.runs_nothing_for_files() {
            return Ok((Cow::Borrowed(spec), variables));
        }
        let mut limits = self.limits_at(&self.at, Some(spec), folds_case).await?;
        // Settings may be included only in one of the places.
        if let Some(dir) = spec.other_checkout() {
            let at = At::Checkout(dir.to_owned());
            let there = self.limits_at(&at, Some(spec), folds_case).await?;
            limits.settings.extend(there.settings);
            limits.has_own_to_connect |= there.has_own_to_connect;
        }
        let variables = if limits.has_own_to_connect && !is_to_connect(spec) {
            variables.with_missing(&[NO_LFS])
        } else {
            variables
        };
        few_enough(limits.settings.len(), self.dir())?;
        let spec = limits
            .settings
            .into_iter()
            .fold(spec.clone(), |spec, (name, value)| {
                spec.setting(name, value)
            });
        Ok((Cow::Owned(spec), variables))
    }

    /// Whether a restraint disables a filter that this repository names. Without it, git does not
    /// see what its files are.
    pub(crate) async fn has_disabled_filters(&self) -> Result<bool, GitError> {
        if !self.is_restrained() {
            return Ok(false);
        }
        let folds_case = self.folds_case().await?;
        let limits = Box::pin(self.limits_at(&self.at, None, folds_case)).await?;
        Ok(limits.has_own_filters)
    }

    /// The limits for the settings of a place, as they are during a command or without one. Fails
    /// if parts of the repository could be elsewhere.
    async fn limits_at(
        &self,
        at: &At,
        command: Option<&Spec>,
        folds_case: bool,
    ) -> Result<Limits, GitError> {
        let pattern = format!("^({FOR_FILES}|{TO_CONNECT}|{OF_PARTS})$");
        let spec = Spec::reads(["config", "--show-scope", "-z", "--get-regexp", &pattern]);
        let spec = match command {
            Some(command) => spec.with_settings_of(command),
            None => spec,
        };
        let limits = self.settings_at(at, &spec, folds_case, limits).await?;
        let dir = at.dir().to_owned();
        match limits.leads_elsewhere {
            Some(name) => Err(Trap::Extended { dir, name }.into()),
            None => Ok(limits),
        }
    }
}

/// Whether a command is meant to connect to a remote. `gh` runs git in the checkout, too.
fn is_to_connect(spec: &Spec) -> bool {
    let verb = spec.verb();
    spec.program == Program::Gh || CONNECT.iter().any(|known| verb == *known)
}

/// The variables with which a command runs. Even if git fetches no missing object here, a push and
/// the submodules need their remotes. What a push sends may have to be fetched before.
pub(super) fn reaching(spec: &Spec, variables: &Variables) -> Variables {
    let variables = variables.clone();
    if !is_to_connect(spec) {
        return variables;
    }
    let variables = variables.without(NO_PROTOCOL.0);
    if spec.verb() == SUBMODULE {
        variables
    } else {
        variables.without(NO_LAZY_FETCH.0)
    }
}

/// The limits for settings that git has printed with their scopes; `None` if they cannot be parsed.
fn limits(output: &str) -> Option<Limits> {
    let (mut of_user, mut own) = (BTreeMap::new(), BTreeMap::new());
    let mut limits = Limits::default();
    let mut parts = output.split_terminator('\0');
    while let Some(scope) = parts.next() {
        let entry = parts.next()?;
        let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        if OF_USER.contains(&scope) {
            of_user.insert(name, value);
            continue;
        }
        // Each value counts, whichever of several values git uses.
        if limits.leads_elsewhere.is_none() && leads_elsewhere(name, value) {
            limits.leads_elsewhere = Some(name.to_owned());
        }
        if !is_of_parts(name) {
            own.insert(name, value);
        }
    }
    for (name, value) in own {
        let Some(disabled) = disabled(name) else {
            limits.has_own_to_connect = true;
            continue;
        };
        let is_of_submodule = name.starts_with("submodule.");
        // Other values are ways in which git itself updates a submodule.
        if is_of_submodule && !value.starts_with('!') {
            continue;
        }
        let is_filter = !is_of_submodule && !name.starts_with("merge.") && name != LFS_STORAGE;
        limits.has_own_filters |= is_filter;
        let value = match of_user.get(name) {
            Some(value) => apart(name, value),
            None => disabled.into(),
        };
        limits.settings.push((name.to_owned(), value.into_owned()));
        of_user.remove(name);
    }
    for (name, value) in of_user {
        if let Cow::Owned(value) = apart(name, value) {
            limits.settings.push((name.to_owned(), value));
        }
    }
    Some(limits)
}

/// Whether a setting tells where the parts of a repository are, and names no program.
fn is_of_parts(name: &str) -> bool {
    name.starts_with("extensions.") || name.starts_with("submodule.") && name.ends_with(".gitdir")
}

/// The value with which a setting names no program; `None` for a program that connects to a remote.
fn disabled(name: &str) -> Option<&'static str> {
    let (section, rest) = name.split_once('.')?;
    match section {
        "filter" if rest.ends_with(".required") => Some("false"),
        "filter" => Some(""),
        "merge" => Some(PLAIN_MERGE),
        "submodule" => Some("checkout"),
        "lfs" if rest.starts_with("extension.") => Some("cat"),
        // Then the files are in the git directory.
        "lfs" if name == LFS_STORAGE => Some(""),
        _ => None,
    }
}

/// The value of a setting of the user. A filter or a merge driver leaves the checkout first.
fn apart<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    let is_filter = name.starts_with("filter.") && !name.ends_with(".required");
    if value.is_empty() {
        Cow::Borrowed(value)
    } else if is_filter {
        Cow::Owned(format!("{LEAVE}{value}"))
    } else if name.starts_with("merge.") {
        Cow::Owned(format!("{MOVE}{value}{MOVE_BACK}"))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::git::foreign::NO_FETCH;

    fn check(output: &str, expected: &[(&str, &str)], connects: bool) {
        let limits = limits(output).unwrap();
        let expected = expected.iter();
        let expected: Vec<_> = expected
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(limits.settings, expected, "{output:?}");
        assert_eq!(limits.has_own_to_connect, connects, "{output:?}");
    }

    #[test]
    fn programs_of_a_repository_are_disabled_and_those_of_the_user_leave_the_checkout() {
        check("", &[], false);
        check(
            "local\0filter.a = b.c.clean\nsh x\0worktree\0filter.a = b.c.required\0",
            &[
                ("filter.a = b.c.clean", ""),
                ("filter.a = b.c.required", "false"),
            ],
            false,
        );
        let left = format!("{LEAVE}cat\nwc");
        check(
            "system\0filter.a.clean\ntac\0global\0filter.a.clean\ncat\nwc\0\
             local\0filter.a.clean\nsh x\0",
            &[("filter.a.clean", &left)],
            false,
        );
        check(
            "global\0filter.a.clean\ncat\nwc\0global\0filter.a.required\ntrue\0\
             global\0filter.b.clean\n\0",
            &[("filter.a.clean", &left)],
            false,
        );
        let moved = format!("{MOVE}cat{MOVE_BACK}");
        check(
            "global\0merge.a.driver\ncat\0local\0merge.b.driver\nsh x\0",
            &[("merge.b.driver", PLAIN_MERGE), ("merge.a.driver", &moved)],
            false,
        );
        check(
            "local\0submodule.a.update\n!sh x\0local\0submodule.b.update\nnone\0\
             local\0lfs.extension.a.clean\nsh x\0",
            &[
                ("lfs.extension.a.clean", "cat"),
                ("submodule.a.update", "checkout"),
            ],
            false,
        );
        check(
            "global\0lfs.storage\n/own\0local\0lfs.storage\n/elsewhere\0",
            &[("lfs.storage", "/own")],
            false,
        );
        check(
            "local\0lfs.storage\n/elsewhere\0",
            &[("lfs.storage", "")],
            false,
        );
    }

    #[test]
    fn a_program_of_a_repository_that_connects_to_a_remote_is_noticed() {
        for name in [
            "core.sshcommand",
            "core.alternaterefscommand",
            "credential.helper",
            "protocol.ext.allow",
            "remote.a.uploadpack",
            "lfs.customtransfer.a.path",
        ] {
            check(&format!("local\0{name}\nsh x\0"), &[], true);
            check(&format!("global\0{name}\nsh x\0"), &[], false);
        }
    }

    #[test]
    fn a_repository_whose_parts_could_be_elsewhere_is_noticed() {
        for (name, value, is_refused) in [
            ("extensions.noop", "true", false),
            ("extensions.noop-v1", "true", false),
            ("extensions.preciousobjects", "true", false),
            ("extensions.partialclone", "origin", false),
            ("extensions.worktreeconfig", "true", false),
            ("extensions.objectformat", "sha256", false),
            ("extensions.compatobjectformat", "sha1", false),
            ("extensions.relativeworktrees", "true", false),
            ("extensions.refstorage", "files", false),
            ("extensions.refstorage", "reftable", false),
            ("extensions.refstorage", "files:///r", true),
            ("extensions.refstorage", "reftable://r", true),
            ("extensions.refstorage", "", true),
            ("extensions.submodulepathconfig", "true", true),
            ("extensions.unknown", "true", true),
            ("extensions.a.refstorage", "files", true),
            ("submodule.s.gitdir", "/r/modules/s", true),
            ("submodule.a.b.gitdir", "", true),
        ] {
            for scope in ["local", "worktree", "global", "system"] {
                let is_refused = is_refused && !OF_USER.contains(&scope);
                let found = limits(&format!("{scope}\0{name}\n{value}\0")).unwrap();
                let expected = Limits {
                    leads_elsewhere: is_refused.then(|| name.to_owned()),
                    ..Limits::default()
                };
                assert_eq!(found, expected, "{scope} {name}={value}");
            }
        }
        // Another value does not hide one of several.
        let found = limits(
            "local\0extensions.refstorage\nfiles:///r\0local\0extensions.refstorage\nfiles\0\
             local\0filter.a.clean\nsh x\0",
        );
        let found = found.unwrap().leads_elsewhere;
        assert_eq!(found.as_deref(), Some("extensions.refstorage"));
    }

    #[test]
    fn only_commands_for_remotes_may_connect_if_missing_objects_are_not_fetched() {
        let variables = Variables::new([], &BTreeMap::new()).with_missing(&NO_FETCH);
        let check = |spec: &Spec, expected: [bool; 2]| {
            let variables = reaching(spec, &variables);
            let is_set = |(name, _): (&str, &str)| variables.iter().any(|(set, _)| set == name);
            assert_eq!(NO_FETCH.map(is_set), expected, "{}", spec.called());
        };
        for verb in ["status", "worktree", "rev-parse", "merge-tree", "config"] {
            check(&Spec::reads([verb]), [true, true]);
        }
        check(&Spec::changes(["submodule", "update"]), [true, false]);
        check(&Spec::changes(["push", "origin"]), [false, false]);
        check(&Spec::gh(Purpose::Reads, ["pr", "list"]), [false, false]);
    }

    #[test]
    fn settings_that_are_cut_off_are_not_parsed() {
        assert_eq!(limits("local"), None);
        assert_eq!(limits("local\0filter.a.clean\ncat\0local\0"), None);
    }
}
