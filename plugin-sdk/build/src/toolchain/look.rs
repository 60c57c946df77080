//! The three sources of a toolchain. If one fails, it returns the reason in one sentence.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{TARGET, Toolchain};

/// Debian's Rust, by its full path, because another Rust on the PATH would have no matching source
/// code of the standard library.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// The Rust in use, if it has the target.
pub(super) fn in_use(crate_dir: &Path) -> Result<Toolchain, String> {
    let rustc = rustc_in_use(crate_dir)?;
    if rustc.has_target() {
        Ok(Toolchain::Target {
            rustc: rustc.version,
        })
    } else {
        Err(format!("{} lacks the target {TARGET}", rustc.version))
    }
}

/// The Rust in use, after rustup has added the target.
pub(super) fn rustup(crate_dir: &Path, say: &mut dyn FnMut(&str)) -> Result<Toolchain, String> {
    let mut command = Command::new("rustup");
    command
        .args(["target", "add", TARGET])
        .current_dir(crate_dir);
    // Without a network the default settings take minutes to fail.
    for (name, value) in [
        ("RUSTUP_DOWNLOAD_TIMEOUT", "30"),
        ("RUSTUP_MAX_RETRIES", "1"),
    ] {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    say(&format!("adding {TARGET} with rustup"));
    output(&mut command)?;
    let rustc = rustc_in_use(crate_dir)?;
    if rustc.has_target() {
        Ok(Toolchain::Target {
            rustc: rustc.version,
        })
    } else {
        Err(format!(
            "added the target, but not to the Rust in use ({})",
            rustc.version
        ))
    }
}

/// The distribution's Rust, if it includes the source code of its standard library.
pub(super) fn distribution(crate_dir: &Path) -> Result<Toolchain, String> {
    let path = PathBuf::from(DISTRIBUTION_RUSTC);
    if !path.exists() {
        return Err(format!("{DISTRIBUTION_RUSTC} does not exist"));
    }
    let rustc = Rustc::ask(path.clone().into_os_string(), Path::new("/"))?;
    if !rustc
        .sysroot
        .join("lib/rustlib/src/rust/library/std/Cargo.toml")
        .exists()
    {
        return Err(format!(
            "{} lacks the source of its standard library",
            rustc.version
        ));
    }
    let in_use = rustc_in_use(crate_dir).ok();
    let linkers = linkers(in_use.as_ref().map(Rustc::bin), &rustc.bin());
    let linker = linkers.into_iter().find(|path| path.exists());
    let linker = linker
        .ok_or_else(|| format!("no linker for WebAssembly found beside {}", rustc.version))?;
    Ok(Toolchain::BuildStd {
        rustc: path,
        version: rustc.version,
        linker,
    })
}

/// Possible paths of an LLD, the most likely first.
fn linkers(bin_in_use: Option<PathBuf>, distribution_bin: &Path) -> Vec<PathBuf> {
    let beside = bin_in_use.into_iter().chain([distribution_bin.to_owned()]);
    beside
        .map(|bin| bin.join("rust-lld"))
        .chain([PathBuf::from("/usr/bin/wasm-ld")])
        .collect()
}

/// A Rust compiler.
struct Rustc {
    /// `rustc 1.95.0`
    version: String,
    host: String,
    sysroot: PathBuf,
}

impl Rustc {
    fn ask(rustc: OsString, dir: &Path) -> Result<Self, String> {
        let ask = |argument: &[&str]| output(Command::new(&rustc).args(argument).current_dir(dir));
        let (version, host) = version_and_host(&ask(&["-vV"])?)
            .ok_or_else(|| format!("{} does not report its version", rustc.display()))?;
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim_end());
        Ok(Self {
            version,
            host,
            sysroot,
        })
    }

    fn has_target(&self) -> bool {
        self.sysroot
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib")
            .exists()
    }

    /// Directory of the compiler's own programs.
    fn bin(&self) -> PathBuf {
        self.sysroot
            .join("lib/rustlib")
            .join(&self.host)
            .join("bin")
    }
}

fn rustc_in_use(crate_dir: &Path) -> Result<Rustc, String> {
    Rustc::ask(
        env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()),
        crate_dir,
    )
}

/// The first two words of the first line, and the value of the line `host:`.
fn version_and_host(text: &str) -> Option<(String, String)> {
    let mut words = text.lines().next()?.split(' ');
    let version = format!("{} {}", words.next()?, words.next()?);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "))?;
    Some((version, host.to_owned()))
}

/// Output of a command, or the error in one line.
fn output(command: &mut Command) -> Result<String, String> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout)
            .map_err(|_| format!("{name} printed invalid UTF-8"));
    }
    let talk = String::from_utf8_lossy(&output.stderr);
    Err(match first_error(&talk) {
        Some(line) => format!("{name} failed: {line}"),
        None => format!("{name} failed ({})", output.status),
    })
}

/// The line of rustup's or apt's output that gives the reason: the first error, or the last line if
/// there is no error.
fn first_error(talk: &str) -> Option<&str> {
    let error = |line: &&str| line.starts_with("error:") || line.starts_with("E: ");
    let mut lines = talk.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.clone().find(error).or_else(|| lines.next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_version(text: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(version, host)| (version.to_owned(), host.to_owned()));
        assert_eq!(version_and_host(text), expected, "{text}");
    }

    #[test]
    fn version_and_host_of_a_compiler_are_parsed() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        check_version(text, Some(("rustc 1.95.0", "x86_64-unknown-linux-gnu")));
        check_version("rustc 1.95.0\n", None);
        check_version("rustc", None);
        check_version("", None);
    }

    fn check_error(talk: &str, expected: Option<&str>) {
        assert_eq!(first_error(talk), expected, "{talk}");
    }

    #[test]
    fn line_with_the_reason_is_found() {
        check_error(
            "info: downloading\nerror: could not download file\n\nCaused by:\n  dns\n",
            Some("error: could not download file"),
        );
        check_error(
            "E: Could not open lock file\nE: Unable to acquire\n",
            Some("E: Could not open lock file"),
        );
        check_error("one\n two \n\n", Some("two"));
        check_error("\n", None);
    }

    #[test]
    fn linker_beside_the_rust_in_use_comes_first() {
        let found = linkers(
            Some("/in-use/bin".into()),
            Path::new("/usr/lib/rustlib/x/bin"),
        );
        let expected = [
            "/in-use/bin/rust-lld",
            "/usr/lib/rustlib/x/bin/rust-lld",
            "/usr/bin/wasm-ld",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(linkers(None, Path::new("/b")).len(), 2);
    }

    #[test]
    fn failed_command_is_reported_in_one_line() {
        let failed = output(Command::new("sh").args(["-c", "echo 'error: no luck' >&2; exit 3"]));
        assert_eq!(failed, Err("sh failed: error: no luck".to_owned()));
        let silent = output(Command::new("sh").args(["-c", "exit 3"]));
        assert_eq!(silent, Err("sh failed (exit status: 3)".to_owned()));
        let missing = output(&mut Command::new("/nonexistent/rustup"));
        assert!(
            missing.is_err_and(|message| message.starts_with("cannot start /nonexistent/rustup: "))
        );
    }
}
