//! Settings of a repository that the host's git does not follow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs};

use super::{repository, somebody};
use crate::git::{Git, Restraint, names, settings::FIXED, spec::Spec};

/// A file that gives each of the fixed settings this value.
fn all_set_to(value: &str) -> String {
    let sections = FIXED.iter().map(|(name, ..)| {
        let (section, key) = name.split_once('.').unwrap();
        format!("[{section}]\n\t{key} = {value}\n")
    });
    sections.collect()
}

/// The settings that git uses in a place. Git prints the names in lower case, and uses the last
/// value of a name.
async fn used(git: &Git) -> BTreeMap<String, String> {
    let spec = Spec::reads(["config", "-z", "--list"]);
    let listed = git.output(&spec);
    let entries = names(&listed.await.unwrap());
    let split = entries.iter().filter_map(|entry| entry.split_once('\n'));
    split
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Among them are those by which a repository could let git start very many processes.
#[tokio::test]
async fn the_fixed_settings_hold_in_a_repository_that_sets_them_itself() {
    let person = somebody("");
    let git_dir = person.work().join(".git");
    fs::write(git_dir.join("included"), all_set_to("8")).unwrap();
    let config = git_dir.join("config");
    let own = fs::read_to_string(&config).unwrap() + &all_set_to("7");
    fs::write(&config, own + "[include]\n\tpath = included\n").unwrap();
    let workers = ["config", "--get", "checkout.workers"];
    assert_eq!(person.git(&workers), "8", "the person's own git");
    for git in [person.at("."), repository(&person)] {
        for restraint in [None, Some(Restraint::OF_A_REQUEST)] {
            let used = used(&git.clone().restrained(restraint)).await;
            for (name, value, _) in FIXED {
                assert_eq!(used[&name.to_lowercase()], *value, "{name}");
            }
        }
    }
}
