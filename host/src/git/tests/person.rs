//! A user with settings and a repository, for tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::git::{At, Commit, Git, environment::Variables};

/// A home directory, and the repository `work` in it.
pub(crate) struct Person {
    home: tempfile::TempDir,
}

impl Person {
    /// Makes a user with this `.gitconfig`.
    pub(crate) fn new(config: &str) -> Self {
        let person = Self {
            home: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(person.work()).unwrap();
        person.configure(config);
        person
    }

    /// Makes a user with this `.gitconfig`, whose repository has no commit and is on `main`.
    pub(crate) fn with_repository(config: &str) -> Self {
        let person = Self::new(config);
        person.git(&["init", "-q", "-b", "main"]);
        person
    }

    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.home().join(".gitconfig"), config).unwrap();
    }

    pub(crate) fn home(&self) -> PathBuf {
        fs::canonicalize(self.home.path()).unwrap()
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.home().join("work")
    }

    fn variables(&self, path: OsString) -> Variables {
        let host = [
            ("PATH".into(), path),
            ("HOME".into(), self.home().into_os_string()),
        ];
        Variables::new(host, &BTreeMap::new())
    }

    /// The host's git, run for this user in a directory of the repository.
    pub(crate) fn at(&self, inside: &str) -> Git {
        let variables = self.variables(std::env::var_os("PATH").unwrap());
        Git::new(At::Checkout(self.work().join(inside)), variables)
    }

    /// The host's git, with only the programs in this directory.
    pub(crate) fn with_programs(&self, dir: &Path) -> Git {
        Git::new(At::Checkout(self.work()), self.variables(dir.into()))
    }

    /// Runs git as the user would run it, with only the user's settings.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.work(), arguments)
    }

    /// Runs git as the user would run it in this directory.
    #[track_caller]
    pub(crate) fn git_in(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home())
            .args(["-c", "user.name=P", "-c", "user.email=p@example.org"])
            .args(arguments)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits all files.
    #[track_caller]
    pub(crate) fn commit_all(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    pub(crate) async fn commit(&self, name: &str) -> Commit {
        self.at(".").commit_of(name).await.unwrap().unwrap()
    }
}
