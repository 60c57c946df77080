//! Builds paths of the REST API; names in them are escaped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use super::ClientError;
use crate::app::{AppError, ErrorKind};

/// Length limit of a name in a path, longer than any valid id or name; a URI may have 64 KiB.
const LONGEST_REFERENCE: usize = 1_024;

/// Length limit of a URI in the `http` crate.
const LONGEST_BYTES: usize = 65_534;

/// The path `/v1/tasks/{reference}{rest}`.
pub(super) fn task(reference: &str, rest: &str) -> Result<String, ClientError> {
    named("/v1/tasks/", "task", reference, rest)
}

/// The path `/v1/plugins/{name}`.
pub(super) fn plugin(name: &str) -> Result<String, ClientError> {
    named("/v1/plugins/", "plugin", name, "")
}

/// The path `/v1/groups/{name}{rest}`.
pub(super) fn group(name: &str, rest: &str) -> Result<String, ClientError> {
    named("/v1/groups/", "group", name, rest)
}

fn named(before: &str, what: &str, name: &str, rest: &str) -> Result<String, ClientError> {
    let refuse = |kind, message| Err(ClientError::Refused(AppError::new(kind, message)));
    if name.is_empty() {
        return refuse(
            ErrorKind::Invalid,
            format!("the name of the {what} is empty"),
        );
    }
    if name.len() > LONGEST_REFERENCE {
        return refuse(
            ErrorKind::NotFound,
            format!("there is no {what} with a name of {} bytes", name.len()),
        );
    }
    let mut path = String::from(before);
    escape(&mut path, name);
    path.push_str(rest);
    Ok(path)
}

/// Appends to a path those fields of `query` that are set.
pub(super) fn with_query(mut path: String, query: &impl Serialize) -> Result<String, ClientError> {
    let fields = serde_json::to_value(query).map_err(ClientError::Unwritable)?;
    let mut separator = '?';
    let each = |(name, value): (&String, &Value)| match value {
        Value::Array(several) => several
            .iter()
            .map(|one| (name.clone(), one.clone()))
            .collect(),
        one => vec![(name.clone(), one.clone())],
    };
    let pairs = fields.as_object().into_iter().flatten().flat_map(each);
    for (name, value) in pairs {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            other => other.to_string(),
        };
        path.push(separator);
        path.push_str(&name);
        path.push('=');
        escape(&mut path, &text);
        separator = '&';
    }
    if path.len() > LONGEST_BYTES {
        let bytes = path.len();
        let message = format!(
            "the address of the request has {bytes} bytes, and {LONGEST_BYTES} is the limit"
        );
        let error = AppError::new(ErrorKind::Invalid, message);
        return Err(ClientError::Refused(
            error.hint("use fewer or shorter filters"),
        ));
    }
    Ok(path)
}

/// Everything except the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn escape(into: &mut String, text: &str) {
    into.extend(utf8_percent_encode(text, ESCAPED));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::app::{ListFilter, LogQuery};

    #[test]
    fn the_name_of_a_task_is_escaped_to_one_segment() {
        let check = |reference: &str, expected: &str| {
            assert_eq!(task(reference, "/why").unwrap(), expected);
        };
        check("task_01kxyz", "/v1/tasks/task_01kxyz/why");
        check("a b/c?d#e%", "/v1/tasks/a%20b%2Fc%3Fd%23e%25/why");
        check("grün", "/v1/tasks/gr%C3%BCn/why");
        assert!(task("", "").is_err());
        assert!(task(&"x".repeat(1_000_000), "").is_err());
    }

    #[test]
    fn unset_fields_are_not_in_the_query() {
        let query = LogQuery {
            stream: Some("stdout".to_owned()),
            tail: Some(3),
            follow: true,
            ..LogQuery::default()
        };
        assert_eq!(
            with_query("/l".to_owned(), &query).unwrap(),
            "/l?follow=true&stream=stdout&tail=3"
        );
        let filter = ListFilter {
            label: vec!["a=b".to_owned(), "c=,".to_owned()],
            ..ListFilter::default()
        };
        assert_eq!(
            with_query("/t".to_owned(), &filter).unwrap(),
            "/t?label=a%3Db&label=c%3D%2C"
        );
    }

    #[test]
    fn an_address_is_valid_or_refused_because_of_its_length() {
        let of = |length: usize| {
            let filter = ListFilter {
                name: Some("x".repeat(length)),
                ..ListFilter::default()
            };
            with_query("/t".to_owned(), &filter)
        };
        let longest = LONGEST_BYTES - "/t?name=".len();
        assert!(of(longest).unwrap().parse::<hyper::Uri>().is_ok());
        let error = AppError::from(of(longest + 1).unwrap_err());
        assert_eq!(error.kind, ErrorKind::Invalid);
        let length = "the address of the request has 65535 bytes, and 65534 is the limit";
        assert_eq!(error.message, length);
    }
}
