//! What a run of Claude Code has said so far.
//!
//! It is fed the lines of one process in order and keeps the few facts its outcome is made of. All
//! of it but the results is small and goes into checkpoints; a checkpoint never lies behind a
//! result, so a result is read again rather than stored.

use claudine_plugin_sdk::process::Line;
use serde::{Deserialize, Serialize};

use crate::stream::{self, Event, Fault, Init, RateLimitInfo, Verdict};
use crate::{cut, phase};

/// Longer lines are passed over: tool results with files in them may be. Of a result that is
/// longer the beginning is read.
pub(crate) const LONGEST_LINE_BYTES: usize = 4 << 20;

/// MCP servers bring any number of tools, and a checkpoint has its bound.
const MOST_TOOLS: usize = 256;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transcript {
    pub(crate) session_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) version: Option<String>,
    /// What the agent may call at all, at most [`MOST_TOOLS`].
    pub(crate) tools: Vec<String>,
    pub(crate) mcp_failed: Vec<String>,
    /// The service answered at least once: its usage limit, if there was one, is over.
    #[serde(default)]
    pub(crate) answered: bool,
    /// The kind of the last failure of the API.
    pub(crate) api_fault: Option<String>,
    /// The account's usage limit, while the last word on it was a refusal.
    pub(crate) limit: Option<Limit>,
    /// Lines longer than the bound, and lines that are no events.
    pub(crate) lines_skipped: u64,
    #[serde(skip)]
    pub(crate) results: Results,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Seconds since 1970.
    pub(crate) resets_at_s: Option<f64>,
    /// In the words of the service.
    #[serde(default)]
    pub(crate) kind: Option<String>,
}

/// The results of a process: one, or more where a background command of the agent woke it again.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) last: Option<Verdict>,
    /// Why the last result could not be read.
    pub(crate) misread: Option<String>,
    /// What the session had cost before this process.
    pub(crate) cost_before_usd: Option<f64>,
    pub(crate) num_turns: u64,
    /// Nothing was said since the last result: the agent is done, unless something wakes it.
    pub(crate) is_at_rest: bool,
}

impl Results {
    /// What this process has cost up to its last result, where that says what the session had cost
    /// before.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        let total = self.last.as_ref()?.total_cost_usd?;
        Some((total - self.cost_before_usd?).max(0.0))
    }
}

/// What is to be told on account of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Nothing,
    /// The session began.
    Began,
    Phase(String),
    /// A result: from here on the process has little left to do.
    Ended,
    /// Something is not as this plugin knows it.
    Odd(String),
}

impl Transcript {
    pub(crate) fn take(&mut self, line: &Line) -> Note {
        if line.is_cut() {
            if let Some(verdict) = result_of_cut(line) {
                return self.ended(verdict);
            }
            self.lines_skipped += 1;
            return Note::Odd(format!(
                "a line of {} bytes was passed over",
                line.length_bytes
            ));
        }
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return Note::Nothing;
        }
        match stream::parse(&line.bytes) {
            Ok(event) => self.event(event),
            Err(fault) => self.fault(&fault),
        }
    }

    fn event(&mut self, event: Event) -> Note {
        match event {
            Event::Init(init) => self.began(init),
            Event::Assistant(message) => {
                self.results.is_at_rest = false;
                self.answered |= message.error.is_none();
                self.api_fault = message.error;
                match message.parent_tool_use_id {
                    // A subagent's steps would drown what the agent itself does.
                    Some(_) => Note::Nothing,
                    None => phase::of_message(&message.message.content)
                        .map_or(Note::Nothing, Note::Phase),
                }
            }
            Event::Retry(retry) => Note::Phase(phase::of_retry(&retry)),
            Event::RateLimit(info) => {
                self.limit = limit(&info);
                Note::Nothing
            }
            Event::Result(verdict) => self.ended(*verdict),
            Event::Other => Note::Nothing,
        }
    }

    pub(crate) fn has_result(&self) -> bool {
        self.results.last.is_some() || self.results.misread.is_some()
    }

    /// What was said where there was no session to take up. It is told by its shape, not by its
    /// words: an error that came before the session could begin, and no turn.
    pub(crate) fn no_session(&self) -> Option<String> {
        let verdict = self.results.last.as_ref()?;
        let is_it = self.session_id.is_none()
            && verdict.is_error == Some(true)
            && verdict.num_turns == Some(0);
        is_it.then(|| {
            let errors = verdict.errors.as_deref().unwrap_or_default();
            errors
                .first()
                .cloned()
                .unwrap_or_else(|| "it did not begin".to_owned())
        })
    }

    fn began(&mut self, init: Init) -> Note {
        self.results.is_at_rest = false;
        self.session_id = Some(init.session_id);
        self.model = init.model;
        self.version = init.claude_code_version;
        self.tools = init.tools;
        self.tools.truncate(MOST_TOOLS);
        self.mcp_failed = init
            .mcp_servers
            .into_iter()
            .filter(|server| server.status.as_deref() == Some("failed"))
            .map(|server| server.name)
            .collect();
        Note::Began
    }

    fn ended(&mut self, verdict: Verdict) -> Note {
        let results = &mut self.results;
        if results.cost_before_usd.is_none() {
            results.cost_before_usd = cost_before(&verdict);
        }
        results.num_turns += verdict.num_turns.unwrap_or(0);
        results.misread = None;
        results.is_at_rest = true;
        results.last = Some(verdict);
        Note::Ended
    }

    fn fault(&mut self, fault: &Fault) -> Note {
        match fault {
            Fault::NotAnEvent => self.lines_skipped += 1,
            Fault::Shape {
                event: "result",
                error,
            } => {
                self.results.misread = Some(error.clone());
                self.results.is_at_rest = true;
            }
            Fault::Shape { .. } => {}
        }
        Note::Odd(fault.to_string())
    }
}

/// The result that a line of it begins with: how it ended is known, and of its text the beginning.
fn result_of_cut(line: &Line) -> Option<Verdict> {
    let closed = cut::closed(&line.bytes)?;
    let Ok(Event::Result(mut verdict)) = stream::parse(&closed) else {
        return None;
    };
    let left_out = line.length_bytes.saturating_sub(line.bytes.len() as u64);
    if let Some(text) = &mut verdict.result {
        let left_out = left_out.to_string();
        text.extend(["… [", &*left_out, " bytes more are in the log]"]);
    }
    Some(*verdict)
}

fn limit(info: &RateLimitInfo) -> Option<Limit> {
    (info.status == "rejected").then_some(Limit {
        resets_at_s: info.resets_at,
        kind: info.rate_limit_type.clone(),
    })
}

/// The total is the session's; what is said beside it is of this process alone.
fn cost_before(verdict: &Verdict) -> Option<f64> {
    let own: f64 = verdict
        .model_usage_since_last_result
        .as_ref()?
        .values()
        .map(|usage| usage.cost_usd)
        .sum();
    Some((verdict.total_cost_usd? - own).max(0.0))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    pub(crate) fn line(text: &str) -> Line {
        Line {
            bytes: text.as_bytes().to_vec(),
            length_bytes: text.len() as u64,
            end_offset: 0,
            terminated: true,
        }
    }

    /// A recorded run, with what was told on the way.
    pub(crate) fn read(recorded: &str) -> (Transcript, Vec<Note>) {
        let mut transcript = Transcript::default();
        let notes = recorded
            .lines()
            .map(|text| transcript.take(&line(text)))
            .collect();
        (transcript, notes)
    }

    /// The fixture of this name.
    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../tests/fixtures/", $name, ".jsonl"))
        };
    }
    pub(crate) use fixture;

    #[test]
    fn a_run_with_a_tool_is_told_step_by_step() {
        let (transcript, notes) = read(fixture!("bash"));
        let phase = Note::Phase("Bash: echo hi; echo err >&2".to_owned());
        assert_eq!(
            notes,
            [
                Note::Began,
                phase,
                Note::Nothing,
                Note::Nothing,
                Note::Ended
            ]
        );
        assert_eq!(transcript.version.as_deref(), Some("2.1.330"));
        assert_eq!(transcript.model.as_deref(), Some("claude-opus-5-5"));
        assert!(transcript.session_id.is_some());
    }

    #[test]
    fn retries_are_told() {
        let (_, notes) = read(fixture!("overloaded"));
        let first = Note::Phase("the API failed (status 529): retry 1 of 10 in 0.6 s".to_owned());
        assert_eq!(notes[1], first);
    }

    #[test]
    fn an_agent_that_is_woken_is_not_at_rest() {
        let mut transcript = Transcript::default();
        let mut rests = Vec::new();
        for text in fixture!("woken").lines() {
            let before = transcript.results.is_at_rest;
            transcript.take(&line(text));
            if before != transcript.results.is_at_rest {
                rests.push(transcript.results.is_at_rest);
            }
        }
        assert_eq!(rests, [true, false, true]);
        assert_eq!(transcript.results.num_turns, 3);
        assert_eq!(
            transcript.results.last.unwrap().result.as_deref(),
            Some("woken")
        );
    }

    #[test]
    fn mcp_servers_that_failed_are_kept() {
        assert_eq!(read(fixture!("mcp_failed")).0.mcp_failed, ["dead"]);
    }

    #[test]
    fn an_allowed_request_is_no_limit() {
        assert_eq!(read(fixture!("oauth_allowed")).0.limit, None);
        assert_eq!(
            read(fixture!("usage_limit")).0.limit,
            Some(Limit {
                resets_at_s: Some(4_102_444_800.0),
                kind: Some("five_hour".to_owned()),
            })
        );
        assert_eq!(
            read(fixture!("oauth429_no_reset")).0.limit,
            Some(Limit {
                resets_at_s: None,
                kind: None
            })
        );
    }

    #[test]
    fn lines_that_cannot_be_read_are_counted() {
        let mut transcript = Transcript::default();
        let mut long = line("{\"type\":\"user\"");
        long.length_bytes = 5 << 20;
        assert_eq!(
            transcript.take(&long),
            Note::Odd("a line of 5242880 bytes was passed over".to_owned())
        );
        assert_eq!(
            transcript.take(&line("npm notice")),
            Note::Odd("a line is no event".to_owned())
        );
        assert_eq!(transcript.take(&line("  ")), Note::Nothing);
        assert_eq!(transcript.lines_skipped, 2);
    }

    #[test]
    fn a_result_that_is_too_long_is_one_all_the_same() {
        let mut transcript = Transcript::default();
        let mut long = line(
            r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"It is \ud83d"#,
        );
        long.length_bytes = 5_000_000 + long.bytes.len() as u64;
        assert_eq!(transcript.take(&long), Note::Ended);
        let verdict = transcript.results.last.as_ref().unwrap();
        assert_eq!(verdict.is_error, Some(false));
        let text = "It is … [5000000 bytes more are in the log]";
        assert_eq!(verdict.result.as_deref(), Some(text));
        assert!(transcript.has_result() && transcript.results.is_at_rest);
        // Nothing else is acted on by half.
        let mut half = line(r#"{"type":"system","subtype":"init","session_id":"s"#);
        half.length_bytes = 5 << 20;
        assert!(matches!(transcript.take(&half), Note::Odd(_)));
        assert_eq!(transcript.session_id, None);
    }

    #[test]
    fn a_session_that_is_gone_is_told_by_its_shape() {
        let why = "No conversation found with session ID: 6f2a0d8e-3f57-4f1e-9d5b-1c1f5f7c0aff";
        assert_eq!(
            read(fixture!("resume_unknown")).0.no_session().as_deref(),
            Some(why)
        );
        for recorded in [
            fixture!("text"),
            fixture!("resumed"),
            fixture!("no_login"),
            fixture!("terminated"),
        ] {
            assert_eq!(read(recorded).0.no_session(), None);
        }
    }

    #[test]
    fn a_checkpoint_keeps_everything_but_results() {
        let (transcript, _) = read(fixture!("usage_limit"));
        let json = serde_json::to_string(&transcript).unwrap();
        let again: Transcript = serde_json::from_str(&json).unwrap();
        assert_eq!(again.limit, transcript.limit);
        assert_eq!(again.session_id, transcript.session_id);
        assert!(again.results.last.is_none());
    }
}
