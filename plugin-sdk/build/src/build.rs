//! Builds a plugin: compiles its crate to a module, and makes a component of the module. Writes
//! the manifest, and the digests of the component and the manifest, beside the component.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo;
use crate::component;
use crate::error::BuildError;
use crate::manifest::Manifest;
use crate::request::BuildRequest;
use crate::toolchain::Toolchain;

/// A plugin that was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub manifest: Manifest,
    pub component: PathBuf,
    pub size_bytes: u64,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// All imports of the component, sorted.
    pub imports: Vec<String>,
    /// Whether a file was written. False if all three files already existed with the same content.
    pub changed: bool,
}

/// Builds a plugin with a toolchain from [`Toolchain::find`].
pub fn build(
    request: &BuildRequest,
    toolchain: &Toolchain,
    say: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let request = &absolute(request)?;
    let path = request.crate_dir.join("plugin.toml");
    let text = fs::read_to_string(&path).map_err(|source| file("read", &path, source))?;
    let manifest =
        Manifest::parse(&text).map_err(|source| BuildError::Manifest { path, source })?;

    say(&format!(
        "building {} {} with {toolchain}",
        manifest.name, manifest.version
    ));
    let module = cargo::run(request, toolchain)?;
    let version = manifest.version.to_string();
    if module.package_version != version {
        return Err(BuildError::Versions {
            manifest: version,
            package: module.package_version,
        });
    }
    let bytes = fs::read(&module.path).map_err(|source| file("read", &module.path, source))?;
    let bytes = component::encode(&bytes)?;
    let face = component::Face::of(&bytes)?;
    face.check()?;
    face.check_asks(&manifest)?;

    let digest = component::sha256_hex(&bytes);
    let name = &manifest.name;
    // Written in the format of sha256sum, so that `sha256sum -c` checks the files.
    let digests = format!(
        "{digest}  {name}.wasm\n{}  {name}.toml\n",
        component::sha256_hex(text.as_bytes())
    );
    let out = &request.out_dir;
    fs::create_dir_all(out).map_err(|source| file("create", out, source))?;
    let component = out.join(format!("{name}.wasm"));
    let changed = [
        write_if_different(&component, &bytes)?,
        write_if_different(&out.join(format!("{name}.toml")), text.as_bytes())?,
        write_if_different(&out.join(format!("{name}.sha256")), digests.as_bytes())?,
    ];
    Ok(Built {
        component,
        size_bytes: bytes.len() as u64,
        digest,
        imports: face.imports,
        changed: changed.contains(&true),
        manifest,
    })
}

/// Makes the paths absolute: cargo runs in the crate's directory, where relative paths would lead
/// elsewhere.
fn absolute(request: &BuildRequest) -> Result<BuildRequest, BuildError> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|source| file("find", path, source));
    Ok(BuildRequest {
        crate_dir: absolute(&request.crate_dir)?,
        out_dir: absolute(&request.out_dir)?,
        target_dir: absolute(&request.target_dir)?,
        release: request.release,
    })
}

/// Leaves an unchanged file as it is, because programs that embed or watch the file treat a new
/// time stamp as new content. Writes by rename, because another program may read the file at the
/// same time.
fn write_if_different(path: &Path, bytes: &[u8]) -> Result<bool, BuildError> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    fs::write(&new, bytes).map_err(|source| file("write", &new, source))?;
    fs::rename(&new, path).map_err(|source| file("replace", path, source))?;
    Ok(true)
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> BuildError {
    BuildError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn unchanged_file_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        assert!(write_if_different(&path, b"1").unwrap());
        let first = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_different(&path, b"1").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), first);
        assert!(write_if_different(&path, b"2").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    fn check(manifest: Option<&str>, message: &str, hint: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = manifest {
            fs::write(dir.path().join("plugin.toml"), text).unwrap();
        }
        let request = BuildRequest {
            crate_dir: dir.path().to_owned(),
            out_dir: dir.path().join("out"),
            target_dir: dir.path().join("target"),
            release: true,
        };
        let toolchain = Toolchain::Target {
            rustc: "rustc 1.95.0".to_owned(),
        };
        let error = build(&request, &toolchain, &mut |_| {}).unwrap_err();
        let text = error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "DIR");
        assert!(text.starts_with(message), "{text}");
        assert_eq!(error.hint(), hint);
    }

    #[test]
    fn crate_without_a_valid_manifest_is_refused_before_compiling() {
        check(
            None,
            "cannot read DIR/plugin.toml",
            Some("put the plugin's manifest, plugin.toml, beside its Cargo.toml"),
        );
        check(
            Some("kind = 3"),
            "DIR/plugin.toml: the manifest cannot be read: TOML parse error at line 1",
            None,
        );
    }
}
