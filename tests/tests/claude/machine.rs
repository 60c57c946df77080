//! The host's checks of whether the agent is installed.

use claudine_tests::TestHost;
use claudine_tests::messages_api::Script;
use serde_json::Value;

use crate::world::{World, ended};

fn plugin(host: &TestHost) -> Value {
    let plugins = host.json(["plugin", "list"]);
    let all = plugins
        .as_array()
        .or_else(|| plugins["plugins"].as_array())
        .expect("a list of plugins");
    all.iter()
        .find(|plugin| plugin["name"] == "claude")
        .expect("the executor is built in")
        .clone()
}

#[test]
fn installed_agent_is_shown_with_its_version() {
    let world = World::new(Script::default());
    let plugin = plugin(&world.host);
    assert_eq!(plugin["health"], "healthy", "{plugin:#}");
    assert_eq!(plugin["message"], "Claude Code 2.1.330");
}

#[test]
fn missing_agent_is_reported_with_the_command_that_installs_it() {
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    let host = TestHost::builder().env("PATH", nowhere.path()).build();
    let plugin = plugin(&host);
    assert_eq!(plugin["health"], "undetected", "{plugin:#}");
    let advice = "npm install -g @anthropic-ai/claude-code";
    assert!(
        plugin["message"]
            .as_str()
            .is_some_and(|message| message.contains(advice)),
        "{plugin:#}"
    );
    let id = host.text(["delegate", "hi"]);
    let message = ended(&host.finished(&id), "failed", "spawn");
    assert!(message.contains(advice), "{message}");
}
