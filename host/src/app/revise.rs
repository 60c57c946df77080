//! Changes a finished task before it runs again. The result is validated like a new submission.

use claudine_domain::{
    batch::DocumentKey,
    budget::{GraphBudget, Usd},
    outcome::ReasonClass,
    principal::{Authority, Principal},
    revision::Difference,
    step::Revision,
    task::{Class, Request, Task},
    time::millis,
};
use serde_json::{Map, Value, value::RawValue};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    check::{check, fails_on_denied},
    error::{AppError, ErrorKind},
    host::Host,
    may::{forbidden_to, may_change, may_keep_output},
    prepare::{retries, summary, told},
    request::{Change, NewTask},
    submit::budget,
    written::START_TIMEOUT,
};
use crate::{
    ceiling::{
        session::session_of,
        way,
        work::{may_ask_for_mode, may_use},
    },
    plugin::{Draft, Executor, visible},
    text::shortened,
};

/// Length limit of a value in a description of the change.
const VALUE_CHARS: usize = 200;
/// The field by which an agent's document requests that denied tools fail the attempt.
const FAIL_ON_DENIED: &str = "fail_on_denied";

impl Host {
    /// The changed request; `None` if nothing changes.
    pub(super) async fn revised(
        &self,
        by: &Principal,
        task: &Task,
        change: &Change,
    ) -> Result<Option<Box<Revision>>, AppError> {
        if change.is_none() {
            return Ok(None);
        }
        may_change(by, task)?;
        let (id, old) = (task.id, &task.request);
        may_use(by, &old.executor, &self.settings.mcp)?;
        may_keep_output(by, change.max_output_bytes, self.settings.max_output_bytes)?;
        let spec = self
            .read(move |reader| Ok(reader.store.document(DocumentKey::Spec(id))?))
            .await?;
        let spec = spec.unwrap_or_default();
        let before = document(&spec)?;
        let after = applied(&before, change);
        let new = changed(task, change, &after)?;
        check(&new)?;
        let mut request = request(old, change, &new)?;
        may_spend(by, task, &request)?;
        may_widen(by, task, &request, [&before, &after])?;
        may_ask_for_mode(by, old.class, new.spec.get(), &self.settings.mcp)?;
        if change.spec.contains_key("resume_session") {
            let documents = [(old.class, new.spec.get())];
            let continued = self.may_continue_sessions(by, &documents).await;
            continued.map_err(|(_, error)| error)?;
        }
        let is_other = after != before;
        let session = session_of(old.class, new.spec.get())?;
        request.resumes_session = session.map(String::into_boxed_str);
        if is_other {
            let executor = self.executor(&old.executor)?;
            let authority = self.asked_about(&executor, task, &new, by).await?;
            request.authority = authority;
            request.summary = summary(new.spec.get());
        }
        let mut differences = of_documents(&before, &after);
        differences.extend(of_requests(old, &request));
        if differences.is_empty() {
            return Ok(None);
        }
        let spec = is_other.then(|| new.spec.get().as_bytes().into());
        Ok(Some(Box::new(Revision {
            request,
            spec,
            differences,
        })))
    }

    /// Lets the executor validate the new document and state its authority. If an unrestrained
    /// principal changes a command, the authority is not needed, so `None` is returned.
    async fn asked_about(
        &self,
        executor: &Executor,
        task: &Task,
        new: &NewTask,
        by: &Principal,
    ) -> Result<Option<Arc<Authority>>, AppError> {
        let request = &task.request;
        let variables = self.variables_of(Some(task)).await?;
        let draft = Draft {
            spec: new.spec.get().to_owned(),
            env: visible(executor.manifest(), &variables),
            workspace: request.cwd.to_string(),
            labels: new.labels.clone().into_iter().collect(),
        };
        let drafts = vec![draft.clone()];
        let issues = executor.validate_each(drafts).await.map_err(|error| {
            let message = format!(
                "executor `{}` cannot validate the request: {error}",
                request.executor
            );
            AppError::new(ErrorKind::Unavailable, message)
        })?;
        if let Some(issues) = issues.first().filter(|issues| !issues.is_empty()) {
            return Err(told(issues));
        }
        if request.class == Class::Command && !by.restrained {
            return Ok(None);
        }
        Ok(Some(Arc::new(executor.authority(&draft).await)))
    }
}

fn document(spec: &[u8]) -> Result<Map<String, Value>, AppError> {
    serde_json::from_slice(spec).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the task's request cannot be read: {error}"),
        )
    })
}

/// The document with the changed fields. Allowing denied tools takes back an earlier request that
/// they fail the attempt.
fn applied(before: &Map<String, Value>, change: &Change) -> Map<String, Value> {
    let mut after = before.clone();
    if change.allow_denied == Some(true) {
        after.remove(FAIL_ON_DENIED);
    }
    for (field, value) in &change.spec {
        match value {
            Value::Null => after.remove(field),
            value => after.insert(field.clone(), value.clone()),
        };
    }
    after
}

/// A request to submit the changed task anew, for validation.
fn changed(task: &Task, change: &Change, after: &Map<String, Value>) -> Result<NewTask, AppError> {
    let cannot = |error: serde_json::Error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the request cannot be written: {error}"),
        )
    };
    let request = &task.request;
    let bare = serde_json::json!({
        "executor": &*request.executor, "spec": null, "working_directory": &*request.cwd,
    });
    let bare: NewTask = serde_json::from_value(bare).map_err(cannot)?;
    let spec = serde_json::to_string(after).map_err(cannot)?;
    let labels = request.labels.clone().into_iter();
    let group = change.group.clone();
    // A request that denied tools fail the attempt takes back that they are allowed.
    let fails = fails_on_denied(&spec);
    Ok(NewTask {
        spec: RawValue::from_string(spec).map_err(cannot)?,
        priority: change.priority.unwrap_or(request.priority),
        timeout_ms: change.timeout_ms,
        idle_timeout_ms: change.idle_timeout_ms,
        start_timeout_ms: change.start_timeout_ms,
        queue_timeout_ms: change.queue_timeout_ms,
        max_output_bytes: change.max_output_bytes,
        labels: labels.chain(change.labels.clone()).collect(),
        group: group.or_else(|| request.group.clone()),
        retries: change.retries.clone(),
        budget_usd: change.budget_usd,
        allow_denied: change
            .allow_denied
            .unwrap_or(request.allow_denied && !fails),
        ..bare
    })
}

/// The changed request. Fields for which no change is given keep their values.
fn request(old: &Request, change: &Change, new: &NewTask) -> Result<Request, AppError> {
    let limit = |given: Option<u64>, before| given.map(Duration::from_millis).or(before);
    let given = new.retries.as_ref().map(retries).transpose()?;
    let graph_micro_usd = change.graph_budget_usd.map(budget).transpose()?;
    let graph_budget = match (graph_micro_usd, old.graph_budget) {
        (None, before) => before,
        (Some(micro_usd), Some(before)) => Some(GraphBudget {
            micro_usd,
            ..before
        }),
        (Some(_), None) => {
            let message = "the task's graph has no budget to change";
            return Err(AppError::new(ErrorKind::Invalid, message)
                .hint("`--budget-usd` is the budget of the task itself"));
        }
    };
    let own = new.budget_usd.map(budget).transpose()?;
    Ok(Request {
        priority: new.priority,
        labels: new.labels.clone(),
        group: new.group.clone(),
        budget_micro_usd: own.or(old.budget_micro_usd),
        graph_budget,
        allow_denied: new.allow_denied,
        queue_timeout: limit(new.queue_timeout_ms, old.queue_timeout),
        retries: given.map(Box::new).or_else(|| old.retries.clone()),
        timeout: limit(new.timeout_ms, old.timeout),
        idle_timeout: limit(new.idle_timeout_ms, old.idle_timeout),
        start_timeout: limit(new.start_timeout_ms, old.start_timeout),
        max_output_bytes: new.max_output_bytes.unwrap_or(old.max_output_bytes),
        ..old.clone()
    })
}

/// Refuses changes by a restrained principal that raise a budget set by somebody else, or change
/// the budget of a graph.
fn may_spend(by: &Principal, task: &Task, new: &Request) -> Result<(), AppError> {
    if !by.restrained {
        return Ok(());
    }
    let old = &task.request;
    let raises_own = !old.by.is_same_as(by)
        && old.budget_micro_usd.is_some()
        && new.budget_micro_usd > old.budget_micro_usd;
    let what = if new.graph_budget != old.graph_budget {
        "the budget of a graph"
    } else if raises_own {
        "a budget set by somebody else"
    } else {
        return Ok(());
    };
    Err(forbidden_to(format!(
        "{what} may not be changed {}",
        way(by)
    )))
}

/// Refuses changes by a restrained principal that widen a limit of somebody else's task.
fn may_widen(
    by: &Principal,
    task: &Task,
    new: &Request,
    [before, after]: [&Map<String, Value>; 2],
) -> Result<(), AppError> {
    let old = &task.request;
    if !by.restrained || old.by.is_same_as(by) {
        return Ok(());
    }
    let longer = |old: Option<Duration>, new: Option<Duration>| {
        old.is_some_and(|old| new.is_none_or(|new| new > old))
    };
    let number = |document: &Map<String, Value>, field: &str| document.get(field)?.as_f64();
    let higher = |field: &str| {
        let (old, new) = (number(before, field), number(after, field));
        old.is_some_and(|old| new.is_none_or(|new| new > old))
    };
    let limits = [
        ("timeout", longer(old.timeout, new.timeout)),
        ("idle_timeout", longer(old.idle_timeout, new.idle_timeout)),
        (START_TIMEOUT, longer(old.start_timeout, new.start_timeout)),
        (
            "queue_timeout",
            longer(old.queue_timeout, new.queue_timeout),
        ),
        ("max_output", new.max_output_bytes > old.max_output_bytes),
        ("retries", has_more_retries(old, new)),
        ("max_turns", higher("max_turns")),
        ("max_budget_usd", higher("max_budget_usd")),
    ];
    match limits.into_iter().find(|(_, is_wider)| *is_wider) {
        None => Ok(()),
        Some((limit, _)) => Err(forbidden_to(format!(
            "`{limit}` of somebody else's task may only be lowered {}",
            way(by)
        ))),
    }
}

/// Whether the new request has more retries than the old one, or retries after other failures. A
/// task without a policy has no retries.
fn has_more_retries(old: &Request, new: &Request) -> bool {
    let limit = |request: &Request| request.retries.as_ref().map_or(0, |policy| policy.limit);
    let is_retried = |request: &Request, class| {
        let policy = request.retries.as_ref();
        policy.is_some_and(|policy| policy.limit > 0 && policy.covers(class))
    };
    limit(new) > limit(old)
        || ReasonClass::all().any(|class| is_retried(new, class) && !is_retried(old, class))
}

/// The differences between two documents, by field.
fn of_documents(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Difference> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let all: BTreeMap<&String, (Option<&Value>, Option<&Value>)> = before
        .keys()
        .chain(after.keys())
        .map(|field| (field, (before.get(field), after.get(field))))
        .collect();
    let differs = all
        .into_iter()
        .filter(|(_, (before, after))| before != after);
    differs
        .map(|(field, (before, after))| difference(field, before.map(text), after.map(text)))
        .collect()
}

/// The differences between two requests.
fn of_requests(old: &Request, new: &Request) -> Vec<Difference> {
    fn usd(micro_usd: Option<u64>) -> Option<String> {
        micro_usd.map(|micro_usd| format!("${}", Usd(micro_usd)))
    }
    let graph = |request: &Request| usd(request.graph_budget.map(|budget| budget.micro_usd));
    let labels = |request: &Request| {
        let labels = request.labels.iter();
        let pairs: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join(" "))
    };
    let count = |request: &Request| request.retries.as_ref().map(|it| it.limit.to_string());
    let both = |name: &str, before: Option<String>, after: Option<String>| {
        (before != after).then(|| difference(name, before, after))
    };
    let priority = |request: &Request| Some(format!("{:?}", request.priority));
    let bytes = |request: &Request| Some(request.max_output_bytes.to_string());
    let allows = |request: &Request| request.allow_denied.then(|| "true".to_owned());
    let all = [
        both("priority", priority(old), priority(new)),
        both("group", old.group.clone(), new.group.clone()),
        both("labels", labels(old), labels(new)),
        both("timeout", span(old.timeout), span(new.timeout)),
        both(
            "idle_timeout",
            span(old.idle_timeout),
            span(new.idle_timeout),
        ),
        both(
            START_TIMEOUT,
            span(old.start_timeout),
            span(new.start_timeout),
        ),
        both(
            "queue_timeout",
            span(old.queue_timeout),
            span(new.queue_timeout),
        ),
        both("max_output", bytes(old), bytes(new)),
        both("allow_denied", allows(old), allows(new)),
        both("retries", count(old), count(new)),
        both(
            "budget_usd",
            usd(old.budget_micro_usd),
            usd(new.budget_micro_usd),
        ),
        both("graph_budget_usd", graph(old), graph(new)),
    ];
    all.into_iter().flatten().collect()
}

fn difference(option: &str, before: Option<String>, after: Option<String>) -> Difference {
    let short = |value: Option<String>| value.map(|text| shortened(&text, VALUE_CHARS));
    Difference {
        option: option.to_owned(),
        before: short(before),
        after: short(after),
    }
}

/// A duration in the form in which users give it.
fn span(limit: Option<Duration>) -> Option<String> {
    let ms = millis(limit?);
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ms"));
    Some(format!("{}{name}", ms / unit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        id::TaskId,
        principal::{Kind, Via},
        revision::listed,
    };

    use super::*;
    use crate::store::sample_task;

    fn change(json: Value) -> Change {
        serde_json::from_value(json).unwrap()
    }

    fn task(edit: impl FnOnce(&mut Request)) -> Task {
        let mut task = sample_task(1);
        edit(Arc::make_mut(&mut task.request));
        task
    }

    #[test]
    fn request_fields_without_a_change_keep_their_values() {
        let check = |json: Value, expected: &str| {
            let task = task(|request| {
                request.timeout = Some(Duration::from_mins(5));
                request.budget_micro_usd = Some(1_000_000);
                request.graph_budget = Some(GraphBudget {
                    graph: TaskId::new(1, 1),
                    micro_usd: 2_000_000,
                });
                request.labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            });
            let change = change(json);
            let new = changed(&task, &change, &Map::new()).unwrap();
            let request = request(&task.request, &change, &new).unwrap();
            assert_eq!(listed(&of_requests(&task.request, &request)), expected);
            // All changed fields are fields that a revision may change.
            let revised = task.request.revised(request.clone());
            assert_eq!(revised, request);
        };
        check(serde_json::json!({}), "");
        check(serde_json::json!({"timeout_ms": 300_000}), "");
        check(
            serde_json::json!({"timeout_ms": 5_400_000, "priority": "P0"}),
            "priority P0 (was P1), timeout 90m (was 5m)",
        );
        check(
            serde_json::json!({"budget_usd": 5, "graph_budget_usd": 9.5}),
            "budget_usd $5.00 (was $1.00), graph_budget_usd $9.50 (was $2.00)",
        );
        check(
            serde_json::json!({"labels": {"c": "d"}, "retries": {"limit": 3}, "group": "g"}),
            "group g, labels a=b c=d (was a=b), retries 3",
        );
    }

    #[test]
    fn a_retry_that_allows_denied_tools_or_fails_on_them_replaces_the_contrary_option() {
        let decides = |[allows, fails]: [bool; 2], json: Value, expected: Option<[bool; 2]>| {
            let task = task(|request| request.allow_denied = allows);
            let before = serde_json::json!({"prompt": "p", "fail_on_denied": fails});
            let change = change(json.clone());
            let after = applied(before.as_object().unwrap(), &change);
            let new = changed(&task, &change, &after).unwrap();
            let fails = after.get(FAIL_ON_DENIED) == Some(&Value::Bool(true));
            let found = check(&new).ok().map(|()| [new.allow_denied, fails]);
            assert_eq!(found, expected, "{allows} {json}");
        };
        let allow = serde_json::json!({"allow_denied": true});
        let fail = serde_json::json!({"spec": {"fail_on_denied": true}});
        let both = serde_json::json!({"allow_denied": true, "spec": {"fail_on_denied": true}});
        let other = serde_json::json!({"timeout_ms": 300_000});
        decides([false, true], allow.clone(), Some([true, false]));
        decides([false, true], other.clone(), Some([false, true]));
        decides([true, false], fail, Some([false, true]));
        decides([true, false], other.clone(), Some([true, false]));
        decides([false, false], both, None);
        // Earlier versions accepted both options.
        decides([true, true], allow, Some([true, false]));
        decides([true, true], other, Some([false, true]));
    }

    #[test]
    fn differences_of_documents_are_listed_by_field() {
        let check = |before: Value, after: Value, expected: &str| {
            let [before, after] = [before, after].map(|it| it.as_object().unwrap().clone());
            assert_eq!(listed(&of_documents(&before, &after)), expected);
        };
        let old = serde_json::json!({"prompt": "do it", "model": "opus", "max_turns": 3});
        check(old.clone(), old.clone(), "");
        check(
            old,
            serde_json::json!({"prompt": "do it", "model": "sonnet", "allowed_tools": ["Edit"]}),
            r#"allowed_tools ["Edit"], no max_turns (was 3), model sonnet (was opus)"#,
        );
    }

    /// A restrained principal.
    fn chat() -> Principal {
        Principal {
            kind: Kind::Owner,
            name: None,
            via: Via::Mcp,
            restrained: true,
        }
    }

    #[test]
    fn a_restrained_principal_can_only_lower_the_limits_of_somebody_elses_task() {
        let chat = chat();
        let one_retry = serde_json::from_value(serde_json::json!({"limit": 1})).unwrap();
        let check = |json: Value, refused: Option<&str>| {
            let of = |owner: &Principal| {
                task(|request| {
                    request.by = Arc::new(owner.clone());
                    request.timeout = Some(Duration::from_mins(5));
                    request.max_output_bytes = 1 << 20;
                    request.retries = Some(Box::new(retries(&one_retry).unwrap()));
                })
            };
            let before = serde_json::json!({"prompt": "do it", "max_turns": 3});
            let before = before.as_object().unwrap().clone();
            let change = change(json.clone());
            let mut after = before.clone();
            after.extend(change.spec.clone());
            let widened = |by: &Principal, task: &Task| {
                let new = changed(task, &change, &after).unwrap();
                let request = request(&task.request, &change, &new).unwrap();
                may_widen(by, task, &request, [&before, &after])
            };
            let owner = Principal::default();
            let found = widened(&chat, &of(&owner)).err().map(|error| error.message);
            let says =
                |limit| format!("`{limit}` of somebody else's task may only be lowered over MCP");
            assert_eq!(found, refused.map(says), "{json}");
            assert!(widened(&chat, &of(&chat)).is_ok(), "{json}");
            assert!(widened(&owner, &of(&chat)).is_ok(), "{json}");
        };
        check(serde_json::json!({"timeout_ms": 300_000}), None);
        check(serde_json::json!({"timeout_ms": 1_000}), None);
        check(serde_json::json!({"timeout_ms": 300_001}), Some("timeout"));
        // The task had no such limit.
        check(serde_json::json!({"queue_timeout_ms": 1_000}), None);
        check(
            serde_json::json!({"max_output_bytes": 2 << 20}),
            Some("max_output"),
        );
        check(serde_json::json!({"spec": {"max_turns": 2}}), None);
        check(
            serde_json::json!({"spec": {"max_turns": 4}}),
            Some("max_turns"),
        );
        check(
            serde_json::json!({"spec": {"max_turns": null}}),
            Some("max_turns"),
        );
        check(serde_json::json!({"retries": {"limit": 1}}), None);
        check(
            serde_json::json!({"retries": {"limit": 2}}),
            Some("retries"),
        );
    }

    #[test]
    fn a_restrained_principal_cannot_give_further_retries_to_somebody_elses_task() {
        let policy = |asked: Value| {
            let asked = serde_json::from_value(asked).unwrap();
            Box::new(retries(&asked).unwrap())
        };
        let check = |old: Option<Value>, new: Value, is_allowed: bool| {
            let task = task(|request| {
                request.by = Arc::new(Principal::default());
                request.retries = old.clone().map(policy);
            });
            let change = change(serde_json::json!({"retries": new}));
            let new = changed(&task, &change, &Map::new()).unwrap();
            let request = request(&task.request, &change, &new).unwrap();
            let none = Map::new();
            let decided = may_widen(&chat(), &task, &request, [&none, &none]);
            assert_eq!(decided.is_ok(), is_allowed, "{old:?} {change:?}");
        };
        let usual = |limit: u32| serde_json::json!({"limit": limit});
        let on = |limit: u32, class: &str| serde_json::json!({"limit": limit, "on": [class]});
        // A task without a policy is not retried.
        check(None, usual(0), true);
        check(None, usual(1), false);
        check(Some(usual(0)), usual(1), false);
        check(Some(usual(2)), usual(2), true);
        check(Some(usual(2)), usual(3), false);
        check(Some(usual(2)), on(2, "timeout"), true);
        check(Some(usual(2)), on(2, "lost"), false);
        check(Some(on(2, "timeout")), usual(2), false);
        check(Some(on(2, "timeout")), on(1, "exit"), false);
        check(Some(on(2, "timeout")), on(0, "exit"), true);
    }

    #[test]
    fn a_restrained_principal_cannot_raise_the_budget_of_others_or_change_a_graph_budget() {
        let chat = chat();
        let check =
            |owner: &Principal, budgets: [Option<u64>; 2], graphs: [u64; 2], allowed: bool| {
                let graph_budget = |micro_usd| GraphBudget {
                    graph: TaskId::new(1, 1),
                    micro_usd,
                };
                let task = task(|request| {
                    request.by = Arc::new(owner.clone());
                    request.budget_micro_usd = budgets[0];
                    request.graph_budget = Some(graph_budget(graphs[0]));
                });
                let new = Request {
                    budget_micro_usd: budgets[1],
                    graph_budget: Some(graph_budget(graphs[1])),
                    ..Request::clone(&task.request)
                };
                let decided = may_spend(&chat, &task, &new);
                assert_eq!(decided.is_ok(), allowed, "{owner} {budgets:?} {graphs:?}");
                assert!(may_spend(&Principal::default(), &task, &new).is_ok());
            };
        let owner = Principal::default();
        check(&chat, [Some(1), Some(9)], [5, 5], true);
        check(&owner, [Some(1), Some(9)], [5, 5], false);
        check(&owner, [Some(9), Some(1)], [5, 5], true);
        check(&owner, [None, Some(9)], [5, 5], true);
        check(&chat, [None, None], [5, 6], false);
    }
}
