//! Names of tasks' branches and commits, and which task owns a branch.

use std::fs;

use serde_json::Value;

use super::{COMMIT, REFUSED, Repository, USAGE, merged, shim::Shimmed};

fn branch(task: &Value) -> &str {
    task["worktree"]["branch"].as_str().unwrap()
}

#[test]
fn branch_is_named_after_its_task_and_numbered_if_taken() {
    let repository = Repository::new();
    let script = format!("echo \"$RANDOM$$\" > \"made.$$\"; {COMMIT}");
    let commits = |options: &[&str]| repository.done(options, &script);
    let [one, two] = [(); 2].map(|()| commits(&["--name", "Fix the tests!"]));
    assert_eq!(branch(&one), "claudine/fix-the-tests");
    assert_eq!(branch(&two), "claudine/fix-the-tests-2");
    let hostile = commits(&["--name", "../-a..b.lock~^:?*[\\ é@{1}"]);
    assert_eq!(branch(&hostile), "claudine/a-b-lock-é-1");
    let wordless = commits(&["--name", "…"]);
    assert!(
        branch(&wordless).starts_with("claudine/echo-random"),
        "{wordless:#}"
    );
    // Beside this branch, git can create no branch `claudine/deep`. The host then uses the task's
    // id instead of a number.
    repository.git(&["branch", "claudine/deep/inside"]);
    let deep = commits(&["--name", "deep"]);
    let id = deep["id"].as_str().unwrap().strip_prefix("task_").unwrap();
    assert_eq!(branch(&deep), format!("claudine/{id}"));
    // For git, these names would mean a tag or a branch of a remote as well.
    repository.git(&["tag", "claudine/tagged"]);
    repository.git(&["update-ref", "refs/remotes/claudine/fetched", "main"]);
    let [tagged, fetched] = ["tagged", "fetched"].map(|name| commits(&["--name", name]));
    assert_eq!(branch(&tagged), "claudine/tagged-2");
    assert_eq!(branch(&fetched), "claudine/fetched-2");
    for task in [&one, &two, &hostile, &wordless, &deep, &tagged, &fetched] {
        merged(task, "succeeded", "left");
        repository.git(&[
            "rev-parse",
            "--verify",
            &format!("refs/heads/{}", branch(task)),
        ]);
    }
}

/// Another host, or a person, makes a branch after the name was chosen.
#[test]
fn branch_gets_another_name_if_its_name_is_taken_just_before_it_is_made() {
    let shimmed = Shimmed::new();
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    shimmed.count_only("update-ref --no-deref --create-reflog");
    let script = format!("echo two > file; {COMMIT}");
    let with_taken = |options: &[&str], taken: &str| {
        shimmed.hold_at(1);
        let id = repository.submit(options, &script);
        let command = shimmed.reached_or_done(&id);
        assert!(command.is_some(), "{taken}: no branch was made");
        repository.git(&["branch", taken]);
        shimmed.go();
        let task = host.finished(&id);
        shimmed.reset();
        assert_eq!(
            repository.git(&["rev-parse", taken]),
            repository.git(&["rev-parse", "main"])
        );
        task
    };
    let numbered = with_taken(&["--name", "fix"], "claudine/fix");
    merged(&numbered, "succeeded", "left");
    assert_eq!(branch(&numbered), "claudine/fix-2");
    // Git keeps a branch as a file, which cannot be a directory too.
    let deep = with_taken(&["--name", "deep"], "claudine/deep/inside");
    merged(&deep, "succeeded", "left");
    let id = deep["id"].as_str().unwrap().strip_prefix("task_").unwrap();
    assert_eq!(branch(&deep), format!("claudine/{id}"));
    let named = with_taken(&["--branch", "mine"], "mine");
    assert_eq!(named["outcome"], "failed", "{named:#}");
    let message = named["reason"]["message"].as_str().unwrap();
    assert!(
        message.contains("branch `mine` exists already"),
        "{message}"
    );
}

/// The name of a branch that was merged and removed is free. The task whose branch had this name
/// continues on a branch with another name if necessary, and never on a branch of another task.
#[test]
fn task_never_continues_on_another_tasks_branch_of_the_same_name() {
    let repository = Repository::new();
    let host = &repository.host;
    let again = |task: &Value| {
        let id = task["id"].as_str().unwrap();
        host.run(["retry", id]).check();
        host.finished(id)
    };
    let auto = |script: &str| repository.done(&["--name", "fix", "--merge", "auto"], script);
    let first = auto("echo more >> file");
    merged(&first, "succeeded", "merged");
    let second = auto(&format!("echo second > second; {COMMIT}; exit 3"));
    assert_eq!(branch(&first), "claudine/fix");
    assert_eq!(branch(&second), "claudine/fix", "the name is not free");
    let first = again(&first);
    merged(&first, "succeeded", "merged");
    assert_eq!(branch(&first), "claudine/fix-2");
    assert!(!repository.path().join("second").exists());
    // The name of a branch that somebody removed still belongs to its task.
    host.run(["worktree", "clean", "--all"]).check();
    repository.git(&["branch", "-D", "claudine/fix"]);
    let third = auto("echo third > third; exit 3");
    assert_eq!(branch(&third), "claudine/fix-2");
    let second = again(&second);
    assert_eq!(branch(&second), "claudine/fix");
    // Even without its record, the task does not use the name of another task's branch.
    for entry in fs::read_dir(host.data_dir().join("worktrees")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    let first = again(&first);
    merged(&first, "succeeded", "merged");
    assert_eq!(branch(&first), "claudine/fix-3");
}

/// The name of a branch does not prove that the branch belongs to the task, because somebody may
/// have deleted the task's branch and made another branch of the same name.
#[test]
fn branch_that_took_the_name_of_a_tasks_deleted_branch_is_left_alone() {
    let repository = Repository::new();
    let host = &repository.host;
    let go = host.root().join("go");
    let work = format!(
        "date +%N > work; {COMMIT}; git rev-parse HEAD; test -e {}",
        go.display()
    );
    let replaced = |branch: &str| {
        host.run(["worktree", "clean", "--all"]).check();
        repository.git(&["branch", "-q", "-D", branch]);
        repository.git(&["switch", "-q", "-c", branch]);
        repository.write("mine", &format!("{branch}\n"));
        repository.commit("mine");
        repository.git(&["switch", "-q", "main"]);
        repository.git(&["rev-parse", branch])
    };
    let is_left = |branch: &str, mine: &str| {
        assert_eq!(repository.git(&["rev-parse", branch]), mine, "{branch}");
        assert!(!repository.path().join("mine").exists(), "{branch}");
        repository.is_untouched();
    };
    let failed = |name: &str| {
        let task = repository.done(&["--name", name, "--merge", "auto"], &work);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        task
    };
    let task = failed("one");
    let commit = task["output"].as_str().unwrap().trim();
    let mine = replaced("claudine/one");
    let restored = format!("`git branch claudine/one {commit}` makes the task's branch again");
    for verb in ["merge", "resolve"] {
        host.run(["worktree", verb, "one"]).code(REFUSED).says(&[
            "branch `claudine/one` is not the task's",
            "`git branch -m claudine/one NEW` frees its name",
            &restored,
        ]);
        is_left("claudine/one", &mine);
    }
    assert!(!host.run(["diff", "one"]).to_string().contains("mine"));
    host.run(["worktree", "clean", "--all"]).check();
    is_left("claudine/one", &mine);
    // Follows the advice of the message.
    repository.git(&["branch", "-q", "-m", "claudine/one", "kept"]);
    repository.git(&["branch", "-q", "claudine/one", commit]);
    host.run(["worktree", "merge", "one"]).check();
    assert!(repository.path().join("work").exists());
    is_left("kept", &mine);

    // A retry makes a branch with another name, as if the task had no branch.
    failed("two");
    let mine = replaced("claudine/two");
    fs::write(&go, "").unwrap();
    host.run(["retry", "two"]).check();
    let task = host.finished("two");
    merged(&task, "succeeded", "merged");
    assert_eq!(branch(&task), "claudine/two-2");
    is_left("claudine/two", &mine);
    fs::remove_file(&go).unwrap();

    // A new branch is also left alone if the deleted branch had no work of its task, or only work
    // that was merged.
    for script in ["true", "date +%N > more"] {
        let task = repository.done(&["--branch", "own", "--merge", "auto"], script);
        let id = task["id"].as_str().unwrap();
        let mine = replaced("own");
        for verb in [&["worktree", "merge", id][..], &["retry", id]] {
            host.run(verb);
            host.finished(id);
            is_left("own", &mine);
        }
        repository.git(&["branch", "-q", "-D", "own"]);
    }

    // A branch of the same name that another task has made is not taken for the first task's branch
    // either.
    let options = ["--branch", "ours", "--merge", "auto"];
    let first = repository.done(&options, &work);
    host.run(["worktree", "clean", "--all"]).check();
    repository.git(&["branch", "-q", "-D", "ours"]);
    let second = repository.done(&options, &work);
    host.run(["worktree", "clean", "--all"]).check();
    let id = |task: &Value| task["id"].as_str().unwrap().to_owned();
    host.run(["worktree", "merge", &id(&first)])
        .code(REFUSED)
        .says(&["branch `ours` is not the task's"]);
    host.run(["worktree", "merge", &id(&second)]).check();

    // A task's branch is still recognised as the task's after a person has rewritten its commits.
    failed("three");
    host.run(["worktree", "clean", "--all"]).check();
    repository.git(&["switch", "-q", "claudine/three"]);
    repository.git(&["commit", "-q", "--amend", "-m", "amended"]);
    repository.git(&["switch", "-q", "main"]);
    host.run(["worktree", "merge", "three"]).check();
    let merged = repository.git(&["log", "--format=%s", "main"]);
    assert!(
        merged.lines().any(|subject| subject == "amended"),
        "{merged}"
    );
}

#[test]
fn commit_message_is_the_request_or_the_given_text() {
    let repository = Repository::new();
    let log = |format: &str| repository.git(&["log", "-1", &format!("--format={format}")]);
    let trailer = "%(trailers:key=Claudine-Task,valueonly)";
    let message = "Count in cents\n\nNobody wants fractions.\n\nReviewed-by: Me";
    let options = ["--merge", "auto", "--message", message];
    let task = repository.done(&options, "echo two > file");
    merged(&task, "succeeded", "merged");
    let id = task["id"].as_str().unwrap();
    assert_eq!(log("%B"), format!("{message}\nClaudine-Task: {id}"));
    assert_eq!(log(trailer), id);
    let long = format!("echo three > file # {}", "word ".repeat(40));
    merged(
        &repository.done(&["--merge", "auto"], &long),
        "succeeded",
        "merged",
    );
    let subject = log("%s");
    assert!(subject.starts_with("echo three > file # word"), "{subject}");
    assert!(subject.chars().count() <= 72, "{subject}");
    for message in ["", "a\u{1b}[2Jb"] {
        let options = ["run", "--worktree", "--message", message, "--", "true"];
        repository
            .host
            .run(options)
            .code(USAGE)
            .says(&["the commit message must have text"]);
    }
}
