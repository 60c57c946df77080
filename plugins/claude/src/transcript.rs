//! Facts about a run of Claude Code so far.
//!
//! A transcript reads the lines of one process in order and keeps the few facts that the outcome
//! needs. Everything except results is small and goes into checkpoints. The offset of a checkpoint
//! is never after a result, so results are read again rather than stored.

use claudine_plugin_sdk::process::Line;
use serde::{Deserialize, Serialize};

use crate::stream::{self, Event, Fault, Init, RateLimitInfo, Verdict};
use crate::{cut, phase, session};

/// Longer lines, such as tool results with files, are skipped. Of a longer `result` line, the
/// beginning is read.
pub(crate) const LONGEST_LINE_BYTES: usize = 4 << 20;

/// Maximum number of stored tools, because MCP servers add any number of tools, and the size of a
/// checkpoint is limited.
const MOST_TOOLS: usize = 256;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transcript {
    #[serde(default, deserialize_with = "session::reported")]
    pub(crate) session_id: Option<String>,
    /// Whether a session has begun, even if what it is called is not an id.
    #[serde(default)]
    pub(crate) has_begun: bool,
    pub(crate) model: Option<String>,
    pub(crate) version: Option<String>,
    /// Tools that the agent may call, at most [`MOST_TOOLS`].
    pub(crate) tools: Vec<String>,
    pub(crate) mcp_failed: Vec<String>,
    /// Whether the service answered at least once. If so, the usage limit, if there was one, is
    /// over.
    #[serde(default)]
    pub(crate) answered: bool,
    /// Kind of the last API failure.
    pub(crate) api_fault: Option<String>,
    /// The account's usage limit, if the latest report of the account's state was a refusal.
    pub(crate) limit: Option<Limit>,
    /// Number of lines that are longer than the limit or are not events.
    pub(crate) lines_skipped: u64,
    /// Length of the last line, if it was skipped because a part of it is missing. It may have been
    /// the result.
    #[serde(default)]
    pub(crate) last_skipped_bytes: Option<u64>,
    #[serde(skip)]
    pub(crate) results: Results,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Seconds since 1970.
    pub(crate) resets_at_s: Option<f64>,
    /// The service's name for the limit.
    #[serde(default)]
    pub(crate) kind: Option<String>,
}

/// Results of a process: one, or more if a background command woke the agent again.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) last: Option<Verdict>,
    /// Reason why the last result could not be read.
    pub(crate) misread: Option<String>,
    /// Cost of the session before this process.
    pub(crate) cost_before_usd: Option<f64>,
    pub(crate) num_turns: u64,
    /// Whether no event came since the last result: the agent is done, unless something wakes it.
    pub(crate) is_at_rest: bool,
    /// Whether a line that could not be read came since the last result. It may have been another
    /// result.
    pub(crate) has_gap_since: bool,
}

impl Results {
    /// Whether the last result covers everything that the process has done.
    pub(crate) fn is_final(&self) -> bool {
        self.is_at_rest && self.misread.is_none() && !self.has_gap_since
    }

    /// Cost of this process up to its last result, if the session's earlier cost is known.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        let total = self.last.as_ref()?.total_cost_usd?;
        Some((total - self.cost_before_usd?).max(0.0))
    }
}

/// Consequence of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Nothing,
    /// The session began.
    Began,
    Phase(String),
    /// A result: from here on the process has little left to do.
    Ended,
    /// Output that this plugin does not know.
    Odd(String),
}

impl Transcript {
    pub(crate) fn take(&mut self, line: &Line) -> Note {
        if line.is_cut() {
            if let Some(verdict) = result_of_cut(line) {
                return self.ended(verdict);
            }
            self.lines_skipped += 1;
            self.last_skipped_bytes = Some(line.length_bytes);
            self.results.has_gap_since = true;
            return Note::Odd(format!("a line of {} bytes was skipped", line.length_bytes));
        }
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return Note::Nothing;
        }
        self.last_skipped_bytes = None;
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
                    // Messages of a subagent are left out, because they would hide the agent's own
                    // steps.
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

    /// Whether a session has begun. In a checkpoint of an earlier version only its id says so.
    pub(crate) fn is_in_session(&self) -> bool {
        self.has_begun || self.session_id.is_some()
    }

    /// The session, as Claude Code has named it when it began or, if the run failed before that, in
    /// the result.
    pub(crate) fn session(&self) -> Option<&str> {
        if self.is_in_session() {
            return self.session_id.as_deref();
        }
        let verdict = self.results.last.as_ref()?;
        verdict.session_id.as_deref()
    }

    /// Whether the process is known to have asked the service nothing: its whole output was read,
    /// and no session began in it.
    pub(crate) fn has_asked_nothing(&self) -> bool {
        !self.is_in_session() && self.lines_skipped == 0 && !self.has_result()
    }

    pub(crate) fn has_result(&self) -> bool {
        self.results.last.is_some() || self.results.misread.is_some()
    }

    /// The error message, if there was no session to resume. This case is recognised by its form
    /// (an error before the session began, and no turn), and not by the words of the message.
    pub(crate) fn no_session(&self) -> Option<String> {
        let verdict = self.results.last.as_ref()?;
        let is_it =
            !self.is_in_session() && verdict.is_error == Some(true) && verdict.num_turns == Some(0);
        is_it.then(|| {
            let errors = verdict.errors.as_deref().unwrap_or_default();
            errors
                .first()
                .cloned()
                .unwrap_or_else(|| "the session did not begin".to_owned())
        })
    }

    fn began(&mut self, init: Init) -> Note {
        self.results.is_at_rest = false;
        self.has_begun = true;
        self.session_id = init.session_id;
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
        results.has_gap_since = false;
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

/// Parses a result of which only the beginning of the line was read. The parsed result has all
/// fields before the text, and the beginning of the text.
fn result_of_cut(line: &Line) -> Option<Verdict> {
    let closed = cut::closed(&line.bytes)?;
    let Ok(Event::Result(mut verdict)) = stream::parse(&closed) else {
        return None;
    };
    let left_out = line.length_bytes.saturating_sub(line.bytes.len() as u64);
    if verdict.is_error == Some(false) {
        // Perhaps not even the beginning of the text was read.
        verdict.result.get_or_insert_default();
    }
    if let Some(text) = &mut verdict.result {
        let left_out = left_out.to_string();
        text.extend(["… [", &*left_out, " more bytes were left out]"]);
    }
    Some(*verdict)
}

fn limit(info: &RateLimitInfo) -> Option<Limit> {
    (info.status == "rejected").then_some(Limit {
        resets_at_s: info.resets_at,
        kind: info.rate_limit_type.clone(),
    })
}

/// Cost of the session before this process, computed from the first result of the process: the
/// total, which covers the whole session, minus the costs by model, which cover this process alone.
fn cost_before(verdict: &Verdict) -> Option<f64> {
    let own = verdict.since_last_usd()?;
    Some((verdict.total_cost_usd? - own).max(0.0))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::session::tests::{SESSION, others};

    pub(crate) fn line(text: &str) -> Line {
        Line {
            bytes: text.as_bytes().to_vec(),
            length_bytes: text.len() as u64,
            end_offset: 0,
            terminated: true,
        }
    }

    /// Reads a recorded run. Returns its transcript and all notes.
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
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/",
                $name,
                ".jsonl"
            ))
        };
    }
    pub(crate) use fixture;

    #[test]
    fn run_with_a_tool_is_reported_step_by_step() {
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
    fn retries_are_reported() {
        let (_, notes) = read(fixture!("overloaded"));
        let first = Note::Phase("the API failed (status 529): retry 1 of 10 in 0.6 s".to_owned());
        assert_eq!(notes[1], first);
    }

    #[test]
    fn woken_agent_is_not_at_rest() {
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
    fn failed_mcp_servers_are_kept() {
        assert_eq!(read(fixture!("mcp_failed")).0.mcp_failed, ["dead"]);
    }

    #[test]
    fn report_of_an_allowed_request_sets_no_usage_limit() {
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
    fn unreadable_lines_are_counted() {
        let mut transcript = Transcript::default();
        let mut long = line("{\"type\":\"user\"");
        long.length_bytes = 5 << 20;
        assert_eq!(
            transcript.take(&long),
            Note::Odd("a line of 5242880 bytes was skipped".to_owned())
        );
        assert_eq!(
            transcript.take(&line("npm notice")),
            Note::Odd("a line is not an event".to_owned())
        );
        assert_eq!(transcript.take(&line("  ")), Note::Nothing);
        assert_eq!(transcript.lines_skipped, 2);
    }

    #[test]
    fn overlong_result_still_counts() {
        let mut transcript = Transcript::default();
        let mut long = line(
            r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"It is \ud83d"#,
        );
        long.length_bytes = 5_000_000 + long.bytes.len() as u64;
        assert_eq!(transcript.take(&long), Note::Ended);
        let verdict = transcript.results.last.as_ref().unwrap();
        assert_eq!(verdict.is_error, Some(false));
        let text = "It is … [5000000 more bytes were left out]";
        assert_eq!(verdict.result.as_deref(), Some(text));
        assert!(transcript.has_result() && transcript.results.is_at_rest);
        // The text is missing as a whole.
        let mut long = line(r#"{"type":"result","subtype":"success","is_error":false,"uuid":"6f"#);
        long.length_bytes = 7 + long.bytes.len() as u64;
        assert_eq!(transcript.take(&long), Note::Ended);
        let verdict = transcript.results.last.as_ref().unwrap();
        let text = "… [7 more bytes were left out]";
        assert_eq!(verdict.result.as_deref(), Some(text));
        // The beginning of any other line has no effect.
        let mut half = line(r#"{"type":"system","subtype":"init","session_id":"s"#);
        half.length_bytes = 5 << 20;
        assert!(matches!(transcript.take(&half), Note::Odd(_)));
        assert_eq!(transcript.session_id, None);
    }

    #[test]
    fn missing_session_is_recognised_by_its_form() {
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
    fn session_is_named_when_it_begins_or_else_in_the_result() {
        let session = |recorded: &str| read(recorded).0.session().map(str::to_owned);
        let begun = fixture!("no_login");
        let id = "c18df8b4-dad6-4804-86d9-81865758f63c";
        assert_eq!(session(begun).as_deref(), Some(id));
        let result = begun.lines().next_back().unwrap();
        assert_eq!(session(result).as_deref(), Some(id));
        let other = result.replace(id, SESSION);
        let both = format!("{}\n{other}", begun.lines().next().unwrap());
        assert_eq!(session(&both).as_deref(), Some(id));
    }

    #[test]
    fn session_without_an_id_has_begun() {
        for other in others() {
            let other = serde_json::Value::from(other);
            let init = format!(r#"{{"type":"system","subtype":"init","session_id":{other}}}"#);
            let mut transcript = Transcript::default();
            assert_eq!(transcript.take(&line(&init)), Note::Began);
            assert_eq!(transcript.session_id, None);
            let result = format!(
                r#"{{"type":"result","is_error":true,"num_turns":0,"session_id":"{SESSION}"}}"#
            );
            assert_eq!(transcript.take(&line(&result)), Note::Ended);
            assert_eq!(transcript.no_session(), None, "{other}");
            assert_eq!(transcript.session(), None, "{other}");
            // A checkpoint of an earlier version may contain any text.
            let json = format!(
                r#"{{"session_id":{other},"model":null,"version":null,"tools":[],"mcp_failed":[],"api_fault":null,"limit":null,"lines_skipped":0}}"#
            );
            let stored: Transcript = serde_json::from_str(&json).unwrap();
            assert_eq!(stored.session_id, None, "{other}");
        }
    }

    #[test]
    fn checkpoint_keeps_the_limit_and_the_session_but_no_results() {
        let (transcript, _) = read(fixture!("usage_limit"));
        let json = serde_json::to_string(&transcript).unwrap();
        let again: Transcript = serde_json::from_str(&json).unwrap();
        assert_eq!(again.limit, transcript.limit);
        assert_eq!(again.session_id, transcript.session_id);
        assert!(again.session_id.is_some() && again.is_in_session());
        assert!(again.results.last.is_none());
    }
}
