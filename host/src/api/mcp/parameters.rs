//! Parameters of the tools. Unknown fields are refused by name, so that an agent notices
//! misspellings.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::OUTPUT_MIN_BYTES;

pub(super) const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
pub(super) const OUTPUT_BYTES: std::ops::RangeInclusive<u64> = OUTPUT_MIN_BYTES..=1_073_741_824;
pub(super) const TAIL_LINES: std::ops::RangeInclusive<u64> = 1..=1_000;
pub(super) const WAIT_MS: std::ops::RangeInclusive<u64> = 0..=50_000;
/// Limits of the tasks in a wait, since more would not fit an agent's context.
pub(super) const WAITED_TASKS: std::ops::RangeInclusive<usize> = 1..=32;
/// Limits of the tasks in a graph. The command line accepts more, from a file.
pub(super) const GRAPH_TASKS: std::ops::RangeInclusive<usize> = 1..=1_000;
pub(super) const PAGE: std::ops::RangeInclusive<u64> = 1..=100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DelegateTask {
    /// The prompt, complete in itself: the agent does not see this conversation. For the executor
    /// `shell`, the script.
    pub(super) prompt: String,
    /// Priority, P0 (highest) to P2. Default: P1.
    pub(super) priority: Option<Priority>,
    /// Working directory. Default: that of this server.
    pub(super) working_directory: Option<String>,
    /// Time limit in milliseconds. Default: none.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// Kill the task after this many milliseconds without output. Default: 30 minutes for agents.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) idle_timeout: Option<u64>,
    /// Output limit in bytes; beyond it the head and the tail are kept.
    #[schemars(range(min = 4096, max = 1_073_741_824))]
    pub(super) max_output_buffer: Option<u64>,
    /// `claude` (an agent, the default), `shell` (the prompt is a script), or another plugin's
    /// name.
    pub(super) executor: Option<String>,
    /// Name to find the task by.
    pub(super) name: Option<String>,
    /// Labels to filter by.
    pub(super) labels: Option<std::collections::BTreeMap<String, String>>,
    /// Return the existing task if the key was used within 24 hours.
    pub(super) idempotency_key: Option<String>,
    /// For agents: the model.
    pub(super) model: Option<String>,
    /// For agents: permission mode, such as `acceptEdits`, or `plan` (reads, without `Bash`).
    pub(super) permission_mode: Option<String>,
    /// For agents: allowed tools, such as `Bash(cargo test:*)` or `Edit(src/**)`.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: text to append to the system prompt.
    pub(super) append_system_prompt: Option<String>,
    /// For agents: turn limit.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// For agents: budget of each attempt in USD.
    pub(super) max_budget_usd: Option<f64>,
    /// For agents: fail if a tool was denied.
    pub(super) fail_on_denied: Option<bool>,
    /// For agents: succeed even if tools were denied and the worktree has no changes.
    pub(super) allow_denied: Option<bool>,
    /// For agents: session to continue, of a task that was submitted over MCP.
    pub(super) resume_session: Option<String>,
    /// Do not cancel this task along with the task that submits it.
    pub(super) detach: Option<bool>,
    /// Tasks to wait for: an id or a name, which has to succeed, or `{task, condition}` with the
    /// condition `succeeded`, `completed` (finished, in success or not) or `any`.
    #[schemars(with = "Option<Vec<Dependency>>")]
    pub(super) dependencies: Option<Vec<serde_json::Value>>,
    /// The same as `dependencies`.
    #[schemars(with = "Option<Vec<Dependency>>")]
    pub(super) depends_on: Option<Vec<serde_json::Value>>,
    /// Tasks, by id or name, whose output this task gets: before its prompt, and as files in
    /// $CLAUDINE_INPUTS. This task also waits for these tasks.
    pub(super) with_output_of: Option<Vec<String>>,
    /// Group whose limit applies.
    pub(super) group: Option<String>,
    /// Delay the start by this many milliseconds.
    #[schemars(range(max = 31_622_400_000_u64))]
    pub(super) after: Option<u64>,
    /// Retry up to this many times on failure.
    #[schemars(range(max = 1000))]
    pub(super) retries: Option<u32>,
    /// Budget in USD, over all attempts.
    pub(super) budget_usd: Option<f64>,
    /// Run the task in its own git worktree and branch; the checkout of `workingDirectory` is not
    /// changed.
    pub(super) use_worktree: Option<bool>,
    /// Name of the new branch, in ASCII. A name that the user may use for something else is
    /// refused. Default: named after the task.
    pub(super) branch_name: Option<String>,
    /// Start point of the branch, and merge target: a branch, a tag or a commit. Default: HEAD.
    pub(super) base_branch: Option<String>,
    /// What to do with the branch on success: `pr` (push it and open a pull request with `gh`),
    /// `auto` (merge it into its base), `manual` (leave it; the default) or `patch` (write a patch
    /// file). `pr` and `auto` need permission in the user's configuration
    /// (`mcp.merge_strategies`).
    pub(super) merge_strategy: Option<MergeStrategy>,
    /// Keep the worktree after success. By default the worktree is removed if all changes are
    /// committed.
    pub(super) keep_worktree: Option<bool>,
}

// Schema of a dependency for clients; parsing is the same as in files.
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
    /// `dependencies`: names of other tasks of this call, or names or ids of earlier tasks, or
    /// `{task, condition}` as for DelegateTask. `withOutputOf` names tasks whose output the task
    /// gets. Further fields are `executor`, `group`, `priority`, `workingDirectory`, `env`,
    /// `timeout` (such as `10m`), `retries`, `hold` (only a person can release the task), `after`,
    /// `worktree` (true, or `{branch, base, merge, keep, message}`), `labels`, `model`,
    /// `permissionMode`, `allowedTools`.
    #[schemars(length(min = 1, max = 1000))]
    pub(super) tasks: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Name of the graph, for `graph` of ListTasks.
    pub(super) name: Option<String>,
    /// Budget in USD of the whole graph.
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
    /// Id, beginning or end of an id, or name. Default: the newest tasks.
    pub(super) task_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TaskLogs {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: String,
    /// Number of last lines of each stream. Default: 100. Beyond about 40,000 bytes the beginning
    /// is left out.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) tail: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CancelTask {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: Option<String>,
    /// In place of `taskId`: every task of this graph, which is named by its name or by one of its
    /// tasks.
    pub(super) graph: Option<String>,
    /// Reason, stored with the task.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetryTask {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: String,
    /// Start the task now if it waits for a usage limit, a delay or its start time.
    pub(super) now: Option<bool>,
    /// For agents: another model, from this attempt on.
    pub(super) model: Option<String>,
    /// For agents: permission mode, such as `acceptEdits`, or `plan` (reads, without `Bash`).
    pub(super) permission_mode: Option<String>,
    /// For agents: allowed tools, replacing the earlier ones.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: turn limit of each attempt.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// Budget in USD, past attempts included.
    pub(super) budget_usd: Option<f64>,
    /// Time limit of each attempt, in milliseconds.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// Priority, P0 (highest) to P2.
    pub(super) priority: Option<Priority>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResumeTask {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: String,
    /// New instructions: a correction, an answer, or what is still missing.
    pub(super) additional_context: Option<String>,
    /// For agents: another model, from this attempt on.
    pub(super) model: Option<String>,
    /// For agents: permission mode, such as `acceptEdits`, or `plan` (reads, without `Bash`).
    pub(super) permission_mode: Option<String>,
    /// For agents: allowed tools, replacing the earlier ones.
    pub(super) allowed_tools: Option<Vec<String>>,
    /// For agents: turn limit of each attempt.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<u32>,
    /// Budget in USD, past attempts included.
    pub(super) budget_usd: Option<f64>,
    /// Time limit of each attempt, in milliseconds.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub(super) timeout: Option<u64>,
    /// Priority, P0 (highest) to P2.
    pub(super) priority: Option<Priority>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListTasks {
    /// Only tasks in one of these states (blocked, waiting, ready, held, running, done) or with one
    /// of these outcomes (succeeded, failed, timed_out, cancelled, skipped, upstream_failed, lost),
    /// with commas between them. `active` selects all tasks that have not ended.
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
    /// Only tasks that ended since this time, or have not ended: `2h` for two hours ago, `9:00`,
    /// `yesterday`, or an RFC 3339 time.
    pub(super) since: Option<String>,
    /// Only tasks that ended before this time, or were submitted before it and have not ended.
    pub(super) until: Option<String>,
    /// Page size. Default: 20.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<u64>,
    /// Only tasks older than this one: `next` of the previous answer.
    pub(super) before: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WaitTask {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: Option<String>,
    /// Several tasks, in place of `taskId`.
    #[schemars(length(min = 1, max = 32))]
    pub(super) task_ids: Option<Vec<String>>,
    /// With `taskIds`: true to wait only until the first task has ended. Default: wait for all.
    pub(super) any: Option<bool>,
    /// Time to wait in milliseconds. Default: 50000. `done` in the answer says whether to call
    /// again.
    #[schemars(range(min = 0, max = 50_000))]
    pub(super) timeout: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TaskDiff {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: String,
    /// Only this file or directory, as named in `stat`.
    pub(super) path: Option<String>,
    /// True to leave out the patch.
    pub(super) stat_only: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MergeTask {
    /// Id, beginning or end of an id, or name.
    pub(super) task_id: String,
    /// Merge strategy, as for DelegateTask. Default: that of the task.
    pub(super) merge_strategy: Option<MergeStrategy>,
}
