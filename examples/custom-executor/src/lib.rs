//! An executor for make. The document `{"target": "test"}` makes the target `test` in the task's
//! directory.

use claudine_plugin_sdk::{Command, Ctx, Executor, Failure, Outcome, Task, export};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    target: String,
}

#[derive(Default)]
struct Make;

impl Executor for Make {
    type Spec = Spec;

    fn task_schema() -> &'static str {
        r#"{"type": "object", "properties": {"target": {"type": "string"}}, "required": ["target"]}"#
    }

    async fn run(&self, task: Task<Spec>, _ctx: Ctx) -> Result<Outcome, Failure> {
        let make = Command::new("make").args(["--", &task.spec.target]);
        Ok(make.spawn().await?.wait().await?.into())
    }
}

export!(Make);
