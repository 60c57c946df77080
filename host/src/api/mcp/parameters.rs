//! What the tools take. A field nobody knows is refused by name: an agent that misspells one shall
//! learn it.

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
pub(super) const OUTPUT_BYTES: std::ops::RangeInclusive<u64> = 1_024..=1_073_741_824;
pub(super) const TAIL_LINES: std::ops::RangeInclusive<u64> = 1..=1_000;
pub(super) const WAIT_MS: std::ops::RangeInclusive<u64> = 0..=50_000;
pub(super) const PAGE: std::ops::RangeInclusive<u64> = 1..=100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DelegateTask {
    /// What is to be done, complete in itself: whoever does it sees nothing of this conversation.
    /// For the executor `shell` it is the script.
    pub(super) prompt: String,
    /// P0 goes before P1, P1 before P2. P1 where it is not given.
    pub(super) priority: Option<Priority>,
    /// The directory to work in; this server's own where it is not given.
    pub(super) working_directory: Option<String>,
    /// End the task after so many milliseconds. No limit where it is not given.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// End the task when it has been silent for so many milliseconds. 30 minutes for agents where
    /// it is not given.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) idle_timeout: Option<u64>,
    /// Keep at most so many bytes of its output; of more, the first and the newest half.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub(super) max_output_buffer: Option<u64>,
    /// `claude` (an agent, the default), `shell` (the prompt is a script), or another plugin's
    /// name.
    pub(super) executor: Option<String>,
    /// A name to find it by.
    pub(super) name: Option<String>,
    /// Labels to list by.
    pub(super) labels: Option<std::collections::BTreeMap<String, String>>,
    /// The same key again within 24 hours answers with the first task instead of making another.
    pub(super) idempotency_key: Option<String>,
    /// For agents: the model.
    pub(super) model: Option<String>,
    /// For agents: what may be done unasked, such as `acceptEdits`.
    pub(super) permission_mode: Option<String>,
    /// For agents: tools that may be used unasked, such as `Bash(cargo test:*)` or `Edit`.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: text added to the system prompt.
    pub(super) append_system_prompt: Option<String>,
    /// For agents: end it after so many turns.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// For agents: end it when it has cost so many US dollars.
    pub(super) max_budget_usd: Option<f64>,
    /// For agents: fail when a tool was denied.
    pub(super) fail_on_denied: Option<bool>,
    /// For agents: succeed in a worktree even if tools were denied and nothing was changed.
    pub(super) allow_denied: Option<bool>,
    /// For agents: go on with this session.
    pub(super) resume_session: Option<String>,
    /// Submitted from within a task: not cancelled with that one.
    pub(super) detach: Option<bool>,
    /// Tasks to wait for: an id or a name, which has to succeed, or `{task, condition}` with the
    /// condition `succeeded`, `completed` (it ran to an end, good or not) or `any`.
    #[schemars(with = "Option<Vec<Dependency>>")]
    pub(super) dependencies: Option<Vec<serde_json::Value>>,
    /// The same as `dependencies`.
    #[schemars(with = "Option<Vec<Dependency>>")]
    pub(super) depends_on: Option<Vec<serde_json::Value>>,
    /// Tasks whose output it is given, by id or name: before its prompt, and as files in
    /// $CLAUDINE_INPUTS. It waits for them too.
    pub(super) with_output_of: Option<Vec<String>>,
    /// The group whose limit counts for it.
    pub(super) group: Option<String>,
    /// Start it no sooner than so many milliseconds from now.
    pub(super) after: Option<u64>,
    /// Try it again up to so often when it fails.
    #[schemars(range(max = 1000))]
    pub(super) retries: Option<u32>,
    /// Stop it, and do not try it again, once its attempts have cost so many US dollars together.
    pub(super) budget_usd: Option<f64>,
    /// Work in a git worktree of its own, on a branch of its own; the checkout of
    /// `workingDirectory` is left alone.
    pub(super) use_worktree: Option<bool>,
    /// The branch of the worktree, which must not exist yet. One named after the task where it is
    /// not given.
    pub(super) branch_name: Option<String>,
    /// What the branch goes out from, and is merged into: a branch, a tag or a commit. What is
    /// checked out where it is not given.
    pub(super) base_branch: Option<String>,
    /// What becomes of the branch once the task has succeeded: `pr` (pushed, and a request opened
    /// with `gh`), `auto` (merged into its base), `manual` (left; the default) or `patch` (a patch
    /// file). `pr` and `auto` only where the user's configuration allows them
    /// (`mcp.merge_strategies`).
    pub(super) merge_strategy: Option<MergeStrategy>,
    /// Keep the worktree when the task has succeeded and its work is committed; otherwise it stays
    /// anyway.
    pub(super) keep_worktree: Option<bool>,
}

// What clients are told of a dependency; it is read as in files.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Dependency {
    /// An id or a name.
    Task(String),
    Condition {
        /// An id or a name.
        task: String,
        /// `succeeded`, `completed` or `any`.
        condition: Option<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum MergeStrategy {
    Pr,
    Auto,
    Manual,
    Patch,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubmitGraph {
    /// The tasks. Each has one of `prompt` (for an agent), `script` and `argv`, a `name`, and
    /// `dependencies`: names of other tasks of this call, or names or ids of earlier ones, or
    /// `{task, condition}` as for DelegateTask. `withOutputOf` names tasks whose output it is
    /// given. Also `executor`, `group`, `priority`, `workingDirectory`, `env`, `timeout` (such as
    /// `10m`), `retries`, `hold`, `after`, `worktree` (true, or `{branch, base, merge, keep,
    /// message}`), `labels`, `model`, `permissionMode`, `allowedTools`.
    #[schemars(length(min = 1, max = 1000))]
    pub(super) tasks: Vec<serde_json::Map<String, serde_json::Value>>,
    /// A name to find them by together, as `graph` of ListTasks.
    pub(super) name: Option<String>,
    /// What the agents among them may cost together, in US dollars.
    pub(super) budget_usd: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
pub(super) enum Priority {
    P0,
    P1,
    P2,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TaskStatus {
    /// An id, the end or the beginning of one, or a name. The newest tasks where it is not given.
    pub(super) task_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TaskLogs {
    /// An id, the end or the beginning of one, or a name.
    pub(super) task_id: String,
    /// How many of the last lines of each stream. 100 where it is not given. Of more than some
    /// 40,000 bytes the beginning is left out.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) tail: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CancelTask {
    /// An id, the end or the beginning of one, or a name.
    pub(super) task_id: Option<String>,
    /// In place of `taskId`: every task of this graph, by its name or one of its tasks.
    pub(super) graph: Option<String>,
    /// Why; kept with the task.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetryTask {
    /// An id, the end or the beginning of one, or a name.
    pub(super) task_id: String,
    /// Try a task at once that waits for a usage limit, a delay or its start.
    pub(super) now: Option<bool>,
    /// For agents: another model, from this attempt on.
    pub(super) model: Option<String>,
    /// For agents: what may be done unasked, such as `acceptEdits`.
    pub(super) permission_mode: Option<String>,
    /// For agents: all tools that may be used unasked, in place of those given before.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: end each attempt after so many turns.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// Budget in US dollars, over all attempts, those before included.
    pub(super) budget_usd: Option<f64>,
    /// Time limit of each attempt, in milliseconds.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// P0 (highest) to P2.
    pub(super) priority: Option<Priority>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResumeTask {
    /// An id, the end or the beginning of one, or a name.
    pub(super) task_id: String,
    /// What is to be done about it now: a correction, an answer, what is still missing.
    pub(super) additional_context: Option<String>,
    /// For agents: another model, from this attempt on.
    pub(super) model: Option<String>,
    /// For agents: what may be done unasked, such as `acceptEdits`.
    pub(super) permission_mode: Option<String>,
    /// For agents: all tools that may be used unasked, in place of those given before.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: end each attempt after so many turns.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// Budget in US dollars, over all attempts, those before included.
    pub(super) budget_usd: Option<f64>,
    /// Time limit of each attempt, in milliseconds.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// P0 (highest) to P2.
    pub(super) priority: Option<Priority>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListTasks {
    /// Only tasks in one of these states (blocked, waiting, ready, held, running, done) or with one
    /// of these outcomes (succeeded, failed, timed_out, cancelled, skipped, upstream_failed, lost),
    /// with commas between them. `active` for all that have not ended.
    pub(super) state: Option<String>,
    /// Only tasks of this name; `*` stands for any characters, `?` for one.
    pub(super) name: Option<String>,
    /// Only tasks of this executor.
    pub(super) executor: Option<String>,
    /// Only tasks with this label, as `name=value`.
    pub(super) label: Option<String>,
    /// Only tasks of this group.
    pub(super) group: Option<String>,
    /// Only tasks of this graph: its name, or one of its tasks.
    pub(super) graph: Option<String>,
    /// Only tasks that ended since then, or have not ended: `2h` for two hours ago, `9:00`,
    /// `yesterday`, or an RFC 3339 time.
    pub(super) since: Option<String>,
    /// Only tasks that ended before then, or were submitted before then and have not ended.
    pub(super) until: Option<String>,
    /// How many, 20 where it is not given.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<u64>,
    /// Only tasks older than this one: `next` of the answer before.
    pub(super) before: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WaitTask {
    /// An id, the end or the beginning of one, or a name.
    pub(super) task_id: String,
    /// How many milliseconds to wait at most. 50000 where it is not given. `done` in the answer
    /// says whether to call again.
    #[schemars(range(min = 0, max = 50_000))]
    pub(super) timeout: Option<u64>,
}
