//! Principals: who makes a request, through which channel, and what the request may do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// Kinds of principals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Kind {
    /// The user who runs the host.
    #[default]
    Owner,
    /// A process of an attempt. The task is `None` if the attempt is not known.
    Agent {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        task: Option<TaskId>,
    },
    /// The holder of a token.
    Token,
    /// Somebody who is logged in to the dashboard.
    Login,
    /// Another host.
    Node,
}

/// Channel through which a request came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    #[default]
    Cli,
    Mcp,
    Rest,
    Workflow,
    Schedule,
}

impl Via {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Mcp => "mcp",
            Self::Rest => "rest",
            Self::Workflow => "workflow",
            Self::Schedule => "schedule",
        }
    }
}

/// The author of a request. The author is stored with each task, hold and event that the request
/// causes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Principal {
    #[serde(flatten)]
    pub kind: Kind,
    /// Name of a token, a login or a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub via: Via,
    /// Whether the settings for MCP clients limit this principal's requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restrained: bool,
}

impl Principal {
    /// Whether this is the owner at a terminal. Older versions stored no other principal.
    pub fn is_owner_at_terminal(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this is the owner in person. The owner in a chat with a model does not count, since
    /// the model writes the requests.
    pub fn is_person(&self) -> bool {
        self.kind == Kind::Owner && !self.restrained
    }

    /// Whether two requests came from the same principal. The owner at a terminal and the owner
    /// through REST are the same principal.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (self.kind, &self.name, self.restrained) == (other.kind, &other.name, other.restrained)
    }
}

/// Writes the principal as shown: `owner`, `owner via mcp`, `agent x7tqrp via cli`,
/// `token ci via rest`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Owner => f.write_str("owner")?,
            Kind::Agent { task: Some(task) } => write!(f, "agent {task:#}")?,
            Kind::Agent { task: None } => f.write_str("agent")?,
            Kind::Token => f.write_str("token")?,
            Kind::Login => f.write_str("login")?,
            Kind::Node => f.write_str("node")?,
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        if self.is_owner_at_terminal() {
            return Ok(());
        }
        write!(f, " via {}", self.via.as_str())
    }
}

/// Names of the principals who hold a task. Older versions stored none, since only the owner could
/// hold a task.
pub fn names_of_holders(holders: &[Arc<Principal>]) -> String {
    if holders.is_empty() {
        return Principal::default().to_string();
    }
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// How much a task can do. Each step includes all earlier ones.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads files.
    Read,
    /// Changes files.
    Edit,
    /// Runs commands, within limits that its executor sets.
    Run,
    /// Does anything that the owner can do.
    #[default]
    Full,
}

impl Step {
    /// All steps, the lowest first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Edit, Self::Run, Self::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Run => "run",
            Self::Full => "full",
        }
    }
}

/// Authority of a task, as its executor derives it from the request. An unknown authority counts as
/// the authority to do everything.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema,
)]
pub struct Authority {
    pub step: Step,
    /// Further abilities by name: `network`, …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub extras: BTreeSet<String>,
}

impl Authority {
    /// Authority to do everything that the user who runs the host may do.
    pub fn full() -> Self {
        Self::default()
    }

    /// Parses an executor's answer. An unknown step counts as `full`, which includes all extras.
    pub fn of_words<'a>(step: &str, extras: impl IntoIterator<Item = &'a str>) -> Self {
        let known = Step::ALL.into_iter().find(|known| known.as_str() == step);
        match known.unwrap_or_default() {
            Step::Full => Self::default(),
            step => Self {
                step,
                extras: extras.into_iter().map(str::to_owned).collect(),
            },
        }
    }

    /// Whether this authority includes everything that the other can do.
    pub fn covers(&self, other: &Self) -> bool {
        self.step == Step::Full
            || (self.step >= other.step && self.extras.is_superset(&other.extras))
    }
}

/// Writes `edit`, or `edit, network`.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.as_str())?;
        self.extras
            .iter()
            .try_for_each(|extra| write!(f, ", {extra}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::tests::stored;

    fn by(kind: Kind, via: Via, restrained: bool) -> Principal {
        Principal {
            kind,
            name: None,
            via,
            restrained,
        }
    }

    #[test]
    fn each_kind_of_principal_has_its_stored_form_and_its_shown_form() {
        let check = |principal: Principal, json: &str, shown: &str| {
            assert_eq!(serde_json::to_string(&principal).unwrap(), json);
            let read: Principal = serde_json::from_str(json).unwrap();
            assert_eq!(read, principal);
            assert_eq!(principal.to_string(), shown);
        };
        let task = TaskId::new(0, 7);
        check(
            Principal::default(),
            r#"{"kind":"owner","via":"cli"}"#,
            "owner",
        );
        check(
            by(Kind::Owner, Via::Mcp, true),
            r#"{"kind":"owner","via":"mcp","restrained":true}"#,
            "owner via mcp",
        );
        check(
            by(Kind::Agent { task: Some(task) }, Via::Cli, false),
            r#"{"kind":"agent","task":"task_00000000000000000000000007","via":"cli"}"#,
            "agent 000007 via cli",
        );
        check(
            by(Kind::Agent { task: None }, Via::Rest, true),
            r#"{"kind":"agent","via":"rest","restrained":true}"#,
            "agent via rest",
        );
        let token = Principal {
            name: Some("ci".to_owned()),
            ..by(Kind::Token, Via::Rest, false)
        };
        check(
            token,
            r#"{"kind":"token","name":"ci","via":"rest"}"#,
            "token ci via rest",
        );
    }

    #[test]
    fn only_an_owner_whose_requests_no_model_writes_is_a_person() {
        let task = Some(TaskId::new(0, 7));
        assert!(Principal::default().is_person());
        assert!(by(Kind::Owner, Via::Rest, false).is_person());
        assert!(!by(Kind::Owner, Via::Mcp, true).is_person());
        assert!(!by(Kind::Agent { task }, Via::Cli, false).is_person());
        assert!(!by(Kind::Token, Via::Rest, false).is_person());
    }

    #[test]
    fn owner_over_mcp_and_owner_in_person_are_different_principals() {
        let owner = Principal::default();
        assert!(owner.is_same_as(&by(Kind::Owner, Via::Rest, false)));
        assert!(!owner.is_same_as(&by(Kind::Owner, Via::Mcp, true)));
        let agent = |number| Kind::Agent {
            task: Some(TaskId::new(0, number)),
        };
        let one = by(agent(1), Via::Cli, true);
        assert!(one.is_same_as(&by(agent(1), Via::Mcp, true)));
        assert!(!one.is_same_as(&by(agent(2), Via::Cli, true)));
    }

    #[test]
    fn each_step_has_one_word_and_includes_all_lower_steps() {
        for step in Step::ALL {
            assert_eq!(stored(step), step.as_str());
        }
        assert!(Step::ALL.is_sorted());
    }

    #[test]
    fn unknown_authority_named_by_an_executor_counts_as_full() {
        let check = |step: &str, extras: &[&str], expected: &str| {
            let authority = Authority::of_words(step, extras.iter().copied());
            assert_eq!(authority.to_string(), expected, "{step} {extras:?}");
        };
        check("read", &[], "read");
        check(
            "edit",
            &["network", "container"],
            "edit, container, network",
        );
        check("", &[], "full");
        check("Read", &["network"], "full");
        check("full", &["network"], "full");
        assert_eq!(Authority::default().step, Step::Full);
    }

    #[test]
    fn authority_covers_every_authority_that_is_not_greater() {
        let of = |step: &str, extras: &[&str]| Authority::of_words(step, extras.iter().copied());
        let check = |one: Authority, other: Authority, expected: bool| {
            assert_eq!(one.covers(&other), expected, "{one} {other}");
        };
        check(of("edit", &[]), of("edit", &[]), true);
        check(of("edit", &[]), of("read", &[]), true);
        check(of("edit", &[]), of("run", &[]), false);
        check(of("edit", &[]), of("read", &["network"]), false);
        check(of("edit", &["network"]), of("read", &["network"]), true);
        check(of("full", &[]), of("read", &["network"]), true);
        check(of("run", &["network"]), of("full", &[]), false);
    }
}
