//! Updates of a person's checkout that were cut off by the death of the host, its supervisor and
//! git. The person removes the lock of the index, as git advises, and goes on before the next host
//! starts.

use std::fs;

use claudine_tests::{process::kill_9, wait_for};

use super::{COMMIT, Repository, merged, write_script};

/// A filter that hangs below a fast-forward. It notes its own pid and that of git.
const HANGS: &str = r#"#!/bin/sh
if tr '\0' ' ' < /proc/$PPID/cmdline | grep -q -e --ff-only; then
    echo "$$ $PPID" > DIR/pids.new && mv DIR/pids.new DIR/pids
    exec sleep 1000
fi
exec cat
"#;

/// The way in which the files of the checkout are replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The host has exchanged all of them, and git has not moved the branch yet.
    Exchanged,
    /// Git itself has written some of them.
    WrittenByGit,
}

const WAYS: [Way; 2] = [Way::Exchanged, Way::WrittenByGit];

/// An update that was cut off.
struct CutOff {
    repository: Repository,
    /// The task whose work was being merged.
    id: String,
    /// The commit of its branch.
    tip: String,
}

impl CutOff {
    fn new(way: Way) -> Self {
        let repository = Repository::new();
        let host = &repository.host;
        let program = host.root().join("filter");
        write_script(
            &program,
            &HANGS.replace("DIR", host.root().to_str().unwrap()),
        );
        repository.write(".gitattributes", "last filter=slow\n");
        for name in ["gone", "last"] {
            repository.write(name, "one\n");
        }
        repository.commit("second");
        let (hangs, other) = match way {
            Way::Exchanged => ("clean", "smudge"),
            Way::WrittenByGit => ("smudge", "clean"),
        };
        let filter = |name: &str, command: &str| {
            repository.git(&["config", &format!("filter.slow.{name}"), command]);
        };
        filter(other, "cat");
        filter(hangs, program.to_str().unwrap());
        // Git itself updates a checkout if attributes change.
        let attributes = match way {
            Way::Exchanged => "true",
            Way::WrittenByGit => "echo '# more' >> .gitattributes",
        };
        let script = format!(
            "for it in added file last; do echo two > $it; done; rm gone; {attributes}; {COMMIT}"
        );
        let id = repository.submit(&["--merge", "auto", "--name", "fix"], &script);
        let pids = wait_for("the filter", || {
            fs::read_to_string(host.root().join("pids")).ok()
        });
        host.kill_host();
        host.kill_supervisors();
        // Git first, because it would go on without the filter.
        for pid in pids.split_whitespace().rev() {
            kill_9(pid.parse().unwrap());
        }
        filter(hangs, "cat");
        fs::remove_file(repository.path().join(".git/index.lock")).unwrap();
        let cut_off = Self {
            tip: repository.git(&["rev-parse", "claudine/fix"]),
            repository,
            id,
        };
        assert_eq!(cut_off.read("file").as_deref(), Some("two\n"), "{way:?}");
        assert_eq!(cut_off.read("gone"), None, "{way:?}");
        cut_off
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.repository.path().join(name)).ok()
    }

    /// Removes the worktree and the branch of the task, as a person does.
    fn remove_branch(&self) {
        let worktree = self.repository.host.data_dir().join("worktrees");
        let worktree = worktree.join(&self.id);
        let git = |arguments: &[&str]| self.repository.git(arguments);
        git(&["worktree", "remove", "--force", worktree.to_str().unwrap()]);
        git(&["branch", "-q", "-D", "claudine/fix"]);
    }

    /// Starts the next host. Returns what it says about the merge.
    #[track_caller]
    fn refused(&self) -> String {
        let host = &self.repository.host;
        host.up();
        merged(&host.finished(&self.id), "failed", "refused")
    }

    fn status(&self) -> String {
        self.repository.git(&["status", "--porcelain"])
    }
}

/// Lets the person go on in each of some ways, and checks that the next host merges the work.
fn is_merged_although_the_person_goes_on(way: Way) {
    type Action = fn(&Repository);
    let actions: [(&str, Action); 4] = [
        ("commits nothing", |repository| {
            repository.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
        }),
        ("commits another file", |repository| {
            repository.write("sub/file", "mine\n");
            repository.git(&["commit", "-q", "-m", "mine", "sub/file"]);
        }),
        ("stages a file of the update", |repository| {
            repository.git(&["add", "file"]);
        }),
        ("stages the removal of a file", |repository| {
            repository.git(&["rm", "-q", "--cached", "gone"]);
        }),
    ];
    for (what, act) in actions {
        let cut_off = CutOff::new(way);
        let (repository, host) = (&cut_off.repository, &cut_off.repository.host);
        act(repository);
        host.up();
        let task = host.finished(&cut_off.id);
        assert_eq!(task["outcome"], "succeeded", "{what}: {task:#}");
        merged(&task, "succeeded", "merged");
        repository.is_untouched();
        assert_eq!(cut_off.read("added").as_deref(), Some("two\n"), "{what}");
        assert_eq!(cut_off.read("gone"), None, "{what}");
    }
}

/// Otherwise the files look like changes of the person, and the next `git commit -a` contains half
/// of the task's work.
#[test]
fn interrupted_update_is_put_back_and_merged_although_the_person_has_gone_on() {
    is_merged_although_the_person_goes_on(Way::Exchanged);
}

#[test]
fn interrupted_update_by_git_is_put_back_and_merged_although_the_person_has_gone_on() {
    is_merged_although_the_person_goes_on(Way::WrittenByGit);
}

#[test]
fn own_edits_survive_an_interrupted_update_and_the_message_names_them_and_the_update() {
    for way in WAYS {
        let cut_off = CutOff::new(way);
        let repository = &cut_off.repository;
        repository.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
        repository.write("file", "mine\n");
        repository.git(&["add", "file"]);
        repository.write("added", "mine\n");
        let detail = cut_off.refused();
        for says in [
            "to a later commit of `main` was interrupted",
            "were left as they are: added, file; ",
        ] {
            assert!(detail.contains(says), "{way:?}: {detail}");
        }
        assert_eq!(cut_off.status(), "M  file\n?? added", "{way:?}");
        for name in ["file", "added"] {
            assert_eq!(cut_off.read(name).as_deref(), Some("mine\n"), "{way:?}");
        }
        for name in ["gone", "last"] {
            assert_eq!(cut_off.read(name).as_deref(), Some("one\n"), "{way:?}");
        }
        // Nothing of the update is left, so the next commit is the person's own.
        repository.git(&["restore", "--staged", "--worktree", "file"]);
        fs::remove_file(repository.path().join("added")).unwrap();
        repository.host.run(["worktree", "merge", "fix"]).check();
        repository.is_untouched();
    }
}

/// The message must not say that the work is on a branch that does not exist.
#[test]
fn interrupted_update_is_put_back_although_the_branch_was_deleted_and_the_message_makes_it_again() {
    for way in WAYS {
        let cut_off = CutOff::new(way);
        let (repository, host) = (&cut_off.repository, &cut_off.repository.host);
        cut_off.remove_branch();
        let detail = cut_off.refused();
        let tip = &cut_off.tip;
        let way_out = format!("its last known commit is {tip}: `git branch claudine/fix {tip}` ");
        assert!(detail.contains(&way_out), "{way:?}: {detail}");
        assert!(!detail.contains("the work is on"), "{way:?}: {detail}");
        repository.is_untouched();
        assert_eq!(cut_off.read("gone").as_deref(), Some("one\n"), "{way:?}");

        repository.git(&["branch", "claudine/fix", tip]);
        host.run(["worktree", "merge", "fix"]).check();
        repository.is_untouched();
        assert_eq!(cut_off.read("added").as_deref(), Some("two\n"), "{way:?}");
    }
}

/// Git deletes the commits of a deleted branch after some time, or at once if it is told so.
#[test]
fn interrupted_update_to_a_deleted_commit_is_put_back_or_its_files_are_named() {
    for way in WAYS {
        let cut_off = CutOff::new(way);
        cut_off.remove_branch();
        let git = |arguments: &[&str]| cut_off.repository.git(arguments);
        git(&["reflog", "expire", "--expire=now", "--all"]);
        git(&["gc", "-q", "--prune=now"]);
        let before = cut_off.status();
        let detail = cut_off.refused();
        let deleted = format!("git has deleted its last known commit, {}", cut_off.tip);
        assert!(detail.contains(&deleted), "{way:?}: {detail}");
        let status = cut_off.status();
        match way {
            Way::Exchanged => assert_eq!(status, "", "{detail}"),
            Way::WrittenByGit => {
                let says = "some of the changes there may be those of the update: .gitattributes, \
                            file, gone";
                assert!(detail.contains(says), "{detail}");
                assert_eq!(status, before);
            }
        }
    }
}
