//! The memory that the host's git may have.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use claudine_tests::{TestHost, mcp::Client};
use serde_json::json;

use super::{Repository, path_with, program, programs, write_script};

/// The limits of memory in KiB, as `ulimit -d` prints them.
const OF_A_REQUEST: &str = "1048576";
const OF_A_PREPARATION: &str = "2097152";

/// A git that notes the limit of memory with which each of its commands runs.
struct Noting {
    notes: PathBuf,
}

impl Noting {
    /// Makes the git in this directory, which comes first in the `PATH` of the host.
    fn within(dir: &Path) -> Self {
        let notes = dir.join("notes");
        let script = format!(
            "#!/bin/sh\necho \"$(ulimit -d) $*\" >> '{}'\nexec '{}' \"$@\"\n",
            notes.display(),
            program("git").display()
        );
        write_script(&dir.join("git"), &script);
        Self { notes }
    }

    /// The limits of the commands whose arguments contain these words, since the last call.
    fn limits_of(&self, words: &str) -> BTreeSet<String> {
        let notes = fs::read_to_string(&self.notes).unwrap();
        fs::remove_file(&self.notes).unwrap();
        let words = format!(" {words} ");
        let noted = notes.lines().filter(|line| line.contains(&words));
        let limits = noted.filter_map(|line| Some(line.split_once(' ')?.0.to_owned()));
        limits.collect()
    }
}

/// The same limit for all commands.
fn only(limit: &str) -> BTreeSet<String> {
    BTreeSet::from([limit.to_owned()])
}

/// A repository that anybody may have made decides how much memory git needs.
#[test]
fn git_has_a_limit_of_memory_for_requests_and_while_it_prepares_a_worktree_of_a_client() {
    let bin = programs(&[]);
    let noting = Noting::within(bin.path());
    let builder = TestHost::builder().env("PATH", path_with(bin.path()));
    let repository = Repository::with(builder.config("[mcp]\nexecutors = [\"shell\"]\n"));
    let host = &repository.host;
    // Nothing is prepared yet while the request is examined.
    host.run(["pause"]).check();
    let mut client = Client::connect(host);
    let asked = json!({"prompt": "true", "executor": "shell", "useWorktree": true});
    let taken = client.call("DelegateTask", asked);
    assert_eq!(noting.limits_of("rev-parse"), only(OF_A_REQUEST));
    host.run(["unpause"]).check();
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(noting.limits_of("worktree add"), only(OF_A_PREPARATION));
    // The repositories of a person may need more.
    repository.done(&[], "true");
    let of_person = noting.limits_of("worktree add");
    assert!(
        !of_person.is_empty() && !of_person.contains(OF_A_PREPARATION),
        "{of_person:?}"
    );
}
