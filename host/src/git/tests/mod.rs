//! Tests with the real git.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkouts;
mod commits;
mod foreign;
mod hooks;
mod losses;
mod names;
mod person;
mod restraint;
mod settings;
mod submodules;

pub(crate) use self::person::Person;
use crate::git::{BranchRef, Git, Look, Stamps};

/// A user with a repository that has a branch `main` with `file`, and in which `out/` is ignored.
fn somebody(config: &str) -> Person {
    let person = Person::with_repository(config);
    person.write("file", "one\n");
    person.write(".gitignore", "out/\n");
    person.commit_all("first");
    person
}

fn repository(person: &Person) -> Git {
    person.at(".").in_repository(person.work().join(".git"))
}

/// A worktree beside the repository, on a new branch.
async fn worktree(person: &Person, branch: &str) -> Git {
    let branch = BranchRef::named(branch);
    let commit = person.commit("main").await;
    let repository = repository(person);
    repository
        .make_branch(&branch, &commit, "made")
        .await
        .unwrap();
    let git = repository.in_dir(person.home().join("tree"));
    repository.add_worktree(git.dir(), &commit).await.unwrap();
    git.stand_on(&branch).await.unwrap();
    git
}

async fn look(person: &Person, git: &Git) -> Look {
    let repository = person.work().join(".git");
    git.look(&repository, &Stamps::default()).await.unwrap()
}
