//! Finds public functions that are never called, because their names occur nowhere else. The
//! compiler finds such functions within a package, but not across packages, and not always
//! `pub(crate)` functions of a library.

use std::collections::HashMap;

use crate::{nothing, scan::words, sources};

#[test]
fn public_functions_have_a_caller() {
    let sources = sources::all();
    let mut mentions: HashMap<&str, usize> = HashMap::new();
    for source in &sources {
        // The text includes documentation, because an example in documentation is a use.
        for (_, word) in words(&source.text) {
            *mentions.entry(word).or_default() += 1;
        }
    }
    let mut breaches = Vec::new();
    for source in &sources {
        for (at, name) in words(&source.code) {
            let line_start = source.code[..at]
                .rfind('\n')
                .map_or(0, |newline| newline + 1);
            let before = source.code[line_start..at].trim_start();
            let public = before.starts_with("pub ") || before.starts_with("pub(");
            if public && before.ends_with("fn ") && mentions.get(name) == Some(&1) {
                breaches.push(source.breach(at, format!("`{name}` is never called")));
            }
        }
    }
    nothing("a public function must have a caller", &breaches);
}
