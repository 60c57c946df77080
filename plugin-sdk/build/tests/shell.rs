//! Builds the shell executor as somebody outside would, and looks at what came out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use claudine_plugin_build::{BuildRequest, Built, Manifest, Toolchain, Way, build};

fn build_shell(out_dir: &Path, target: &str, ways: &[Way]) -> Built {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let request = BuildRequest {
        crate_dir: root.join("plugins/shell"),
        out_dir: out_dir.to_owned(),
        target_dir: root.join("target").join(target),
        release: true,
    };
    let mut say = |line: &str| eprintln!("{line}");
    let toolchain = Toolchain::find(&request.crate_dir, ways, &mut say).unwrap();
    build(&request, &toolchain, &mut say).unwrap()
}

#[test]
fn the_shell_executor_can_reach_nothing_but_the_contract() {
    let out = tempfile::tempdir().unwrap();
    let built = build_shell(out.path(), "plugins", &Way::ALL);
    assert_eq!(
        built.imports,
        [
            "claudine:plugin/log@0.1.0",
            "claudine:plugin/process@0.1.0",
            "claudine:plugin/types@0.1.0",
        ]
    );
    assert!(built.changed);

    let manifest = fs::read_to_string(out.path().join("shell.toml")).unwrap();
    assert_eq!(Manifest::parse(&manifest).unwrap(), built.manifest);
    let digests = fs::read_to_string(out.path().join("shell.sha256")).unwrap();
    assert!(
        digests.starts_with(&format!("{}  shell.wasm\n", built.digest)),
        "{digests}"
    );
    let component = fs::read(&built.component).unwrap();
    assert_eq!(component.len() as u64, built.size_bytes);
    let home = std::env::var("HOME").unwrap();
    assert!(
        !String::from_utf8_lossy(&component).contains(&format!("{home}/")),
        "a path of this machine"
    );

    let again = build_shell(out.path(), "plugins", &Way::ALL);
    assert!(!again.changed, "a second build touches nothing");
    assert_eq!(again.digest, built.digest);
}
