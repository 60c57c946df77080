//! Plugins that cannot be used, and the reasons that are given.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::PathBuf,
    process::ExitStatus,
};

use rustix::process::Signal;

use super::{House, MANIFEST, open, run_unseen};
use crate::{
    digest,
    layout::Layout,
    plugin::{
        catalog::{Catalog, Places, Status},
        engine::Wasm,
        error::PluginError,
        fixtures::{self, Wat},
        load::{self, Compiler},
    },
};

/// A file that is not an executor is refused with a reason, at a second request too.
#[tokio::test]
async fn a_file_that_is_no_executor_is_refused_with_a_reason() {
    async fn check(component: &[u8], expected: &str) {
        let house = House::with(component);
        for _ in 0..2 {
            let error = house.executor().validate("{}", &vec![]).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let end = run_unseen(house.executor()).await.unwrap_err();
        let failure = end.failure("guest");
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("plugin", false)
        );
        assert!(failure.message.contains(expected), "{failure:?}");
    }
    let newer = "package claudine:plugin@0.2.0; interface lifecycle { ping: func(); } world executor-plugin { export lifecycle; }";
    let newer_core = r#"(module (func (export "claudine:plugin/lifecycle@0.2.0#ping")))"#;
    let other = "package other:thing@1.0.0; interface greeter { greet: func(); } world thing { export greeter; }";
    let other_core = r#"(module (func (export "other:thing/greeter@1.0.0#greet")))"#;
    let wanting = "package other:thing@1.0.0; interface kernel { halt: func(); } world thing { import kernel; export run: func(); }";
    let wanting_core = r#"(module (import "other:thing/kernel@1.0.0" "halt" (func $halt)) (func (export "run") (call $halt)))"#;
    let half = "package claudine:plugin@0.1.0; interface lifecycle { ping: func(); } world executor-plugin { export lifecycle; }";
    let half_core = r#"(module (func (export "claudine:plugin/lifecycle@0.1.0#ping")))"#;
    let twisted = "package claudine:plugin@0.1.0; interface lifecycle { config-schema: func(); }
        interface executor { run: func(); } world executor-plugin { export lifecycle; export executor; }";
    let twisted_core = r#"(module (func (export "claudine:plugin/lifecycle@0.1.0#config-schema"))
        (func (export "claudine:plugin/executor@0.1.0#run")))"#;
    let world = "executor-plugin";
    check(
        &fixtures::component_of_text(newer_core, newer, world),
        "was built for claudine:plugin/lifecycle@0.2.0",
    )
    .await;
    check(
        &fixtures::component_of_text(other_core, other, "thing"),
        "does not export claudine:plugin/lifecycle@0.1.0",
    )
    .await;
    check(
        &fixtures::component_of_text(wanting_core, wanting, "thing"),
        "imports other:thing/kernel@1.0.0",
    )
    .await;
    check(
        &fixtures::component_of_text(half_core, half, world),
        "does not export claudine:plugin/executor@0.1.0",
    )
    .await;
    check(
        &fixtures::component_of_text(twisted_core, twisted, world),
        "types do not match the contract",
    )
    .await;
    check(&wat::parse_str("(module)").unwrap(), "core module").await;
    check(b"\x00\x01\x02 not a component at all", "first bytes").await;
    check(
        b"\0asm\x0d\0\x01\0 and then garbage",
        "could not be compiled",
    )
    .await;
    check(b"", "first bytes").await;
}

#[tokio::test]
async fn an_import_that_the_manifest_does_not_ask_for_is_refused() {
    let house = House::with(&Wat::good().component());
    let silent = MANIFEST.split("[permissions").next().unwrap();
    fs::write(house.dir.path().join("plugins/guest/plugin.toml"), silent).unwrap();
    let catalog = open(house.dir.path(), Wasm::on_demand);
    let end = run_unseen(catalog.executor("guest").unwrap())
        .await
        .unwrap_err();
    let message = end.failure("guest").message;
    assert!(
        message.contains("imports claudine:plugin/process@0.1.0, and its manifest does not ask"),
        "{message}"
    );
}

/// The next host may have the pid of the killed one.
#[test]
fn files_that_a_killed_host_was_compiling_are_removed_by_the_next_host() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    layout.create().unwrap();
    let pid = std::process::id();
    let code = layout.cache().join("shell-0123-4567.cwasm");
    let record = code.with_extension("sha256");
    let source = code.with_extension(Layout::compiled_by(pid));
    let target = code.with_extension(format!("{pid}.new"));
    for file in [&code, &record, &source, &target] {
        fs::write(file, "").unwrap();
    }
    let open = |compiler: Compiler| {
        let places = Places {
            data_dir: dir.path().into(),
            compiler,
            configs: BTreeMap::new(),
        };
        Catalog::open(places, &[]).unwrap();
    };
    open(Compiler::Nobody);
    assert!(layout.is_compiling(pid) && target.exists());
    open(Compiler::Process);
    assert!(!layout.is_compiling(pid) && !target.exists());
    assert!(code.exists() && record.exists());
}

/// Removes the only file with compiled code. A test that changes the code writes a new file,
/// because the mapped file must not change.
fn taken_code(house: &House) -> (PathBuf, Vec<u8>) {
    let files = fs::read_dir(house.dir.path().join("cache")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let codes: Vec<PathBuf> = paths
        .filter(|path| path.extension().unwrap() == "cwasm")
        .collect();
    let [path] = &codes[..] else {
        panic!("{codes:?}");
    };
    let code = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    (path.clone(), code)
}

/// A host that was moved to another machine finds the code of the old processor.
#[tokio::test]
async fn code_that_cannot_be_loaded_is_compiled_again() {
    let house = House::with(&Wat::good().component());
    run_unseen(house.executor()).await.unwrap();
    let (path, code) = taken_code(&house);
    fs::write(&path, "not code").unwrap();
    let record = path.with_extension("sha256");
    let recorded = fs::read_to_string(&record).unwrap();
    let of_other = recorded.replace(&digest::hex(&code), &digest::hex(b"not code"));
    assert_ne!(of_other, recorded);
    fs::write(record, of_other).unwrap();
    let again = open(house.dir.path(), Wasm::on_demand);
    run_unseen(again.executor("guest").unwrap()).await.unwrap();
    assert_ne!(fs::read(&path).unwrap(), b"not code");
}

/// A directory in the place of the file stands for a disk that is full or cannot be read.
#[tokio::test]
async fn code_that_cannot_be_had_is_no_fault_of_the_plugin_and_is_loaded_once_it_can() {
    let house = House::with(&Wat::good().component());
    run_unseen(house.executor()).await.unwrap();
    assert!(house.executor().lacks_code().is_none());
    let (path, code) = taken_code(&house);
    fs::write(&path, code).unwrap();
    let (record, kept) = (path.with_extension("sha256"), path.with_extension("kept"));
    fs::rename(&record, &kept).unwrap();
    fs::create_dir(&record).unwrap();
    let again = open(house.dir.path(), Wasm::on_demand);
    let executor = again.executor("guest").unwrap();
    let error = executor.loaded().await.err().unwrap();
    assert!(error.is_lack_of_code(), "{error}");
    assert_eq!(executor.lacks_code(), Some(error.clone()));
    // Nobody is shown a lack of which the engine does not know yet.
    assert_eq!(executor.told_lack(), None);
    let lack = executor.lack().borrow().clone().unwrap();
    executor.note_told(&lack);
    executor.until_lack_is_told().await;
    assert_eq!(executor.told_lack(), Some(error));
    fs::remove_dir(&record).unwrap();
    fs::rename(&kept, &record).unwrap();
    while let Err(error) = executor.loaded().await {
        assert!(error.is_lack_of_code(), "{error}");
        // A lack is not looked at again for a moment.
        tokio::task::yield_now().await;
    }
    executor.until_it_has_code().await;
    assert_eq!(executor.lacks_code(), None);
    assert_eq!(executor.told_lack(), None);
    // What was told of the earlier lack does not count for a later one.
    executor.note_told(&lack);
    assert_eq!(executor.told_lack(), None);
}

/// A removed cache is made again, also if the host has used it before.
#[tokio::test]
async fn a_cache_that_was_removed_is_made_again() {
    let house = House::with(&Wat::good().component());
    run_unseen(house.executor()).await.unwrap();
    let again = open(house.dir.path(), Wasm::on_demand);
    fs::remove_dir_all(house.dir.path().join("cache")).unwrap();
    again.executor("guest").unwrap().loaded().await.unwrap();
    taken_code(&house);
}

/// A compiler that was killed says nothing about the component, unlike one that refuses it or that
/// would exceed a limit of its own each time.
#[test]
fn only_a_component_that_the_compiler_refuses_is_a_fault_of_the_plugin() {
    let failed = |raw: i32| load::failed(ExitStatus::from_raw(raw), b"it said so\n");
    let exit = |code: u8| i32::from(code) << 8;
    for raw in [
        exit(load::REFUSED),
        Signal::XCPU.as_raw(),
        Signal::XFSZ.as_raw(),
    ] {
        let error = failed(raw);
        assert!(!error.is_lack_of_code() && !error.is_passing(), "{raw}");
        assert_eq!(error.to_string(), "it could not be compiled: it said so");
    }
    for raw in [
        exit(1),
        exit(101),
        Signal::KILL.as_raw(),
        Signal::TERM.as_raw(),
    ] {
        let error = failed(raw);
        assert!(error.is_lack_of_code() && error.is_passing(), "{raw}");
    }
    let full = PluginError::Full { limit: 1 };
    assert!(!full.is_lack_of_code() && full.is_passing());
}

/// A directory in the place of the file stands for one that may not be removed.
#[tokio::test]
async fn new_code_is_used_although_older_code_cannot_be_removed() {
    let house = House::with(&Wat::good().component());
    let older = format!("cache/guest-{0}-{0}.cwasm", "0".repeat(16));
    fs::create_dir_all(house.dir.path().join(older)).unwrap();
    house.executor().loaded().await.unwrap();
}

/// As after a power cut.
#[tokio::test]
async fn code_whose_record_is_damaged_is_compiled_again() {
    let house = House::with(&Wat::good().component());
    house.executor().loaded().await.unwrap();
    let (path, code) = taken_code(&house);
    fs::write(&path, code).unwrap();
    let record = path.with_extension("sha256");
    for damaged in [vec![], vec![0_u8; 64], vec![0xff; 64]] {
        fs::write(&record, damaged).unwrap();
        let again = open(house.dir.path(), Wasm::on_demand);
        again.executor("guest").unwrap().loaded().await.unwrap();
        let recorded = fs::read_to_string(&record).unwrap();
        let made = digest::hex(&fs::read(&path).unwrap());
        assert!(recorded.starts_with(&made), "{recorded}");
    }
}

/// Both files of the other plugin fit together.
#[tokio::test]
async fn code_of_another_plugin_is_not_used() {
    let house = House::with(&Wat::good().component());
    let other = House::with(&Wat::good().with("validate", fixtures::TRAP).component());
    for each in [&house, &other] {
        each.executor().loaded().await.unwrap();
    }
    let (path, _) = taken_code(&house);
    let (from, code) = taken_code(&other);
    fs::write(&path, code).unwrap();
    let record = |path: &PathBuf| path.with_extension("sha256");
    fs::copy(record(&from), record(&path)).unwrap();
    let again = open(house.dir.path(), Wasm::on_demand);
    let executor = again.executor("guest").unwrap();
    assert_eq!(executor.validate("{}", &vec![]).await.unwrap(), []);
}

#[tokio::test]
async fn a_changed_cache_is_rebuilt_and_a_changed_component_is_refused() {
    let house = House::with(&Wat::good().component());
    run_unseen(house.executor()).await.unwrap();
    let (path, mut code) = taken_code(&house);
    let middle = code.len() / 2;
    code[middle] ^= 0xff;
    fs::write(&path, &code).unwrap();
    let again = open(house.dir.path(), Wasm::on_demand);
    run_unseen(again.executor("guest").unwrap()).await.unwrap();
    assert_ne!(fs::read(&path).unwrap(), code);
    let late = open(house.dir.path(), Wasm::on_demand);
    let component = Wat::good().with("validate", fixtures::TRAP).component();
    fs::write(
        house.dir.path().join("plugins/guest/guest.wasm"),
        &component,
    )
    .unwrap();
    let error = late
        .executor("guest")
        .unwrap()
        .validate("{}", &vec![])
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("was changed while the host was running"),
        "{error}"
    );
    let reopened = open(house.dir.path(), Wasm::on_demand);
    assert_eq!(
        reopened.executor("guest").unwrap().grant().process,
        Vec::<String>::new(),
        "the grant was for another component"
    );
}

#[tokio::test]
async fn broken_plugins_are_listed_with_their_reason() {
    let house = House::with(&Wat::good().component());
    let plugins = house.dir.path().join("plugins");
    for (name, manifest) in [("torn", "name = "), ("other", MANIFEST)] {
        fs::create_dir(plugins.join(name)).unwrap();
        fs::write(plugins.join(name).join("plugin.toml"), manifest).unwrap();
    }
    fs::create_dir(plugins.join("empty")).unwrap();
    // Each of them can perhaps be read by the next host.
    fs::create_dir_all(plugins.join("unread/plugin.toml")).unwrap();
    symlink(plugins.join("loop"), plugins.join("loop")).unwrap();
    let catalog = open(house.dir.path(), Wasm::on_demand);
    let list = catalog.list(false).await.into_iter();
    let names: Vec<_> = list
        .map(|line| (line.name, matches!(line.status, Status::Broken(_))))
        .collect();
    let expected = [
        ("empty", true),
        ("guest", false),
        ("loop", true),
        ("other", true),
        ("torn", true),
        ("unread", true),
    ];
    assert_eq!(
        names,
        expected.map(|(name, broken)| (name.to_owned(), broken))
    );
    let waits: Vec<_> = catalog.unread().map(|(name, _)| name).collect();
    assert_eq!(waits, ["loop", "unread"]);
    for name in ["empty", "unread"] {
        let error = catalog.executor(name).err().unwrap();
        // This host does not read it again.
        assert!(!error.is_lack_of_code(), "{error}");
        assert_eq!(error.lets_tasks_wait(), name == "unread", "{error}");
        let way_out = "restart the host to use the plugin";
        assert!(error.to_string().ends_with(way_out), "{error}");
    }
    assert!(matches!(
        catalog.executor("torn"),
        Err(PluginError::Manifest { .. })
    ));
    assert!(matches!(
        catalog.executor("nobody"),
        Err(PluginError::Unknown { .. })
    ));
}
