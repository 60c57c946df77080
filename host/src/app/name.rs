//! Refuses names that could be taken for other tasks.
//!
//! A task can be referred to by its name or by the end of its id, and a name takes precedence. If a
//! task were named like the end of another task's id, as lists show it, actions for the other task
//! would be applied to the named task.

use claudine_domain::id::{IdEnd, SHORT_DIGITS};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    reader::Reader,
};
use crate::store::{Intent, Resolved, is_word};

impl Host {
    /// Checks the names of several tasks. The error is about the first name that is not allowed,
    /// and comes with its index.
    pub(super) async fn names_of_their_own(
        &self,
        names: &[Option<String>],
    ) -> Result<(), (usize, AppError)> {
        let mut like_ids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            not_reserved(name).map_err(|error| (index, error))?;
            if IdEnd::parse(name).is_some_and(|end| end.digits() >= SHORT_DIGITS) {
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
                Err((index, error.hint("give the task another name")))
            }
        }
    }
}

/// Refuses a name that has a special meaning in place of a task or graph: a keyword, or `-` for
/// standard input.
pub(super) fn not_reserved(name: &str) -> Result<(), AppError> {
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
        let is_taken = match reader.store.resolve(&name, Intent::Change)? {
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
