//! The catalog of plugins: the built-in plugins in the binary, and the plugins installed in the
//! data directory.
//!
//! Opening the catalog reads manifests and grants and nothing else. A component is compiled or
//! mapped when it is first needed, so the host's first answer does not wait for any component. A
//! broken plugin is listed beside the others, with the reason why it cannot be used.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builtin::Builtin;
use super::engine::Wasm;
use super::error::PluginError;
use super::executor::{Executor, Shared, Source};
use super::grant::Grant;
use super::load::{CodeCache, Compiler};
use super::port::{Health, Issue};
use crate::{digest, fsx};
use claudine_plugin_build::manifest::Manifest;

/// The most installed plugins that are read.
const INSTALLED: usize = 256;

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

/// The places of plugins, and how they are compiled.
#[derive(Debug)]
pub(crate) struct Places {
    /// The directory that contains `plugins/`, `grants/` and `cache/`.
    pub(crate) data_dir: PathBuf,
    /// The compiler of new components.
    pub(crate) compiler: Compiler,
    /// The tables `[plugins.NAME]` of the configuration, as JSON.
    pub(crate) configs: BTreeMap<String, String>,
}

enum Entry {
    Usable(Origin, Arc<Executor>),
    Broken(Origin, PluginError),
}

/// All plugins by name. A built-in plugin takes precedence over an installed one of the same name.
pub(crate) struct Catalog {
    entries: BTreeMap<String, Entry>,
    shared: Arc<Shared>,
}

/// A plugin with its manifest and grant, and whether it can be used.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    /// `None` if the manifest or the grant cannot be read.
    pub(crate) shipped: Option<Shipped>,
    pub(crate) status: Status,
}

/// The manifest of a plugin and its grant.
#[derive(Debug)]
pub(crate) struct Shipped {
    pub(crate) manifest: Manifest,
    pub(crate) grant: Grant,
}

/// Whether a plugin can be used.
#[derive(Debug)]
pub(crate) enum Status {
    Looked(Health),
    Broken(PluginError),
}

/// Everything that is known about one plugin.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) listing: Listing,
    pub(crate) component: Result<ComponentFacts, PluginError>,
}

/// The facts that only the component itself contains.
#[derive(Debug, Default)]
pub(crate) struct ComponentFacts {
    /// The interfaces that the component imports: it can do nothing that needs another interface.
    pub(crate) imports: Vec<String>,
    /// A JSON Schema.
    pub(crate) config_schema: String,
    /// A JSON Schema.
    pub(crate) task_schema: String,
    /// The faults of the plugin's table in the configuration.
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
        // A catalog without a compiler reads beside a host that perhaps compiles.
        if matches!(places.compiler, Compiler::Process)
            && let Err(error) = cache.forget_unfinished()
        {
            tracing::warn!(%error, "files that a killed host was compiling cannot be removed");
        }
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

    fn add_builtin(&mut self, builtin: &'static Builtin, configs: &BTreeMap<String, String>) {
        let manifest = match Manifest::parse(builtin.manifest) {
            Ok(manifest) => manifest,
            Err(error) => {
                let message = error.to_string();
                let error = PluginError::Manifest {
                    path: "plugin.toml".into(),
                    message,
                };
                self.entries
                    .insert("(built-in)".into(), Entry::Broken(Origin::BuiltIn, error));
                return;
            }
        };
        let asked = manifest
            .permissions
            .process
            .iter()
            .flat_map(|process| &process.commands);
        let process = asked.map(ToString::to_string).collect();
        let grant = Grant {
            digest: builtin.digest.into(),
            process,
        };
        self.add(
            manifest,
            grant,
            configs,
            Source::BuiltIn(builtin),
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

    /// Adds each installed plugin: its manifest `plugins/NAME/plugin.toml`, its component
    /// `plugins/NAME/NAME.wasm` and its grant `grants/NAME.toml`.
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
        // A folder that cannot be looked at may be a plugin's.
        folders.retain(|path| {
            path.metadata().map_or_else(
                |error| error.kind() != std::io::ErrorKind::NotFound,
                |found| found.is_dir(),
            )
        });
        folders.sort();
        for folder in folders.iter().take(INSTALLED) {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if self.entries.contains_key(&name) {
                tracing::warn!(
                    "{} is ignored: {name} is a built-in plugin",
                    folder.display()
                );
                continue;
            }
            match read_installed(&places.data_dir, folder, &name) {
                Ok((manifest, grant, source)) => {
                    self.add(manifest, grant, &places.configs, source, Origin::Installed);
                }
                Err(error) => {
                    self.entries
                        .insert(name, Entry::Broken(Origin::Installed, error));
                }
            }
        }
        Ok(())
    }

    /// Lists all plugins. Each plugin checks the machine the first time, and again if `refresh` is
    /// set.
    pub(crate) async fn list(&self, refresh: bool) -> Vec<Listing> {
        let mut list = Vec::with_capacity(self.entries.len());
        for (name, entry) in &self.entries {
            list.push(listing(name, entry, refresh).await);
        }
        list
    }

    /// Sets up the engine and loads the built-in plugins, so that the first task waits for neither.
    /// Nothing depends on this function: a step that is not done yet is done when it is needed, and
    /// its error is reported at that moment.
    pub(crate) async fn warm(&self) {
        let shared = Arc::clone(&self.shared);
        let started = crate::aside::run(move || shared.wasm().map(drop)).await;
        if !matches!(started, Ok(Ok(()))) {
            return;
        }
        for entry in self.entries.values() {
            if let Entry::Usable(Origin::BuiltIn, executor) = entry
                && let Err(error) = executor.loaded().await
            {
                tracing::warn!(
                    "the built-in plugin {} cannot be used: {error}",
                    executor.manifest().name
                );
            }
        }
    }

    /// The names of all plugins, usable or not.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    /// Whether there are other plugins than the built-in ones.
    pub(crate) fn has_installed(&self) -> bool {
        self.entries.values().any(|entry| {
            let (Entry::Usable(origin, _) | Entry::Broken(origin, _)) = entry;
            *origin == Origin::Installed
        })
    }

    /// The usable executors.
    pub(crate) fn executors(&self) -> impl Iterator<Item = &Arc<Executor>> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Usable(_, executor) => Some(executor),
            Entry::Broken(..) => None,
        })
    }

    /// The plugins whose files could not be read, so that their tasks wait for the next host.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (&str, &PluginError)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Broken(_, error) if error.lets_tasks_wait() => Some((name.as_str(), error)),
            Entry::Broken(..) | Entry::Usable(..) => None,
        })
    }

    /// The names of the usable executors.
    pub(crate) fn executor_names(&self) -> Vec<&str> {
        let usable = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Usable(..)));
        usable.map(|(name, _)| name.as_str()).collect()
    }

    /// The executor of this name, or the reason why there is none.
    pub(crate) fn executor(&self, name: &str) -> Result<&Arc<Executor>, PluginError> {
        match self.entries.get(name) {
            Some(Entry::Usable(_, executor)) => Ok(executor),
            Some(Entry::Broken(_, error)) => Err(error.clone()),
            None => Err(PluginError::Unknown { name: name.into() }),
        }
    }

    /// Loads the plugin and checks the machine; `None` if there is no plugin of this name.
    pub(crate) async fn inspect(&self, name: &str) -> Option<Inspection> {
        let entry = self.entries.get(name)?;
        let listing = listing(name, entry, true).await;
        let component = match entry {
            Entry::Usable(_, executor) => component_facts(executor).await,
            Entry::Broken(_, error) => Err(error.clone()),
        };
        Some(Inspection { listing, component })
    }

    /// The way in which instances are allocated.
    #[cfg(feature = "bench")]
    pub(crate) fn allocation(&self) -> Result<super::engine::Allocation, PluginError> {
        self.shared.wasm().map(|wasm| wasm.allocation)
    }
}

fn read_installed(
    data_dir: &Path,
    folder: &Path,
    name: &str,
) -> Result<(Manifest, Grant, Source), PluginError> {
    let path = folder.join("plugin.toml");
    let text = fsx::read_text(&path).map_err(|error| PluginError::at_start(&path, &error))?;
    let manifest = Manifest::parse(&text).map_err(|error| PluginError::Manifest {
        path: path.clone(),
        message: error.to_string(),
    })?;
    if manifest.name != name {
        let message = format!(
            "it names the plugin `{}`, but its folder is named `{name}`; both names must be the same",
            manifest.name
        );
        return Err(PluginError::Manifest { path, message });
    }
    let component = folder.join(format!("{name}.wasm"));
    let bytes = fsx::read(&component).map_err(|error| PluginError::at_start(&component, &error))?;
    let grant = Grant::read(
        &data_dir.join("grants").join(format!("{name}.toml")),
        &digest::hex(&bytes),
    )?;
    Ok((manifest, grant, Source::File(component)))
}

async fn listing(name: &str, entry: &Entry, refresh: bool) -> Listing {
    let (origin, shipped, status) = match entry {
        Entry::Broken(origin, error) => (*origin, None, Status::Broken(error.clone())),
        Entry::Usable(origin, executor) => {
            let shipped = Shipped {
                manifest: executor.manifest().clone(),
                grant: executor.grant().clone(),
            };
            (*origin, Some(shipped), status(executor, refresh).await)
        }
    };
    Listing {
        name: name.to_owned(),
        origin,
        shipped,
        status,
    }
}

async fn status(executor: &Executor, refresh: bool) -> Status {
    if let Some(error) = executor.disabled() {
        return Status::Broken(error);
    }
    let known = executor.health().filter(|_| !refresh);
    let health = match known {
        Some(health) => Ok(health),
        None => executor.fingerprint().await,
    };
    health.map_or_else(Status::Broken, Status::Looked)
}

async fn component_facts(executor: &Executor) -> Result<ComponentFacts, PluginError> {
    let imports = executor.loaded().await?.surface.imports.clone();
    let config_schema = executor.config_schema().await?;
    let task_schema = executor.task_schema().await?;
    let config_issues = executor.validate_config().await?;
    Ok(ComponentFacts {
        imports,
        config_schema,
        task_schema,
        config_issues,
    })
}
