//! Installs what a build or a test needs and the machine lacks. Existing programs are used. A
//! program that is missing and cannot be installed is an error.
//!
//! Debian packages are installed with `apt-get`, if this runs as root or `sudo` needs no password.
//! Everything else goes to a cache directory of the user, outside the checkout.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    checkout,
    program::{self, command, output, succeeds},
};

/// The versions for which the tests were written.
const CLAUDE_CODE: &str = "@anthropic-ai/claude-code@2.1.330";
const INSPECTOR: &str = "@modelcontextprotocol/inspector@2.12.0";
const NODE: &str = "node@22.23.3";
const MCP_CLIENT: &str = "mcp==2.3.0";

/// Tools that the tests find through environment variables.
pub(crate) struct Tools {
    /// The program `claude` of the npm package.
    pub(crate) claude: PathBuf,
    /// A Python that can import the official `mcp` client.
    pub(crate) python: PathBuf,
    /// The script of the MCP Inspector.
    pub(crate) inspector: PathBuf,
    /// A Node.js that is new enough for both npm packages.
    pub(crate) node: PathBuf,
}

impl Tools {
    /// The environment variables through which the tests find the tools.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 4] {
        [
            ("CLAUDINE_TEST_CLAUDE", &self.claude),
            ("CLAUDINE_TEST_PYTHON", &self.python),
            ("CLAUDINE_TEST_INSPECTOR", &self.inspector),
            ("CLAUDINE_TEST_NODE", &self.node),
        ]
    }
}

/// `cargo xtask setup`: prints the shell exports for running single tests by hand.
pub(crate) fn print_exports() -> Result<()> {
    for (name, path) in tools()?.variables() {
        println!("export {name}='{}'", path.display());
    }
    Ok(())
}

/// Installs the tools that the tests need and the machine lacks.
pub(crate) fn tools() -> Result<Tools> {
    let cache = checkout::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    if !succeeds(&mut command("npm", ["--version"])) {
        apt(&["nodejs", "npm"])?;
    }
    if !succeeds(&mut command("git", ["--version"])) {
        apt(&["git"])?;
    }
    if !succeeds(&mut command("make", ["--version"])) {
        apt(&["make"])?;
    }
    Ok(Tools {
        node: node(&cache)?,
        claude: npm(&cache, CLAUDE_CODE)?.join("node_modules/.bin/claude"),
        inspector: npm(&cache, INSPECTOR)?.join("node_modules/.bin/mcp-inspector"),
        python: python(&cache)?,
    })
}

/// The machine's Node.js if it is new enough, else one from npm.
fn node(cache: &Path) -> Result<PathBuf> {
    let version = output(&mut command("node", ["--version"]))?;
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major > 22) {
        return on_path("node").context("node runs but is not on PATH");
    }
    Ok(npm(cache, NODE)?.join("node_modules/node/bin/node"))
}

/// Installs one npm package with its dependencies into its own directory.
fn npm(cache: &Path, package: &str) -> Result<PathBuf> {
    let dir = cache.join(package.trim_start_matches('@').replace('/', "-"));
    install_once(&dir, || {
        fs::write(dir.join("package.json"), "{ \"private\": true }\n")?;
        run(command(
            "npm",
            [
                "install",
                "--no-fund",
                "--no-audit",
                "--loglevel",
                "error",
                package,
            ],
        )
        .current_dir(&dir))
    })?;
    Ok(dir)
}

/// Makes a virtual environment with the official MCP client.
fn python(cache: &Path) -> Result<PathBuf> {
    if !succeeds(&mut command("python3", ["-c", "import ensurepip, venv"])) {
        apt(&["python3-venv"])?;
    }
    let dir = cache.join(MCP_CLIENT.replace("==", "-"));
    install_once(&dir, || {
        run(command("python3", ["-m", "venv"]).arg(&dir))?;
        run(&mut command(
            dir.join("bin/python"),
            [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                MCP_CLIENT,
            ],
        ))
    })?;
    Ok(dir.join("bin/python"))
}

/// Runs `install` if it has not succeeded before. First removes the remains of an interrupted run.
fn install_once(dir: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = dir.join(".installed");
    if done.is_file() {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir)?;
    install()?;
    fs::write(&done, "")?;
    Ok(())
}

/// Runs an installer, with its output on standard error: a shell reads the standard output of
/// `cargo xtask setup`.
fn run(installer: &mut Command) -> Result<()> {
    program::run(installer.stdout(Stdio::from(io::stderr())))
}

/// Installs Debian packages.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!(
            "install the packages that Debian calls {}: there is no apt-get here",
            packages.join(", ")
        );
    }
    let root = output(&mut command("id", ["-u"]))?.trim_end() == "0";
    if !root && !succeeds(&mut command("sudo", ["-n", "true"])) {
        bail!("install as root: apt-get install {}", packages.join(" "));
    }
    let apt_get = || {
        let mut apt_get = if root {
            Command::new("apt-get")
        } else {
            command("sudo", ["-n", "apt-get"])
        };
        apt_get.env("DEBIAN_FRONTEND", "noninteractive");
        apt_get
    };
    run(apt_get().args(["--quiet=2", "update"]))?;
    run(apt_get()
        .args(["--quiet=2", "--yes", "--no-install-recommends", "install"])
        .args(packages))
}

/// Path of a program on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}
