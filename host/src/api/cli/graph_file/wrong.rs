//! Finds all mistakes in the tasks of a file, with their positions.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use schemars::schema_for;
use serde_json::Value;
use serde_path_to_error::Segment;
use serde_saphyr::Location;

use super::{
    super::fields,
    located::{Content, Node, follow},
};
use crate::{
    api::{
        lenient::{self, Wrong},
        member::Member,
    },
    app::{Mistake, NewTask},
};

/// Limit of the mistakes looked for in one task.
const MOST: usize = 50;
/// Lowest similarity at which one word is suggested in place of another; 1 means identical.
const LIKELY: f64 = 0.6;

/// A line and a column of the file, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A task as written in the file.
pub(super) struct Written {
    pub(super) node: Node,
    /// Number of lines in the file before the document that contains the task.
    pub(super) lines_before: u64,
}

impl Written {
    fn place(&self, at: Location) -> Option<Place> {
        place(at, self.lines_before)
    }

    fn name(&self) -> Option<(String, Option<Place>)> {
        let (_, node) = self.node.value.field("name")?;
        Some((text(node)?, self.place(node.referenced)))
    }
}

/// Converts a position in a document into the position in the file, where `lines_before` lines
/// precede the document.
pub(super) fn place(at: Location, lines_before: u64) -> Option<Place> {
    (at != Location::UNKNOWN).then(|| Place {
        line: at.line() + lines_before,
        column: at.column(),
    })
}

/// A scalar as a string, even if it was written as a number; none for null, lists and objects.
fn text(node: &Node) -> Option<String> {
    match &node.value {
        Content::Scalar(Value::String(text)) => Some(text.clone()),
        Content::Scalar(Value::Null) => None,
        Content::Scalar(other) => Some(other.to_string()),
        _ => None,
    }
}

/// Whether all names are different. Compares only the tasks of this file; the host checks other
/// tasks.
pub(super) fn has_each_name_once(tasks: &[NewTask]) -> bool {
    let mut names = BTreeSet::new();
    let mut named = tasks.iter().filter_map(|task| task.name.as_ref());
    named.all(|name| names.insert(name))
}

/// All mistakes of these tasks.
pub(super) fn all(tasks: &[Written], directory: &Path) -> Vec<(Mistake, Option<Place>)> {
    let mut found = Vec::new();
    let mut names: BTreeMap<String, Option<Place>> = BTreeMap::new();
    for task in tasks {
        if let Some((name, at)) = task.name() {
            if let Some(first) = names.get(&name) {
                let first = first.map_or_else(String::new, |it| format!(" (see line {})", it.line));
                found.push((
                    mistake(format!("two tasks have the name '{name}'{first}")),
                    at,
                ));
            } else {
                names.insert(name, at);
            }
        }
        of_task(task, directory, &mut found);
    }
    found
}

fn mistake(message: String) -> Mistake {
    Mistake {
        message,
        ..Mistake::default()
    }
}

/// Reads a task repeatedly, each time without the mistakes found so far, because a reading stops at
/// its first mistake.
fn of_task(task: &Written, directory: &Path, found: &mut Vec<(Mistake, Option<Place>)>) {
    let mut document = task.node.value.value();
    let before = found.len();
    for _ in 0..MOST {
        let wrong = match lenient::read_at::<Member>(document.clone()) {
            Err(wrong) => wrong,
            Ok(member) => {
                // If something was removed from the task, the task may be invalid only because of
                // the removal, so this error is not reported.
                if found.len() == before
                    && let Err(error) = member.into_task(directory)
                {
                    let hint = error.hint;
                    let message = error.message;
                    let whole = task.place(task.node.referenced);
                    found.push((
                        Mistake {
                            hint,
                            ..mistake(message)
                        },
                        whole,
                    ));
                }
                return;
            }
        };
        let (told, at, path) = one(task, &wrong);
        found.push((told, at));
        if !remove(&mut document, &path) {
            return;
        }
    }
}

/// A mistake as a message, its position, and the path of the field to remove before the next
/// reading.
fn one(task: &Written, wrong: &Wrong) -> (Mistake, Option<Place>, Vec<Segment>) {
    if let Some((field, known)) = wrong.unknown_field() {
        for depth in (0..=wrong.path.len()).rev() {
            let above = &wrong.path[..depth];
            let Some((name, _)) = follow(&task.node, above).value.field(field) else {
                continue;
            };
            let likely = if depth == 0 {
                let own = fields::of(&Value::from(schema_for!(Member))).unwrap_or_default();
                nearest(field, own.iter().map(String::as_str)).map(str::to_owned)
            } else {
                nearest(field, known.into_iter()).map(str::to_owned)
            };
            let mut told = mistake(format!("unknown field '{field}'"));
            match likely {
                Some(likely) => {
                    let message = format!("unknown field '{field}'; did you mean '{likely}'?");
                    told.message = message;
                }
                None => told.hint = Some("`claudine schema graph` shows all fields".to_owned()),
            }
            let mut path = above.to_vec();
            path.push(Segment::Map {
                key: field.to_owned(),
            });
            return (told, task.place(name.referenced), path);
        }
    }
    let at = follow(&task.node, &wrong.path).referenced;
    // The whole field is removed, because removing one item would shift the later items of its
    // list.
    let path = wrong.path.iter().take(1).cloned().collect();
    (mistake(wrong.why()), task.place(at), path)
}

/// Removes a field; returns whether the field existed.
fn remove(document: &mut Value, path: &[Segment]) -> bool {
    let Some((Segment::Map { key }, above)) = path.split_last() else {
        return false;
    };
    let mut at = document;
    for segment in above {
        let next = match segment {
            Segment::Seq { index } => at.get_mut(*index),
            Segment::Map { key } => at.get_mut(key.as_str()),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    at.as_object_mut()
        .is_some_and(|fields| fields.remove(key).is_some())
}

fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = among.map(|known| (strsim::normalized_damerau_levenshtein(word, known), known));
    let likely = likeness.filter(|(likeness, _)| *likeness >= LIKELY);
    likely
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// Finds the task and the value to which a JSON Pointer into the list of tasks points:
/// `/2/dependencies/0`.
pub(super) fn found<'a>(
    tasks: &'a [Written],
    pointer: Option<&str>,
) -> Option<(&'a Written, &'a Node)> {
    let mut words = pointer?.strip_prefix('/')?.split('/');
    let task = tasks.get(words.next()?.parse::<usize>().ok()?)?;
    let mut at = &task.node;
    for word in words {
        let next = match &at.value {
            Content::Map(fields) => {
                let mut fields = fields.iter();
                let field = fields.find(|(name, _)| is_written_for(&name.value, word));
                field.map(|(_, node)| node)
            }
            Content::List(items) => word.parse().ok().and_then(|index: usize| items.get(index)),
            Content::Scalar(_) => None,
        };
        let Some(next) = next else { break };
        at = next;
    }
    // If the value is a dependency with a condition, the name of its task is returned instead.
    let named = ["task", "taskId"];
    let task_of = |name| at.value.field(name).map(|(_, node)| node);
    Some((task, named.into_iter().find_map(task_of).unwrap_or(at)))
}

/// Whether `written` is an accepted spelling of the field.
fn is_written_for(written: &str, field: &str) -> bool {
    let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
    let (written, field) = (plain(written), plain(field));
    written == field
        || (field == "dependencies" && written == "dependson")
        || (field == "workingdirectory" && written == "cwd")
}

/// Suggests a task of the file with a similar name.
pub(super) fn likely(tasks: &[Written], node: &Node) -> Option<String> {
    let word = text(node)?;
    let names: Vec<_> = tasks.iter().filter_map(Written::name).collect();
    let name = nearest(&word, names.iter().map(|(name, _)| name.as_str()))?;
    let (_, at) = names.iter().find(|(known, _)| known == name)?;
    let line = at.map_or_else(String::new, |at| format!(" (line {})", at.line));
    (name != word).then(|| format!("did you mean '{name}'{line}?"))
}
