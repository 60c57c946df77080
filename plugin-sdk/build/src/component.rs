//! Turns a core module into a component.

use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::error::BuildError;
use crate::manifest::Manifest;

/// The package of every import of a plugin.
const CONTRACT: &str = "claudine:plugin/";

/// Required exports of every executor, without the version.
const EXPORTS: [&str; 2] = ["claudine:plugin/lifecycle@", "claudine:plugin/executor@"];

/// The interface that needs the permission `process`.
const PROCESS: &str = "claudine:plugin/process@";

const EXPORT_HINT: &str =
    "export the executor with `claudine_plugin_sdk::export!`, once in the crate";

/// Wraps a module as the component that its embedded contract describes.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let encoded = ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode());
    encoded.map_err(|error| {
        let reason = format!("{error:#}");
        let hint = hint(&reason);
        BuildError::Encode { reason, hint }
    })
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("wbindgen") {
        "one of its dependencies expects a browser (wasm-bindgen); `cargo tree --target wasm32-unknown-unknown -i wasm-bindgen` names it"
    } else if reason.contains("wasi") {
        "one of its dependencies expects WASI; plugins can use only what the SDK offers"
    } else {
        EXPORT_HINT
    }
}

/// Imports and exports of a component, by name.
pub(crate) struct Face {
    /// Names of the imports, sorted.
    pub(crate) imports: Vec<String>,
    exports: Vec<String>,
}

impl Face {
    pub(crate) fn of(component: &[u8]) -> Result<Self, BuildError> {
        let decoded = wit_component::decode(component).map_err(|error| BuildError::Encode {
            reason: format!("{error:#}"),
            hint: "a component that was just made should be readable; please report this",
        })?;
        let DecodedWasm::Component(resolve, world) = decoded else {
            return Ok(Self {
                imports: Vec::new(),
                exports: Vec::new(),
            });
        };
        let world = &resolve.worlds[world];
        let mut imports: Vec<String> = world
            .imports
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect();
        imports.sort_unstable();
        let exports = world
            .exports
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect();
        Ok(Self { imports, exports })
    }

    /// Refuses an import that needs a permission which the manifest does not request, because all
    /// its calls would be denied.
    pub(crate) fn check_asks(&self, manifest: &Manifest) -> Result<(), BuildError> {
        let is_process = |import: &&String| import.starts_with(PROCESS);
        match self.imports.iter().find(is_process) {
            Some(import) if manifest.permissions.process.is_none() => Err(BuildError::Unasked {
                import: import.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses imports that no host offers, and components that are not executors.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let names: Vec<String> = self
            .imports
            .iter()
            .filter(|name| !name.starts_with(CONTRACT))
            .cloned()
            .collect();
        if !names.is_empty() {
            return Err(BuildError::Imports { names });
        }
        for name in EXPORTS {
            if !self.exports.iter().any(|export| export.starts_with(name)) {
                let reason = format!("it does not export {name}");
                return Err(BuildError::Encode {
                    reason,
                    hint: EXPORT_HINT,
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 15] {
                hex.extend(char::from_digit(nibble.into(), 16));
            }
            hex
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn contract_parses() {
        let mut resolve = wit_parser::Resolve::new();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let (package, _) = resolve.push_dir(wit).unwrap();
        let name = &resolve.packages[package].name;
        assert_eq!(
            name.to_string(),
            format!("claudine:plugin@{}", crate::manifest::WIT_VERSION)
        );
        let worlds: Vec<&str> = resolve.packages[package]
            .worlds
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(worlds, ["executor-plugin"]);
    }

    #[test]
    fn invalid_module_is_reported() {
        let message = encode(b"MZ").unwrap_err().to_string();
        assert!(
            message.starts_with("the module is not a plugin: "),
            "{message}"
        );
    }

    #[test]
    fn module_without_exports_is_not_a_plugin() {
        let component = encode(b"\0asm\x01\0\0\0").unwrap();
        let error = Face::of(&component).unwrap().check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the module is not a plugin: it does not export claudine:plugin/lifecycle@"
        );
        assert_eq!(error.hint(), Some(EXPORT_HINT));
    }

    fn check(imports: &[&str], foreign: &[&str]) {
        let imports: Vec<String> = imports.iter().map(|&name| name.to_owned()).collect();
        let exports = EXPORTS.map(|name| format!("{name}0.1.0")).to_vec();
        let error = Face { imports, exports }
            .check()
            .err()
            .map(|error| error.to_string());
        let expected =
            (!foreign.is_empty()).then(|| format!("the component imports {}", foreign.join(", ")));
        assert_eq!(error, expected);
    }

    #[test]
    fn imports_outside_the_contract_are_refused() {
        check(&[], &[]);
        check(
            &["claudine:plugin/log@0.1.0", "claudine:plugin/types@0.1.0"],
            &[],
        );
        check(
            &[
                "claudine:plugin/log@0.1.0",
                "wasi:cli/environment@0.2.0",
                "env",
            ],
            &["wasi:cli/environment@0.2.0", "env"],
        );
        check(
            &["claudine:plugins/log@0.1.0"],
            &["claudine:plugins/log@0.1.0"],
        );
    }

    #[test]
    fn import_needs_a_requested_permission() {
        let check = |imports: &[&str], asks: &str, expected: Option<&str>| {
            let text = format!(
                "kind = \"executor\"\nname = \"x\"\nversion = \"1.0.0\"\nwit = \"0.1.0\"\n\
                 summary = \"x\"\n{asks}"
            );
            let manifest = Manifest::parse(&text).unwrap();
            let imports = imports.iter().map(|&name| name.to_owned()).collect();
            let face = Face {
                imports,
                exports: Vec::new(),
            };
            let error = face.check_asks(&manifest).err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), expected);
        };
        let asks = "[permissions.process]\ncommands = [\"make\"]\nwhy = \"it makes\"";
        let process = "claudine:plugin/process@0.1.0";
        check(&[process], asks, None);
        check(&["claudine:plugin/children@0.1.0"], "", None);
        let unasked = "the component imports claudine:plugin/process@0.1.0, \
                       and plugin.toml does not request it";
        check(&[process], "", Some(unasked));
    }

    #[test]
    fn digest_equals_that_of_sha256sum() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
