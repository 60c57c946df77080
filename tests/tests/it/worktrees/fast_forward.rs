//! The fast-forward of a person's checkout, while the person changes the checkout or the host dies.

use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
};

use claudine_tests::wait_for;

use super::{COMMIT, REFUSED, Repository, git_in, merged, program, shim::Shimmed, until_exists};
use crate::mounts::{Mounted, SmallDisk};

/// The request for the merge of a task that has left its work.
const MERGE: [&str; 5] = ["worktree", "merge", "fix", "--merge", "auto"];

/// The lock of the index, and the directories with replaced files, if a host has left them.
fn left_in(repository: &Repository) -> Vec<String> {
    let entries = fs::read_dir(repository.path().join(".git")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().display().to_string());
    let is_left = |name: &String| name == "index.lock" || name.starts_with("claudine.");
    names.filter(is_left).collect()
}

/// Submits a task with a merge, and kills the host after the files were replaced and before the
/// branch moves. Returns the id of the task.
#[track_caller]
fn killed_in_merge(shimmed: &Shimmed, options: &[&str], script: &str) -> String {
    let repository = &shimmed.repository;
    shimmed.count_only("merge .*--ff-only");
    shimmed.hold_at(1);
    let options = [options, &["--merge", "auto"]].concat();
    let id = repository.submit(&options, script);
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "the checkout was not updated");
    repository.host.kill_host();
    id
}

/// Git refuses the merge. A person who followed a message that advises to restore the file would
/// lose the edit.
#[test]
fn edit_saved_just_before_the_merge_is_kept_and_no_message_advises_to_discard_it() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    // The host has checked the checkout, and has not yet changed it.
    shimmed.count_only("checkout-index");
    shimmed.hold_at(1);
    let id = repository.submit(&["--merge", "auto"], "echo two > file; echo new > new");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "the checkout was not updated");
    repository.write("file", "mine\n");
    shimmed.go();
    let detail = merged(&host.finished(&id), "failed", "refused");
    for says in [
        "which cannot be updated: `git merge` failed",
        "are incomplete, or somebody has changed them just now: file;",
    ] {
        assert!(detail.contains(says), "{detail}");
    }
    for word in ["half-way", "restore", "put back"] {
        assert!(!detail.contains(word), "{detail}");
    }
    let status = repository.git(&["status", "--porcelain"]);
    assert_eq!(status, "M file");
    let text = fs::read_to_string(repository.path().join("file")).unwrap();
    assert_eq!(text, "mine\n");
}

/// To git, the merge is still a fast-forward, and would bring the removed commit back.
#[test]
fn commit_that_is_removed_from_the_base_while_the_merge_runs_is_not_brought_back() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    repository.write("secret", "secret\n");
    repository.commit("secret");
    // The host has read the base, and has not yet locked the index.
    shimmed.count_only("checkout-index");
    shimmed.hold_at(1);
    let id = repository.submit(&["--merge", "auto"], "echo two > file");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "the checkout was not updated");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let main = repository.git(&["rev-parse", "main"]);
    shimmed.go();
    let detail = merged(&host.finished(&id), "failed", "refused");
    let says = "`main` was rewritten while the task ran";
    assert!(detail.starts_with(says), "{detail}");
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    repository.is_untouched();
}

/// Git itself would write the files before it tried to replace the index. If only the index stayed
/// as it is, the person's next commit would undo the merge.
#[test]
fn merge_into_a_checkout_whose_index_cannot_be_replaced_is_refused_and_changes_nothing() {
    let repository = Repository::new();
    let host = &repository.host;
    let path = repository.path().join(".git/index");
    let says = format!("its index {} cannot be replaced: ", path.display());
    for (name, more) in [
        ("replaced", ":"),
        ("left-to-git", "echo '*.txt text' > .gitattributes"),
    ] {
        let main = repository.git(&["rev-parse", "main"]);
        let index = Mounted::file(path.clone());
        let script = format!("echo {name} > {name}; {more}");
        let task = repository.done(&["--merge", "auto", "--name", name], &script);
        let detail = merged(&task, "failed", "refused");
        assert!(detail.contains(&says), "{detail}");
        assert_eq!(repository.git(&["rev-parse", "main"]), main);
        repository.is_untouched();
        assert_eq!(left_in(&repository), [""; 0]);

        drop(index);
        host.run(["worktree", "merge", name]).check();
        assert_eq!(repository.git(&["show", &format!("main:{name}")]), name);
        repository.is_untouched();
    }
}

#[test]
fn merge_without_a_free_inode_is_refused_and_changes_nothing() {
    let repository = Repository::new();
    let host = &repository.host;
    let disk = SmallDisk::mount_with("size=64m,nr_inodes=2000");
    let from = repository.path();
    let clone = ["clone", "-q", from.to_str().unwrap(), "clone"];
    git_in(host, &disk.dir, &clone);
    let dir = disk.dir.join("clone");
    for (name, more) in [
        ("replaced", ":"),
        ("left-to-git", "echo '*.txt text' > .gitattributes"),
    ] {
        let script = format!("echo {name} > {name}; {more}; {COMMIT}");
        let options = ["-w", dir.to_str().unwrap(), "--name", name];
        merged(&repository.done(&options, &script), "succeeded", "left");
        let main = git_in(host, &dir, &["rev-parse", "main"]);
        let merge = ["worktree", "merge", name, "--merge", "auto"];
        disk.use_all_inodes();
        let says = format!("there is no room for the new files of {}", dir.display());
        host.run(merge).code(REFUSED).says(&[&says]);
        assert_eq!(git_in(host, &dir, &["rev-parse", "main"]), main);
        assert_eq!(git_in(host, &dir, &["status", "--porcelain"]), "");

        disk.free_inodes();
        host.run(merge).check();
        assert_eq!(git_in(host, &dir, &["show", &format!("main:{name}")]), name);
        assert_eq!(git_in(host, &dir, &["status", "--porcelain"]), "");
    }
}

#[test]
fn merge_that_cannot_make_a_directory_is_refused_and_changes_nothing() {
    let repository = Repository::new();
    let host = &repository.host;
    let dir = repository.path().join("sub");
    let sub = Mounted::read_only(dir.clone());
    let script = "echo two > file; mkdir sub/made; echo new > sub/made/new";
    let task = repository.done(&["--merge", "auto", "--name", "fix"], script);
    let detail = merged(&task, "failed", "refused");
    let says = format!(
        "the directory {} cannot be made: ",
        dir.join("made").display()
    );
    assert!(detail.contains(&says), "{detail}");
    assert_eq!(repository.git(&["log", "--format=%s", "main"]), "first");
    repository.is_untouched();
    assert_eq!(left_in(&repository), [""; 0]);

    drop(sub);
    host.run(["worktree", "merge", "fix"]).check();
    assert_eq!(repository.git(&["show", "main:sub/made/new"]), "new");
    repository.is_untouched();
}

/// The host is killed after git has failed half-way, before it has put the files back.
#[test]
fn next_host_puts_back_a_checkout_that_git_has_updated_in_part() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    repository.commit_filtered();
    let smudge = |command: &str| repository.git(&["config", "filter.broken.smudge", command]);
    let read = |name: &str| fs::read_to_string(repository.path().join(name)).unwrap();
    shimmed.count_only("update-index -q --refresh");
    for (word, edit) in [("two", None), ("three", Some("mine\n"))] {
        smudge(&format!(
            "text=$(cat); test \"$text\" != {word} && echo \"$text\""
        ));
        shimmed.hold_at(1);
        let added = format!("added.{word}");
        // Git itself updates the checkout if attributes change.
        let script = format!(
            "for it in {added} file filtered; do echo {word} > $it; done; \
             echo '# {word}' > sub/.gitattributes"
        );
        let id = repository.submit(&["--merge", "auto"], &script);
        let command = shimmed.reached_or_done(&id);
        assert!(command.is_some(), "{word}: git has not failed");
        assert_eq!(read("file"), format!("{word}\n"));
        host.kill_host();
        smudge("cat");
        if let Some(text) = edit {
            repository.write("file", text);
        }
        shimmed.go();
        host.up();
        let task = host.finished(&id);
        if let Some(text) = edit {
            // Only the file that a person has changed since then is left as it is.
            let detail = merged(&task, "failed", "refused");
            let says = "have other changes and were left as they are: file; ";
            assert!(detail.contains(says), "{detail}");
            assert_eq!(repository.git(&["status", "--porcelain"]), "M file");
            assert_eq!(read("file"), text);
            repository.git(&["restore", "file"]);
            host.run(["worktree", "merge", &id]).check();
        } else {
            merged(&task, "succeeded", "merged");
        }
        for name in [added.as_str(), "file", "filtered"] {
            assert_eq!(read(name), format!("{word}\n"));
        }
        repository.is_untouched();
        shimmed.reset();
    }
}

/// The person may have removed the lock of the index, and goes to another branch.
#[test]
fn next_host_puts_back_the_files_of_a_killed_one_although_another_branch_is_checked_out() {
    for is_unlocked in [false, true] {
        let shimmed = Shimmed::new();
        let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
        let id = killed_in_merge(&shimmed, &[], "echo two > file; echo new > new");
        let lock = repository.path().join(".git/index.lock");
        if is_unlocked {
            fs::remove_file(&lock).unwrap();
        }
        repository.git(&["switch", "-q", "-c", "other"]);
        let status = repository.git(&["status", "--porcelain"]);
        assert!(status.contains("M file"), "{status}");
        fs::write(shimmed.at("fail"), "").unwrap();
        shimmed.go();
        host.up();
        merged(&host.finished(&id), "succeeded", "merged");
        assert_eq!(repository.git(&["branch", "--show-current"]), "other");
        assert_eq!(repository.git(&["status", "--porcelain"]), "");
        assert_eq!(repository.git(&["show", "main:new"]), "new");
        assert_eq!(left_in(repository), [""; 0]);
    }
}

/// Requests the merge of a task that has ended, and stops the merge after the files were replaced
/// and before the branch moves. Returns the command of the request.
fn stopped_at_requested_merge(shimmed: &Shimmed) -> Child {
    let repository = &shimmed.repository;
    let script = format!("echo two > file; echo new > new; {COMMIT}");
    let task = repository.done(&["--name", "fix"], &script);
    merged(&task, "succeeded", "left");
    shimmed.count_only("merge .*--ff-only");
    let (client, _) = shimmed.stopped_at_git(&MERGE);
    assert!(left_in(repository).contains(&"index.lock".to_owned()));
    client
}

/// Checks that the files of the checkout were put back, and that the merge can be requested again.
fn can_be_merged_again(shimmed: &Shimmed) {
    let repository = &shimmed.repository;
    assert_eq!(left_in(repository), [""; 0]);
    repository.is_untouched();
    let file = fs::read(repository.path().join("file")).unwrap();
    assert_eq!(file, b"one\n");
    shimmed.reset();
    repository.host.text(MERGE);
    assert_eq!(repository.git(&["show", "main:new"]), "new");
    repository.is_untouched();
}

/// Kills the host during a requested merge, and lets the git that it has left fail.
fn kill_host_in_requested_merge(shimmed: &Shimmed) {
    let mut client = stopped_at_requested_merge(shimmed);
    shimmed.repository.host.kill_host();
    assert!(!client.wait().unwrap().success());
    fs::write(shimmed.at("fail"), "").unwrap();
    shimmed.go();
}

/// The merge was requested after the end of its task, so no attempt continues it.
#[test]
fn next_host_puts_back_the_files_of_a_killed_one_although_nobody_requests_the_merge_again() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    kill_host_in_requested_merge(&shimmed);
    host.up();
    wait_for("the checkout to be put back", || {
        left_in(repository).is_empty().then_some(())
    });
    can_be_merged_again(&shimmed);
}

/// Only the record of the worktree shows how the files can be put back.
#[test]
fn worktree_is_not_cleaned_up_as_long_as_its_merge_keeps_a_checkout_locked() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    kill_host_in_requested_merge(&shimmed);
    // The lock cannot be read.
    let lock = repository.path().join(".git/index.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    host.up();
    let clean = ["worktree", "clean", "--all"];
    let cleaned = host.json(clean);
    let why = cleaned["left"][0]["why"].as_str().unwrap();
    let says = "was interrupted, and the files there could not be put back: ";
    assert!(why.contains(says), "{why}");
    fs::remove_dir(&lock).unwrap();
    let cleaned = host.json(clean);
    assert_eq!(cleaned["left"].as_array().unwrap().len(), 0, "{cleaned:#}");
    can_be_merged_again(&shimmed);
}

/// No git command can tell what was left.
#[test]
fn merge_whose_repository_is_moved_names_the_lock_and_continues_once_it_is_moved_back() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let from = repository.path();
    let clone = ["clone", "-q", from.to_str().unwrap(), "clone"];
    git_in(host, host.root(), &clone);
    let [dir, moved] = ["clone", "moved"].map(|name| host.root().join(name));
    shimmed.count_only("merge .*--ff-only");
    shimmed.hold_at(1);
    let place = dir.to_str().unwrap();
    let options = ["-w", place, "--merge", "auto", "--name", "fix"];
    let id = repository.submit(&options, "echo two > file; echo new > new");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "the checkout was not updated");
    fs::rename(&dir, &moved).unwrap();
    shimmed.go();
    let detail = merged(&host.finished(&id), "failed", "refused");
    let lock = fs::read_to_string(moved.join(".git/index.lock")).unwrap();
    let says = format!("`.git/index.lock` there, which contains `{lock}`, ");
    assert!(detail.contains(&says), "{detail}");
    host.run(["worktree", "merge", "fix"])
        .code(REFUSED)
        .says(&["move the repository back", &says]);

    fs::rename(&moved, &dir).unwrap();
    host.run(["worktree", "merge", "fix"]).check();
    assert!(!dir.join(".git/index.lock").exists());
    assert_eq!(git_in(host, &dir, &["show", "main:new"]), "new");
    assert_eq!(git_in(host, &dir, &["status", "--porcelain"]), "");
}

/// It may take a long time until somebody starts another host.
#[test]
fn files_are_put_back_if_the_host_is_told_to_end_everything_during_a_requested_merge() {
    let shimmed = Shimmed::new();
    let mut client = stopped_at_requested_merge(&shimmed);
    shimmed.repository.host.run(["down", "--kill"]).check();
    assert!(!client.wait().unwrap().success());
    can_be_merged_again(&shimmed);
}

/// Git goes on after the death of its host, and moves the branch. If the merge were not finished,
/// the person's next commit would remove the work.
#[test]
fn next_host_finishes_the_merge_of_a_killed_one_although_its_lock_was_removed() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let id = killed_in_merge(&shimmed, &[], "echo two > file; echo new > new");
    fs::remove_file(repository.path().join(".git/index.lock")).unwrap();
    shimmed.go();
    wait_for("the branch to move", || {
        let subject = repository.git(&["log", "-1", "--format=%s", "main"]);
        (subject != "first").then_some(())
    });
    let status = repository.git(&["status", "--porcelain"]);
    assert!(status.contains("D  new"), "{status}");
    host.up();
    merged(&host.finished(&id), "succeeded", "merged");
    repository.is_untouched();
    assert_eq!(repository.git(&["show", "main:new"]), "new");
    assert_eq!(left_in(repository), [""; 0]);
}

/// The replaced files are in the directory of the repository.
#[test]
fn changes_of_a_file_that_a_killed_host_had_replaced_are_reported_if_the_checkout_was_removed() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let tree = host.root().join("tree");
    let tree = tree.to_str().unwrap();
    repository.git(&["switch", "-q", "-c", "other"]);
    repository.git(&["worktree", "add", "-q", tree, "main"]);
    let opened = fs::File::options()
        .append(true)
        .open(format!("{tree}/file"));
    let id = killed_in_merge(&shimmed, &["--base", "main"], "echo two > file");
    opened.unwrap().write_all(b"mine\n").unwrap();
    repository.git(&["worktree", "remove", "--force", tree]);
    fs::write(shimmed.at("fail"), "").unwrap();
    shimmed.go();
    host.up();
    let detail = merged(&host.finished(&id), "succeeded", "merged");
    let says = "were changed while they were being replaced, and could not be put back: file; ";
    assert!(detail.contains(says), "{detail}");
    let left = left_in(repository);
    let [kept] = left.as_slice() else {
        panic!("{left:?}");
    };
    assert!(detail.contains(kept), "{detail}");
    let kept = repository.path().join(".git").join(kept);
    let text = fs::read_to_string(kept.join("files/file")).unwrap();
    assert_eq!(text, "one\nmine\n");
}

/// The checkout may be on a drive that is not mounted when the next host starts.
#[test]
fn files_of_a_killed_host_are_put_back_once_their_missing_checkout_is_back() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let [tree, away] = ["tree", "away"].map(|name| host.root().join(name));
    let place = tree.to_str().unwrap();
    repository.git(&["switch", "-q", "-c", "other"]);
    repository.git(&["worktree", "add", "-q", place, "main"]);
    let options = ["--base", "main", "--name", "fix"];
    let id = killed_in_merge(&shimmed, &options, "echo two > file; echo new > new");
    fs::rename(&tree, &away).unwrap();
    fs::write(shimmed.at("fail"), "").unwrap();
    shimmed.go();
    host.up();
    let detail = merged(&host.finished(&id), "failed", "refused");
    let says = format!(
        "could not be put back: branch `main` is checked out in {place}, and that directory is \
         missing; bring it back"
    );
    assert!(detail.contains(&says), "{detail}");

    fs::rename(&away, &tree).unwrap();
    host.run(["worktree", "merge", "fix"]).check();
    let lock = repository.path().join(".git/worktrees/tree/index.lock");
    assert!(!lock.exists());
    assert_eq!(git_in(host, &tree, &["show", "main:new"]), "new");
    assert_eq!(git_in(host, &tree, &["status", "--porcelain"]), "");
    assert_eq!(left_in(repository), [""; 0]);
}

/// During a merge into the person's checkout, the checkout seems to have changes.
#[test]
fn submission_during_a_merge_waits_for_the_end_of_the_merge() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let done = host.root().join("done");
    let script = format!("echo two > file; {}", until_exists(&done));
    let first = repository.submit(&["--merge", "auto"], &script);
    host.live(&first);
    // The files are changed, and the index is not.
    shimmed.count_only("merge .*--ff-only");
    shimmed.hold_at(1);
    fs::write(&done, "").unwrap();
    wait_for("the merge", || shimmed.reached());
    let status = repository.git(&["status", "--porcelain"]);
    assert_eq!(status, "M file");

    // The submission reads the status of the checkout.
    shimmed.count_only("status --porcelain=v2");
    fs::remove_file(shimmed.at("count")).unwrap();
    shimmed.hold_at(1_000);
    let arguments = ["run", "--worktree", "--merge", "auto", "--", "true"];
    let mut client = host.command(arguments);
    let mut client = client.stdout(Stdio::null()).spawn().unwrap();
    wait_for("the status", || shimmed.at("count").exists().then_some(()));
    shimmed.go();
    assert!(client.wait().unwrap().success());
    merged(&host.finished(&first), "succeeded", "merged");
    repository.is_untouched();
}

/// A git of a killed host that goes on with its merge looks like this other git.
#[test]
fn merge_waits_for_another_git_that_is_writing_the_checkout() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    repository.slow_checkout();
    repository.go();
    repository.git(&["switch", "-q", "-c", "other"]);
    repository.write("file", "two\n");
    repository.write("slow", "two\n");
    repository.commit("two");
    repository.git(&["switch", "-q", "main"]);
    let done = host.root().join("done");
    let script = format!("{}; echo new > new", until_exists(&done));
    let id = repository.submit(&["--merge", "auto"], &script);
    host.live(&id);
    for name in ["go", "reached"] {
        fs::remove_file(host.root().join(name)).unwrap();
    }
    let mut pull = host.other(program("git"));
    pull.args(["merge", "-q", "--ff-only", "other"]);
    let mut pull = pull.current_dir(repository.path()).spawn().unwrap();
    repository.reached();
    let status = repository.git(&["status", "--porcelain"]);
    assert!(status.contains("M file"), "{status}");

    // Before the merge, the host reads the status of the checkout.
    shimmed.count_only("status .*--ignore-submodules=dirty");
    shimmed.hold_at(1_000);
    fs::write(&done, "").unwrap();
    wait_for("the status", || shimmed.at("count").exists().then_some(()));
    repository.go();
    assert!(pull.wait().unwrap().success());
    merged(&host.finished(&id), "succeeded", "merged");
    for (file, text) in [("file", "two\n"), ("new", "new\n")] {
        let found = fs::read_to_string(repository.path().join(file)).unwrap();
        assert_eq!(found, text);
    }
    repository.is_untouched();
}

/// A person who commits often has changes again and again, each time for a moment.
#[test]
fn merge_waits_a_moment_until_changes_are_committed() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let done = host.root().join("done");
    let script = format!("{}; echo new > new", until_exists(&done));
    let id = repository.submit(&["--merge", "auto"], &script);
    host.live(&id);
    repository.write("file", "mine\n");
    // Before the merge, the host reads the status of the checkout.
    shimmed.count_only("status .*--ignore-submodules=dirty");
    shimmed.hold_at(1_000);
    fs::write(&done, "").unwrap();
    wait_for("the third look at the changes", || {
        let count = fs::read_to_string(shimmed.at("count")).unwrap_or_default();
        (count.lines().count() >= 3).then_some(())
    });
    repository.commit("mine");
    merged(&host.finished(&id), "succeeded", "merged");
    for (file, text) in [("file", "mine"), ("new", "new")] {
        assert_eq!(repository.git(&["show", &format!("main:{file}")]), text);
    }
    repository.is_untouched();
}
