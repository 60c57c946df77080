//! Merges of files that have merge drivers.

use std::fs;

use claudine_tests::TestHost;

use super::{Repository, merged, path_with, program, programs, until_exists, write_script};

#[test]
fn merge_drivers_of_the_base_decide_how_files_are_merged() {
    drivers_of_the_base_decide(&Repository::new());
}

/// An old git reads attributes only from the files of a checkout.
#[test]
fn merge_drivers_of_the_base_decide_with_an_old_git_too() {
    let bin = programs(&[]);
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" version \"*) echo git version 2.39.5 ;; \
         *) exec '{}' \"$@\" ;; esac\n",
        program("git").display()
    );
    write_script(&bin.path().join("git"), &text);
    let builder = TestHost::builder().env("PATH", path_with(bin.path()));
    drivers_of_the_base_decide(&Repository::with(builder));
}

/// The drivers decide as in a merge by a person, and run below a supervisor, like every process
/// that git starts.
#[track_caller]
fn drivers_of_the_base_decide(repository: &Repository) {
    let host = &repository.host;
    let (driver, chain) = (host.root().join("driver"), host.root().join("chain"));
    // The driver records the processes above it, and keeps the lines of both sides.
    let text = format!(
        "#!/bin/sh\npid=$$\nwhile test \"$pid\" -gt 1; do echo \"$pid\"; \
         pid=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' \"/proc/$pid/stat\"); done > {}\n\
         sort -u \"$1\" \"$2\" > \"$1.new\" && mv \"$1.new\" \"$1\"\n",
        chain.display()
    );
    write_script(&driver, &text);
    let command = format!("{} %A %B", driver.display());
    repository.git(&["config", "merge.sorted.driver", &command]);
    let attributes = "lock merge=sorted\nlist merge=union\n";
    repository.write(".gitattributes", attributes);
    for file in ["lock", "list"] {
        repository.write(file, "0\n");
    }
    repository.commit("attributes");

    let go = host.root().join("go");
    let both = |name: &str, script: &str, files: &[&str]| {
        let waits = until_exists(&go);
        let options = ["--merge", "auto", "--name", name];
        let id = repository.submit(&options, &format!("{script}; {waits}"));
        host.live(&id);
        for file in files {
            repository.write(file, &format!("0\nmine {name}\n"));
        }
        repository.commit("mine");
        fs::write(&go, "").unwrap();
        let task = host.finished(&id);
        fs::remove_file(&go).unwrap();
        task
    };
    let script = "echo theirs >> lock; echo theirs >> list";
    let task = both("one", script, &["lock", "list"]);
    merged(&task, "succeeded", "merged");
    let read = |file: &str| fs::read_to_string(repository.path().join(file)).unwrap();
    assert_eq!(read("lock"), "0\nmine one\ntheirs\n");
    assert_eq!(read("list"), "0\nmine one\ntheirs\n");
    repository.is_untouched();
    let above = fs::read_to_string(&chain).unwrap();
    let above: Vec<u32> = above.lines().map(|pid| pid.parse().unwrap()).collect();
    let supervisors = host.supervisor_pids();
    assert!(
        above.iter().any(|pid| supervisors.contains(pid)),
        "{above:?} {supervisors:?}"
    );

    // Attributes that the task itself adds do not resolve its conflicts.
    let script = "echo 'file merge=union' >> .gitattributes; echo theirs > file";
    let task = both("two", script, &["file"]);
    let detail = merged(&task, "failed", "conflict");
    assert!(
        detail.contains("conflicts with `main` in file;"),
        "{detail}"
    );
    repository.is_untouched();
}
