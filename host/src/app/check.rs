//! Validates requests for tasks from all entry points. Each rule has its own message.

use std::{collections::BTreeSet, fmt, time::Duration};

use claudine_domain::{board::Bounds, idempotency, time::Timestamp};
use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::{
    error::{AppError, ErrorKind},
    request::NewTask,
};
use crate::{
    clock::{self, rfc3339},
    config::{OUTPUT_MIN_BYTES, is_variable_name},
    environment::Environment,
    text::{harmless, is_harmful, look_alike, shortened},
    units::duration_word,
};

const COMMIT_MESSAGE_MAX_BYTES: usize = 16 << 10;
pub(crate) const NAME_MAX_CHARS: usize = 256;
pub(crate) const LABELS_MAX: usize = 64;
pub(crate) const LABEL_MAX_CHARS: usize = 256;
pub(crate) const IDEMPOTENCY_KEY_MAX_BYTES: usize = 512;
/// Size limit of the executor's document.
pub(crate) const SPEC_MAX_BYTES: usize = 16 << 20;
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_hours(30 * 24);
/// Maximum delay of a start.
pub(crate) const START_MAX: Duration = Duration::from_hours(366 * 24);
pub(crate) const RETRIES_MAX: u32 = 1000;
/// Maximum number of tasks whose output a task may use.
pub(crate) const OUTPUTS_USED_MAX: usize = 100;
/// Length limit of the name of a field that a message quotes.
const FIELD_SHOWN_CHARS: usize = 40;
/// Length limit of a path that a message quotes.
pub(super) const PATH_SHOWN_CHARS: usize = 300;

pub(super) fn invalid(message: impl Into<String>) -> AppError {
    AppError::new(ErrorKind::Invalid, message)
}

pub(super) fn check(request: &NewTask) -> Result<(), AppError> {
    if let Some(name) = &request.name {
        name_of("the name", name)?;
    }
    if let Some(group) = &request.group {
        group_name(group)?;
    }
    labels(request)?;
    without_nul("the executor", &request.executor)?;
    let directory = request.working_directory.to_string_lossy();
    without_nul("the working directory", &directory)?;
    if let Some(worktree) = &request.worktree {
        for (what, name) in [("branch", &worktree.branch), ("base", &worktree.base)] {
            without_nul(&format!("the {what}"), name.as_deref().unwrap_or_default())?;
        }
    }
    if let Some(message) = request.worktree.as_ref().and_then(|it| it.message.as_ref()) {
        commit_message(message)?;
    }
    if let Some(key) = &request.idempotency_key {
        idempotency_key(key)?;
    }
    timeout("timeout", request.timeout_ms)?;
    timeout("idle timeout", request.idle_timeout_ms)?;
    timeout("start timeout", request.start_timeout_ms)?;
    timeout("queue timeout", request.queue_timeout_ms)?;
    start_time(request)?;
    retries(request)?;
    let (count, limit) = (request.with_output_of.len(), OUTPUTS_USED_MAX);
    if count > limit {
        return Err(AppError::new(
            ErrorKind::Limit,
            format!("it uses the output of {count} tasks; {limit} is the limit"),
        )
        .hint("let further tasks collect some of the outputs, and use the output of these"));
    }
    let (count, limit) = (request.dependencies.len(), Bounds::default().dependencies);
    if count > limit {
        return Err(invalid(format!(
            "it depends on {count} others; {limit} is the limit"
        )));
    }
    if let Some(bytes) = request.max_output_bytes
        && bytes < OUTPUT_MIN_BYTES
    {
        return Err(invalid(format!(
            "the output cap must be at least {OUTPUT_MIN_BYTES} bytes, not {bytes}"
        )));
    }
    let size = request.spec.get().len();
    if size > SPEC_MAX_BYTES {
        return Err(invalid(format!(
            "the request for the executor has {size} bytes; {SPEC_MAX_BYTES} is the limit"
        ))
        .hint("put large content into a file and name the file"));
    }
    document(request.spec.get())?;
    if request.allow_denied && fails_on_denied(request.spec.get()) {
        return Err(invalid(
            "`allow_denied` and `fail_on_denied` contradict each other; give only one of them",
        ));
    }
    each_variable(request.env.iter())
}

/// Refuses a document that its readers could understand in different ways. The settings for MCP
/// clients are checked against its fields, so the executor must find the same fields: by their
/// names, not by their order in a list, and each of them once.
fn document(spec: &str) -> Result<(), AppError> {
    let mut reader = serde_json::Deserializer::from_str(spec);
    reader.deserialize_map(Fields).map_err(|error| {
        let message = format!("the request for the executor cannot be used: {error}");
        invalid(message).hint("it has to be a JSON object that has each field once")
    })
}

/// Reads the names of a document's fields.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(name) = names.replace(name) {
                let shown = shortened(&harmless(&name), FIELD_SHOWN_CHARS);
                return Err(A::Error::custom(format!("`{shown}` is given twice")));
            }
        }
        Ok(())
    }
}

/// Whether an agent's document requests that the attempt fails if a tool was denied.
pub(super) fn fails_on_denied(spec: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Asks {
        #[serde(default)]
        fail_on_denied: bool,
    }
    serde_json::from_str::<Asks>(spec).is_ok_and(|asks| asks.fail_on_denied)
}

fn idempotency_key(key: &str) -> Result<(), AppError> {
    without_nul("the idempotency key", key)?;
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX_BYTES {
        return Err(invalid(format!(
            "the idempotency key must have 1 to {IDEMPOTENCY_KEY_MAX_BYTES} bytes, not {}",
            key.len()
        )));
    }
    // Otherwise a key could be the stored form of another principal's key.
    if idempotency::is_reserved(key) {
        let (one, other) = (idempotency::OF_CHATS, idempotency::OF_AGENTS);
        return Err(invalid(format!(
            "the idempotency key must not begin with `{one}` or `{other}`"
        )));
    }
    Ok(())
}

fn start_time(request: &NewTask) -> Result<(), AppError> {
    if let Some(ms) = request.after_ms
        && Duration::from_millis(ms) > START_MAX
    {
        return Err(invalid(format!(
            "the start may be delayed by at most {}, not {}",
            duration_word(START_MAX),
            duration_word(Duration::from_millis(ms))
        )));
    }
    let Some(at) = request.start_at_ms else {
        return Ok(());
    };
    let now = clock::wall();
    let shown = rfc3339(Timestamp(at));
    if Timestamp(at) < now {
        return Err(invalid(format!("the start time {shown} is in the past")));
    }
    if Timestamp(at) > now.after(START_MAX) {
        return Err(invalid(format!(
            "the start time {shown} is more than a year away"
        )));
    }
    Ok(())
}

fn retries(request: &NewTask) -> Result<(), AppError> {
    match &request.retries {
        Some(retries) if retries.limit > RETRIES_MAX => Err(invalid(format!(
            "at most {RETRIES_MAX} retries may be asked for, not {}",
            retries.limit
        ))),
        _ => Ok(()),
    }
}

pub(super) fn group_name(name: &str) -> Result<(), AppError> {
    name_of("the group", name)
}

/// Checks the name of a task, a graph or a group. The name may be given on a line of standard
/// input.
pub(super) fn name_of(what: &str, name: &str) -> Result<(), AppError> {
    distinct(what, name, NAME_MAX_CHARS)
}

/// Checks a text by which people select something: it must not look like another text, except by
/// letters of another script.
fn distinct(what: &str, value: &str, max_chars: usize) -> Result<(), AppError> {
    text(what, value, max_chars)?;
    if value.trim() != value {
        return Err(invalid(format!("{what} begins or ends with white space")));
    }
    if let Some((at, found)) = look_alike(value) {
        return Err(invalid(format!("{what} has {found} at position {at}")));
    }
    Ok(())
}

/// Checks a text that a program gets as an argument, a variable or a path: none of these can have a
/// NUL byte.
pub(super) fn without_nul(what: &str, text: &str) -> Result<(), AppError> {
    match text.find('\0') {
        Some(at) => Err(invalid(format!("{what} has a NUL byte at position {at}"))
            .hint("leave it out; no program can be given one")),
        None => Ok(()),
    }
}

/// Checks a short text for people: not empty, not too long, and without control characters and
/// invisible ones.
fn text(what: &str, value: &str, max_chars: usize) -> Result<(), AppError> {
    let chars = value.chars().count();
    if chars == 0 || chars > max_chars {
        return Err(invalid(format!(
            "{what} must have 1 to {max_chars} characters, not {chars}"
        )));
    }
    let mut chars = value.chars().enumerate();
    if let Some((at, c)) = chars.find(|(_, c)| is_harmful(*c)) {
        let kind = if c.is_control() {
            "a control character"
        } else {
            "an invisible character"
        };
        return Err(invalid(format!(
            "{what} has {kind} (U+{:04X}) at position {at}",
            u32::from(c)
        )));
    }
    // U+2800 is a Braille pattern without dots, so it is invisible although it is no white space.
    if value.chars().all(|c| c.is_whitespace() || c == '\u{2800}') {
        return Err(invalid(format!("{what} has no visible characters")));
    }
    Ok(())
}

/// Checks a commit message, which may have several lines and is shown on terminals.
fn commit_message(message: &str) -> Result<(), AppError> {
    let length = message.len();
    if length > COMMIT_MESSAGE_MAX_BYTES {
        return Err(invalid(format!(
            "the commit message has {length} bytes; {COMMIT_MESSAGE_MAX_BYTES} is the limit"
        )));
    }
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if message.trim().is_empty() || message.contains(is_harmful) {
        return Err(invalid(
            "the commit message must have text, and no control characters".to_owned(),
        ));
    }
    Ok(())
}

fn labels(request: &NewTask) -> Result<(), AppError> {
    if request.labels.len() > LABELS_MAX {
        return Err(invalid(format!(
            "{} labels were given; {LABELS_MAX} is the limit",
            request.labels.len()
        )));
    }
    for (key, value) in &request.labels {
        distinct("a label's key", key, LABEL_MAX_CHARS)?;
        if !value.is_empty() {
            distinct(
                &format!("the value of label `{key}`"),
                value,
                LABEL_MAX_CHARS,
            )?;
        }
    }
    Ok(())
}

fn timeout(what: &str, ms: Option<u64>) -> Result<(), AppError> {
    let Some(ms) = ms else { return Ok(()) };
    let duration = Duration::from_millis(ms);
    if duration < TIMEOUT_MIN || duration > TIMEOUT_MAX {
        return Err(invalid(format!(
            "the {what} must be from 1 s to 30 days, not {ms} ms"
        )));
    }
    Ok(())
}

pub(super) fn variables(environment: &Environment) -> Result<(), AppError> {
    each_variable(environment.base.iter().chain(&environment.set))
}

fn each_variable<'a>(
    variables: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), AppError> {
    for (name, value) in variables {
        if !is_variable_name(name) {
            let shown: String = name.chars().take(40).collect();
            return Err(invalid(format!(
                "`{}` is not a valid variable name: a name is not empty and has no `=`, NUL or control characters",
                shown.escape_debug()
            )));
        }
        without_nul(&format!("the value of variable {name}"), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn request(change: impl FnOnce(&mut serde_json::Value)) -> NewTask {
        let mut value = serde_json::json!({
            "executor": "shell", "spec": {"script": "true"}, "working_directory": "/",
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn check_message(change: impl FnOnce(&mut serde_json::Value), expected: Option<&str>) {
        let found = check(&request(change)).err().map(|error| error.message);
        assert_eq!(found.as_deref(), expected);
    }

    /// A reader could use the first or the last one.
    #[test]
    fn a_document_that_has_a_field_twice_is_refused() {
        let check = |spec: &str, twice: Option<&str>| {
            let text = format!(r#"{{"executor":"x","working_directory":"/","spec":{spec}}}"#);
            let refused = check(&serde_json::from_str(&text).unwrap()).err();
            let Some(name) = twice else {
                assert!(refused.is_none(), "{spec}: {refused:?}");
                return;
            };
            let message = refused.unwrap().message;
            let says = format!("cannot be used: `{name}` is given twice at line 1 column ");
            assert!(message.contains(&says), "{spec}: {message}");
        };
        check(r#"{"prompt":"a","model":"prompt"}"#, None);
        check(r#"{"prompt":"a","Prompt":"b"}"#, None);
        check(r#"{"a":{"prompt":1},"prompt":"b"}"#, None);
        check(r#"{"prompt":"a","prompt":"a"}"#, Some("prompt"));
        check(r#" {"prompt":"a","m":1,"\u0070rompt":"b"}"#, Some("prompt"));
        check(r#"{"a\u001b":1,"a\u001b":2}"#, Some("a\\u{1b}"));
        let long = "x".repeat(100);
        let shown = format!("{}…", "x".repeat(FIELD_SHOWN_CHARS));
        check(&format!(r#"{{"{long}":1,"{long}":1}}"#), Some(&shown));
    }

    #[test]
    fn each_rule_has_its_own_message() {
        check_message(|_| {}, None);
        check_message(
            |v| v["name"] = "".into(),
            Some("the name must have 1 to 256 characters, not 0"),
        );
        check_message(
            |v| v["name"] = "n".repeat(1_000_000).into(),
            Some("the name must have 1 to 256 characters, not 1000000"),
        );
        check_message(
            |v| v["name"] = "a\u{1b}[2J".into(),
            Some("the name has a control character (U+001B) at position 1"),
        );
        check_message(
            |v| v["name"] = "de\u{200b}ploy".into(),
            Some("the name has an invisible character (U+200B) at position 2"),
        );
        check_message(
            |v| v["name"] = "cafe\u{301}".into(),
            Some(
                "the name has a character that is not in its composed form (NFC: `café`) at \
                 position 3",
            ),
        );
        check_message(
            |v| v["name"] = "build\u{10FFFF}".into(),
            Some("the name has a character without a defined look (U+10FFFF) at position 5"),
        );
        for (spec, found) in [
            (serde_json::json!(["true"]), "sequence"),
            (serde_json::json!(null), "null"),
            (serde_json::json!("true"), "string \"true\""),
        ] {
            let expected = format!(
                "the request for the executor cannot be used: invalid type: {found}, expected a \
                 JSON object at line 1 column "
            );
            let refused = check(&request(|v| v["spec"] = spec.clone())).unwrap_err();
            assert!(refused.message.starts_with(&expected), "{refused}");
        }
        let asks = |fails: bool| {
            move |v: &mut serde_json::Value| {
                v["spec"] = serde_json::json!({"prompt": "x", "fail_on_denied": fails});
                v["allow_denied"] = true.into();
            }
        };
        check_message(asks(false), None);
        check_message(
            asks(true),
            Some(
                "`allow_denied` and `fail_on_denied` contradict each other; give only one of them",
            ),
        );
        for unseen in [" ", "\u{3000}\u{2800}"] {
            check_message(
                |v| v["name"] = unseen.into(),
                Some("the name has no visible characters"),
            );
        }
        for padded in [" a", "a ", "a\u{3000}"] {
            check_message(
                |v| v["name"] = padded.into(),
                Some("the name begins or ends with white space"),
            );
        }
        check_message(
            |v| v["group"] = "g ".into(),
            Some("the group begins or ends with white space"),
        );
        let unseen = "has a character that cannot be seen (the variation selector U+FE0F; leave \
                      it out, except where it makes an emoji) at position 4";
        for (field, what) in [("name", "the name"), ("group", "the group")] {
            let expected = format!("{what} {unseen}");
            check_message(|v| v[field] = "mine\u{fe0f}".into(), Some(&expected));
        }
        check_message(
            |v| v["labels"] = serde_json::json!({"job": "mine\u{fe0f}"}),
            Some(&format!("the value of label `job` {unseen}")),
        );
        check_message(|v| v["name"] = "❤\u{fe0f}".into(), None);
        check_message(
            |v| v["name"] = "夜\u{3000}間".into(),
            Some(
                "the name has an ideographic space (U+3000) in place of an ordinary space \
                 (U+0020) at position 1",
            ),
        );
        check_message(
            |v| v["labels"] = serde_json::json!({"a  b": ""}),
            Some("a label's key has two spaces in a row at position 2"),
        );
        check_message(
            |v| v["timeout_ms"] = 0.into(),
            Some("the timeout must be from 1 s to 30 days, not 0 ms"),
        );
        check_message(
            |v| v["timeout_ms"] = 99_999_999_999u64.into(),
            Some("the timeout must be from 1 s to 30 days, not 99999999999 ms"),
        );
        check_message(
            |v| v["idempotency_key"] = "".into(),
            Some("the idempotency key must have 1 to 512 bytes, not 0"),
        );
        check_message(
            |v| v["env"] = serde_json::json!({"A": "b\u{0}c"}),
            Some("the value of variable A has a NUL byte at position 1"),
        );
        for (name, shown) in [
            ("", ""),
            ("A=B", "A=B"),
            ("A\0", "A\\0"),
            ("LC_\n", "LC_\\n"),
            ("LC_\u{1b}[2J", "LC_\\u{1b}[2J"),
            ("LC_\u{9b}2J", "LC_\\u{9b}2J"),
        ] {
            let expected = format!(
                "`{shown}` is not a valid variable name: a name is not empty and has no `=`, NUL \
                 or control characters"
            );
            check_message(
                |v| v["env"] = serde_json::json!({ name: "x" }),
                Some(&expected),
            );
        }
        check_message(|v| v["env"] = serde_json::json!({"Größe": "x"}), None);
        for (field, what) in [
            ("executor", "the executor"),
            ("working_directory", "the working directory"),
            ("idempotency_key", "the idempotency key"),
        ] {
            let expected = format!("{what} has a NUL byte at position 2");
            check_message(|v| v[field] = "/a\0b".into(), Some(&expected));
        }
        for field in ["branch", "base"] {
            let expected = format!("the {field} has a NUL byte at position 1");
            let worktree = serde_json::json!({ field: "x\0" });
            check_message(|v| v["worktree"] = worktree, Some(&expected));
        }
    }

    #[test]
    fn no_key_is_like_the_stored_key_of_a_restrained_principal() {
        let refused = "the idempotency key must not begin with `restrained:` or `restrained-by:`";
        for key in [
            "restrained:",
            "restrained:k",
            "restrained-by:",
            "restrained-by::k",
        ] {
            check_message(|v| v["idempotency_key"] = key.into(), Some(refused));
        }
        for key in ["k", "restrained", "unrestrained:k"] {
            check_message(|v| v["idempotency_key"] = key.into(), None);
        }
    }
}
