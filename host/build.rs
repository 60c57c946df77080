//! Puts the built-in components into the binary, compressed.
//!
//! `CLAUDINE_PLUGINS` names a folder with `<name>.wasm`, `<name>.toml` and `<name>.sha256` for each
//! component.
//! Without this variable the table is empty: a plain `cargo build` works, and the host says at its
//! start that it has no executors.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::{Compression, write::ZlibEncoder};

const FOLDER: &str = "CLAUDINE_PLUGINS";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let table = match env::var_os(FOLDER) {
        Some(folder) => table(Path::new(&folder), &out)?,
        None => "[]".to_owned(),
    };
    fs::write(out.join("builtin.rs"), table)?;
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

/// Writes the compressed components to `out`. Returns a Rust expression: an array of `Builtin`, by
/// name.
fn table(folder: &Path, out: &Path) -> Result<String, Box<dyn Error>> {
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
        let digests = manifest.with_extension("sha256");
        for path in [&manifest, &component, &digests] {
            println!("cargo::rerun-if-changed={}", path.display());
            if !path.is_file() {
                return Err(format!("{} is missing in {FOLDER}", path.display()).into());
            }
        }
        let digest = digest_of(&component, &fs::read_to_string(&digests)?)
            .ok_or_else(|| format!("{} has no digest of the component", digests.display()))?;
        let name = component.file_name().ok_or("a component has a name")?;
        let compressed = out.join(name).with_extension("wasm.zlib");
        fs::write(&compressed, compress(&fs::read(&component)?)?)?;
        let [manifest, compressed] =
            [&manifest, &compressed].map(|path| path.display().to_string());
        writeln!(
            table,
            "Builtin {{
                manifest: include_str!({manifest:?}),
                compressed: include_bytes!({compressed:?}),
                digest: {digest:?},
            }},"
        )?;
    }
    table.push(']');
    Ok(table)
}

/// The digest of a file, from lines as `sha256sum` writes them.
fn digest_of(file: &Path, lines: &str) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let mut lines = lines.lines().filter_map(|line| line.split_once("  "));
    let (digest, _) = lines.find(|(_, named)| *named == name)?;
    Some(digest.to_owned())
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
