//! `cargo xtask build`: builds the built-in plugins as components, then the host with these
//! components in it.
//!
//! Cargo decides whether anything must be rebuilt, for plugins and the host alike.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use claudine_plugin_build::{BuildRequest, Toolchain, Way};

use crate::{checkout, program, setup};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    Debug,
    /// A debug build that a newcomer waits for and runs once. It takes less time than `Debug`,
    /// because it has no debug information, no data for incremental builds, and fewer optimised
    /// dependencies.
    Demo,
    Release,
}

/// The built-in plugins to put into a host.
#[derive(Clone, Copy)]
enum Plugins<'a> {
    All,
    /// Those with these names.
    Only(&'a [&'a str]),
}

impl Plugins<'_> {
    /// The directory of the components.
    fn folder(self) -> PathBuf {
        match self {
            Self::All => checkout::plugins(),
            Self::Only(names) => checkout::only_plugins(names),
        }
    }

    fn include(self, crate_dir: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| crate_dir.ends_with(name)),
        }
    }
}

/// Dependencies that debug builds optimise because the tests run thousands of tasks and compile
/// many plugins. The profile `Demo` does not optimise them. `serde_json` and `sha2` are not listed:
/// they were compiled with optimisation for `cargo xtask`, and a host that optimises them too can
/// use them, and all crates that depend on them, without compiling them again.
const OPTIMISED_FOR_TESTS: [&str; 12] = [
    "cranelift-codegen",
    "cranelift-frontend",
    "granit-parser",
    "hyper",
    "libsqlite3-sys",
    "mio",
    "regalloc2",
    "serde-saphyr",
    "tokio",
    "wasmtime",
    "wasmtime-environ",
    "wasmtime-internal-cranelift",
];

/// The binary to measure: the file that `CLAUDINE_BIN` names, or a release build if the variable is
/// not set.
pub(crate) fn ready() -> Result<PathBuf> {
    named_or(Profile::Release, Plugins::All)
}

/// The binary for recordings: the file that `CLAUDINE_BIN` names, or a debug build if the variable
/// is not set. A debug build takes a third of a release build's time.
pub(crate) fn to_show() -> Result<PathBuf> {
    named_or(Profile::Demo, Plugins::All)
}

/// Like `to_show`, but a debug build contains only the plugins with these names. It takes some ten
/// seconds to build a further plugin, and a debug build of the host takes as long again to compile
/// the plugin.
pub(crate) fn to_show_with(plugins: &[&str]) -> Result<PathBuf> {
    named_or(Profile::Demo, Plugins::Only(plugins))
}

fn named_or(profile: Profile, plugins: Plugins<'_>) -> Result<PathBuf> {
    match env::var_os("CLAUDINE_BIN") {
        Some(path) => {
            fs::canonicalize(&path).with_context(|| format!("CLAUDINE_BIN is {}", path.display()))
        }
        None => host_and(profile, plugins, &[]),
    }
}

/// Builds the plugins and the host; returns the path of the binary.
pub(crate) fn host(profile: Profile) -> Result<PathBuf> {
    host_and(profile, Plugins::All, &[])
}

/// Builds the plugins, the host and these programs of this package for a measurement.
pub(crate) fn host_and_programs(programs: &[&str]) -> Result<PathBuf> {
    host_and(Profile::Release, Plugins::All, programs)
}

/// Builds the plugins and the host together with other programs of this package. All are built in
/// one run, because the features of a dependency follow from everything that is built together;
/// separate runs would compile the dependency twice.
fn host_and(profile: Profile, plugins: Plugins<'_>, programs: &[&str]) -> Result<PathBuf> {
    eprintln!("Step 1 of 2: the built-in plugins, for WebAssembly");
    components(plugins)?;
    eprintln!("Step 2 of 2: the host (from nothing, some four hundred crates)");
    let mut cargo = program::cargo(["build", "--package", "claudine", "--bin", "claudine"]);
    match profile {
        Profile::Release => _ = cargo.arg("--release"),
        Profile::Debug => {}
        Profile::Demo => {
            cargo
                .env("CARGO_PROFILE_DEV_DEBUG", "none")
                .env("CARGO_INCREMENTAL", "0");
            for name in OPTIMISED_FOR_TESTS {
                let plain = format!("profile.dev.package.{name}.opt-level=0");
                cargo.args(["--config", &plain]);
            }
        }
    }
    if !programs.is_empty() {
        cargo.args(["--package", "xtask", "--features", "xtask/bench"]);
    }
    for name in programs {
        cargo.args(["--bin", name]);
    }
    program::run(cargo.env("CLAUDINE_PLUGINS", plugins.folder()))?;
    let folder = match profile {
        Profile::Debug | Profile::Demo => "debug",
        Profile::Release => "release",
    };
    let binary = checkout::target().join(folder).join("claudine");
    eprintln!("built {}", binary.display());
    Ok(binary)
}

/// Builds the built-in plugins into `target/plugins`.
pub(crate) fn plugins() -> Result<()> {
    components(Plugins::All)
}

/// Builds these plugins into their directory, and installs a missing toolchain for WebAssembly.
fn components(plugins: Plugins<'_>) -> Result<()> {
    let say = &mut |said: &str| eprintln!("{said}");
    let toolchain = toolchain(say)?;
    for crate_dir in built_in()? {
        if !plugins.include(&crate_dir) {
            continue;
        }
        let request = BuildRequest {
            out_dir: plugins.folder(),
            target_dir: checkout::target().join("wasm"),
            release: true,
            crate_dir,
        };
        let built = claudine_plugin_build::build(&request, &toolchain, say);
        let built =
            built.with_context(|| format!("cannot build {}", request.crate_dir.display()))?;
        let changed = if built.changed { "built" } else { "unchanged" };
        eprintln!(
            "{changed}: {}, {} KiB",
            built.component.display(),
            built.size_bytes / 1024
        );
    }
    Ok(())
}

/// The test that is skipped without Debian's Rust, and the command that installs what it needs.
pub(crate) fn left_out_without_debians_rust() -> Option<&'static str> {
    let debian = Path::new("/etc/debian_version").exists();
    let found = Toolchain::find(&checkout::root(), &[Way::Distribution], &mut |_| ()).is_ok();
    (debian && !found)
        .then_some("debians_rust_gives_the_same_imports: apt-get install rustc-web rust-web-src")
}

/// The machine's toolchain for WebAssembly; if it has none, Debian's packages are installed.
fn toolchain(say: &mut dyn FnMut(&str)) -> Result<Toolchain> {
    let root = checkout::root();
    if let Ok(found) = Toolchain::find(&root, &Way::USUAL, say) {
        return Ok(found);
    }
    setup::apt(&["rustc-web", "rust-web-src"])?;
    Ok(Toolchain::find(&root, &Way::USUAL, say)?)
}

/// The crates of the built-in plugins: every directory of `plugins/`.
fn built_in() -> Result<Vec<PathBuf>> {
    let dir = checkout::root().join("plugins");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut crates = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("plugin.toml").is_file() {
            crates.push(path);
        }
    }
    crates.sort();
    Ok(crates)
}
