//! The environment that a task gets from the command that submits it.

use std::{collections::BTreeMap, env};

use super::output;
use crate::{
    app::Environment,
    bounds::Bounds,
    config::{self, is_variable_name},
};

/// Variables kept by `--env-clean`. They are enough to find programs, the home directory and the
/// language. `CLAUDINE_ATTEMPT` is kept because it shows the host which attempt submits the task.
const MINIMAL: [&str; 10] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TERM",
    "TMPDIR",
    "CLAUDINE_ATTEMPT",
];

/// The variables of this process (if `clean` is set, only the minimal ones), its umask and its
/// resource limits. Variables that are not valid UTF-8 cannot be stored with the task, and a host
/// refuses names with control characters, so both are left out, and a note names them.
pub(in crate::api) fn of_this_process(clean: bool) -> Environment {
    let mut base = BTreeMap::new();
    let mut left_out = Vec::new();
    for (name, value) in env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), _) if clean && !MINIMAL.contains(&name.as_str()) => {}
            (Ok(name), Ok(value)) if is_variable_name(&name) => {
                base.insert(name, value);
            }
            (Ok(name), _) => left_out.push(name),
            (Err(name), _) => left_out.push(name.to_string_lossy().into_owned()),
        }
    }
    if !left_out.is_empty() {
        let left_out = left_out.join(", ");
        output::say(&format!(
            "note: these variables are not valid UTF-8 or have control characters in their names, and are left out of the task's environment: {}",
            left_out.escape_debug()
        ));
    }
    base.extend(config::process_umask().map(|umask| (config::UMASK.to_owned(), umask)));
    base.insert(
        config::BOUNDS.to_owned(),
        Bounds::of_this_process().to_string(),
    );
    Environment {
        base,
        set: BTreeMap::new(),
    }
}
