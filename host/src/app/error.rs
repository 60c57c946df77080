//! Errors of requests, by kind. `api::status` maps the kinds to exit codes and statuses for all
//! entry points.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The request is invalid.
    Invalid,
    /// Something named in the request does not exist.
    NotFound,
    /// A name or id matches several tasks.
    Ambiguous,
    /// The state of the task does not allow the request.
    Conflict,
    /// A permission or ceiling forbids the request.
    Forbidden,
    /// A limit of the host is reached: too many tasks, nested too deep.
    Limit,
    /// The disk is full.
    StoreFull,
    /// The host is shutting down, or its store failed.
    Unavailable,
    /// An internal error of Claudine.
    Internal,
}

/// One of several mistakes in a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Position in the list of tasks, as a JSON Pointer: `/2/dependencies/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// Line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// Column, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u64>,
    /// The line with a mark below the mistake, for a person.
    #[serde(skip)]
    pub(crate) snippet: Option<String>,
}

/// For example `pipe.yaml:7:32: unknown field …`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => write!(f, "{file}:{line}:{column}: ")?,
            (Some(file), ..) => write!(f, "{file}: ")?,
            _ => {}
        }
        f.write_str(&self.message)
    }
}

/// An error, the same at every entry point.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub(crate) struct AppError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// Advice on what to do, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The individual mistakes, if a request can have several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Mistake>,
    /// Tasks that the name or id may mean, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) candidates: Vec<Candidate>,
    /// Whether the request can be sent to the next host: this host is going down, and did nothing,
    /// or nothing that the request would do twice. A header of the answer says so.
    #[serde(skip)]
    pub(crate) is_for_next_host: bool,
    /// Whether the request may succeed if it is repeated in a moment. A header of the answer says
    /// so.
    #[serde(skip)]
    pub(crate) is_passing: bool,
}

/// A task that a name or id may mean.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// The outcome of a finished task, otherwise its state.
    pub(crate) state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) summary: String,
    pub(crate) created_at: String,
}

impl AppError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            errors: Vec::new(),
            candidates: Vec::new(),
            is_for_next_host: false,
            is_passing: false,
        }
    }

    /// The error for a request about tasks that have changed between each look at them and the
    /// engine's decision.
    pub(crate) fn moved_too_often(what: &str) -> Self {
        let message = format!("{what} change too fast to be looked up; try again");
        Self::new(ErrorKind::Unavailable, message).passing()
    }

    /// An error that may be over if the request is repeated in a moment.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.is_passing = true;
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
