//! Builds plugins as their authors do, and checks the results.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use claudine_plugin_build::{BuildRequest, Built, Manifest, Toolchain, ToolchainError, Way, build};

/// The directory that `cargo xtask build` uses, so that a test compiles only changes.
const TARGET_DIR: &str = "target/wasm";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn build_plugin(dir: &str, out_dir: &Path) -> Built {
    build_with(&Way::USUAL, TARGET_DIR, dir, out_dir)
}

fn build_with(ways: &[Way], target_dir: &str, dir: &str, out_dir: &Path) -> Built {
    let request = BuildRequest {
        crate_dir: root().join(dir),
        out_dir: out_dir.to_owned(),
        target_dir: root().join(target_dir),
        release: true,
    };
    let mut say = |line: &str| eprintln!("{line}");
    let toolchain = Toolchain::find(&request.crate_dir, ways, &mut say)
        .unwrap_or_else(|error| panic!("{error}\n{}", ToolchainError::HINT));
    let built = build(&request, &toolchain, &mut say).unwrap();
    say(&format!(
        "{}: {} bytes",
        built.component.display(),
        built.size_bytes
    ));
    built
}

fn has(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

#[test]
fn shell_executor_imports_only_what_it_uses() {
    let out = tempfile::tempdir().unwrap();
    let built = build_plugin("plugins/shell", out.path());
    let expected =
        ["children", "log", "process", "types"].map(|name| format!("claudine:plugin/{name}@0.1.0"));
    assert_eq!(built.imports, expected);
}

#[test]
fn plugin_consists_of_component_manifest_and_digests() {
    let out = tempfile::tempdir().unwrap();
    let built = build_plugin("plugins/mock", out.path());
    assert!(built.changed);
    let component = has(out.path(), "mock.wasm");
    assert_eq!(component.len() as u64, built.size_bytes);
    let manifest = String::from_utf8(has(out.path(), "mock.toml")).unwrap();
    assert_eq!(Manifest::parse(&manifest).unwrap(), built.manifest);
    let digests = String::from_utf8(has(out.path(), "mock.sha256")).unwrap();
    assert!(
        digests.starts_with(&format!("{}  mock.wasm\n", built.digest)),
        "{digests}"
    );
    assert!(digests.ends_with("  mock.toml\n"), "{digests}");

    let home = format!("{}/", std::env::var("HOME").unwrap());
    assert!(
        !String::from_utf8_lossy(&component).contains(&home),
        "the component contains a path of this machine"
    );

    let again = build_plugin("plugins/mock", out.path());
    assert!(!again.changed, "the second build changed a file");
    assert_eq!(again.digest, built.digest);
}

#[test]
fn example_builds_outside_the_workspace() {
    let out = tempfile::tempdir().unwrap();
    let built = build_plugin("examples/custom-executor", out.path());
    assert_eq!(built.manifest.name, "make");
    assert!(built.component.ends_with("make.wasm"));
}

/// Skipped if Debian's Rust is not installed; the table of `cargo xtask test` then says so.
#[test]
fn debians_rust_gives_the_same_imports() {
    let mut say = |line: &str| eprintln!("{line}");
    if let Err(error) = Toolchain::find(&root(), &[Way::Distribution], &mut say) {
        eprintln!("skipped: {error}");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let built = build_with(
        &[Way::Distribution],
        "target/wasm-debian",
        "plugins/shell",
        out.path(),
    );
    let expected = build_plugin("plugins/shell", &out.path().join("usual"));
    assert_eq!(built.imports, expected.imports);
}
