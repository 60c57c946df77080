//! Commands that a plugin was granted, and tricks to make another program run in their place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::plugin::builtin::BUILTINS;
use crate::plugin::catalog::{Catalog, Places};
use crate::plugin::engine::Wasm;
use crate::plugin::error::GuestEnd;
use crate::plugin::fixtures::{self, Recorder};
use crate::plugin::load::Compiler;
use crate::plugin::port::{GuestTask, Start};

/// An installed plugin with a grant, which starts the commands in its task's spec.
struct House {
    dir: tempfile::TempDir,
    catalog: Catalog,
}

fn house(granted: &[&str]) -> House {
    let mock = BUILTINS
        .iter()
        .find(|builtin| builtin.manifest.contains("name = \"mock\""))
        .expect("these tests need the built plugins");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("plugins/mock");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(dir.path().join("grants")).unwrap();
    fs::write(folder.join("plugin.toml"), mock.manifest).unwrap();
    fs::write(folder.join("mock.wasm"), mock.component().unwrap()).unwrap();
    let digest = mock.digest;
    let grant = format!("digest = \"{digest}\"\nprocess = {granted:?}\n");
    fs::write(dir.path().join("grants/mock.toml"), grant).unwrap();
    fs::create_dir_all(dir.path().join("work/sub")).unwrap();
    program(&dir.path().join("work/bin/tool"));
    program(&dir.path().join("system/tool"));
    fixtures::share_code(dir.path());
    let places = Places {
        data_dir: dir.path().into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    let catalog = Catalog::open_with(places, &[], Wasm::on_demand).unwrap();
    House { dir, catalog }
}

fn program(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

impl House {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Starts these children; returns their commands, or the reason why a child was not started.
    async fn start(&self, children: Vec<Value>) -> Result<Vec<String>, String> {
        let steps: Vec<_> = children
            .into_iter()
            .map(|child| json!({ "spawn": child }))
            .collect();
        let task = GuestTask {
            spec: json!({ "steps": steps }).to_string(),
            workspace: self.path("work"),
            path: Some(format!(
                "bin:{}:{}",
                self.path("work/bin"),
                self.path("system")
            )),
            ..fixtures::task()
        };
        let host = Arc::new(Recorder::default());
        let (_keep, stop) = oneshot::channel();
        let executor = self.catalog.executor("mock").unwrap();
        let end = executor
            .run(task, Start::Fresh, Arc::clone(&host) as _, stop)
            .await;
        let spawned = host.spawned.lock().unwrap().clone();
        match end {
            Ok(_) => Ok(spawned),
            Err(GuestEnd::Failed(failure)) => Err(format!(
                "{} after {}: {}",
                failure.code,
                spawned.len(),
                failure.message
            )),
            Err(end) => panic!("{end}"),
        }
    }

    async fn denied(&self, child: Value, part: &str) {
        let why = self.start(vec![child.clone()]).await.unwrap_err();
        assert!(why.starts_with("denied after 0: "), "{child}: {why}");
        assert!(why.contains(part), "{child}: {why}");
    }
}

#[tokio::test]
async fn a_granted_name_is_resolved_outside_the_workspace() {
    let house = house(&["tool", "own"]);
    program(&house.dir.path().join("work/bin/own"));
    let tool = json!({"argv": ["tool"]});
    let system = house.path("system/tool");
    assert_eq!(
        house.start(vec![tool.clone()]).await,
        Ok(vec![system.clone()])
    );
    let own = house
        .start(vec![json!({"argv": ["own"]})])
        .await
        .unwrap_err();
    assert!(
        own.starts_with("spawn after 0: `own` is found only in the task's workspace"),
        "{own}"
    );
    // A name means the same file until the attempt ends.
    let remove = json!({"argv": ["tool"], "cwd": house.path("work/sub")});
    assert_eq!(
        house.start(vec![tool, remove]).await,
        Ok(vec![system.clone(), system])
    );
}

#[tokio::test]
async fn a_path_to_a_file_with_a_granted_name_is_denied() {
    let house = house(&["tool"]);
    for path in [house.path("work/bin/tool"), house.path("system/tool")] {
        house
            .denied(json!({"argv": [path]}), "was not granted")
            .await;
    }
    for path in ["./tool", "bin/tool", "../system/tool", ""] {
        house
            .denied(json!({"argv": [path]}), "was not granted")
            .await;
    }
}

#[tokio::test]
async fn a_path_is_allowed_only_if_that_path_was_granted() {
    let house = house(&["/bin/sh"]);
    let sh = json!({"argv": ["/bin/sh"]});
    assert_eq!(house.start(vec![sh]).await, Ok(vec!["/bin/sh".to_owned()]));
    for path in ["/bin/../bin/sh", "//bin/sh", "sh", "/usr/bin/sh"] {
        house
            .denied(json!({"argv": [path]}), "was not granted")
            .await;
    }
}

#[tokio::test]
async fn a_granted_command_cannot_be_replaced_by_its_environment() {
    let house = house(&["tool"]);
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "GIT_SSH_COMMAND",
        "GIT_EXTERNAL_DIFF",
        "NODE_OPTIONS",
        "BASH_ENV",
        "PYTHONPATH",
        "PERL5OPT",
    ] {
        let child = json!({"argv": ["tool"], "env": {"LANG": "C", name: "x"}});
        house.denied(child, name).await;
    }
    let child = json!({"argv": ["tool"], "env": {"LANG": "C"}});
    assert!(house.start(vec![child]).await.is_ok());
}

#[tokio::test]
async fn a_granted_command_cannot_run_outside_the_workspace() {
    let house = house(&["tool"]);
    let link = house.dir.path().join("work/link");
    std::os::unix::fs::symlink(house.dir.path().join("system"), link).unwrap();
    for directory in [
        "system",
        "work/..",
        "work/../system",
        "work/link",
        "work/gone",
    ] {
        let directory = house.path(directory);
        let child = json!({"argv": ["tool"], "cwd": directory.clone()});
        house.denied(child, &directory).await;
    }
    for directory in ["work", "work/sub", "work/sub/.."] {
        let child = json!({"argv": ["tool"], "cwd": house.path(directory)});
        assert!(house.start(vec![child]).await.is_ok(), "{directory}");
    }
}

#[tokio::test]
async fn a_grant_of_everything_allows_everything() {
    let house = house(&["*"]);
    let child = json!({
        "argv": ["tool"], "cwd": "/", "env": {"PATH": "/x", "LD_PRELOAD": "y"},
    });
    let own = json!({"argv": [house.path("work/bin/tool")]});
    let expected = vec!["tool".to_owned(), house.path("work/bin/tool")];
    assert_eq!(house.start(vec![child, own]).await, Ok(expected));
}
