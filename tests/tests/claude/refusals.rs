//! Requests that are refused before anything is started, with a hint.

use claudine_tests::messages_api::{Answer, Script};

use crate::world::World;

fn world() -> World {
    World::new(Script::always(Answer::text("ok")))
}

#[track_caller]
fn check(world: &World, arguments: &[&str], input: &[u8], says: &[&str]) {
    let ran = world
        .host
        .run_with(["delegate"].iter().chain(arguments), input);
    assert!(!ran.status.success(), "{ran}");
    assert!(ran.stdout.is_empty(), "{ran}");
    ran.says(says);
    assert!(world.api.requests().is_empty(), "something was started");
}

#[test]
fn invalid_prompts_are_refused() {
    let world = world();
    check(&world, &[""], b"", &["empty"]);
    check(&world, &["-"], b" \n", &["empty"]);
    check(
        &world,
        &["-"],
        &vec![b'x'; 10_000_001],
        &["10000001 bytes", "put the text in a file"],
    );
}

#[test]
fn invalid_options_are_refused() {
    let world = world();
    for (option, value, says) in [
        ("--permission-mode", "yolo", &["yolo", "acceptEdits"][..]),
        ("--max-turns", "0", &["1"][..]),
        ("--max-budget-usd", "0", &["greater than 0"][..]),
        ("--resume-session", "yesterday", &["UUID"][..]),
    ] {
        check(&world, &["hi", option, value], b"", says);
    }
}

#[test]
fn root_without_a_sandbox_may_not_bypass_permissions() {
    if rustix::process::geteuid().is_root() {
        check(
            &world(),
            &["hi", "--permission-mode", "bypassPermissions"],
            b"",
            &["root", "IS_SANDBOX=1"],
        );
    } else {
        eprintln!(
            "not root: only the executor's own tables test that root may not bypass permissions"
        );
    }
}

#[test]
fn agent_in_a_sandbox_may_bypass_permissions() {
    let script = Script::command_then("git init --quiet bypassed", "done");
    let world = World::new(script);
    let task = world.done(&[
        "go",
        "--permission-mode",
        "bypassPermissions",
        "--env",
        "IS_SANDBOX=1",
    ]);
    crate::world::succeeded(&task, "done");
    assert!(world.host.work().join("bypassed").is_dir());
}
