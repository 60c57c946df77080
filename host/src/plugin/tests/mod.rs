//! Tests of the host with well-behaved and with hostile components.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod allow;
mod answer;
mod attack;
mod crash;
mod refuse;
mod stop;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::oneshot;

use super::{
    catalog::{Catalog, Places},
    engine::Wasm,
    error::{GuestEnd, PluginError},
    executor::Executor,
    fixtures::{self, Recorder},
    load::Compiler,
    port::{GuestOutcome, Start},
};
use crate::digest;

const MANIFEST: &str = r#"
kind = "executor"
name = "guest"
version = "0.1.0"
wit = "0.1.0"
summary = "Does what its test says"

[permissions.process]
commands = ["sh"]
why = "a test starts it"
"#;

/// A data directory with one plugin in it, and the catalog of this directory.
struct House {
    dir: tempfile::TempDir,
    catalog: Catalog,
}

impl House {
    fn with(component: &[u8]) -> House {
        House::granting(component, &["sh"])
    }

    fn granting(component: &[u8], process: &[&str]) -> House {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins/guest");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(dir.path().join("grants")).unwrap();
        std::fs::write(folder.join("plugin.toml"), MANIFEST).unwrap();
        std::fs::write(folder.join("guest.wasm"), component).unwrap();
        let grant = format!(
            "digest = \"{}\"\nprocess = {process:?}\n",
            digest::hex(component)
        );
        std::fs::write(dir.path().join("grants/guest.toml"), grant).unwrap();
        let catalog = open(dir.path(), Wasm::on_demand);
        House { dir, catalog }
    }

    fn executor(&self) -> &Arc<Executor> {
        self.catalog.executor("guest").unwrap()
    }
}

fn open(dir: &std::path::Path, start: fn() -> Result<Wasm, PluginError>) -> Catalog {
    let places = Places {
        data_dir: dir.into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    Catalog::open_with(places, &[], start).unwrap()
}

/// Runs an attempt that nobody stops, and whose requests to the host nobody looks at.
async fn run_unseen(executor: &Executor) -> Result<GuestOutcome, GuestEnd> {
    run(executor, &Arc::new(Recorder::default())).await
}

/// Runs an attempt that nobody stops.
async fn run(executor: &Executor, host: &Arc<Recorder>) -> Result<GuestOutcome, GuestEnd> {
    let (_keep, stop) = oneshot::channel();
    let host = Arc::clone(host);
    executor
        .run(fixtures::task(), Start::Fresh, host, stop)
        .await
}
