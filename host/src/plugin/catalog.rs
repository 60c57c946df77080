//! Which plugins there are: those in the binary, and those in the data directory.
//!
//! Opening it reads manifests and grants and nothing else. A component is compiled or mapped when something first needs it, so
//! a host's first answer does not wait for any of it, and a plugin that is broken is shown with its reason beside those that are not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{Allocation, Wasm};
use super::error::PluginError;
use super::executor::{Executor, Shared, Source};
use super::grant::Grant;
use super::load::{self, CodeCache, Compiler};
use super::manifest::Manifest;
use super::port::{Health, Issue};

/// Installed plugins that are looked at.
const INSTALLED: usize = 256;

/// A plugin that is part of the binary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Builtin {
    pub(crate) manifest: &'static str,
    pub(crate) component: &'static [u8],
}

/// Those that were there when the binary was built.
pub(crate) static BUILTINS: &[Builtin] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    Installed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::BuiltIn => "built-in",
            Origin::Installed => "installed",
        })
    }
}

/// Where the catalog finds what it needs.
#[derive(Debug)]
pub(crate) struct Places {
    /// `plugins/`, `grants/` and `cache/` are in it.
    pub(crate) data_dir: PathBuf,
    /// Who compiles a component that is new.
    pub(crate) compiler: Compiler,
    /// The tables `[plugins.NAME]` of the configuration as JSON.
    pub(crate) configs: BTreeMap<String, String>,
}

enum Entry {
    Usable(Origin, Arc<Executor>),
    Broken(Origin, PluginError),
}

/// All plugins by name. An installed one stands before a built-in of its name only where it has been given to the user to choose:
/// it does not; the built-in stands.
pub(crate) struct Catalog {
    entries: BTreeMap<String, Entry>,
    shared: Arc<Shared>,
}

/// A line of `plugin list`.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) origin: Origin,
    pub(crate) status: Status,
}

/// Whether a plugin can be used, as far as is known.
#[derive(Debug)]
pub(crate) enum Status {
    /// Nobody has looked yet.
    Unknown,
    Looked(Health),
    Broken(PluginError),
}

/// Everything about one plugin.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) manifest: Manifest,
    pub(crate) origin: Origin,
    pub(crate) digest: String,
    pub(crate) grant: Grant,
    /// One line about it, by itself.
    pub(crate) summary: String,
    pub(crate) imports: Vec<String>,
    pub(crate) health: Result<Health, PluginError>,
    pub(crate) config_issues: Vec<Issue>,
}

impl Catalog {
    pub(crate) fn open(
        places: Places,
        builtins: &'static [Builtin],
    ) -> Result<Catalog, PluginError> {
        Catalog::open_with(places, builtins, Wasm::start)
    }

    pub(crate) fn open_with(
        places: Places,
        builtins: &'static [Builtin],
        start: fn() -> Result<Wasm, PluginError>,
    ) -> Result<Catalog, PluginError> {
        let cache = CodeCache::new(places.data_dir.join("cache"), places.compiler.clone());
        let shared = Arc::new(Shared::new(cache, start));
        let mut catalog = Catalog {
            entries: BTreeMap::new(),
            shared,
        };
        for builtin in builtins {
            catalog.add_builtin(builtin, &places.configs);
        }
        catalog.add_installed(&places)?;
        Ok(catalog)
    }

    fn add_builtin(&mut self, builtin: &Builtin, configs: &BTreeMap<String, String>) {
        let manifest = match Manifest::parse(builtin.manifest) {
            Ok(manifest) => manifest,
            Err(message) => {
                let error = PluginError::Manifest {
                    path: "plugin.toml".into(),
                    message,
                };
                self.entries
                    .insert("(built-in)".into(), Entry::Broken(Origin::BuiltIn, error));
                return;
            }
        };
        let process = manifest.permissions.process.commands.clone();
        let grant = Grant {
            digest: load::digest(builtin.component),
            process,
        };
        self.add(
            manifest,
            grant,
            configs,
            Source::BuiltIn(builtin.component),
            Origin::BuiltIn,
        );
    }

    fn add(
        &mut self,
        manifest: Manifest,
        grant: Grant,
        configs: &BTreeMap<String, String>,
        source: Source,
        origin: Origin,
    ) {
        let name = manifest.name.clone();
        let config = configs.get(&name).cloned().unwrap_or_else(|| "{}".into());
        let executor = Executor::new(manifest, grant, config, source, Arc::clone(&self.shared));
        self.entries
            .insert(name, Entry::Usable(origin, Arc::new(executor)));
    }

    /// `plugins/NAME/plugin.toml` with `plugins/NAME/NAME.wasm` beside it, and `grants/NAME.toml`.
    fn add_installed(&mut self, places: &Places) -> Result<(), PluginError> {
        let dir = places.data_dir.join("plugins");
        let folders = match std::fs::read_dir(&dir) {
            Ok(folders) => folders,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PluginError::io(&dir, &error)),
        };
        let mut folders = folders
            .map(|folder| folder.map(|folder| folder.path()))
            .collect::<Result<Vec<_>, _>>();
        let folders = folders
            .as_mut()
            .map_err(|error| PluginError::io(&dir, error))?;
        folders.retain(|path| path.is_dir());
        folders.sort();
        for folder in folders.iter().take(INSTALLED) {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if self.entries.contains_key(&name) {
                tracing::warn!(
                    "{} is left out: {name} is a built-in plugin",
                    folder.display()
                );
                continue;
            }
            match read_installed(&places.data_dir, folder, &name) {
                Ok((manifest, grant, source)) => {
                    self.add(manifest, grant, &places.configs, source, Origin::Installed)
                }
                Err(error) => {
                    self.entries
                        .insert(name, Entry::Broken(Origin::Installed, error));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn list(&self) -> Vec<Listing> {
        self.entries
            .iter()
            .map(|(name, entry)| listing(name, entry))
            .collect()
    }

    /// The executor of this name, or why there is none.
    pub(crate) fn executor(&self, name: &str) -> Result<&Arc<Executor>, PluginError> {
        self.find(name).map(|(_, executor)| executor)
    }

    fn find(&self, name: &str) -> Result<(Origin, &Arc<Executor>), PluginError> {
        match self.entries.get(name) {
            Some(Entry::Usable(origin, executor)) => Ok((*origin, executor)),
            Some(Entry::Broken(_, error)) => Err(error.clone()),
            None => Err(PluginError::Unknown { name: name.into() }),
        }
    }

    /// Loads the plugin and looks at the machine.
    pub(crate) async fn inspect(&self, name: &str) -> Result<Inspection, PluginError> {
        let (origin, executor) = self.find(name)?;
        let health = executor.fingerprint().await;
        let loaded = executor.loaded().await?;
        Ok(Inspection {
            manifest: executor.manifest().clone(),
            origin,
            digest: executor.digest().into(),
            grant: executor.grant().clone(),
            summary: executor.describe().await?,
            imports: loaded.surface.imports.clone(),
            config_issues: executor.validate_config().await?,
            health,
        })
    }

    /// How instances are allocated; nothing while no component was needed.
    pub(crate) fn allocation(&self) -> Result<Allocation, PluginError> {
        self.shared.wasm().map(|wasm| wasm.allocation)
    }
}

fn read_installed(
    data_dir: &Path,
    folder: &Path,
    name: &str,
) -> Result<(Manifest, Grant, Source), PluginError> {
    let path = folder.join("plugin.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| PluginError::io(&path, &error))?;
    let manifest = Manifest::parse(&text).map_err(|message| PluginError::Manifest {
        path: path.clone(),
        message,
    })?;
    if manifest.name != name {
        let message = format!(
            "it names the plugin `{}`, and the folder `{name}`",
            manifest.name
        );
        return Err(PluginError::Manifest { path, message });
    }
    let component = folder.join(format!("{name}.wasm"));
    let bytes = std::fs::read(&component).map_err(|error| PluginError::io(&component, &error))?;
    let grant = Grant::read(
        &data_dir.join("grants").join(format!("{name}.toml")),
        &load::digest(&bytes),
    )?;
    Ok((manifest, grant, Source::File(component)))
}

fn listing(name: &str, entry: &Entry) -> Listing {
    let name = name.to_owned();
    match entry {
        Entry::Broken(origin, error) => Listing {
            name,
            version: None,
            kind: None,
            origin: *origin,
            status: Status::Broken(error.clone()),
        },
        Entry::Usable(origin, executor) => {
            let manifest = executor.manifest();
            let status = match (executor.disabled(), executor.health()) {
                (Some(error), _) => Status::Broken(error),
                (None, Some(health)) => Status::Looked(health),
                (None, None) => Status::Unknown,
            };
            let (version, kind) = (Some(manifest.version.clone()), Some(manifest.kind.clone()));
            Listing {
                name,
                version,
                kind,
                origin: *origin,
                status,
            }
        }
    }
}
