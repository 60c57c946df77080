//! What a process inherits and nobody can take over from another process without privileges: its
//! groups, the restrictions of its privileges, and its namespaces. Tasks inherit these from the
//! host, and not from their submitter.

use std::{fmt, fs, io};

use crate::fsx::read_virtual;

/// Namespaces in which a client and its host may differ. A client in another pid namespace is a
/// restrained principal, and so is not compared.
const NAMESPACES: [&str; 4] = ["ipc", "mnt", "net", "uts"];

/// What a process has inherited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Inherited {
    /// The effective group and all supplementary groups, sorted.
    groups: Vec<u32>,
    /// Whether programs that it runs gain no privileges (`no_new_privs`).
    no_new_privs: bool,
    /// The capabilities that it can ever have.
    bounding_set: String,
    /// The identities of [`NAMESPACES`]; `None` for those that may not be looked at.
    namespaces: [Option<String>; NAMESPACES.len()],
}

impl Inherited {
    pub(crate) fn of_this_process() -> io::Result<Self> {
        Self::of("self")
    }

    /// What a process has inherited, by its directory in `/proc`.
    pub(crate) fn of(process: &str) -> io::Result<Self> {
        // The name of the program may be any bytes.
        let status = read_virtual(format!("/proc/{process}/status"))?;
        let namespaces = NAMESPACES.map(|name| {
            let link = fs::read_link(format!("/proc/{process}/ns/{name}")).ok()?;
            Some(link.to_string_lossy().into_owned())
        });
        Ok(Self {
            namespaces,
            ..Self::in_status(&String::from_utf8_lossy(&status))
        })
    }

    fn in_status(status: &str) -> Self {
        let words = |name: &str| {
            let mut lines = status.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().split_whitespace()
        };
        // The real group is the first, and the effective one is the second.
        let group = words("Gid").nth(1);
        let groups = words("Groups").chain(group);
        let mut groups: Vec<u32> = groups.filter_map(|group| group.parse().ok()).collect();
        groups.sort_unstable();
        groups.dedup();
        Self {
            groups,
            no_new_privs: words("NoNewPrivs").next() == Some("1"),
            bounding_set: words("CapBnd").next().unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    /// In what the tasks of this host differ from a process, as parts of a sentence about tasks.
    pub(crate) fn differences(host: &Self, process: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let only = |one: &Self, other: &Self| {
            let only = one.groups.iter();
            let only = only.filter(|group| !other.groups.contains(group));
            only.map(u32::to_string).collect::<Vec<_>>().join(", ")
        };
        let (lacking, more) = (only(process, host), only(host, process));
        if !lacking.is_empty() {
            found.push(format!("lack groups of this command: {lacking}"));
        }
        if !more.is_empty() {
            found.push(format!("have groups that this command lacks: {more}"));
        }
        if host.no_new_privs && !process.no_new_privs {
            found.push("can gain no privileges (no_new_privs)".to_owned());
        }
        if process.no_new_privs && !host.no_new_privs {
            found.push("can gain privileges although this command cannot".to_owned());
        }
        if host.bounding_set != process.bounding_set {
            found.push("have another capability bounding set".to_owned());
        }
        let both = host.namespaces.iter().zip(&process.namespaces);
        let named = NAMESPACES.iter().zip(both);
        let others =
            named.filter(|(_, (host, own))| host.is_some() && own.is_some() && host != own);
        let others: Vec<&str> = others.map(|(name, _)| *name).collect();
        if !others.is_empty() {
            found.push(format!("run in other namespaces: {}", others.join(", ")));
        }
        found
    }
}

/// A word that is the same for processes that have inherited the same.
impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let namespaces = self.namespaces.iter();
        let namespaces: Vec<&str> = namespaces
            .map(|one| one.as_deref().unwrap_or("-"))
            .collect();
        let no_new_privs = u8::from(self.no_new_privs);
        write!(
            f,
            "{}/{no_new_privs}/{}/{}",
            groups.join(","),
            self.bounding_set,
            namespaces.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t5\t5\t5\n\
                          Groups:\t998 27 5 \nNoNewPrivs:\t0\nCapBnd:\t000001ffffffffff\n";

    #[test]
    fn groups_and_privileges_are_read_from_the_status_of_a_process() {
        let read = Inherited::in_status(STATUS);
        assert_eq!(read.groups, [5, 27, 998]);
        assert!(!read.no_new_privs);
        assert_eq!(read.bounding_set, "000001ffffffffff");
        let read = Inherited::in_status(&STATUS.replace("Privs:\t0", "Privs:\t1"));
        assert!(read.no_new_privs);
    }

    #[test]
    fn what_tasks_do_not_have_from_a_process_is_told() {
        let host = Inherited {
            namespaces: [Some("ipc:[1]"), Some("mnt:[1]"), Some("net:[1]"), None]
                .map(|one| one.map(str::to_owned)),
            ..Inherited::in_status(STATUS)
        };
        let check = |change: fn(&mut Inherited), expected: &[&str]| {
            let mut process = host.clone();
            change(&mut process);
            assert_eq!(Inherited::differences(&host, &process), expected);
            let is_same = process.to_string() == host.to_string();
            assert_eq!(is_same, process == host, "{process}");
        };
        check(|_| {}, &[]);
        let groups = [
            "lack groups of this command: 4, 999",
            "have groups that this command lacks: 27, 998",
        ];
        check(|process| process.groups = vec![4, 5, 999], &groups);
        let gains = ["can gain privileges although this command cannot"];
        check(|process| process.no_new_privs = true, &gains);
        let bounds = ["have another capability bounding set"];
        check(|process| process.bounding_set = "0".to_owned(), &bounds);
        let net = ["run in other namespaces: net"];
        check(
            |process| process.namespaces[2] = Some("net:[2]".to_owned()),
            &net,
        );
        // A namespace that cannot be looked at is not compared.
        check(|process| process.namespaces[2] = None, &[]);
    }

    #[test]
    fn a_process_is_found_in_proc_by_its_pid() {
        let own = Inherited::of_this_process().unwrap();
        let by_pid = Inherited::of(&std::process::id().to_string()).unwrap();
        assert_eq!(by_pid, own);
        assert!(own.namespaces.iter().all(Option::is_some), "{own}");
        let group = rustix::process::getegid().as_raw();
        assert!(own.groups.contains(&group), "{own}");
    }
}
