//! Preparations that take long, or never end, beside other work on the same repository.

use std::{fs, net::TcpListener};

use claudine_tests::{TestHost, mcp::Client, wait_for};
use serde_json::{Value, json};

use super::{COMMIT, Repository, merged, path_with, program, programs, write_script};

const CONFIG: &str = "[mcp]\nexecutors = [\"shell\"]\n";

/// Commits, on a branch of this name, a submodule that is fetched from this URL.
fn commit_submodule(repository: &Repository, branch: &str, url: &str) {
    repository.git(&["switch", "-q", "-c", branch]);
    let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}\n");
    repository.write(".gitmodules", &modules);
    repository.git(&["add", ".gitmodules"]);
    let entry = "160000,0123456789012345678901234567890123456789,lib";
    repository.git(&["update-index", "--add", "--cacheinfo", entry]);
    repository.git(&["commit", "-q", "-m", "a submodule"]);
    repository.git(&["switch", "-q", "main"]);
}

/// A client requests a task in a worktree of this base. Returns the id of the task.
fn delegated(client: &mut Client, base: &str) -> String {
    let asked = json!({
        "prompt": "true", "executor": "shell", "useWorktree": true, "baseBranch": base,
        "mergeStrategy": "manual",
    });
    let taken = client.call("DelegateTask", asked);
    taken["taskId"].as_str().unwrap().to_owned()
}

/// Checks that the worktree of the task is still being made, and that a task of a person in the
/// same repository is carried out and merged meanwhile.
fn goes_on_beside(repository: &Repository, id: &str) {
    let host = &repository.host;
    let task = repository.done(&["--merge", "auto"], &format!("echo two > file; {COMMIT}"));
    merged(&task, "succeeded", "merged");
    let listed = host.json(["worktree", "list"]);
    let listed = listed.as_array().unwrap();
    let is_listed = |one: &Value| one["task"].as_str() == Some(id);
    assert!(!listed.iter().any(is_listed), "{listed:#?}");
    host.run(["worktree", "clean"]).check();
    assert_eq!(host.status(id)["phase"], "preparing");
}

/// A few kilobytes can describe any number of files.
#[test]
fn other_work_on_a_repository_does_not_wait_while_files_are_checked_out() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.git(&["switch", "-q", "-c", "slow"]);
    repository.slow_checkout();
    repository.git(&["switch", "-q", "main"]);
    let id = repository.submit(&["--base", "slow"], "cat slow");
    repository.reached();
    goes_on_beside(&repository, &id);
    repository.go();
    let task = host.finished(&id);
    merged(&task, "succeeded", "nothing");
    assert_eq!(task["output"], "slow\n", "{task:#}");
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
}

#[test]
fn other_work_on_a_repository_does_not_wait_for_a_server_that_never_answers() {
    let builder = TestHost::builder().env("no_proxy", "127.0.0.1");
    let repository = Repository::with(builder.config(CONFIG));
    let host = &repository.host;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}/lib.git", server.local_addr().unwrap());
    commit_submodule(&repository, "hanging", &url);
    let mut client = Client::connect(host);
    let id = delegated(&mut client, "hanging");
    let _connection = wait_for("git to connect", || server.accept().ok());
    goes_on_beside(&repository, &id);
    host.run(["cancel", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert!(!repository.worktree(&task).exists());
    assert_eq!(repository.branches(), ["hanging", "main"]);
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
}

#[test]
fn git_waits_less_long_for_the_servers_of_submodules_of_a_clients_task() {
    let bin = programs(&[]);
    let notes = bin.path().join("notes");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' submodule --quiet update '*)\n\
         ssh=$('{git}' config core.sshCommand)\n\
         echo \"$GIT_HTTP_LOW_SPEED_LIMIT $GIT_HTTP_LOW_SPEED_TIME $ssh\" >> '{notes}'\n\
         esac\nexec '{git}' \"$@\"\n",
        git = program("git").display(),
        notes = notes.display(),
    );
    write_script(&bin.path().join("git"), &script);
    let builder = TestHost::builder().env("PATH", path_with(bin.path()));
    let repository = Repository::with(builder.config(CONFIG));
    let host = &repository.host;
    let nowhere = host.root().join("nowhere");
    commit_submodule(&repository, "nowhere", nowhere.to_str().unwrap());
    let mut client = Client::connect(host);
    let noted = |id: &str| {
        let task = host.finished(id);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        let lines = fs::read_to_string(&notes).unwrap();
        fs::remove_file(&notes).unwrap();
        lines.lines().next().unwrap().to_owned()
    };
    let ours =
        "1000 120 ssh -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=2";
    assert_eq!(noted(&delegated(&mut client, "nowhere")), ours);
    // What the repository says does not count.
    repository.git(&["config", "core.sshCommand", "ssh -v"]);
    assert_eq!(noted(&delegated(&mut client, "nowhere")), ours);
    repository.git(&["config", "--unset", "core.sshCommand"]);
    // A command of the person may know other options.
    let own = ["config", "--global", "core.sshCommand", "ssh -i key"];
    repository.git(&own);
    let of_client = noted(&delegated(&mut client, "nowhere"));
    assert_eq!(of_client, "1000 120 ssh -i key");
    let of_person = noted(&repository.submit(&["--base", "nowhere"], "true"));
    assert_eq!(of_person, "  ssh -i key");
}
