//! Refuses names that could be taken for other tasks.
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
    reader::Reader,
};
use crate::store::{Intent, Resolved, is_word, may_be_of_an_id};

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
        let mut like_ids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            not_reserved(name).map_err(|error| (index, error))?;
            if may_be_of_an_id(name, fewest) {
                like_ids.push((index, name.clone()));
            }
        }
        // Most names contain characters that ids do not have, so the store need not be asked.
        if like_ids.is_empty() {
            return Ok(());
        }
        let found = self.read(move |reader| first_taken(reader, like_ids)).await;
        match found.map_err(|error| (0, error))? {
            None => Ok(()),
            Some((index, name)) => {
                let message = format!("`{name}` is a part of another task's id");
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
