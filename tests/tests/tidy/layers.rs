//! Allowed dependencies between layers. The table defines the architecture: `domain ← store ←
//! engine ← app ← api ← lib`, in which each layer may be used by the next. `supervise` and `plugin`
//! do not use the queue; `attempt` connects them with the engine.

use crate::{
    nothing,
    scan::words,
    sources::{self, Breach, Source},
};

/// The ground: modules that any layer may use, and that themselves use only each other.
const GROUND: &[&str] = &[
    "accounts",
    "allocator",
    "aside",
    "ballast",
    "bounds",
    "clock",
    "command",
    "config",
    "digest",
    "environment",
    "fsx",
    "git",
    "identity",
    "inherited",
    "kept",
    "layout",
    "lock",
    "moment",
    "narrowed",
    "panics",
    "proc_stat",
    "random",
    "restored",
    "stdout",
    "telemetry",
    "text",
    "ulimits",
    "units",
    "zone",
];

/// The other layers of the host, each with the layers that it may use besides itself and the
/// ground.
const LAYERS: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("ceiling", &["store"]),
    ("supervise", &[]),
    ("plugin", &[]),
    ("engine", &["store"]),
    // The layers `sample` and `retention` implement ports of the engine.
    ("sample", &["engine"]),
    ("retention", &["engine", "store"]),
    ("transcript", &["plugin", "supervise"]),
    ("checkpoint", &["store", "transcript", "supervise"]),
    ("worktree", &[]),
    (
        "attempt",
        &[
            "ceiling",
            "checkpoint",
            "engine",
            "plugin",
            "store",
            "supervise",
            "transcript",
            "worktree",
        ],
    ),
    (
        "app",
        &[
            "ceiling",
            "checkpoint",
            "engine",
            "plugin",
            "store",
            "supervise",
            "transcript",
            "worktree",
        ],
    ),
    ("api", &["app"]),
];

/// The modules that connect the layers, and so may use all of them.
const WIRING: &[&str] = &[
    "host/src/lib.rs",
    "host/src/main.rs",
    "host/src/serve.rs",
    "host/src/serve/claim.rs",
    "host/src/serve/error.rs",
    "host/src/serve/offline.rs",
    "host/src/serve/parts.rs",
    "host/src/serve/socket.rs",
];

/// Uses outside the table, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// External crates, each with the only places that may use it.
const AT_HOME: &[(&str, &[&str])] = &[
    ("rusqlite", &["host/src/store/sqlite"]),
    ("wasmtime", &["host/src/plugin/"]),
    ("wasmtime_wasi", &["host/src/plugin/"]),
    ("clap", &["host/src/api/cli"]),
    ("clap_complete", &["host/src/api/cli"]),
    ("clap_mangen", &["host/src/api/cli"]),
    ("crossterm", &["host/src/api/cli/top"]),
    ("ratatui_core", &["host/src/api/cli/top"]),
    ("rmcp", &["host/src/api/mcp", "xtask/"]),
    ("axum", &["host/src/api/rest", "tests/src/messages_api"]),
    (
        "hyper",
        &[
            "host/src/api/rest",
            "host/src/api/client",
            "tests/src/messages_api",
        ],
    ),
    ("sysinfo", &["host/src/sample"]),
    ("dugong", &["host/src/app/graph/svg"]),
];

/// Names that the domain must not use, since it has no clock, no input, no output and no threads.
const NOT_IN_DOMAIN: &[&str] = &[
    "tokio",
    "tracing",
    "std::fs",
    "std::env",
    "std::net",
    "std::io",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "async",
];

#[test]
fn each_layer_uses_only_the_layers_below_it() {
    let mut breaches = Vec::new();
    for source in sources::below("host/src/")
        .iter()
        .filter(|source| !WIRING.contains(&source.path.as_str()))
    {
        let own = source
            .path
            .trim_start_matches("host/src/")
            .split(['/', '.'])
            .next()
            .unwrap();
        let Some(allowed) = allowed(own) else {
            breaches.push(source.breach(0, "belongs to no layer of the table"));
            continue;
        };
        for (at, module) in modules_named(source) {
            let known = allowed.contains(&module.as_str())
                || GROUND.contains(&module.as_str())
                || module == own;
            let excepted = EXCEPTIONS
                .iter()
                .any(|(file, used, _)| source.path == *file && module == *used);
            if !known && !excepted && !source.is_test(at) {
                breaches.push(source.breach(
                    at,
                    format!(
                        "`{own}` uses `crate::{module}`; besides the ground it may use {allowed:?}"
                    ),
                ));
            }
        }
    }
    nothing(
        "a layer may use only the layers below it (the table is in tests/tests/tidy/layers.rs)",
        &breaches,
    );
}

/// Layers that a layer may use; `None` if the table lacks it.
fn allowed(layer: &str) -> Option<&'static [&'static str]> {
    if GROUND.contains(&layer) {
        return Some(&[]);
    }
    LAYERS
        .iter()
        .find(|(name, _)| *name == layer)
        .map(|(_, allowed)| *allowed)
}

#[test]
fn listed_external_crates_are_used_only_in_their_places() {
    let mut breaches = Vec::new();
    for source in sources::all() {
        for (at, word) in words(&source.code) {
            let Some((name, homes)) = AT_HOME.iter().find(|(name, _)| *name == word) else {
                continue;
            };
            // A path or a `use` names the crate; a variable of the same name does not matter.
            let is_path = source.code[at + word.len()..].starts_with("::")
                || source.code[..at].ends_with("use ");
            if is_path && !homes.iter().any(|home| source.path.starts_with(home)) {
                breaches.push(source.breach(at, format!("`{name}` belongs in {homes:?}")));
            }
        }
    }
    nothing(
        "an external crate may be used only in the folder that wraps it",
        &breaches,
    );
}

#[test]
fn domain_has_no_clock_input_output_or_async_code() {
    let mut breaches = Vec::new();
    for source in sources::below("host/domain/src/") {
        for name in NOT_IN_DOMAIN {
            let places = source
                .places(name)
                .filter(|at| is_whole_word(&source, *at, name));
            breaches
                .extend(places.map(|at| source.breach(at, format!("the domain names `{name}`"))));
        }
    }
    nothing(
        "the domain must have no clock, no input or output, and no async code",
        &breaches,
    );
}

fn is_whole_word(source: &Source, at: usize, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !source.code[..at].ends_with(is_word) && !source.code[at + name.len()..].starts_with(is_word)
}

/// Top-level modules of the host that a file uses, through `crate::…` or enough `super::` to reach
/// the root.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        if !source.code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            found.extend(
                heads(&source.code[at + "crate::".len()..])
                    .into_iter()
                    .map(|module| (at, module)),
            );
        }
    }
    let up = "super::".repeat(depth(&source.path));
    for (at, _) in source.code.match_indices(&up) {
        let rest = &source.code[at + up.len()..];
        if !source.code[..at].ends_with("super::") && !rest.starts_with("super::") {
            found.extend(heads(rest).into_iter().map(|module| (at, module)));
        }
    }
    // Types of lib.rs itself, whose names begin with a capital letter, are not modules.
    found.retain(|(_, module)| module.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

/// Number of `super::` from a file of the host to the root of its crate.
fn depth(path: &str) -> usize {
    let inside = path
        .trim_start_matches("host/src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    inside.split('/').count()
}

/// First name of a path, or of each path in a group.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut depth = 0;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => members.push(String::new()),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        members.last_mut().unwrap().push(c);
    }
    members
        .iter()
        .map(|member| name(member.trim_start_matches(',')))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn used_modules_are_parsed_from_paths() {
    let check = |path: &str, expected: &[&str]| assert_eq!(heads(path), expected, "{path}");
    check("store::Store;", &["store"]);
    check(
        "{clock::Clock, engine::{self, port::{A, B}}, store};",
        &["clock", "engine", "store"],
    );
    check("{\n    app,\n    config::Config,\n}", &["app", "config"]);
    let breaches: [Breach; 0] = [];
    nothing("an empty list is no failure", &breaches);
}
