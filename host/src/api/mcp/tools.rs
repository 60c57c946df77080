//! The tools as clients see them: names, descriptions and schemas.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{answers, parameters};
use crate::api::paragraphs;

pub(super) const DELEGATE: &str = "DelegateTask";
pub(super) const SUBMIT: &str = "SubmitGraph";
pub(super) const STATUS: &str = "TaskStatus";
pub(super) const LOGS: &str = "TaskLogs";
pub(super) const CANCEL: &str = "CancelTask";
pub(super) const RETRY: &str = "RetryTask";
pub(super) const RESUME: &str = "ResumeTask";
pub(super) const LIST: &str = "ListTasks";
pub(super) const WAIT: &str = "WaitTask";
pub(super) const DIFF: &str = "TaskDiff";
pub(super) const MERGE: &str = "MergeTask";

/// Names in the order of the list.
pub(in crate::api) const NAMES: [&str; 11] = [
    DELEGATE, SUBMIT, STATUS, LOGS, CANCEL, RETRY, RESUME, LIST, WAIT, DIFF, MERGE,
];

pub(super) const INSTRUCTIONS: &str = "\
Claudine runs tasks in the background: prompts for further Claude Code agents, and shell scripts. Tasks survive the end of this session.

Delegate when work is independent of what you do next, would take long, or can run alongside other work: a test suite, a review, a \
migration of one module among several. Do short things yourself. Give each task a prompt that is complete in itself, since the agent sees \
nothing of this conversation: the goal, the files, what counts as done, what not to touch. Tasks that write to the same files belong in \
one task or in different directories. A task that has to run after others gets `dependencies`; SubmitGraph submits a whole plan at once. A task \
whose dependency fails ends as upstream_failed and does not run.

DelegateTask returns at once. Continue your work, then use WaitTask for one or several tasks; it waits at most 50 seconds, so call it again \
while `done` is false. `output` of TaskStatus and WaitTask is an agent's result, or the end of a script's output; `why` says why a task \
waits or did not succeed. TaskLogs shows output of a running task, TaskDiff the changes of a task in a worktree. Agents \
may edit files but not run arbitrary commands. The user's settings limit what permissionMode and allowedTools may add to that; a refusal \
names the setting.

Tasks are run by a host, which the user may end. Only a new task, a retry or a resumption starts it again; the other tools answer from what is \
stored, or say that no host runs.";

pub(super) fn all() -> Vec<Tool> {
    let reads = || ToolAnnotations::new().read_only(true).open_world(false);
    vec![
        tool::<parameters::DelegateTask, answers::Delegated>(
            DELEGATE,
            "Hands a task to a background agent (Claude Code), or, with executor `shell`, runs a script. Returns its id at once. Starts a host if none runs and the request is not refused.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .open_world(true),
        ),
        tool::<parameters::SubmitGraph, answers::Submitted>(
            SUBMIT,
            "Submits a graph of tasks with dependencies, all or none. Returns their ids at once. Starts a host if none runs and the request is not refused.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .open_world(true),
        ),
        tool::<parameters::TaskStatus, answers::Status>(
            STATUS,
            "Shows the state of a task, and its result once it is done. Without taskId: the newest tasks.",
            reads(),
        ),
        tool::<parameters::TaskLogs, answers::Logs>(
            LOGS,
            "Shows the last lines of a task's output, or of an agent's transcript, as many as fit in an answer.",
            reads(),
        ),
        tool::<parameters::CancelTask, answers::Cancelled>(
            CANCEL,
            "Cancels a task and the tasks it submitted itself, or all tasks of a graph. Starts no host that the user has ended.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .idempotent(true)
                .open_world(false),
        ),
        tool::<parameters::RetryTask, answers::Retried>(
            RETRY,
            "Gives a finished task another attempt. The task keeps its id; an agent continues its session if it can. A task that the user submitted outside of MCP is retried only unchanged, and only if it did not succeed. Starts a host if none runs and the request is not refused.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(false)
                .open_world(true),
        ),
        tool::<parameters::ResumeTask, answers::Resumed>(
            RESUME,
            "Continues a finished task from where it ended, with new instructions. The task keeps its id; an agent continues its session. A task that the user submitted outside of MCP is continued only without instructions and changes, and only if it did not succeed. Starts a host if none runs and the request is not refused.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(false)
                .open_world(true),
        ),
        tool::<parameters::ListTasks, answers::Several>(
            LIST,
            "Lists tasks, newest first.",
            reads(),
        ),
        tool::<parameters::WaitTask, answers::Waited>(
            WAIT,
            "Waits for at most 50 seconds until a task has ended, or, given several tasks, until all of them or the first of them has ended. Returns the same as TaskStatus; call it again while `done` is false. Starts no host that the user has ended.",
            reads(),
        ),
        tool::<parameters::TaskDiff, answers::Diff>(
            DIFF,
            "Shows the changes of a task in a worktree, before or after its merge: a line for each file, and the patch.",
            reads(),
        ),
        tool::<parameters::MergeTask, answers::Merged>(
            MERGE,
            "Merges the branch of a finished task, pushes the branch, or writes a patch file: use it after a conflict was resolved, or if the branch was left (`manual`). A task that failed because of its merge then succeeds. Starts no host that the user has ended.",
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .idempotent(true)
                .open_world(true),
        ),
    ]
}

fn tool<Parameters: JsonSchema, Answer: JsonSchema>(
    name: &'static str,
    description: &'static str,
    annotations: ToolAnnotations,
) -> Tool {
    Tool::new(name, description, Arc::new(schema::<Parameters>()))
        .with_raw_output_schema(Arc::new(brief(schema::<Answer>())))
        .with_annotations(annotations)
}

/// Removes the descriptions of enum values and of nested fields from the schema of an answer,
/// because the answer itself makes them clear. The schema takes up space in every conversation.
fn brief(answer: JsonObject) -> JsonObject {
    let mut answer = Value::Object(answer);
    shorten(&mut answer, 0);
    match answer {
        Value::Object(answer) => answer,
        _ => JsonObject::new(),
    }
}

/// Shortens a schema that is nested in `depth` fields.
fn shorten(schema: &mut Value, depth: usize) {
    let Value::Object(fields) = schema else {
        return;
    };
    for word in ["default", "minimum"] {
        fields.remove(word);
    }
    if depth > 1 {
        fields.remove("description");
    }
    if let Some(Value::Array(choices)) = fields.remove("oneOf") {
        let words = choices.iter().flat_map(|choice| {
            let several = choice.get("enum").and_then(Value::as_array);
            let one = choice.get("const");
            several.into_iter().flatten().chain(one).cloned()
        });
        let words: Vec<Value> = words.collect();
        // Alternatives that are objects are dropped, because the type of the field is enough.
        if !words.is_empty() {
            fields.insert("type".to_owned(), "string".into());
            fields.insert("enum".to_owned(), words.into());
        }
    }
    for (word, value) in fields {
        match (word.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    shorten(property, depth + 1);
                }
            }
            ("items" | "additionalProperties", value) => shorten(value, depth),
            ("anyOf" | "allOf", Value::Array(parts)) => {
                for part in parts {
                    shorten(part, depth);
                }
            }
            _ => {}
        }
    }
}

/// A schema that every client can read: without references, and with optional fields as fields that
/// may be omitted, not as nullable ones.
fn schema<T: JsonSchema>() -> JsonObject {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = paragraphs::joined(settings)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    simplify(&mut schema);
    let mut schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    schema.remove("title");
    // MCP requires an object at the root, even for alternatives.
    schema.entry("type").or_insert_with(|| "object".into());
    schema
}

fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("format");
            // Leaves the field out if any value is allowed, because some clients accept only
            // objects as schemas.
            if fields.get("additionalProperties") == Some(&Value::Bool(true)) {
                fields.remove("additionalProperties");
            }
            if fields.get("items") == Some(&Value::Bool(true)) {
                fields.insert("items".to_owned(), Value::Object(JsonObject::new()));
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    fields.remove("anyOf");
                    for (name, value) in only {
                        fields.entry(name).or_insert(value);
                    }
                }
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(values) => values.iter_mut().for_each(simplify),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::{
        parameters::{
            GRAPH_TASKS, OUTPUT_BYTES, PAGE, TAIL_LINES, TIMEOUT_MS, WAIT_MS, WAITED_TASKS,
        },
        *,
    };
    use crate::app::{RETRIES_MAX, START_MAX};

    #[test]
    fn the_tools_are_as_recorded() {
        insta::assert_json_snapshot!("tools", all());
    }

    /// Some clients drop the whole server if the schema of a value is `true` or `false`.
    #[test]
    fn no_schema_is_a_boolean_except_to_forbid_further_fields() {
        fn check(schema: &Value, path: &str) {
            match schema {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        let closed = name == "additionalProperties" && *value == Value::Bool(false);
                        assert!(closed || !value.is_boolean(), "{path}.{name}");
                        check(value, &format!("{path}.{name}"));
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, path)),
                _ => {}
            }
        }
        for tool in all() {
            check(&Value::Object((*tool.input_schema).clone()), &tool.name);
            let answer = tool.output_schema.as_deref().cloned();
            check(&Value::Object(answer.unwrap_or_default()), &tool.name);
        }
    }

    /// Otherwise a call would be refused although it keeps to the schema.
    #[test]
    fn the_limits_in_the_schemas_are_those_of_the_checks() {
        let limits_of = |tool: &str, field: &str, words: [&str; 2]| {
            let tool = all().into_iter().find(|it| it.name == tool);
            let schema = tool.map(|tool| tool.input_schema["properties"][field].clone());
            words.map(|word| schema.as_ref().and_then(|schema| schema[word].as_u64()))
        };
        let number = |tool: &str, field: &str, range: RangeInclusive<u64>| {
            let found = limits_of(tool, field, ["minimum", "maximum"]);
            assert_eq!(found, [Some(*range.start()), Some(*range.end())], "{field}");
        };
        for (tool, field) in [
            (DELEGATE, "timeout"),
            (DELEGATE, "idleTimeout"),
            (RETRY, "timeout"),
            (RESUME, "timeout"),
        ] {
            number(tool, field, TIMEOUT_MS);
        }
        let after = u64::try_from(START_MAX.as_millis()).unwrap_or(u64::MAX);
        number(DELEGATE, "after", 0..=after);
        number(DELEGATE, "maxOutputBuffer", OUTPUT_BYTES);
        number(DELEGATE, "retries", 0..=u64::from(RETRIES_MAX));
        number(LOGS, "tail", TAIL_LINES);
        number(LIST, "limit", PAGE);
        number(WAIT, "timeout", WAIT_MS);
        for tool in [DELEGATE, RETRY, RESUME] {
            let found = limits_of(tool, "maxTurns", ["minimum", "maximum"]);
            assert_eq!(found, [Some(1), None], "{tool}");
        }
        let list = |tool: &str, field: &str, range: RangeInclusive<usize>| {
            let found = limits_of(tool, field, ["minItems", "maxItems"]);
            let found = found.map(|limit| limit.and_then(|limit| usize::try_from(limit).ok()));
            assert_eq!(found, [Some(*range.start()), Some(*range.end())], "{field}");
        };
        list(WAIT, "taskIds", WAITED_TASKS);
        list(SUBMIT, "tasks", GRAPH_TASKS);
    }

    #[test]
    fn the_list_of_names_matches_the_tools() {
        assert_eq!(
            all()
                .iter()
                .map(|tool| tool.name.clone())
                .collect::<Vec<_>>(),
            NAMES
        );
    }
}
