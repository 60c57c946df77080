//! Derives the outcome of an attempt from the output of Claude Code and the end of its process.
//!
//! `is_error` is checked first, because every API failure also says `subtype: success`. The exit
//! code decides nothing, because it is 0 after an interrupt and 143 after TERM, and because a run
//! that has printed its result may be ended by force. The host knows who requested a stop, so the
//! host turns the outcome of a stopped attempt into `cancelled` or `timed_out`.

use std::time::Duration;

use claudine_plugin_sdk::{Class, ExitStatus, Outcome};
use serde_json::{Value, json};

use crate::start::Earlier;
use crate::stream::{Denial, Verdict};
use crate::transcript::Transcript;

/// Time added to the end of a limit: the service's clock may differ from this machine's, and limits
/// are not lifted to the second.
const AFTER_RESET: Duration = Duration::from_mins(1);

/// Maximum number of denials in the outputs: more would tell nothing new.
const MOST_DENIALS: usize = 50;

/// Length limit of a denied tool's input, which may be a whole file.
const LONGEST_DENIED_INPUT_BYTES: usize = 4096;

/// The facts, besides the transcript, from which the outcome is derived.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    /// Last line on standard error, read only if there is no result.
    pub(crate) complaint: Option<String>,
    /// Wall time since 1970.
    pub(crate) now: Duration,
    pub(crate) fail_on_denied: bool,
    /// Outputs of the attempt whose session was resumed.
    pub(crate) earlier: Option<Earlier>,
    /// Whether an earlier session was resumed.
    pub(crate) is_resumed: bool,
    /// Reason why an earlier session was not resumed although it should have been.
    pub(crate) fresh_session_reason: Option<String>,
}

pub(crate) fn outcome(transcript: &Transcript, ending: &Ending) -> Outcome {
    let (cause, summary) = match (&transcript.results.misread, &transcript.results.last) {
        (Some(error), _) => (
            Some(Class::Plugin),
            unknown(
                transcript,
                &format!("a result in an unknown format: {error}"),
            ),
        ),
        (None, Some(verdict)) => judge(transcript, verdict, ending),
        (None, None) => no_result(transcript, ending),
    };
    let outcome = match cause {
        None => Outcome::success(summary),
        Some(class) => Outcome::failed(class, summary),
    };
    let outcome = match retry_after(&outcome, transcript, ending.now) {
        Some(wait) => outcome.retry_after(wait),
        None => outcome,
    };
    outputs(outcome.exit(&ending.status), transcript, ending)
}

type Judgement = (Option<Class>, String);

fn judge(transcript: &Transcript, verdict: &Verdict, ending: &Ending) -> Judgement {
    match (verdict.is_error, verdict.subtype.as_deref()) {
        (Some(false), Some("success")) => success(verdict, ending),
        (Some(false), subtype) => {
            let what = format!(
                "a result without an error but with subtype `{}`",
                subtype.unwrap_or("none")
            );
            (Some(Class::Plugin), unknown(transcript, &what))
        }
        (None, _) => (
            Some(Class::Plugin),
            unknown(transcript, "a result without `is_error`"),
        ),
        (Some(true), _) => (
            Some(failure_class(transcript, verdict)),
            failure_text(verdict),
        ),
    }
}

fn success(verdict: &Verdict, ending: &Ending) -> Judgement {
    let denied = verdict.permission_denials.as_deref().unwrap_or_default();
    let Some(first) = denied.first() else {
        return (None, "completed".to_owned());
    };
    let text = format!(
        "{} tool call{} denied, the first one {}",
        denied.len(),
        if denied.len() == 1 { " was" } else { "s were" },
        first.tool_name
    );
    if ending.fail_on_denied {
        (Some(Class::Permission), text)
    } else {
        (None, format!("completed; {text}"))
    }
}

fn failure_class(transcript: &Transcript, verdict: &Verdict) -> Class {
    let status = verdict.api_error_status;
    // Earlier versions give no `terminal_reason` for these two subtypes.
    let reason = match (
        verdict.terminal_reason.as_deref(),
        verdict.subtype.as_deref(),
    ) {
        (Some(reason), _) => reason,
        (None, Some("error_max_budget_usd")) => "budget_exhausted",
        (None, Some("error_max_turns")) => "max_turns",
        (None, _) => "",
    };
    match (status, reason, transcript.api_fault.as_deref()) {
        (Some(429), ..) => Class::RateLimit,
        (None, "api_error", _) if transcript.limit.is_some() => Class::RateLimit,
        (_, "prompt_too_long" | "blocking_limit" | "image_error", _) => Class::Invalid,
        (_, "max_turns", _) => Class::MaxTurns,
        (_, "budget_exhausted", _) => Class::Budget,
        // This outcome only counts if the host did not stop the attempt, so somebody else has
        // interrupted the agent.
        (_, "aborted_tools" | "aborted_streaming", _) => Class::Signal,
        (Some(401 | 403), ..) | (_, _, Some("authentication_failed" | "billing_error")) => {
            Class::Auth
        }
        (Some(408 | 500..), ..) => Class::Network,
        (Some(400..), ..) => Class::Invalid,
        // The API did not answer: refused, cut off, timed out.
        (_, "api_error", _) => Class::Network,
        _ => Class::Exit,
    }
}

fn failure_text(verdict: &Verdict) -> String {
    let said = verdict
        .result
        .as_deref()
        .or_else(|| verdict.errors.as_deref()?.first().map(String::as_str));
    let reason = verdict
        .terminal_reason
        .as_deref()
        .or(verdict.subtype.as_deref());
    match (said.map(str::trim).filter(|text| !text.is_empty()), reason) {
        (Some(text), _) => text.trim_end_matches('.').to_owned(),
        (None, Some(reason)) => format!("the run ended with `{reason}`"),
        (None, None) => "the run ended with an error that was not named".to_owned(),
    }
}

fn no_result(transcript: &Transcript, ending: &Ending) -> Judgement {
    let cause = if ending.status.signal.is_some() {
        Class::Signal
    } else {
        Class::NoResult
    };
    let mut text = format!("claude {} without a result", ending.status);
    if let Some(complaint) = &ending.complaint {
        text = format!("{text}: {complaint}");
    } else if transcript.session_id.is_none() && transcript.lines_skipped > 0 {
        text = format!(
            "{text}; none of the {} lines it printed is an event",
            transcript.lines_skipped
        );
    }
    (Some(cause), text)
}

/// Message about output that this plugin does not know.
fn unknown(transcript: &Transcript, what: &str) -> String {
    let version = transcript
        .version
        .as_deref()
        .unwrap_or("of an unknown version");
    format!(
        "Claude Code {version} printed {what}; this executor knows {}",
        crate::KNOWN_VERSION
    )
}

/// Time until a minute after the end of the account's limit, if the service said when the limit
/// ends. A time in the past is ignored: it cannot be the end of the limit just met.
fn retry_after(outcome: &Outcome, transcript: &Transcript, now: Duration) -> Option<Duration> {
    if outcome.cause != Some(Class::RateLimit) {
        return None;
    }
    let resets_at = transcript.limit.as_ref()?.resets_at_s?;
    let resets_at = Duration::try_from_secs_f64(resets_at).ok()?;
    Some(resets_at.checked_sub(now)? + AFTER_RESET)
}

/// The usage limit that was met, by its common name.
fn usage_limit(outcome: &Outcome, transcript: &Transcript) -> Option<String> {
    if outcome.cause != Some(Class::RateLimit) {
        return None;
    }
    let kind = transcript.limit.as_ref()?.kind.as_deref()?;
    Some(match kind {
        "five_hour" => "5-hour".to_owned(),
        "seven_day" => "7-day".to_owned(),
        "seven_day_opus" => "7-day, Opus".to_owned(),
        "seven_day_sonnet" => "7-day, Sonnet".to_owned(),
        other => other.replace('_', " "),
    })
}

fn outputs(outcome: Outcome, transcript: &Transcript, ending: &Ending) -> Outcome {
    let verdict = transcript.results.last.as_ref();
    let is_answer = verdict.is_some_and(|verdict| verdict.is_error == Some(false));
    let denials = verdict
        .and_then(|verdict| verdict.permission_denials.as_deref())
        .unwrap_or_default();
    let total_usd = verdict.and_then(|verdict| verdict.total_cost_usd);
    let before_usd = transcript.results.cost_before_usd.or_else(|| {
        let earlier = ending.earlier.as_ref()?;
        Some(cost_before(verdict?, earlier))
    });
    let session_id = transcript
        .session_id
        .as_deref()
        .or_else(|| verdict?.session_id.as_deref());
    let facts = [
        (
            "result",
            verdict
                .filter(|_| is_answer)
                .and_then(|verdict| verdict.result.as_deref())
                .map(Value::from),
        ),
        ("session_id", session_id.map(Value::from)),
        ("model", transcript.model.as_deref().map(Value::from)),
        (
            "cost_usd",
            total_usd.map(|total| Value::from((total - before_usd.unwrap_or(0.0)).max(0.0))),
        ),
        ("total_cost_usd", total_usd.map(Value::from)),
        (
            "num_turns",
            verdict.map(|_| Value::from(transcript.results.num_turns)),
        ),
        ("usage", verdict.and_then(|verdict| verdict.usage.clone())),
        (
            "model_usage",
            verdict.and_then(|verdict| verdict.model_usage.clone()),
        ),
        (
            "denials",
            (!denials.is_empty()).then(|| denials.iter().take(MOST_DENIALS).map(denial).collect()),
        ),
        (
            "usage_limit",
            usage_limit(&outcome, transcript).map(Value::from),
        ),
        (
            "terminal_reason",
            verdict
                .and_then(|verdict| verdict.terminal_reason.as_deref())
                .map(Value::from),
        ),
        (
            "api_error_status",
            verdict
                .and_then(|verdict| verdict.api_error_status)
                .map(Value::from),
        ),
        (
            "api_error",
            verdict
                .and_then(|verdict| verdict.api_error.as_deref())
                .map(Value::from),
        ),
        (
            "mcp_failed",
            (!transcript.mcp_failed.is_empty()).then(|| json!(transcript.mcp_failed)),
        ),
        (
            "tools",
            (!transcript.tools.is_empty()).then(|| json!(transcript.tools)),
        ),
        (
            "claude_code_version",
            transcript.version.as_deref().map(Value::from),
        ),
        ("resumed", ending.is_resumed.then_some(Value::Bool(true))),
        (
            "fresh_session_reason",
            ending.fresh_session_reason.as_deref().map(Value::from),
        ),
        (
            "lines_skipped",
            (transcript.lines_skipped > 0).then(|| Value::from(transcript.lines_skipped)),
        ),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .fold(outcome, |outcome, (name, value)| {
            outcome.output(name, value)
        })
}

/// Part of the reported total that was spent before this process, for versions of Claude Code that
/// do not report this part. The total may be that of the session or that of the process. It is the
/// total of the session if the token counts reported with it cover both this run and the earlier
/// ones. If the counts are unclear, the whole total counts as new, because it is better to reach a
/// budget too early than too late. A version that reports no counts per model reports the total of
/// the session.
fn cost_before(verdict: &Verdict, earlier: &Earlier) -> f64 {
    let (Some(total), Some(before)) = (verdict.total_cost_usd, earlier.total_cost_usd) else {
        return 0.0;
    };
    let Some(all) = verdict.model_usage.as_ref().map(tokens_of_models) else {
        return if total < before { 0.0 } else { before };
    };
    let of_run = verdict.usage.as_ref().map_or(0, tokens_of_run);
    let of_earlier = earlier.model_usage.as_ref().map_or(1, tokens_of_models);
    let is_of_session = of_run > 0 && all.saturating_sub(of_run) >= of_earlier.max(1);
    if is_of_session && total >= before {
        before
    } else {
        0.0
    }
}

fn tokens_of_run(usage: &Value) -> u64 {
    let names = [
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    ];
    names.iter().filter_map(|name| usage[*name].as_u64()).sum()
}

fn tokens_of_models(models: &Value) -> u64 {
    let names = [
        "inputTokens",
        "outputTokens",
        "cacheCreationInputTokens",
        "cacheReadInputTokens",
    ];
    let models = models
        .as_object()
        .into_iter()
        .flat_map(|models| models.values());
    let of_model =
        |model: &Value| -> u64 { names.iter().filter_map(|name| model[*name].as_u64()).sum() };
    models.map(of_model).sum()
}

fn denial(denial: &Denial) -> Value {
    let text = denial.tool_input.to_string();
    let input = if text.len() > LONGEST_DENIED_INPUT_BYTES {
        let end = text.floor_char_boundary(LONGEST_DENIED_INPUT_BYTES);
        Value::from(format!("{}…", &text[..end]))
    } else {
        denial.tool_input.clone()
    };
    json!({ "tool": denial.tool_name, "input": input })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::tests::{fixture, line, read};

    const NOW: Duration = Duration::from_hours(4_102_444_800 / 3600 - 1);

    fn exit(code: i32) -> ExitStatus {
        ExitStatus {
            code: Some(code),
            ..ExitStatus::default()
        }
    }

    fn end(recorded: &str, ending: Ending) -> Outcome {
        outcome(&read(recorded).0, &Ending { now: NOW, ..ending })
    }

    /// Expected: the class (`success` if there is none) and the beginning of the summary.
    fn check(recorded: &str, code: i32, class: &str, summary: &str) {
        let outcome = end(
            recorded,
            Ending {
                status: exit(code),
                ..Ending::default()
            },
        );
        let found = outcome.cause.as_ref().map_or("success", Class::as_str);
        assert_eq!(
            (found, outcome.code),
            (class, Some(code)),
            "{}",
            outcome.summary
        );
        assert!(
            outcome.summary.starts_with(summary),
            "{:?}",
            outcome.summary
        );
    }

    #[test]
    fn recorded_runs_have_the_expected_outcomes() {
        check(fixture!("text"), 0, "success", "completed");
        check(fixture!("bash"), 0, "success", "completed");
        check(fixture!("cut_once"), 0, "success", "completed");
        check(fixture!("oauth_allowed"), 0, "success", "completed");
        check(fixture!("woken"), 0, "success", "completed");
        check(
            fixture!("denied"),
            0,
            "success",
            "completed; 1 tool call was denied, the first one Bash",
        );
        check(
            fixture!("max_turns"),
            1,
            "max_turns",
            "Reached maximum number of turns (2)",
        );
        check(
            fixture!("max_budget"),
            1,
            "budget",
            "Reached maximum budget ($0.0001)",
        );
        check(
            fixture!("api429"),
            1,
            "rate_limit",
            "API Error: Request rejected (429)",
        );
        check(
            fixture!("usage_limit"),
            1,
            "rate_limit",
            "You've hit your 5-hour limit",
        );
        check(
            fixture!("oauth429_no_reset"),
            1,
            "rate_limit",
            "API Error: Server is temporarily limiting",
        );
        check(fixture!("oauth401"), 1, "auth", "Failed to authenticate");
        check(fixture!("key401"), 1, "auth", "Invalid API key");
        check(
            fixture!("forbidden"),
            1,
            "auth",
            "Failed to authenticate. API Error: 403",
        );
        check(fixture!("no_login"), 1, "auth", "Not logged in");
        check(fixture!("credit"), 1, "auth", "Credit balance is too low");
        check(
            fixture!("overloaded"),
            1,
            "network",
            "API Error: Repeated 529",
        );
        check(fixture!("server500"), 1, "network", "API Error: 500");
        check(
            fixture!("refused"),
            1,
            "network",
            "API Error: Connection refused",
        );
        check(
            fixture!("cut_always"),
            1,
            "network",
            "API Error: Connection dropped",
        );
        check(fixture!("too_long"), 1, "invalid", "Prompt is too long");
        check(fixture!("invalid400"), 1, "invalid", "API Error: 400");
        check(
            fixture!("not_found"),
            1,
            "invalid",
            "There's an issue with the selected model",
        );
        check(fixture!("interrupted"), 0, "signal", "[ede_diagnostic]");
        check(
            fixture!("terminated"),
            143,
            "no_result",
            "claude exited with code 143 without a result",
        );
    }

    #[test]
    fn result_counts_however_the_process_ended() {
        let killed = ExitStatus {
            signal: Some(9),
            ..ExitStatus::default()
        };
        let outcome = end(
            fixture!("background"),
            Ending {
                status: killed,
                ..Ending::default()
            },
        );
        assert_eq!((outcome.cause, outcome.signal), (None, Some(9)));
    }

    #[test]
    fn run_without_a_result_never_succeeds() {
        check(
            "",
            0,
            "no_result",
            "claude exited with code 0 without a result",
        );
        check(
            "npm notice\nnpm notice",
            0,
            "no_result",
            "claude exited with code 0 without a result; none of the 2 lines",
        );
        let ending = || Ending {
            status: exit(1),
            complaint: Some("error: unknown option".to_owned()),
            ..Ending::default()
        };
        assert_eq!(
            end("", ending()).summary,
            "claude exited with code 1 without a result: error: unknown option"
        );
        let killed = Ending {
            status: ExitStatus {
                signal: Some(9),
                ..ExitStatus::default()
            },
            ..ending()
        };
        assert_eq!(end("", killed).cause, Some(Class::Signal));
    }

    #[test]
    fn output_of_an_unknown_version_is_reported_and_not_trusted() {
        let says = "Claude Code of an unknown version printed";
        check(
            r#"{"type":"result","subtype":"success","result":"x"}"#,
            0,
            "plugin",
            says,
        );
        check(
            r#"{"type":"result","subtype":"partial","is_error":false}"#,
            0,
            "plugin",
            says,
        );
        check(
            r#"{"type":"result","subtype":"success","is_error":0}"#,
            0,
            "plugin",
            says,
        );
        check(
            r#"{"type":"result","subtype":"error_new","is_error":true}"#,
            1,
            "exit",
            "the run ended with `error_new`",
        );
        for (subtype, class) in [
            ("error_max_budget_usd", "budget"),
            ("error_max_turns", "max_turns"),
        ] {
            let line = format!(
                r#"{{"type":"result","subtype":"{subtype}","is_error":true,"errors":["Reached it"]}}"#
            );
            check(&line, 1, class, "Reached it");
        }
        check(
            r#"{"type":"result","is_error":true,"errors":[]}"#,
            1,
            "exit",
            "the run ended with an error that was not named",
        );
    }

    #[test]
    fn unreadable_result_replaces_the_earlier_one() {
        let (mut transcript, _) = read(fixture!("text"));
        transcript.take(&line(r#"{"type":"result","is_error":"no"}"#));
        assert_eq!(
            outcome(&transcript, &Ending::default()).cause,
            Some(Class::Plugin)
        );
    }

    #[test]
    fn wait_for_a_limit_lasts_until_a_minute_after_its_known_end() {
        let wait = |recorded, now| {
            outcome(
                &read(recorded).0,
                &Ending {
                    now,
                    ..Ending::default()
                },
            )
            .retry_after
        };
        assert_eq!(
            wait(fixture!("usage_limit"), NOW),
            Some(Duration::from_mins(61))
        );
        assert_eq!(
            wait(fixture!("usage_limit"), NOW + Duration::from_hours(2)),
            None
        );
        assert_eq!(wait(fixture!("oauth429_no_reset"), NOW), None);
        assert_eq!(wait(fixture!("api429"), NOW), None);
        assert_eq!(wait(fixture!("text"), NOW), None);
    }

    #[test]
    fn usage_limit_that_was_met_is_named() {
        let named = |recorded: &str| {
            let outcome = end(recorded, Ending::default());
            outcome.outputs.get("usage_limit").cloned()
        };
        assert_eq!(named(fixture!("usage_limit")), Some("5-hour".into()));
        assert_eq!(named(fixture!("oauth429_no_reset")), None);
        assert_eq!(named(fixture!("oauth_allowed")), None);
        let other = fixture!("usage_limit").replace("five_hour", "a_new_one");
        assert_eq!(named(&other), Some("a new one".into()));
    }

    #[test]
    fn denials_are_reported_and_fail_only_on_request() {
        let outcome = end(
            fixture!("denied"),
            Ending {
                fail_on_denied: true,
                ..Ending::default()
            },
        );
        assert_eq!(outcome.cause, Some(Class::Permission));
        assert_eq!(
            outcome.outputs["denials"],
            json!([{"tool": "Bash", "input": {"command": "git init x", "description": "d"}}])
        );
        assert_eq!(outcome.outputs["result"], "I could not");
        let long = Denial {
            tool_name: "Write".to_owned(),
            tool_input: json!({ "content": "é".repeat(4000) }),
        };
        assert!(
            denial(&long)["input"]
                .as_str()
                .is_some_and(|text| text.len() <= LONGEST_DENIED_INPUT_BYTES + 3)
        );
    }

    #[test]
    fn cost_is_that_of_the_attempt_alone() {
        let cost = |recorded: &str, known: Option<f64>| {
            let earlier = known.map(|usd| Earlier {
                total_cost_usd: Some(usd),
                ..Earlier::default()
            });
            let ending = Ending {
                earlier,
                ..Ending::default()
            };
            let outcome = end(recorded, ending);
            let usd = |name: &str| {
                outcome
                    .outputs
                    .get(name)
                    .and_then(Value::as_f64)
                    .unwrap_or(-1.0)
            };
            format!("{:.4} of {:.4}", usd("cost_usd"), usd("total_cost_usd"))
        };
        assert_eq!(cost(fixture!("text"), None), "0.0008 of 0.0008");
        assert_eq!(cost(fixture!("resumed"), None), "0.0008 of 0.0016");
        assert_eq!(cost(fixture!("woken"), None), "0.0024 of 0.0024");
        let without_parts =
            r#"{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.5}"#;
        assert_eq!(cost(without_parts, Some(0.4)), "0.1000 of 0.5000");
        assert_eq!(cost("", None), "-1.0000 of -1.0000");
    }

    /// Versions before the known one report only a total, some for the session and some for the
    /// process.
    #[test]
    fn total_of_a_process_is_not_taken_for_that_of_the_session() {
        let check = |total: f64, run: u64, all: u64, earlier: Option<u64>, expected: f64| {
            let tokens = |count: u64| json!({"opus": {"inputTokens": count, "costUSD": 1.0}});
            let verdict = json!({
                "type": "result", "subtype": "success", "is_error": false, "total_cost_usd": total,
                "usage": {"input_tokens": run}, "modelUsage": tokens(all),
            });
            let ending = Ending {
                earlier: Some(Earlier {
                    total_cost_usd: Some(1.0),
                    model_usage: earlier.map(tokens),
                    ..Earlier::default()
                }),
                ..Ending::default()
            };
            let outcome = end(&verdict.to_string(), ending);
            let cost = outcome.outputs["cost_usd"].as_f64().unwrap_or(-1.0);
            assert!((cost - expected).abs() < 1e-9, "{verdict}: {cost}");
        };
        // Total of the session: 1 before, and 0.5 now.
        check(1.5, 50, 150, Some(100), 0.5);
        check(1.5, 50, 150, None, 0.5);
        // Total of the process alone, lower or higher than the earlier total.
        check(0.5, 50, 50, Some(100), 0.5);
        check(2.0, 200, 200, Some(100), 2.0);
        check(2.0, 200, 200, None, 2.0);
        // With a subagent, whose tokens are not in `usage`.
        check(2.0, 200, 230, Some(100), 2.0);
        // The run was cut off, and does not report its tokens.
        check(1.5, 0, 150, Some(100), 1.5);
    }

    #[test]
    fn outputs_name_session_model_and_turns() {
        let outcome = end(
            fixture!("mcp_failed"),
            Ending {
                is_resumed: true,
                fresh_session_reason: Some("gone".to_owned()),
                ..Ending::default()
            },
        );
        let names: Vec<&str> = outcome.outputs.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "claude_code_version",
                "cost_usd",
                "fresh_session_reason",
                "mcp_failed",
                "model",
                "model_usage",
                "num_turns",
                "result",
                "resumed",
                "session_id",
                "terminal_reason",
                "tools",
                "total_cost_usd",
                "usage",
            ]
        );
    }

    #[test]
    fn text_of_a_failure_is_not_a_result() {
        assert!(
            !end(fixture!("overloaded"), Ending::default())
                .outputs
                .contains_key("result")
        );
    }
}
