//! The pattern of `examples/patterns/` that contains an agent.

use std::path::Path;

use claudine_tests::messages_api::{Answer, Rule, Script, Step};
use serde_json::json;

use crate::world::World;

#[test]
fn pattern_with_commands_around_an_agent_succeeds() {
    let world = World::new(Script::always(Answer::text("written")));
    let review = world.host.work().join("review.md");
    let write = Step::Tool {
        name: "Write".to_owned(),
        input: json!({"file_path": review, "content": "It panics."}),
    };
    world.api.set_script(
        Script::default()
            .then(Rule::new(Answer::steps([write])).at_turn(0))
            .then(Rule::new(Answer::text("written"))),
    );
    let pattern = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/patterns/review.yaml");
    let ids = world.host.text(["submit".as_ref(), pattern.as_os_str()]);
    for id in ids.lines() {
        let task = world.host.finished(id);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
    }
    let edges = world.host.json(["graph", "review"]);
    let edges = edges["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 2, "the agent stands between the commands");
}
