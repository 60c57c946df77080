//! What can go wrong with a request, by kind. `api::status` turns the kind into exit codes and
//! statuses, once, for all entry points.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The request makes no sense.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// What it names may be one of several tasks.
    Ambiguous,
    /// It cannot be done to a task in this state.
    Conflict,
    /// A ceiling or permission forbids it.
    Forbidden,
    /// A limit of the host: too many tasks, nested too deep.
    Limit,
    /// The disk is full.
    StoreFull,
    /// The host is going down, or its store failed.
    Unavailable,
    /// A fault of Claudine.
    Internal,
}

/// One of several things that are wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Where it is in the list of tasks, as a JSON Pointer: `/2/dependencies/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u64>,
    /// The line that it is in, for a person, with a mark below it.
    #[serde(skip)]
    pub(crate) snippet: Option<String>,
}

/// `pipe.yaml:7:32: unknown field …`
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

/// An error as every entry point shows it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub(crate) struct AppError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// What to do about it, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Each of them, where several things may be wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Mistake>,
    /// The tasks of which one is meant, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) candidates: Vec<Candidate>,
}

/// A task that may be meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// Its outcome if it has one.
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
        }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
