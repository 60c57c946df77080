//! Puts the built-in components into the binary.
//!
//! `CLAUDINE_PLUGINS` names a folder with `<name>.wasm` and `<name>.toml` for each component.
//! Without this variable the table is empty: a plain `cargo build` works, and the host says at its
//! start that it has no executors.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDER: &str = "CLAUDINE_PLUGINS";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");
    let table = match env::var_os(FOLDER) {
        Some(folder) => table(Path::new(&folder))?,
        None => "[]".to_owned(),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("builtin.rs");
    fs::write(out, table)?;
    fixed_address();
    Ok(())
}

/// Links the binary to a fixed address, if the target supports that.
///
/// Most commands live for a millisecond or two, and half of this time would go into the fifty
/// thousand relocations of a position-independent binary of this size (each table of methods has
/// some).
fn fixed_address() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}

/// A Rust expression: an array of `Builtin`, by name.
fn table(folder: &Path) -> Result<String, Box<dyn Error>> {
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("{FOLDER}={}: {error}", folder.display()))?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut manifests: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|file| file.map(|file| file.path()))
        .collect::<Result<_, _>>()?;
    manifests.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    manifests.sort();
    let mut table = String::from("[\n");
    for manifest in manifests {
        let component = manifest.with_extension("wasm");
        for path in [&manifest, &component] {
            println!("cargo::rerun-if-changed={}", path.display());
            if !path.is_file() {
                return Err(format!("{} is missing in {FOLDER}", path.display()).into());
            }
        }
        let [manifest, component] = [&manifest, &component].map(|path| path.display().to_string());
        writeln!(
            table,
            "    Builtin {{ manifest: include_str!({manifest:?}), component: include_bytes!({component:?}) }},"
        )?;
    }
    table.push(']');
    Ok(table)
}
