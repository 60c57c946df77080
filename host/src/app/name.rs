//! Refuses names that could be taken for other tasks.
//!
//! A restrained principal may not take the name of a task or graph of somebody less restrained, who
//! uses this name to wait for the task or to let another task depend on it.
//!
//! A task or a graph can be referred to by its name or by a part of an id, and a name takes
//! precedence. If something were named like a part of another task's id, actions for the other task
//! would be applied to it. For persons, this concerns the parts that are at least as long as lists
//! show them, because short names such as `test` would otherwise be refused by chance. The names
//! that a model or an agent chooses are checked for the shorter parts too, because these names may
//! be chosen to deceive.

use claudine_domain::{
    board::IDEMPOTENCY_WINDOW,
    id::SHORT_DIGITS,
    principal::Principal,
    task::Idempotency,
    time::{Timestamp, millis},
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    reader::Reader,
};
use crate::{
    ceiling::way,
    clock,
    store::{Filter, Intent, Name, Resolved, is_word, may_be_of_an_id},
};

/// Time for which an idempotency key already counts as forgotten here before the board forgets it,
/// because the request reaches the board only later.
const KEY_MARGIN_MS: u64 = 60_000;

/// A name that a request gives to a task or a graph.
#[derive(Clone)]
pub(super) struct NewName {
    /// The index of the task.
    pub(super) index: usize,
    pub(super) name: String,
    /// The key of the task, or of the first task of the graph.
    pub(super) idempotency: Option<Idempotency>,
}

impl NewName {
    /// Whether the request repeats an earlier request, whose task has the name already. `since` is
    /// the time since which keys are remembered.
    fn is_repeated(&self, reader: &Reader, since: Timestamp) -> Result<bool, AppError> {
        match &self.idempotency {
            Some(idempotency) => is_repeated(idempotency, reader, since),
            None => Ok(false),
        }
    }
}

/// Whether a task with this key was stored for an equal request since this time.
fn is_repeated(
    idempotency: &Idempotency,
    reader: &Reader,
    since: Timestamp,
) -> Result<bool, AppError> {
    let first = reader.store.task_of_key(&idempotency.key, since)?;
    Ok(first.is_some_and(|first| first.request.idempotency.as_deref() == Some(idempotency)))
}

/// The time since which keys are remembered.
fn remembered_since() -> Timestamp {
    let kept = millis(IDEMPOTENCY_WINDOW).saturating_sub(KEY_MARGIN_MS);
    Timestamp(clock::wall().0.saturating_sub(kept))
}

impl Host {
    /// Whether a request with this key repeats an earlier one, and is answered with its task.
    pub(super) async fn is_repeated(&self, idempotency: Idempotency) -> Result<bool, AppError> {
        self.read(move |reader| is_repeated(&idempotency, reader, remembered_since()))
            .await
    }

    /// Checks names of tasks or graphs. The error is about the first name that is not allowed, and
    /// comes with its index. The name of a repeated request is allowed, even if another task has
    /// taken the name since: the answer is the task of the earlier request.
    pub(super) async fn names_of_their_own(
        &self,
        by: &Principal,
        names: Vec<NewName>,
    ) -> Result<(), (usize, AppError)> {
        let fewest = if by.restrained {
            Intent::Look.fewest_digits()
        } else {
            SHORT_DIGITS
        };
        let (mut like_ids, mut of_restrained) = (Vec::new(), Vec::new());
        for new in names {
            not_reserved(&new.name).map_err(|error| (new.index, error))?;
            if may_be_of_an_id(&new.name, fewest) {
                like_ids.push(new.clone());
            }
            if by.restrained {
                of_restrained.push(new);
            }
        }
        // Most names contain characters that ids do not have, so the store need not be asked.
        if like_ids.is_empty() && of_restrained.is_empty() {
            return Ok(());
        }
        let way = way(by);
        let since = remembered_since();
        let found = self.read(move |reader| {
            if let Some(NewName { index, name, .. }) = first_taken(reader, like_ids, since)? {
                return Ok(Some((
                    index,
                    format!("`{name}` is a part of another task's id"),
                )));
            }
            let found = first_borne(reader, of_restrained, since)?;
            let Some((NewName { index, name, .. }, bearer)) = found else {
                return Ok(None);
            };
            let message =
                format!("`{name}` is the name of {bearer}, and may not be used again {way}");
            Ok(Some((index, message)))
        });
        match found.await.map_err(|error| (0, error))? {
            None => Ok(()),
            Some((index, message)) => {
                let error = AppError::new(ErrorKind::Conflict, message);
                Err((index, error.hint("choose another name")))
            }
        }
    }
}

/// Refuses a name that has a special meaning in place of a task or graph: a keyword, or `-` for
/// standard input.
fn not_reserved(name: &str) -> Result<(), AppError> {
    if is_word(name) || name == "-" {
        let message = format!("`{name}` is reserved and cannot be a name");
        return Err(AppError::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

/// The first of these names that, if given as a reference, would find a task with a different name.
fn first_taken(
    reader: &Reader,
    names: Vec<NewName>,
    since: Timestamp,
) -> Result<Option<NewName>, AppError> {
    let texts: Vec<&str> = names.iter().map(|new| new.name.as_str()).collect();
    let are_parts = reader.store.are_parts(&texts, Intent::Look)?;
    let parts = names.into_iter().zip(are_parts);
    for (new, _) in parts.filter(|(_, is_part)| *is_part) {
        let is_taken = match reader.store.resolve(&new.name, Intent::Look)? {
            Resolved::NotFound => false,
            Resolved::Ambiguous(_) => true,
            Resolved::Found(id) => {
                let found = reader.store.task(id)?;
                found.is_some_and(|found| found.request.name.as_ref() != Some(&new.name))
            }
        };
        if is_taken && !new.is_repeated(reader, since)? {
            return Ok(Some(new));
        }
    }
    Ok(None)
}

/// The first of these names that a stored task or graph of an unrestrained principal has, with this
/// task or graph in words.
fn first_borne(
    reader: &Reader,
    names: Vec<NewName>,
    since: Timestamp,
) -> Result<Option<(NewName, String)>, AppError> {
    for new in names {
        if let Some(bearer) = bearer_of(reader, &new.name)?
            && !new.is_repeated(reader, since)?
        {
            return Ok(Some((new, bearer)));
        }
    }
    Ok(None)
}

/// The task or graph of an unrestrained principal that has this name, in words.
fn bearer_of(reader: &Reader, name: &str) -> Result<Option<String>, AppError> {
    let filter = Filter {
        name: Some(Name::Is(name.to_owned())),
        unrestrained: true,
        ..Filter::default()
    };
    let named = reader.store.list(&filter, 1)?.tasks.into_iter().next();
    if let Some(task) = named {
        return Ok(Some(format!("task {:#} of {}", task.id, task.request.by)));
    }
    let Some(first) = reader.store.graphs_named(name, 1)?.first().copied() else {
        return Ok(None);
    };
    let first = reader.store.task(first)?;
    let first = first.filter(|first| !first.request.by.restrained);
    Ok(first.map(|first| format!("a graph of {}", first.request.by)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use claudine_domain::{batch::Batch, task::InGraph};

    use super::*;
    use crate::{
        layout::Layout,
        store::{Store, memory::MemoryStore, sample_task},
    };

    #[test]
    fn a_name_of_a_task_or_a_graph_of_an_unrestrained_principal_is_found() {
        let task = |number: u64, name: Option<&str>, graph: Option<&str>, restrained: bool| {
            let mut task = sample_task(number);
            let id = task.id;
            let request = Arc::make_mut(&mut task.request);
            request.name = name.map(str::to_owned);
            request.graph = graph.map(|name| {
                Arc::new(InGraph {
                    first: id,
                    name: Some(name.to_owned()),
                })
            });
            request.by = Arc::new(Principal {
                restrained,
                ..Principal::default()
            });
            Arc::new(task)
        };
        let key = |digest: &str| Idempotency {
            key: "restrained:k".to_owned(),
            payload_digest: digest.to_owned(),
        };
        let mut keyed = task(5, Some("tests"), None, true);
        Arc::make_mut(&mut Arc::make_mut(&mut keyed).request).idempotency =
            Some(Box::new(key("same")));
        let created_at = keyed.created_at;
        let store = MemoryStore::new();
        let batch = Batch {
            number: 1,
            tasks: vec![
                keyed,
                task(1, Some("tests"), None, false),
                task(2, Some("tests"), None, true),
                task(3, None, Some("release"), false),
                task(4, Some("theirs"), Some("their graph"), true),
            ],
            ..Batch::default()
        };
        store.commit(store.lead().unwrap(), &batch).unwrap();
        let reader = Reader {
            store: Arc::new(store),
            layout: Layout::new("/nowhere"),
            no_host: false,
        };
        let check = |names: &[&str], expected: Option<(usize, &str)>| {
            let names = names.iter().enumerate().map(|(index, name)| NewName {
                index,
                name: (*name).to_owned(),
                idempotency: None,
            });
            let found = first_borne(&reader, names.collect(), created_at).unwrap();
            let found = found.map(|(new, bearer)| (new.index, bearer));
            let expected = expected.map(|(index, bearer)| (index, bearer.to_owned()));
            assert_eq!(found, expected);
        };
        let id = sample_task(1).id;
        let bearer = format!("task {id:#} of owner");
        check(&["tests"], Some((0, bearer.as_str())));
        check(&["test", "release"], Some((1, "a graph of owner")));
        check(&["theirs", "their graph", "new"], None);
        // Only an equal request with a key that is still remembered is a repeated request.
        let is_allowed = |digest: &str, since: u64| {
            let new = NewName {
                index: 0,
                name: "tests".to_owned(),
                idempotency: Some(key(digest)),
            };
            let found = first_borne(&reader, vec![new], Timestamp(since)).unwrap();
            found.is_none()
        };
        assert!(is_allowed("same", created_at.0));
        assert!(!is_allowed("other", created_at.0));
        assert!(!is_allowed("same", created_at.0 + 1));
    }
}
