//! Settings and hooks of a person, and variables of a task, that would change or block what the
//! host does with git.

use std::{fs, os::unix::fs::symlink};

use claudine_tests::{TestHost, harness::binary, mcp::Client};
use serde_json::json;

use super::{
    COMMIT, REFUSED, Repository, git_in, merged, path_with, program, programs, write_script,
};
use crate::authority::smallest;

/// Settings that change the output of git commands, or make git commands fail or wait if a program
/// runs them.
const SETTINGS: &str = "\
[core]
	fsmonitor = false
	askPass = false
	ignoreStat = true
	splitIndex = true
	quotePath = true
	safecrlf = true
	editor = false
	pager = false
	abbrev = 4
[sequence]
	editor = false
[color]
	ui = always
	status = always
	diff = always
[column]
	ui = always
[status]
	showUntrackedFiles = no
	short = true
	branch = true
	relativePaths = true
	showStash = true
	submoduleSummary = true
[diff]
	noprefix = true
	mnemonicPrefix = true
	relative = true
	external = false
	ignoreSubmodules = all
	renames = copies
	submodule = log
[add]
	ignoreErrors = true
[commit]
	gpgSign = true
	template = /no/such/file
	cleanup = scissors
	verbose = true
[gpg]
	program = false
[i18n]
	commitEncoding = latin1
[merge]
	verifySignatures = true
	autoStash = true
	ff = false
	log = true
	stat = true
[branch \"main\"]
	mergeOptions = --squash --no-commit --signoff
[rerere]
	enabled = true
	autoUpdate = true
[push]
	gpgSign = true
	followTags = true
	pushOption = nobody.knows.it
	default = nothing
	recurseSubmodules = only
[submodule]
	recurse = true
[worktree]
	guessRemote = true
[branch]
	autoSetupMerge = always
	autoSetupRebase = always
[gc]
	auto = 1
[maintenance]
	autoDetach = false
[advice]
	detachedHead = true
[log]
	showSignature = true
";

/// Hooks that git would run for commands that involve no remote.
const HOOKS: &[&str] = &[
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "reference-transaction",
];

#[test]
fn settings_of_a_person_do_not_change_what_the_host_does() {
    let repository = Repository::new();
    let host = &repository.host;
    let remote = host.root().join("remote.git");
    git_in(host, host.root(), &["init", "-q", "--bare", "remote.git"]);
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    repository.git(&["tag", "-a", "-m", "a tag", "annotated"]);
    fs::write(host.home().join(".gitconfig"), SETTINGS).unwrap();

    // The task leaves uncommitted changes, and its title looks like a comment.
    let task = repository.done(
        &["--merge", "auto", "--name", "t"],
        "# größe\necho two > file; echo new > new",
    );
    merged(&task, "succeeded", "merged");
    assert!(!repository.worktree(&task).exists());
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    assert_eq!(fs::read(repository.path().join("new")).unwrap(), b"new\n");
    let raw = repository.git(&["cat-file", "commit", "main"]);
    assert!(
        raw.contains("# größe") && !raw.contains("encoding"),
        "{raw}"
    );
    assert_eq!(repository.git(&["rev-list", "--count", "main"]), "2");

    let script = format!("echo three > file; rm new; printf '\\0\\1' > binary; {COMMIT}");
    let script = script.replace("git -c", "git -c commit.gpgSign=false -c");
    let task = repository.done(&["--merge", "patch"], &script);
    let detail = merged(&task, "succeeded", "written");
    let patch = detail.split(" is the patch").next().unwrap();
    fs::remove_file(host.home().join(".gitconfig")).unwrap();
    repository.git(&["apply", "--index", patch]);
    let branch = task["worktree"]["branch"].as_str().unwrap();
    repository.git(&["diff", "--cached", "--exit-code", branch]);
    repository.git(&["reset", "-q", "--hard"]);
    fs::write(host.home().join(".gitconfig"), SETTINGS).unwrap();

    let task = repository.done(&["--merge", "pr", "--branch", "fix"], "echo four > file");
    let detail = task["merge"]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("branch `fix` is pushed to `origin`"),
        "{detail}"
    );
    let refs = git_in(host, &remote, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/fix", "more than the branch is pushed");

    // Changes are found although these settings hide them from git's own commands.
    let task = repository.done(&[], "echo five > untracked; echo five > file");
    let detail = merged(&task, "succeeded", "left");
    assert!(detail.starts_with("2 files are not committed"), "{detail}");
}

#[test]
fn hooks_run_only_for_a_push() {
    let repository = Repository::new();
    let host = &repository.host;
    let remote = host.root().join("remote.git");
    git_in(host, host.root(), &["init", "-q", "--bare", "remote.git"]);
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let hooks = host.home().join("hooks");
    let refuse = format!(
        "#!/bin/sh\necho \"$0\" >> '{}'\necho not found >&2\nexit 2\n",
        host.home().join("ran").display()
    );
    for name in HOOKS {
        write_script(&hooks.join(name), &refuse);
    }
    let filter = format!("tee -a {}", host.home().join("filtered").display());
    let config = format!(
        "[core]\n\thooksPath = {}\n[filter \"seen\"]\n\tclean = {filter}\n\tsmudge = {filter}\n",
        hooks.display()
    );
    let person = || fs::write(host.home().join(".gitconfig"), &config).unwrap();
    repository.write(".gitattributes", "* filter=seen\n");
    repository.commit("attributes");
    person();
    let task = repository.done(&["--merge", "auto"], "echo two > file");
    merged(&task, "succeeded", "merged");
    assert!(!repository.worktree(&task).exists());
    let filtered = fs::read_to_string(host.home().join("filtered")).unwrap();
    assert!(
        filtered.contains("one\n") && filtered.contains("two\n"),
        "{filtered}"
    );
    assert!(!host.home().join("ran").exists(), "a hook was run");

    // If a hook refuses a push, the push fails.
    fs::remove_file(hooks.join("reference-transaction")).unwrap();
    let asks = format!(
        "'{}' run --name hooked -- true > /dev/null",
        binary().display()
    );
    write_script(
        &hooks.join("pre-push"),
        &refuse.replacen('\n', &format!("\n{asks}\n"), 1),
    );
    let task = repository.done(&["--merge", "pr", "--branch", "fix"], "echo three > file");
    let detail = merged(&task, "failed", "refused");
    assert!(
        detail.starts_with("`git push` failed: not found"),
        "{detail}"
    );
    let ran = fs::read_to_string(host.home().join("ran")).unwrap();
    assert_eq!(ran, format!("{}\n", hooks.join("pre-push").display()));
    assert_eq!(git_in(host, &remote, &["for-each-ref"]), "");
    // A task that the hook submits is a child of the running task, and not a task of the person.
    let hooked = host.finished("hooked");
    let by = json!({"kind": "agent", "task": task["id"], "via": "cli", "restrained": true});
    assert_eq!((&hooked["by"], &hooked["parent"]), (&by, &task["id"]));
}

#[test]
fn refused_commit_names_the_worktree_that_has_the_work() {
    let repository = Repository::new();
    repository.write(".gitattributes", "new filter=no\n");
    repository.commit("attributes");
    repository.git(&["config", "filter.no.clean", "false"]);
    repository.git(&["config", "filter.no.required", "true"]);
    let task = repository.done(&["--merge", "auto", "--branch", "work"], "echo two > new");
    let detail = merged(&task, "failed", "refused");
    let worktree = repository.worktree(&task);
    let place = format!(
        "; the work is in the worktree {} (branch `work`)",
        worktree.display()
    );
    assert!(
        detail.starts_with("`git add` failed: ") && detail.ends_with(&place),
        "{detail}"
    );
    assert_eq!(fs::read(worktree.join("new")).unwrap(), b"two\n");
    let commits = repository.git(&["rev-list", "--count", "main..work"]);
    assert_eq!(commits, "0");
}

#[test]
fn environment_of_a_task_affects_only_the_author_of_the_hosts_commits() {
    let bin = programs(&["git", "sh"]);
    let repository = Repository::with(TestHost::builder().env("PATH", bin.path()));
    let evil = repository.host.home().join("evil");
    write_script(
        &evil.join("git"),
        "#!/bin/sh\ntouch \"$HOME/evil.ran\"\nexit 1\n",
    );
    symlink(program("sh"), evil.join("sh")).unwrap();
    let path = format!("PATH={}", evil.display());
    let home = format!("HOME={}", evil.display());
    let hooks = format!("GIT_CONFIG_VALUE_0={}", evil.display());
    let options = [
        "--merge",
        "auto",
        "--env",
        &path,
        "--env",
        &home,
        "--env",
        "GIT_CONFIG_COUNT=1",
        "--env",
        "GIT_CONFIG_KEY_0=core.hooksPath",
        "--env",
        &hooks,
        "--env",
        "GIT_AUTHOR_NAME=Somebody",
        "--env",
        "GIT_AUTHOR_EMAIL=s@example.org",
    ];
    let task = repository.done(&options, "echo two > file");
    merged(&task, "succeeded", "merged");
    assert!(!evil.join("evil.ran").exists());
    assert!(!repository.host.home().join("evil.ran").exists());
    // The author's name comes from the task's variables.
    let author = repository.git(&["log", "-1", "--format=%an <%ae>"]);
    assert_eq!(author, "Somebody <s@example.org>");
}

/// Git only warns about such a directory and commits the other files, so the directory would be
/// lost with the worktree. The superuser can read every directory, so a script in place of git
/// prints the warning here.
#[test]
fn work_is_not_merged_while_git_cannot_read_a_directory_of_the_worktree() {
    let bin = programs(&[]);
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" status \"*) test ! -e \"$2/data\" || \
         echo \"warning: could not open directory 'data/': Permission denied\" >&2 ;; esac\n\
         exec '{}' \"$@\"\n",
        program("git").display()
    );
    write_script(&bin.path().join("git"), &text);
    let builder = TestHost::builder().env("PATH", path_with(bin.path()));
    let repository = Repository::with(builder);
    let script = "mkdir data; echo work > work";
    let task = repository.done(&["--merge", "auto", "--name", "fix"], script);
    let detail = merged(&task, "failed", "refused");
    let says = "git cannot read the directory 'data/': Permission denied in ";
    assert!(detail.starts_with(says), "{detail}");
    repository.is_untouched();
    let worktree = repository.worktree(&task);
    let list = repository.host.json(["worktree", "list"]);
    let error = list[0]["error"].as_str().unwrap();
    assert!(error.starts_with(says), "{error}");
    fs::remove_dir(worktree.join("data")).unwrap();
    repository.host.run(["worktree", "merge", "fix"]).check();
    assert_eq!(repository.git(&["show", "main:work"]), "work");
}

/// The author is unknown to git then, and the person has forbidden git to guess it.
#[test]
fn work_is_committed_although_only_a_committer_is_known() {
    let repository = Repository::new();
    let settings = "[user]\n\tuseConfigOnly = true\n";
    fs::write(repository.host.home().join(".gitconfig"), settings).unwrap();
    let name = ["--env", "GIT_COMMITTER_NAME=C"];
    let email = ["--env", "GIT_COMMITTER_EMAIL=c@example.org"];
    let options = [&["--merge", "auto"][..], &name, &email].concat();
    let task = repository.done(&options, "echo two > file");
    merged(&task, "succeeded", "merged");
    let names = repository.git(&["log", "-1", "--format=%an, %cn", "main"]);
    assert_eq!(names, "Claudine, C");
}

/// A program that a repository names, and that creates the file `ran` and passes its input on.
fn evil(host: &TestHost) -> String {
    format!("touch {}; cat", host.root().join("ran").display())
}

/// Git runs filters to compare files, and a client can write settings into its own directory.
#[test]
fn host_runs_no_program_of_the_repository_in_which_a_clients_agent_has_worked() {
    let (host, _agent) = smallest();
    let repository = Repository::of(host);
    let host = &repository.host;
    let ran = host.root().join("ran");
    repository.git(&["config", "filter.evil.clean", &evil(host)]);
    repository.git(&["config", "core.fsmonitor", &evil(host)]);
    let attributes = repository.path().join(".git/info/attributes");
    fs::write(attributes, "* filter=evil\n").unwrap();
    repository.write("file", "two\n");
    let mut client = Client::connect(host);
    for dir in [repository.path(), repository.path().join("sub")] {
        let asked = json!({"prompt": "go", "permissionMode": "plan", "workingDirectory": dir});
        let taken = client.call("DelegateTask", asked);
        let task = host.finished(taken["taskId"].as_str().unwrap());
        let git = &task["attempts"][0]["git"];
        assert_eq!(git["branch"], "main", "{task:#}");
        assert_eq!(git["dirty"], json!(["file"]), "{task:#}");
        assert!(!ran.exists(), "{}", dir.display());
    }
    // The person's own git runs it.
    repository.git(&["status"]);
    assert!(ran.exists());
}

/// A client chooses the branch of its worktree, and the files of a branch may be anybody's.
#[test]
fn host_runs_neither_a_file_of_a_branch_nor_a_filter_of_the_repository_for_a_client() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let repository = Repository::with(TestHost::builder().config(config));
    let host = &repository.host;
    let ran = host.root().join("ran");
    repository.git(&["switch", "-q", "-c", "theirs"]);
    repository.write("a-tool.sh", &format!("touch {}\n", ran.display()));
    let attributes = "file filter=tool\nsub/file filter=evil\n";
    repository.write(".gitattributes", attributes);
    repository.commit("tool");
    repository.git(&["switch", "-q", "main"]);
    for part in ["clean", "smudge"] {
        repository.git(&["config", &format!("filter.evil.{part}"), &evil(host)]);
        // A filter of the person for all repositories.
        let own = [
            "config",
            "--global",
            &format!("filter.tool.{part}"),
            "sh a-tool.sh; cat",
        ];
        repository.git(&own);
    }
    repository.git(&["config", "filter.evil.required", "true"]);
    let mut client = Client::connect(host);
    let asked = json!({
        "prompt": "echo two > file; echo two > sub/file", "executor": "shell",
        "useWorktree": true, "baseBranch": "theirs", "mergeStrategy": "patch",
    });
    let taken = client.call("DelegateTask", asked);
    let id = taken["taskId"].as_str().unwrap();
    let task = host.finished(id);
    merged(&task, "succeeded", "written");
    let diff = client.call("TaskDiff", json!({ "taskId": id }));
    let patch = diff["patch"].as_str().unwrap();
    assert_eq!(patch.matches("-one\n+two\n").count(), 2, "{patch}");
    host.run(["worktree", "clean"]).check();
    assert!(!ran.exists());
    // A task of the person has all filters, in the checkout.
    repository.done(&["--base", "theirs"], "true");
    assert!(ran.exists());
}

/// Without the network, an agent could let the host reach a server, or run a program, by a request:
/// the settings that a repository includes may be in a file that the agent writes.
#[test]
fn host_fetches_no_missing_object_for_a_client() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let repository = Repository::with(TestHost::builder().config(config));
    let host = &repository.host;
    let ran = host.root().join("ran");
    // No file of the clone has this content.
    repository.write("file", "old\n");
    repository.commit("old");
    repository.git(&["branch", "old"]);
    repository.write("file", "two\n");
    repository.commit("second");
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    repository.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let url = format!("file://{}", repository.path().display());
    let clone = host.root().join("clone");
    let path = clone.to_str().unwrap();
    repository.git(&["clone", "-q", "--filter=blob:none", &url, path]);
    let included = clone.join("included");
    let own = format!(
        "[remote \"origin\"]\n\tuploadpack = \"touch {}; git-upload-pack\"\n",
        ran.display()
    );
    fs::write(&included, own).unwrap();
    git_in(host, &clone, &["config", "include.path", "../included"]);
    let mut client = Client::connect(host);
    let asked = |base: &str| {
        json!({
            "prompt": "true", "executor": "shell", "workingDirectory": clone,
            "useWorktree": true, "baseBranch": base,
        })
    };
    // Git would ask the remote for an unknown commit.
    let unknown = "0123456789012345678901234567890123456789";
    let complaint = client.fail("DelegateTask", asked(unknown));
    assert!(complaint.contains("is not a branch"), "{complaint}");
    assert!(!ran.exists());
    let taken = client.call("DelegateTask", asked("origin/old"));
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let says = "the repository is a partial clone in which an object is missing";
    assert!(task.to_string().contains(says), "{task:#}");
    assert!(!ran.exists());
    // Nor is one fetched for a task of the person that a client runs again.
    let words = ["--worktree", "--base", "origin/old", "--script", "true"];
    let mut submit = host.command(["run", "--hold"].iter().chain(&words));
    let submitted = submit.current_dir(&clone).output().unwrap();
    let id = String::from_utf8(submitted.stdout).unwrap();
    let id = id.trim();
    host.run(["cancel", id]).check();
    client.call("RetryTask", json!({ "taskId": id }));
    host.run(["release", id]).check();
    let task = host.finished(id);
    assert!(task.to_string().contains(says), "{task:#}");
    assert!(!ran.exists());
    // The person's own git runs it.
    git_in(host, &clone, &["cat-file", "-p", "origin/old:file"]);
    assert!(ran.exists());
}

/// An agent may have written the settings, or the files, by which a filter runs.
#[test]
fn worktree_of_a_person_is_not_shown_to_a_client_if_its_repository_names_filters() {
    let repository = Repository::new();
    let host = &repository.host;
    let ran = host.root().join("ran");
    let task = repository.done(&["--keep-worktree"], "echo two > file");
    let id = task["id"].as_str().unwrap();
    let mut client = Client::connect(host);
    let diff = client.call("TaskDiff", json!({ "taskId": id }));
    let patch = diff["patch"].as_str().unwrap();
    assert!(patch.contains("-one\n+two\n"), "{patch}");
    repository.git(&["config", "filter.evil.clean", &evil(host)]);
    let attributes = repository.path().join(".git/info/attributes");
    fs::write(attributes, "* filter=evil\n").unwrap();
    let complaint = client.fail("TaskDiff", json!({ "taskId": id }));
    assert!(complaint.contains("is not shown to clients"), "{complaint}");
    assert!(!ran.exists());
    let diff = host.text(["diff", id]);
    assert!(diff.contains("-one\n+two"), "{diff}");
    assert!(ran.exists());
}

/// Git follows links when it writes refs and their logs, so it would change files of the person.
#[test]
fn clients_task_changes_nothing_through_links_in_the_repository() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let repository = Repository::with(TestHost::builder().config(config));
    let host = &repository.host;
    let persons = host.root().join("persons");
    fs::create_dir(&persons).unwrap();
    let file = persons.join("profile");
    fs::write(&file, "mine\n").unwrap();
    let logs = repository.path().join(".git/logs/refs/heads");
    fs::create_dir_all(&logs).unwrap();
    symlink(&file, logs.join("appended")).unwrap();
    symlink(&persons, logs.join("removed")).unwrap();
    let mut client = Client::connect(host);
    for branch in ["appended", "removed/profile"] {
        let taken = client.call(
            "DelegateTask",
            json!({
                "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": branch,
            }),
        );
        let task = host.finished(taken["taskId"].as_str().unwrap());
        assert_eq!(task["outcome"], "failed", "{task:#}");
        let says = "is a symbolic link, and git would change what it leads to";
        assert!(task["reason"].to_string().contains(says), "{task:#}");
        assert_eq!(fs::read(&file).unwrap(), b"mine\n");
    }
    // Git of the person follows the links.
    repository.git(&["branch", "appended"]);
    assert_ne!(fs::read(&file).unwrap(), b"mine\n");
}

#[test]
fn request_of_a_client_is_refused_if_its_repository_names_too_many_filters() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let repository = Repository::with(TestHost::builder().config(config));
    let filters: Vec<String> = (0..10_000)
        .map(|number| format!("[filter \"f{number}\"]\n\tclean = cat\n"))
        .collect();
    fs::write(repository.path().join(".git/filters"), filters.concat()).unwrap();
    repository.git(&["config", "include.path", "filters"]);
    let mut client = Client::connect(&repository.host);
    let asked = json!({ "prompt": "true", "executor": "shell", "useWorktree": true });
    let complaint = client.fail("DelegateTask", asked);
    let says = "its settings name 10000 filters, merge drivers or hooks";
    assert!(complaint.contains(says), "{complaint}");
}

#[test]
fn hooks_that_settings_name_do_not_run() {
    let repository = Repository::new();
    let host = &repository.host;
    let ran = host.root().join("ran");
    let set = |name: &str, value: &str| {
        repository.git(&["config", "--global", "--add", name, value]);
    };
    for event in HOOKS {
        set("hook.evil.event", event);
    }
    set("hook.evil.command", &format!("touch {}", ran.display()));
    repository.git(&["commit", "-q", "--allow-empty", "-m", "own"]);
    if !ran.exists() {
        eprintln!("SKIPPED: this git runs no hooks that settings name (2.54 and later do)");
        return;
    }
    fs::remove_file(&ran).unwrap();
    let task = repository.done(&["--merge", "auto"], "echo two > file");
    merged(&task, "succeeded", "merged");
    assert!(!repository.worktree(&task).exists());
    assert!(!ran.exists(), "a hook was run");
}

#[test]
fn host_runs_no_git_in_a_worktree_whose_task_has_replaced_its_repository() {
    let repository = Repository::new();
    let host = &repository.host;
    let ran = host.root().join("ran");
    let ways = [
        "echo \"gitdir: $PWD/x/.git\" > .git",
        "rm .git; mv x/.git .git",
        "rm .git; ln -s x/.git .git",
        "echo \"$PWD/x/.git\" > \"$(git rev-parse --absolute-git-dir)/commondir\"",
    ];
    for way in ways {
        let script = format!(
            "git clone -q {} x; git -C x config filter.evil.clean '{}'; \
             echo '* filter=evil' > .gitattributes; echo two > file; {way}",
            repository.path().display(),
            evil(host)
        );
        let task = repository.done(&["--merge", "patch"], &script);
        let detail = merged(&task, "failed", "refused");
        let says = "is no longer a worktree of its repository";
        assert!(detail.contains(says), "{way}: {detail}");
        let error = task["attempts"][0]["git"]["error"].as_str().unwrap();
        assert!(error.contains(says), "{way}: {error}");
        let id = task["id"].as_str().unwrap();
        for request in [&["diff", id][..], &["worktree", "merge", id]] {
            host.run(request).code(REFUSED).says(&[says]);
        }
        host.run(["worktree", "list"]).check();
        host.run(["worktree", "clean"]).check();
        host.run(["retry", id]).check();
        host.finished(id);
        assert!(!ran.exists(), "{way}");
        // A git that does not check this runs it.
        git_in(host, &repository.worktree(&task), &["status"]);
        assert!(ran.exists(), "{way}");
        fs::remove_file(&ran).unwrap();
    }
}
