//! Derives the outcome of an attempt from the output of Claude Code and the end of its process.
//!
//! `is_error` is checked first, because every API failure also says `subtype: success`. The exit
//! code decides nothing, because it is 0 after an interrupt and 143 after TERM, and because a run
//! that has printed its result may be ended by force. The host knows who requested a stop, so the
//! host turns the outcome of a stopped attempt into `cancelled` or `timed_out`.

mod outputs;

use std::time::Duration;

use claudine_plugin_sdk::{Class, ExitStatus, Outcome};

use self::outputs::outputs;
use crate::start::{Earlier, limits_an_agent};
use crate::stream::Verdict;
use crate::transcript::Transcript;

/// Time added to the end of a limit: the service's clock may differ from this machine's, and limits
/// are not lifted to the second.
const AFTER_RESET: Duration = Duration::from_mins(1);

/// The facts, besides the transcript, from which the outcome is derived.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    /// Last line on standard error, read only if there is no result.
    pub(crate) complaint: Option<String>,
    /// Wall time since 1970.
    pub(crate) now: Duration,
    pub(crate) fail_on_denied: bool,
    /// Budget that Claude Code was given.
    pub(crate) budget_usd: Option<f64>,
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
    if let Some(option) = ending.complaint.as_deref().and_then(missing_limit) {
        let text = format!(
            "this version of Claude Code does not know `{option}`, which limits the agents of MCP \
             clients and of other agents; {}",
            crate::UPDATE_ADVICE
        );
        return (Some(Class::Invalid), text);
    }
    let cause = if ending.status.signal.is_some() {
        Class::Signal
    } else {
        Class::NoResult
    };
    let mut text = format!("claude {} without a result", ending.status);
    if let Some(bytes) = transcript.last_skipped_bytes {
        text = format!(
            "{text}; a part of its last line, which has {bytes} bytes, could not be read: it is over 4 MiB, or its output is over --max-output"
        );
    }
    if let Some(complaint) = &ending.complaint {
        text = format!("{text}: {complaint}");
    } else if !transcript.is_in_session() && transcript.lines_skipped > 0 {
        text = format!(
            "{text}; none of the {} lines it printed is an event",
            transcript.lines_skipped
        );
    }
    (Some(cause), text)
}

/// The option of a restrained agent that Claude Code complains of, because its version lacks it.
fn missing_limit(complaint: &str) -> Option<&str> {
    let argument = complaint.strip_prefix("error: unknown option '")?;
    let name = argument.split(['\'', '=']).next()?;
    limits_an_agent(name).then_some(name)
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

    pub(super) fn end(recorded: &str, ending: Ending) -> Outcome {
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

    /// A version that cannot limit an agent must not run it, and another attempt would not help.
    #[test]
    fn version_that_lacks_an_option_of_a_limited_agent_is_to_be_updated() {
        let said = |complaint: &str| {
            let ending = Ending {
                status: exit(1),
                complaint: Some(complaint.to_owned()),
                ..Ending::default()
            };
            end("", ending)
        };
        for option in ["--safe-mode", "--no-chrome", "--tools"] {
            let outcome = said(&format!("error: unknown option '{option}=a,b'"));
            assert_eq!(outcome.cause, Some(Class::Invalid), "{option}");
            let expected = format!(
                "this version of Claude Code does not know `{option}`, which limits the agents of \
                 MCP clients and of other agents; {}",
                crate::UPDATE_ADVICE
            );
            assert_eq!(outcome.summary, expected);
        }
        let other = said("error: unknown option '--toolset'");
        assert_eq!(other.cause, Some(Class::NoResult));
    }

    #[test]
    fn run_whose_last_line_is_incomplete_says_that_the_result_may_be_in_it() {
        let (mut transcript, _) = read(fixture!("terminated"));
        // The end of a result whose beginning was removed.
        let mut rest = line(r#"of the text","session_id":"s"}"#);
        rest.length_bytes = 8 << 20;
        transcript.take(&rest);
        let said = |transcript: &Transcript| {
            let outcome = outcome(transcript, &Ending::default());
            assert_eq!(outcome.cause, Some(Class::NoResult));
            outcome.summary
        };
        let missing = "; a part of its last line, which has 8388608 bytes, could not be read";
        let found = said(&transcript);
        assert!(found.contains(missing), "{found}");
        transcript.take(&line(r#"{"type":"hologram"}"#));
        let found = said(&transcript);
        assert!(!found.contains("last line"), "{found}");
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
}
