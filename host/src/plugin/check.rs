//! Checks that bytes are a component, and that the component is an executor, before any of its code
//! runs. A refusal contains the reason.

use wasmtime::Engine;
use wasmtime::component::Component;

use claudine_plugin_build::manifest::Permissions;

use super::error::PluginError;
use super::v0_1;

const MAGIC: &[u8; 4] = b"\0asm";
/// The version and layer of a component; a core module has `01 00 00 00`.
const COMPONENT: &[u8; 4] = &[0x0d, 0, 1, 0];
const CORE_MODULE: &[u8; 4] = &[1, 0, 0, 0];
const CONTRACT: &str = "claudine:plugin/";
const WASI: &str = "wasi:";
/// The interface that needs the permission `process`.
const PROCESS: &str = "claudine:plugin/process@";

/// Checks the first bytes. Only a binary component may reach the compiler, which would also accept
/// the text format.
pub(crate) fn header(bytes: &[u8]) -> Result<(), PluginError> {
    let found = match (bytes.get(..4), bytes.get(4..8)) {
        (Some(magic), Some(version)) if magic == MAGIC => match version {
            version if version == COMPONENT => return Ok(()),
            version if version == CORE_MODULE => {
                "it is a core module; `claudine plugin build` makes a component of one"
            }
            _ => "it has an unknown version of the binary format",
        },
        _ => "its first bytes are not those of WebAssembly",
    };
    Err(PluginError::NotAComponent { found })
}

/// The imports and exports of a component, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surface {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

impl Surface {
    pub(crate) fn of(engine: &Engine, component: &Component) -> Surface {
        let kind = component.component_type();
        Surface {
            imports: kind
                .imports(engine)
                .map(|(name, _)| name.to_owned())
                .collect(),
            exports: kind
                .exports(engine)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }

    pub(crate) fn uses_wasi(&self) -> bool {
        self.imports.iter().any(|name| name.starts_with(WASI))
    }

    /// Checks that the component is an executor of a supported version. Its types are checked when
    /// it is linked.
    pub(crate) fn check(&self) -> Result<(), PluginError> {
        for name in self.imports.iter().chain(&self.exports) {
            if let Some(version) = contract_version(name)
                && !version.starts_with(v0_1::VERSION_PREFIX)
            {
                return Err(PluginError::NewerContract {
                    wanted: name.clone(),
                });
            }
        }
        for import in &self.imports {
            if contract_version(import).is_none() && !import.starts_with(WASI) {
                return Err(PluginError::UnknownImport {
                    import: import.clone(),
                });
            }
        }
        for export in v0_1::EXPORTS {
            if !self.exports.iter().any(|name| same_interface(name, export)) {
                return Err(PluginError::WrongWorld {
                    missing: export.into(),
                });
            }
        }
        Ok(())
    }
}

impl Surface {
    /// Checks that the manifest asks for the permissions that the component's imports need. Without
    /// the permission, every call would be denied, and the manifest would mislead its readers.
    pub(crate) fn check_asks(&self, permissions: &Permissions) -> Result<(), PluginError> {
        let is_process = |name: &&String| name.starts_with(PROCESS);
        match self.imports.iter().find(is_process) {
            Some(import) if permissions.process.is_none() => Err(PluginError::Unasked {
                import: import.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// The version of an interface of the contract; `None` for other interfaces.
fn contract_version(name: &str) -> Option<&str> {
    name.strip_prefix(CONTRACT)?
        .split_once('@')
        .map(|(_, version)| version)
}

/// Whether the name is the wanted interface. The version is not compared, because incompatible
/// versions were refused before.
fn same_interface(name: &str, wanted: &str) -> bool {
    let base = |name: &str| name.split_once('@').map(|(base, _)| base.to_owned());
    base(name) == base(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_of_a_component_is_accepted() {
        let check = |bytes: &[u8], expected: Option<&str>| match (header(bytes), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, expected) => assert_eq!(
                result.err().map(|error| error.to_string()).as_deref(),
                expected
            ),
        };
        check(b"\0asm\x0d\0\x01\0rest", None);
        check(b"\0asm\x01\0\0\0rest", Some("core module"));
        check(b"\0asm\xff\0\0\0", Some("version of the binary format"));
        check(b"(component)", Some("first bytes"));
        check(b"\x7fELF\x02\x01\x01\0", Some("first bytes"));
        check(b"\0as", Some("first bytes"));
        check(b"", Some("first bytes"));
    }

    #[test]
    fn a_component_must_export_an_executor_of_a_known_version() {
        let check = |imports: &[&str], exports: &[&str], expected: Option<&str>| {
            let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let result = Surface {
                imports: own(imports),
                exports: own(exports),
            }
            .check();
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (result, expected) => assert_eq!(
                    result.err().map(|error| error.to_string()).as_deref(),
                    expected
                ),
            }
        };
        let both = [
            "claudine:plugin/lifecycle@0.1.0",
            "claudine:plugin/executor@0.1.0",
        ];
        check(&[], &both, None);
        check(
            &["claudine:plugin/log@0.1.0", "wasi:io/poll@0.2.6"],
            &both,
            None,
        );
        check(
            &[],
            &[
                "claudine:plugin/lifecycle@0.1.3",
                "claudine:plugin/executor@0.1.3",
            ],
            None,
        );
        check(
            &[],
            &["claudine:plugin/lifecycle@0.1.0"],
            Some("does not export claudine:plugin/executor@0.1.0"),
        );
        check(
            &[],
            &["wasi:cli/run@0.2.0"],
            Some("does not export claudine:plugin/lifecycle"),
        );
        check(
            &["claudine:plugin/process@0.2.0"],
            &both,
            Some("claudine:plugin/process@0.2.0, and this host speaks"),
        );
        check(
            &[],
            &["claudine:plugin/executor@1.0.0"],
            Some("a newer host"),
        );
        check(
            &["evil:kernel/calls@0.1.0"],
            &both,
            Some("imports evil:kernel/calls"),
        );
        check(&["plain-function"], &both, Some("imports plain-function"));
    }
}
