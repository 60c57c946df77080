//! Runs cargo, and finds the module in its report.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::BuildError;
use crate::request::BuildRequest;
use crate::toolchain::{TARGET, Toolchain};

/// Profile for building plugins. It is set on the command line, so plugin authors need none in
/// their `Cargo.toml`. Function names are kept, because a trap's backtrace is useless without them.
const PROFILE: [&str; 7] = [
    "profile.plugin.inherits='release'",
    "profile.plugin.opt-level='s'",
    // Without this, levels that a workspace gives its dependencies for a release would apply.
    "profile.plugin.package.'*'.opt-level='s'",
    "profile.plugin.lto=true",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic='abort'",
    "profile.plugin.strip='debuginfo'",
];

/// A module that cargo built or found unchanged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    pub(crate) package_version: String,
}

/// Builds the crate; cargo's messages go to standard error as they come.
pub(crate) fn run(request: &BuildRequest, toolchain: &Toolchain) -> Result<Module, BuildError> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = command(request, toolchain, &program);
    let cannot_start = |source| BuildError::Program {
        program: PathBuf::from(&program),
        source,
    };
    let mut child = cargo.spawn().map_err(cannot_start)?;
    let module = child
        .stdout
        .take()
        .map(|pipe| find_module(BufReader::new(pipe)));
    let status = child.wait().map_err(cannot_start)?;
    if !status.success() {
        return Err(BuildError::Cargo { status });
    }
    module.flatten().ok_or(BuildError::NoModule)
}

fn command(request: &BuildRequest, toolchain: &Toolchain, program: &OsString) -> Command {
    let mut cargo = Command::new(program);
    cargo
        .args([
            "build",
            "--lib",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(&request.target_dir)
        .current_dir(&request.crate_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Flags for this machine's processor are useless for WebAssembly, or break the build.
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(cargo_home()));
    if request.release {
        cargo.args(["--profile", "plugin"]);
        for setting in PROFILE {
            cargo.args(["--config", setting]);
        }
    }
    toolchain.apply(&mut cargo);
    cargo
}

/// Initial memory of an instance, in bytes, which the SDK's allocator uses first. Pages that are
/// not written to cost nothing.
const INITIAL_HEAP: u32 = 512 << 10;

/// Compiler flags. Panic messages contain paths of source files. In the paths of dependencies,
/// cargo's directory is replaced by `/cargo`, so that the component is the same wherever it is
/// built.
fn flags(cargo_home: Option<PathBuf>) -> OsString {
    // Separator of flags in this variable.
    const NEXT: &str = "\x1f";
    let mut flags = OsString::from(format!("-Clink-arg=--initial-heap={INITIAL_HEAP}"));
    if let Some(home) = cargo_home {
        flags.push(NEXT);
        flags.push("--remap-path-prefix=");
        flags.push(home);
        flags.push("=/cargo");
    }
    flags
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// One line of cargo's report. Of the many kinds of lines, only `compiler-artifact` is used.
#[derive(Deserialize)]
struct Report {
    reason: String,
    package_id: Option<String>,
    target: Option<Target>,
    filenames: Option<Vec<PathBuf>>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// The last reported module, because cargo reports dependencies before the crate itself. Lines that
/// do not belong to the report come from build scripts and macros, and are skipped. They need not
/// be text.
fn find_module(report: impl BufRead) -> Option<Module> {
    let lines = report.split(b'\n').map_while(Result::ok);
    lines
        .filter_map(|line| module(&serde_json::from_slice(&line).ok()?))
        .last()
}

fn module(report: &Report) -> Option<Module> {
    let cdylib = report
        .target
        .as_ref()?
        .crate_types
        .iter()
        .any(|name| name == "cdylib");
    if report.reason != "compiler-artifact" || !cdylib {
        return None;
    }
    let path = report
        .filenames
        .as_ref()?
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "wasm"))?;
    // `path+file:///a/b#0.1.0`, or `path+file:///a/b#name@0.1.0`
    let (_, fragment) = report.package_id.as_ref()?.rsplit_once('#')?;
    let version = fragment
        .rsplit_once('@')
        .map_or(fragment, |(_, version)| version);
    Some(Module {
        path: path.clone(),
        package_version: version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(id: &str, crate_type: &str, file: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"{id}","target":{{"name":"x","crate_types":["{crate_type}"]}},"filenames":["{file}"],"fresh":true}}"#
        )
    }

    fn check(lines: &[String], expected: Option<(&str, &str)>) {
        let found = find_module(lines.join("\n").as_bytes());
        let found = found.as_ref().map(|module| {
            (
                module.path.to_str().unwrap_or(""),
                module.package_version.as_str(),
            )
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn module_is_found_in_the_report() {
        let sdk = artifact("path+file:///s#sdk@0.1.0", "lib", "/t/libsdk.rlib");
        let shell = artifact(
            "path+file:///p/shell#claudine-plugin-shell@0.3.0-dev",
            "cdylib",
            "/t/shell.wasm",
        );
        let end = r#"{"reason":"build-finished","success":true}"#.to_owned();
        check(
            &[
                sdk.clone(),
                "talk of a build script".to_owned(),
                shell,
                end.clone(),
            ],
            Some(("/t/shell.wasm", "0.3.0-dev")),
        );
        check(
            &[artifact(
                "path+file:///p/greet#1.2.3",
                "cdylib",
                "/t/greet.wasm",
            )],
            Some(("/t/greet.wasm", "1.2.3")),
        );
        check(&[sdk, end], None);
        check(
            &[artifact("path+file:///p#1.0.0", "cdylib", "/t/libp.so")],
            None,
        );
    }

    #[test]
    fn module_is_found_behind_a_line_that_is_no_text() {
        let mut report = b"\xff talk of a macro\n".to_vec();
        report.extend(artifact("path+file:///p/greet#1.2.3", "cdylib", "/t/greet.wasm").bytes());
        let found = find_module(report.as_slice()).map(|module| module.path);
        assert_eq!(found, Some(PathBuf::from("/t/greet.wasm")));
    }

    #[test]
    fn flags_replace_the_path_of_cargos_directory() {
        assert_eq!(
            flags(Some("/home/a b/.cargo".into())),
            "-Clink-arg=--initial-heap=524288\x1f--remap-path-prefix=/home/a b/.cargo=/cargo"
        );
        assert_eq!(flags(None), "-Clink-arg=--initial-heap=524288");
    }
}
