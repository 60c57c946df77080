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

use claudine_domain::{id::SHORT_DIGITS, principal::Principal};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::way,
    reader::Reader,
};
use crate::store::{Filter, Intent, Name, Resolved, is_word, may_be_of_an_id};

impl Host {
    /// Checks the name of a graph.
    pub(super) async fn name_of_its_own(&self, by: &Principal, name: &str) -> Result<(), AppError> {
        let names = [Some(name.to_owned())];
        let checked = self.names_of_their_own(by, &names).await;
        checked.map_err(|(_, error)| error)
    }

    /// Checks the names of several tasks. The error is about the first name that is not allowed,
    /// and comes with its index.
    pub(super) async fn names_of_their_own(
        &self,
        by: &Principal,
        names: &[Option<String>],
    ) -> Result<(), (usize, AppError)> {
        let fewest = if by.restrained {
            Intent::Look.fewest_digits()
        } else {
            SHORT_DIGITS
        };
        let (mut like_ids, mut of_restrained) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            not_reserved(name).map_err(|error| (index, error))?;
            if may_be_of_an_id(name, fewest) {
                like_ids.push((index, name.clone()));
            }
            if by.restrained {
                of_restrained.push((index, name.clone()));
            }
        }
        // Most names contain characters that ids do not have, so the store need not be asked.
        if like_ids.is_empty() && of_restrained.is_empty() {
            return Ok(());
        }
        let way = way(by);
        let found = self.read(move |reader| {
            if let Some((index, name)) = first_taken(reader, like_ids)? {
                return Ok(Some((
                    index,
                    format!("`{name}` is a part of another task's id"),
                )));
            }
            let Some((index, name, bearer)) = first_borne(reader, of_restrained)? else {
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
    names: Vec<(usize, String)>,
) -> Result<Option<(usize, String)>, AppError> {
    for (index, name) in names {
        let is_taken = match reader.store.resolve(&name, Intent::Look)? {
            Resolved::NotFound => false,
            Resolved::Ambiguous(_) => true,
            Resolved::Found(id) => {
                let found = reader.store.task(id)?;
                found.is_some_and(|found| found.request.name.as_ref() != Some(&name))
            }
        };
        if is_taken {
            return Ok(Some((index, name)));
        }
    }
    Ok(None)
}

/// The first of these names that a stored task or graph of an unrestrained principal has, with this
/// task or graph in words.
fn first_borne(
    reader: &Reader,
    names: Vec<(usize, String)>,
) -> Result<Option<(usize, String, String)>, AppError> {
    for (index, name) in names {
        let filter = Filter {
            name: Some(Name::Is(name.clone())),
            unrestrained: true,
            ..Filter::default()
        };
        let named = reader.store.list(&filter, 1)?.tasks.into_iter().next();
        if let Some(task) = named {
            let bearer = format!("task {:#} of {}", task.id, task.request.by);
            return Ok(Some((index, name, bearer)));
        }
        let Some(first) = reader.store.graphs_named(&name, 1)?.first().copied() else {
            continue;
        };
        let first = reader.store.task(first)?;
        if let Some(first) = first.filter(|first| !first.request.by.restrained) {
            let bearer = format!("a graph of {}", first.request.by);
            return Ok(Some((index, name, bearer)));
        }
    }
    Ok(None)
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
        let store = MemoryStore::new();
        let batch = Batch {
            number: 1,
            tasks: vec![
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
            let names = names.iter().map(|name| (*name).to_owned());
            let found = first_borne(&reader, names.enumerate().collect()).unwrap();
            let found = found.map(|(index, _, bearer)| (index, bearer));
            let expected = expected.map(|(index, bearer)| (index, bearer.to_owned()));
            assert_eq!(found, expected);
        };
        let id = sample_task(1).id;
        let bearer = format!("task {id:#} of owner");
        check(&["tests"], Some((0, bearer.as_str())));
        check(&["test", "release"], Some((1, "a graph of owner")));
        check(&["theirs", "their graph", "new"], None);
    }
}
