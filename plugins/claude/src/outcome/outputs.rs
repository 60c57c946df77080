//! Outputs of an attempt: its result, its cost, and other facts about its run.

use claudine_plugin_sdk::{Class, Outcome};
use serde_json::{Value, json};

use super::Ending;
use crate::start::Earlier;
use crate::stream::{Denial, Verdict};
use crate::transcript::Transcript;

/// Maximum number of denials in the outputs: more would tell nothing new.
const MOST_DENIALS: usize = 50;

/// Length limit of a denied tool's input, which may be a whole file.
const LONGEST_DENIED_INPUT_BYTES: usize = 4096;

pub(super) fn outputs(outcome: Outcome, transcript: &Transcript, ending: &Ending) -> Outcome {
    let verdict = transcript.results.last.as_ref();
    let is_answer = verdict.is_some_and(|verdict| verdict.is_error == Some(false));
    let denials = verdict
        .and_then(|verdict| verdict.permission_denials.as_deref())
        .unwrap_or_default();
    let total_usd = verdict.and_then(|verdict| verdict.total_cost_usd);
    let total_usd = total_usd.filter(|usd| *usd >= 0.0);
    let before_usd = transcript.results.cost_before_usd.or_else(|| {
        let earlier = ending.earlier.as_ref()?;
        Some(cost_before(verdict?, earlier))
    });
    // What a process has spent after its last result is not known.
    let final_usd = total_usd.filter(|_| transcript.results.is_final());
    let cost_usd = final_usd.map(|total| (total - before_usd.unwrap_or(0.0)).max(0.0));
    let may_have_asked = verdict.filter(|_| transcript.is_in_session());
    let is_told = |usd: &f64| may_have_asked.is_none_or(|it| !lacks_a_request(it, *usd));
    let cost_usd = cost_usd.filter(is_told);
    // Without a known cost, an attempt with a budget counts as if it had spent the whole budget.
    let is_free = ending.budget_usd.is_some() && transcript.has_asked_nothing();
    let cost_usd = cost_usd.or_else(|| is_free.then_some(0.0));
    let at_most_usd = ending.budget_usd.filter(|_| cost_usd.is_none());
    let facts = [
        (
            "result",
            verdict
                .filter(|_| is_answer)
                .and_then(|verdict| verdict.result.as_deref())
                .map(Value::from),
        ),
        ("session_id", transcript.session().map(Value::from)),
        ("model", transcript.model.as_deref().map(Value::from)),
        ("cost_usd", cost_usd.map(Value::from)),
        ("cost_at_most_usd", at_most_usd.map(Value::from)),
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

/// Whether the reported cost perhaps lacks that of a request. Claude Code learns what a request
/// costs from the first event of the answer. If it is stopped before that, it reports a cost of 0,
/// but the service charges the prompt, however long it is.
fn lacks_a_request(verdict: &Verdict, cost_usd: f64) -> bool {
    verdict.is_cut_off() && verdict.since_last_usd().unwrap_or(cost_usd) <= 0.0
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
    use claudine_plugin_sdk::process::Line;

    use super::super::tests::end;
    use super::*;
    use crate::transcript::tests::{fixture, line};

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

    #[test]
    fn cost_is_unknown_if_the_last_result_is_missing_and_the_budget_is_its_upper_bound() {
        let costs = |lines: &[Line], budget_usd: Option<f64>| {
            let mut transcript = Transcript::default();
            for line in lines {
                transcript.take(line);
            }
            let ending = Ending {
                budget_usd,
                ..Ending::default()
            };
            let outcome = super::super::outcome(&transcript, &ending);
            ["cost_usd", "cost_at_most_usd"]
                .map(|name| outcome.outputs.get(name).and_then(Value::as_f64))
        };
        let gap = || Line {
            length_bytes: 9_000,
            ..line(r#"{"type":"resu"#)
        };
        let begin = || line(r#"{"type":"system","subtype":"init","session_id":null}"#);
        let result = || {
            line(
                r#"{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.5,"result":"x"}"#,
            )
        };
        let odd = || line(r#"{"type":"result","is_error":"no"}"#);
        let woken = || line(r#"{"type":"assistant","message":{"content":[]}}"#);
        let check = |lines: &[Line], expected: [Option<f64>; 2]| {
            assert_eq!(costs(lines, Some(2.0)), expected, "{lines:?}");
            let known = expected[0].filter(|usd| *usd > 0.0);
            assert_eq!(costs(lines, None), [known, None], "{lines:?}");
        };
        check(&[begin(), result()], [Some(0.5), None]);
        let unknown = [None, Some(2.0)];
        check(&[begin()], unknown);
        check(&[begin(), gap()], unknown);
        check(&[gap()], unknown);
        check(&[line("words")], unknown);
        check(&[begin(), result(), gap()], unknown);
        check(&[begin(), result(), odd()], unknown);
        check(&[begin(), result(), begin()], unknown);
        check(&[begin(), result(), woken()], unknown);
        check(&[begin(), result(), gap(), result()], [Some(0.5), None]);
        // Claude Code ended before it began a session, such as for an option that it does not know.
        check(&[], [Some(0.0), None]);
    }

    #[test]
    fn cost_of_a_run_that_was_stopped_before_its_first_answer_is_unknown() {
        let costs = |lines: &[&str], earlier: Option<f64>| {
            let earlier = earlier.map(|usd| Earlier {
                total_cost_usd: Some(usd),
                ..Earlier::default()
            });
            let ending = Ending {
                budget_usd: Some(2.0),
                earlier,
                ..Ending::default()
            };
            let outcome = end(&lines.join("\n"), ending);
            ["cost_usd", "cost_at_most_usd"]
                .map(|name| outcome.outputs.get(name).and_then(Value::as_f64))
        };
        let begin = r#"{"type":"system","subtype":"init","session_id":null}"#;
        let result = |reason: Option<&str>, total: f64, own: Option<f64>| {
            let usage = own.map(|usd| json!({"opus": {"costUSD": usd}}));
            let line = json!({
                "type": "result", "subtype": "error_during_execution", "is_error": true,
                "terminal_reason": reason, "total_cost_usd": total, "num_turns": 1,
                "model_usage_since_last_result": usage,
            });
            line.to_string()
        };
        let unknown = [None, Some(2.0)];
        for reason in [Some("aborted_streaming"), Some("aborted_tools"), None] {
            assert_eq!(
                costs(&[begin, &result(reason, 0.0, Some(0.0))], None),
                unknown
            );
            assert_eq!(costs(&[begin, &result(reason, 0.0, None)], None), unknown);
            // In a resumed session the total contains what was spent before.
            assert_eq!(
                costs(&[begin, &result(reason, 0.5, Some(0.0))], None),
                unknown
            );
            assert_eq!(
                costs(&[begin, &result(reason, 0.5, None)], Some(0.5)),
                unknown
            );
            let told = [Some(0.5), None];
            assert_eq!(costs(&[begin, &result(reason, 0.5, Some(0.5))], None), told);
            assert_eq!(costs(&[begin, &result(reason, 0.5, None)], None), told);
            // The agent was woken again, and stopped before it was answered.
            let (first, woken) = (
                result(Some("completed"), 0.5, Some(0.5)),
                result(reason, 0.5, Some(0.0)),
            );
            assert_eq!(costs(&[begin, &first, begin, &woken], None), unknown);
            // The run ended before it began a session, so it has asked nothing.
            let free = [Some(0.0), None];
            assert_eq!(costs(&[&result(reason, 0.0, Some(0.0))], None), free);
        }
        // The service refused the request.
        let refused = result(Some("api_error"), 0.0, Some(0.0));
        assert_eq!(costs(&[begin, &refused], None), [Some(0.0), None]);
        let negative = result(Some("completed"), -1.0, None);
        assert_eq!(costs(&[begin, &negative], None), unknown);
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
