//! The host dies during each git command that makes a worktree, and during each git command of the
//! settlement, which commits and merges (or hands over) the work at the end. Limits on such
//! commands are tested too.

use std::{collections::BTreeSet, fs, process::Stdio};

use claudine_tests::{TestHost, process, short_id, wait_for};

use super::{
    COMMIT, Repository, git_in, merged,
    shim::{SHIM, Shimmed},
    until_exists, write_script,
};

/// A script in place of `gh` that records the branches for which it has opened a pull request.
const GH: &str = r#"case $2 in
list) ! grep -qxe "$3" "$here/requests" || echo https://example.org/pull/1 ;;
create) echo "$3" >> "$here/requests"; echo https://example.org/pull/1 ;;
esac
"#;

/// Number of tests among which the git commands of a task are divided, because every death takes a
/// second, and a task runs about fifty such commands.
const SHARES: usize = 3;

#[test]
fn next_host_continues_after_a_death_at_git_command_1_4_7_and_so_on() {
    next_host_continues_after_a_death_from(1);
}

#[test]
fn next_host_continues_after_a_death_at_git_command_2_5_8_and_so_on() {
    next_host_continues_after_a_death_from(2);
}

#[test]
fn next_host_continues_after_a_death_at_git_command_3_6_9_and_so_on() {
    next_host_continues_after_a_death_from(3);
}

/// The next host waits for the interrupted git command or ends it, and continues: the task runs
/// once, and its work is merged once.
fn next_host_continues_after_a_death_from(first: usize) {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let mut phases = BTreeSet::new();
    for (round, number) in (first..).step_by(SHARES).enumerate() {
        let ran = host.root().join(format!("ran.{number}"));
        let script = format!("echo ran >> {}; echo {number} > file", ran.display());
        let options = ["--merge", "auto", "--hold"];
        let id = repository.submit(&options, &script);
        shimmed.hold_at(number);
        host.run(["release", &id]).check();
        let command = shimmed.reached_or_done(&id);
        if command.is_some() {
            phases.insert(
                host.status(&id)["phase"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
            host.kill_host();
            shimmed.go();
            host.up();
        }
        let task = host.finished(&id);
        let at = format!("killed at command {number}, {command:?}: {task:#}");
        merged(&task, "succeeded", "merged");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{at}");
        assert_eq!(fs::read(&ran).unwrap(), b"ran\n", "{at}");
        shimmed.reset();
        let commits = repository.git(&["rev-list", "--count", "main"]);
        assert_eq!(commits, (round + 2).to_string(), "{at}");
        assert_eq!(repository.branches(), ["main"], "{at}");
        repository.is_untouched();
        assert!(!repository.worktree(&task).exists(), "{at}");
        if command.is_none() {
            assert!(number > 8, "git was run {} times", number - 1);
            break;
        }
    }
    for phase in ["preparing", "settling"] {
        assert!(phases.contains(phase), "{phases:?}");
    }
    let alive = host.processes();
    let git = alive.iter().filter(|found| found.command.contains("git"));
    assert_eq!(git.count(), 0, "{alive:?}");
}

/// A git that is killed cannot remove its locks. Here a file stands for each of them.
#[test]
fn next_host_removes_the_locks_that_a_killed_git_has_left() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let of_work = ["worktrees/ID/index", "worktrees/ID/HEAD"];
    for (name, only, locks) in [
        ("made", "update-ref.*: made", &[][..]),
        ("work", "commit --quiet", &of_work[..]),
    ] {
        shimmed.count_only(only);
        shimmed.hold_at(1);
        let options = ["--merge", "auto", "--name", name];
        let id = repository.submit(&options, &format!("echo {name} > {name}"));
        let command = shimmed.reached_or_done(&id);
        assert!(command.is_some(), "{name}: nothing was held");
        host.kill_host();
        repository.write(&format!(".git/refs/heads/claudine/{name}.lock"), "");
        for lock in locks {
            let lock = lock.replace("ID", &id);
            repository.write(&format!(".git/{lock}.lock"), "");
        }
        fs::write(shimmed.at("fail"), "").unwrap();
        shimmed.go();
        host.up();
        let task = host.finished(&id);
        merged(&task, "succeeded", "merged");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task:#}");
        fs::remove_file(shimmed.at("fail")).unwrap();
        shimmed.reset();
    }
    assert_eq!(repository.branches(), ["main"]);
    repository.is_untouched();
}

/// Another host or a person may make a branch of the same name at the same time.
#[test]
fn branch_that_somebody_else_has_just_made_is_not_removed() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    shimmed.count_only("update-ref.*: made");
    shimmed.hold_at(1);
    let id = repository.submit(&["--name", "fix"], "true");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "no branch was made");
    repository.git(&["branch", "claudine/fix"]);
    shimmed.go();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["attempts"][0]["git"]["branch"], "claudine/fix-2");
    assert!(!repository.worktree(&task).exists());
    assert_eq!(repository.branches(), ["claudine/fix", "main"]);
    repository.is_untouched();
}

/// If the host dies while it makes a removed worktree again, the worktree may have no branch
/// checked out, or be without some of its files.
#[test]
fn next_host_makes_a_removed_worktree_again_from_the_beginning() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let only = "worktree add|--show-toplevel|symbolic-ref -m|ls-files --others --ignored";
    shimmed.count_only(only);
    let script = format!("git symbolic-ref --short HEAD; date +%N > work; {COMMIT}");
    let task = repository.done(&["--name", "fix"], &script);
    assert!(!repository.worktree(&task).exists());
    let id = task["id"].as_str().unwrap();
    for number in 1..=only.split('|').count() {
        shimmed.hold_at(number);
        host.run(["retry", id]).check();
        let command = shimmed.reached_or_done(id);
        assert!(command.is_some(), "git was run {} times", number - 1);
        host.kill_host();
        shimmed.go();
        host.up();
        let task = host.finished(id);
        merged(&task, "succeeded", "left");
        assert_eq!(task["output"], "claudine/fix\n", "{command:?}: {task:#}");
        let attempts = task["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), number + 1, "{command:?}: {task:#}");
        assert!(!repository.worktree(&task).exists(), "{command:?}");
        shimmed.reset();
    }
    repository.is_untouched();
}

/// If the git that makes a worktree fails, it removes whatever is at the path of the worktree then,
/// even a worktree that was made there meanwhile.
#[test]
fn attempt_enters_its_worktree_only_after_the_git_of_an_earlier_host_has_ended() {
    let repository = Repository::new();
    let host = &repository.host;
    let root = host.root().display();
    repository.write(".gitattributes", "slow filter=slow\n");
    repository.write("slow", "slow\n");
    repository.commit("slow");
    let changed = host.root().join("changed");
    // The filter of the earlier host has written its pid.
    let script = format!(
        "! kill -0 $(cat {root}/filter) || touch {root}/early; {}; echo theirs > file",
        until_exists(&changed)
    );
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], &script);
    host.live(&id);
    repository.write("file", "ours\n");
    repository.commit("ours");
    fs::write(&changed, "").unwrap();
    merged(&host.finished(&id), "failed", "conflict");
    host.run(["worktree", "clean", "--all"]).check();

    // Only the first checkout waits, even if it is told to end.
    let waits = format!(
        "if ! test -e {root}/filter; then trap '' TERM; echo $$ > {root}/filter; touch {root}/reached; \
         until test -e {root}/go; do sleep 0.1; done; fi; cat"
    );
    repository.git(&["config", "filter.slow.smudge", &waits]);
    let mut resolve = host.command(["worktree", "resolve", "fix"]);
    let resolve = resolve.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    repository.reached();
    host.kill_host();
    assert!(!resolve.unwrap().wait().unwrap().success());
    host.up();
    host.run(["retry", "fix"]).check();
    // Meanwhile other tasks run, longer than the attempt would need to make its worktree.
    for _ in 0..10 {
        let other = host.text(["run", "--", "true"]);
        assert_eq!(host.finished(&other)["outcome"], "succeeded");
    }
    repository.go();
    let task = host.finished(&id);
    assert!(!host.root().join("early").exists(), "{task:#}");
    merged(&task, "failed", "conflict");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 2, "{task:#}");
    let file = fs::read_to_string(repository.worktree(&task).join("file"));
    assert_eq!(file.unwrap(), "theirs\n");
}

/// A power cut may end git after it has removed the directory, and before it has removed its record
/// of the worktree.
#[test]
fn next_host_completes_the_removal_of_a_worktree() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    shimmed.count_only("worktree remove");
    shimmed.hold_at(1);
    let id = repository.submit(&["--merge", "auto"], "echo work > work");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "the worktree was not removed");
    host.kill_host();
    fs::remove_dir_all(host.data_dir().join("worktrees").join(&id)).unwrap();
    fs::write(shimmed.at("fail"), "").unwrap();
    shimmed.go();
    host.up();
    let task = host.finished(&id);
    merged(&task, "succeeded", "merged");
    assert_eq!(task["merge"]["worktree_removed"], true, "{task:#}");
    assert_eq!(repository.branches(), ["main"]);
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
    repository.is_untouched();
}

/// A patch is complete, and a pull request is opened once, even if the git command goes on after
/// the death of the host that started it.
#[test]
fn next_host_continues_after_a_death_during_the_hand_over() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    write_script(
        &shimmed.at("gh"),
        &SHIM.replace("exec REAL_GIT \"$@\"\n", GH),
    );
    fs::write(shimmed.at("requests"), "").unwrap();
    git_in(host, host.root(), &["init", "-q", "--bare", "remote.git"]);
    let remote = host.root().join("remote.git");
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    for (strategy, state, only, commands) in [
        ("patch", "written", "--output=", 1),
        ("pr", "opened", "(^| )push |^pr ", 3),
    ] {
        shimmed.count_only(only);
        for number in 1..=commands {
            let branch = format!("{strategy}{number}");
            let options = ["--merge", strategy, "--branch", &branch, "--hold"];
            let id = repository.submit(&options, &format!("echo {branch} > file"));
            shimmed.hold_at(number);
            host.run(["release", &id]).check();
            let command = shimmed.reached_or_done(&id);
            assert!(
                command.is_some(),
                "{branch} was handed over with fewer commands"
            );
            host.kill_host();
            shimmed.go();
            host.up();
            let task = host.finished(&id);
            merged(&task, "succeeded", state);
            let attempts = task["attempts"].as_array().unwrap();
            assert_eq!(attempts.len(), 1, "{command:?}: {task:#}");
            shimmed.reset();
            if strategy == "patch" {
                let patch = host.data_dir().join(format!("worktrees/{id}.patch"));
                let patch = fs::read_to_string(patch).unwrap();
                assert!(patch.ends_with(&format!("+{branch}\n")), "{patch}");
            } else {
                let file = format!("{branch}:file");
                assert_eq!(git_in(host, &remote, &["show", &file]), branch);
                let requests = fs::read_to_string(shimmed.at("requests")).unwrap();
                let head = format!("--head={branch}");
                let opened = requests.lines().filter(|line| *line == head);
                assert_eq!(opened.count(), 1, "{command:?}: {requests}");
            }
            repository.is_untouched();
        }
    }
}

/// A filter, a merge driver or a remote may hang for ever.
#[test]
fn hanging_settlement_ends_at_its_time_limit() {
    let builder = TestHost::builder().env("CLAUDINE_SETTLE_TIMEOUT", "1s");
    let repository = Repository::with(builder);
    repository.write(".gitattributes", "file merge=slow\n");
    repository.commit("slow");
    let pid = repository.host.root().join("pid");
    let driver = format!("echo $$ > {}; exec sleep 1000", pid.display());
    repository.git(&["config", "merge.slow.driver", &driver]);
    let go = repository.host.root().join("go");
    let waits = until_exists(&go);
    let script = format!("echo theirs > file; {COMMIT}; {waits}");
    let id = repository.submit(&["--merge", "auto"], &script);
    repository.host.live(&id);
    repository.write("file", "mine\n");
    repository.commit("mine");
    fs::write(&go, "").unwrap();
    let task = repository.host.finished(&id);
    assert_eq!(task["outcome"], "timed_out", "{task:#}");
    repository.is_untouched();
    // The driver may have been ended before it could write its pid.
    if let Ok(pid) = fs::read_to_string(&pid) {
        assert!(!process::alive(pid.trim().parse().unwrap()));
    }
    // Git has left no files in the worktree that a later merge would commit.
    repository.git(&["config", "merge.slow.driver", "true"]);
    repository.host.run(["worktree", "merge", &id]).check();
    let files = repository.git(&["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(files, ".gitattributes\nfile\nsub/file");
    repository.is_untouched();
    repository.write(".gitattributes", "slow filter=slow\n");
    repository.commit("slow");
    repository.git(&["config", "filter.slow.clean", "sleep 1000"]);
    let task = repository.done(&["--merge", "auto"], "echo two > slow");
    assert_eq!(task["outcome"], "timed_out", "{task:#}");
    assert!(repository.worktree(&task).join("slow").exists());
    repository.is_untouched();
}

/// A merge is not broken off half-way, and the answer to the cancel says so.
#[test]
fn task_that_is_cancelled_while_its_work_is_merged_succeeds_and_the_answer_says_so() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    shimmed.count_only("merge --quiet");
    shimmed.hold_at(1);
    let id = repository.submit(&["--merge", "auto"], "echo two > file");
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "git has not merged the work");
    let answer = host.json(["cancel", &id]);
    assert_eq!(answer["tasks"][0]["was"], "settling", "{answer:#}");
    assert_eq!(answer["tasks"][0]["still"], "settling", "{answer:#}");
    // The second cancel changes nothing.
    let again = host.run(["cancel", &id]).ok();
    again.says(&[&format!("{} is already stopping", short_id(&id))]);
    shimmed.go();
    merged(&host.finished(&id), "succeeded", "merged");
    assert_eq!(repository.git(&["show", "main:file"]), "two");
    repository.is_untouched();
}

/// Git may hang, for example in a filter.
#[test]
fn task_is_not_said_to_run_while_only_git_works_in_its_worktree() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    shimmed.count_only("status --porcelain");
    let hold = shimmed.at("hold").display().to_string();
    let id = repository.submit(&[], &format!("echo two > file; echo 1 > {hold}"));
    let command = shimmed.reached_or_done(&id);
    assert!(command.is_some(), "git has not looked at the worktree");
    wait_for("a phase without processes", || {
        let why = host.text(["why", &id]);
        why.contains("looking at its files with git").then_some(())
    });
    shimmed.go();
    merged(&host.finished(&id), "succeeded", "left");
}

/// When the host ends, no client waits for the request any more. The git of the request runs below
/// a supervisor, which outlives the host. `down --kill` ends this git at once.
#[test]
fn git_of_an_abandoned_request_is_ended() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let script = format!("echo work > work; {COMMIT}");
    let task = repository.done(&["--name", "again"], &script);
    merged(&task, "succeeded", "left");
    let merge = ["worktree", "merge", "again", "--merge", "auto"];

    let (mut client, git) = shimmed.stopped_at_git(&merge);
    assert!(host.supervisor_pids().contains(&parent_of(git)));
    host.kill_host();
    assert!(!client.wait().unwrap().success());
    shimmed.go();
    wait_for("git to end", || (!process::alive(git)).then_some(()));
    shimmed.reset();

    let submission = ["run", "--worktree", "--script", ":"];
    for request in [&merge[..], &submission] {
        host.up();
        let (mut client, git) = shimmed.stopped_at_git(request);
        host.run(["down", "--kill"]).check();
        assert!(!process::alive(git), "{request:?}");
        assert!(!client.wait().unwrap().success(), "{request:?}");
        shimmed.reset();
    }

    host.text(merge);
    assert_eq!(repository.git(&["show", "main:work"]), "work");
    repository.is_untouched();
}

/// Nobody else would restore a checkout in which git has failed, and the task's dependants would
/// wait until somebody asks for the merge again.
#[test]
fn merge_is_seen_to_its_end_although_its_client_has_left() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let options = ["--merge", "auto", "--name", "fix", "--hold"];
    let id = repository.submit(&options, "echo work > work");
    repository.write("file", "mine\n");
    host.run(["release", &id]).check();
    merged(&host.finished(&id), "failed", "refused");
    repository.git(&["restore", "file"]);
    shimmed.count_only("merge.*--ff-only");
    let leave = || {
        let (mut client, _) = shimmed.stopped_at_git(&["worktree", "merge", "fix"]);
        client.kill().unwrap();
        client.wait().unwrap();
        // The host has noticed the end of the connection once it answers another request.
        host.status(&id);
    };

    leave();
    repository.write("work", "work\n");
    fs::write(shimmed.at("fail"), "").unwrap();
    shimmed.go();
    wait_for("the checkout to be put back", || {
        (!repository.path().join("work").exists()).then_some(())
    });
    repository.is_untouched();
    fs::remove_file(shimmed.at("fail")).unwrap();
    shimmed.reset();

    leave();
    shimmed.go();
    wait_for("the task to have succeeded", || {
        (host.status(&id)["outcome"] == "succeeded").then_some(())
    });
    assert_eq!(repository.git(&["show", "main:work"]), "work");
    repository.is_untouched();
}

fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:"));
    parent.unwrap().trim().parse().unwrap()
}
