//! Delegates a task to Claude Code, run headless.
//!
//! `claude` prints its events as JSON lines; this executor follows them, reports the agent's
//! activity to the host, and derives the attempt's outcome. It relies only on the public behaviour
//! of the command line (measured with [`KNOWN_VERSION`]), and reports a version that behaves
//! differently.
//!
//! The executor stores no conversation, credentials or account. The host reads in the manifest's
//! `[account]` where logins are, and applies a usage limit to the other tasks of the account.

mod attempt;
mod authority;
mod checkpoint;
mod cut;
mod items;
mod outcome;
mod phase;
mod session;
mod spec;
mod start;
mod stream;
mod transcript;

use attempt::Attempt;
use claudine_plugin_sdk::process::Captured;
use claudine_plugin_sdk::transcript::by_line;
use claudine_plugin_sdk::{
    Authority, Class, Command, Ctx, Draft, Executor, Failure, Health, Issue, Outcome, Reading,
    Task, config, facts,
};
use serde::Deserialize;
use serde_json::Value;
use spec::{Machine, PermissionMode, Spec};
use transcript::LONGEST_LINE_BYTES;

/// The version that the tests are based on.
pub(crate) const KNOWN_VERSION: &str = "2.1.330";

pub(crate) const INSTALL_ADVICE: &str =
    "install it with `npm install -g @anthropic-ai/claude-code`";

pub(crate) const UPDATE_ADVICE: &str = "update it with `npm install -g @anthropic-ai/claude-code`";

#[derive(Default)]
struct Claude;

/// The table `[plugins.claude]`: defaults for tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    model: Option<String>,
    permission_mode: Option<PermissionMode>,
}

impl Executor for Claude {
    type Spec = Spec;

    fn task_schema() -> &'static str {
        include_str!("schema.json")
    }

    fn validate(draft: &Draft<Spec>) -> Vec<Issue> {
        draft.spec.issues(Machine::of(&facts(), &draft.env))
    }

    /// An unreadable configuration fails every task. Until it is fixed, full authority is assumed.
    fn authority(draft: &Draft<Spec>) -> Authority {
        match config() {
            Ok(config) => authority::of(&draft.spec, &config),
            Err(_) => Authority::full(),
        }
    }

    fn transcript(bytes: &[u8], state: &[u8]) -> Reading {
        by_line(bytes, state, LONGEST_LINE_BYTES, items::of_line)
    }

    fn config_schema() -> &'static str {
        include_str!("config.json")
    }

    fn validate_config(config: &Value) -> Vec<Issue> {
        claudine_plugin_sdk::parse::<Config>(&config.to_string())
            .err()
            .into_iter()
            .collect()
    }

    async fn fingerprint() -> Health {
        match Command::new("claude").arg("--version").capture().await {
            Ok(output) => health(&output),
            Err(failure) if failure.class == Class::Spawn => {
                Health::undetected(format!("{failure}; {INSTALL_ADVICE}"))
            }
            Err(failure) => {
                Health::unhealthy(format!("`claude --version` could not be run: {failure}"))
            }
        }
    }

    async fn run(&self, task: Task<Spec>, ctx: Ctx) -> Result<Outcome, Failure> {
        let config = config()?;
        Attempt { task, config, ctx }.run().await
    }

    async fn resume(&self, task: Task<Spec>, state: Vec<u8>, ctx: Ctx) -> Result<Outcome, Failure> {
        let config = config()?;
        Attempt { task, config, ctx }.resume(&state).await
    }

    // The default of `stop` is kept, because the host sends the agent the signals that the manifest
    // lists, INT first.
}

/// Parses output such as `2.1.330 (Claude Code)`.
fn health(output: &Captured) -> Health {
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .strip_suffix("(Claude Code)\n")
        .or_else(|| text.strip_suffix("(Claude Code)"))
        .map(str::trim);
    match version {
        Some(version) if output.status.success() => {
            let health = Health::healthy(format!("Claude Code {version}"))
                .with("version", version)
                .with("known_version", KNOWN_VERSION);
            if !is_older(version, KNOWN_VERSION) {
                return health;
            }
            health.with(
                "warning",
                format!(
                    "this version is older than {KNOWN_VERSION}, the oldest version known to report the cost of a \
                     resumed session; {UPDATE_ADVICE}"
                ),
            )
        }
        _ => Health::unhealthy(format!(
            "`claude --version` {} and printed {:?}, which is not Claude Code; {INSTALL_ADVICE}",
            output.status,
            phase::one_line(&text)
        )),
    }
}

/// Whether a version is older than another; false if one of the two is not a list of numbers.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split('.').map(|part| part.parse().ok()).collect()
    };
    matches!((numbers(version), numbers(than)), (Some(one), Some(other)) if one < other)
}

claudine_plugin_sdk::export!(Claude);

#[cfg(test)]
mod tests {
    use claudine_plugin_sdk::ExitStatus;
    use serde_json::json;

    use super::*;

    fn said(stdout: &str, code: i32) -> Health {
        let status = ExitStatus {
            code: Some(code),
            ..ExitStatus::default()
        };
        health(&Captured {
            status,
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        })
    }

    fn check(stdout: &str, code: i32, expected: &Health) {
        assert_eq!(said(stdout, code), *expected, "{stdout:?}");
    }

    fn warns(stdout: &str) -> bool {
        let said = format!("{:?}", said(stdout, 0));
        said.contains("this version is older than 2.1.330")
    }

    #[test]
    fn version_is_parsed_and_other_programs_are_refused() {
        let healthy = Health::healthy("Claude Code 2.1.330")
            .with("version", "2.1.330")
            .with("known_version", KNOWN_VERSION);
        check("2.1.330 (Claude Code)\n", 0, &healthy);
        for (version, expected) in [
            ("2.1.330", false),
            ("2.1.1000", false),
            ("2.2.0-beta.1", false),
            ("2.1.197", true),
            ("1.0.400", true),
        ] {
            let found = warns(&format!("{version} (Claude Code)\n"));
            assert_eq!(found, expected, "{version}");
        }
        let other = "`claude --version` exited with code 0 and printed \"hello\", which is not Claude Code; ";
        check(
            "hello\n",
            0,
            &Health::unhealthy(format!("{other}{INSTALL_ADVICE}")),
        );
    }

    #[test]
    fn schema_names_every_field() -> Result<(), serde_json::Error> {
        let schema: Value = serde_json::from_str(Claude::task_schema())?;
        let mut spec = json!({
            "model": "opus", "permission_mode": "plan", "allowed_tools": ["Edit"], "append_system_prompt": "x", "max_turns": 1,
            "max_budget_usd": 1.5, "fail_on_denied": true, "resume_session": "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1", "extra_args": ["-x"],
        });
        spec["prompt"] = "x".into();
        let mut named: Vec<String> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let mut known: Vec<String> = spec
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        named.sort();
        known.sort();
        assert_eq!(named, known);
        let spec: Spec = serde_json::from_value(spec)?;
        let machine = Machine {
            is_root: false,
            is_sandbox: false,
        };
        assert_eq!(spec.issues(machine), []);
        Ok(())
    }

    #[test]
    fn schema_of_the_configuration_names_its_fields() -> Result<(), serde_json::Error> {
        let schema: Value = serde_json::from_str(Claude::config_schema())?;
        let config = json!({"model": "opus", "permission_mode": "plan"});
        let names = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect());
        let named: Option<Vec<String>> = names(&schema["properties"]);
        assert_eq!(named, names(&config));
        assert_eq!(Claude::validate_config(&config), []);
        Ok(())
    }

    #[test]
    fn configuration_is_checked() {
        assert_eq!(
            Claude::validate_config(&json!({"permission_mode": "plan"})),
            []
        );
        let issues = Claude::validate_config(&json!({"mode": "plan"}));
        assert!(
            issues[0].message.contains("unknown field `mode`"),
            "{issues:?}"
        );
    }
}
