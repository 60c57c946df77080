//! The environment of a child: the task's environment from its file, without the variables to
//! remove, with the variables to set, and with the marker.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::command::Refusal;
use crate::fsx;
use crate::proc_stat::is_out_of_room;
use crate::supervise::sys::procfs::{ATTEMPT_VARIABLE, DETACHED_VARIABLE};
use crate::supervise::sys::spawn::CStrings;
use crate::supervise::words::{NotStartedClass, StartChild};

/// The most parsed files kept. A file is named by the hash of its content, so the parsed form
/// cannot be stale.
const KEPT_FILES: usize = 64;

/// Environment files that were read lately.
#[derive(Debug, Default)]
pub(super) struct Environments {
    parsed: HashMap<PathBuf, Rc<CStrings>>,
    order: VecDeque<PathBuf>,
}

impl Environments {
    pub(super) fn build(&mut self, start: &StartChild) -> Result<CStrings, Refusal> {
        let mut strings = CStrings::default();
        let emptied = start.env_remove.iter().any(|name| name == "*");
        if let Some(file) = start.env_file.as_ref().filter(|_| !emptied) {
            let inherited = self.read(file)?;
            let replaced = |name: &[u8]| {
                start
                    .env_remove
                    .iter()
                    .any(|removed| removed.as_bytes() == name)
                    || start.env_set.iter().any(|(set, _)| set.as_bytes() == name)
                    || name == ATTEMPT_VARIABLE.as_bytes()
                    || name == DETACHED_VARIABLE.as_bytes()
            };
            for variable in inherited
                .iter()
                .filter(|variable| !replaced(name_of(variable)))
            {
                match value_of(variable, "PWD") {
                    Some(named) if !is_same_directory(named, &start.cwd) => {
                        let pwd = [b"PWD=", start.cwd.as_os_str().as_bytes()].concat();
                        push(&mut strings, &pwd)?;
                    }
                    _ => push(&mut strings, variable)?,
                }
            }
        }
        let marks = [ATTEMPT_VARIABLE, DETACHED_VARIABLE];
        let last: HashMap<&str, usize> = (0..)
            .zip(&start.env_set)
            .map(|(at, (name, _))| (name.as_str(), at))
            .collect();
        for (at, (name, value)) in start.env_set.iter().enumerate() {
            if name.is_empty() || name.contains('=') {
                let message = format!("`{name}` cannot be the name of a variable");
                return Err(Refusal::new(NotStartedClass::Invalid, message));
            }
            // Names must be unique: if a name occurs twice, some programs use the first value,
            // others the last.
            if last.get(name.as_str()) == Some(&at) && !marks.contains(&name.as_str()) {
                push(&mut strings, format!("{name}={value}").as_bytes())?;
            }
        }
        push(
            &mut strings,
            format!("{ATTEMPT_VARIABLE}={}", start.child.attempt()).as_bytes(),
        )?;
        Ok(strings)
    }

    fn read(&mut self, file: &Path) -> Result<Rc<CStrings>, Refusal> {
        if let Some(parsed) = self.parsed.get(file) {
            return Ok(Rc::clone(parsed));
        }
        let bytes = fsx::read(file).map_err(|error| {
            let message = format!(
                "the task's environment cannot be read from {}: {error}",
                file.display()
            );
            let class = if is_out_of_room(&error) {
                NotStartedClass::Resource
            } else {
                NotStartedClass::Input
            };
            Refusal::new(class, message)
        })?;
        let mut strings = CStrings::default();
        for variable in bytes
            .split(|byte| *byte == 0)
            .filter(|variable| !variable.is_empty())
        {
            push(&mut strings, variable)?;
        }
        if self.order.len() >= KEPT_FILES
            && let Some(oldest) = self.order.pop_front()
        {
            self.parsed.remove(&oldest);
        }
        let parsed = Rc::new(strings);
        self.order.push_back(file.to_owned());
        self.parsed.insert(file.to_owned(), Rc::clone(&parsed));
        Ok(parsed)
    }
}

/// The value of a variable in a built environment.
pub(super) fn value<'a>(environment: &'a CStrings, name: &str) -> Option<&'a [u8]> {
    environment
        .iter()
        .find_map(|variable| value_of(variable, name))
}

/// The value of a variable, if it has this name.
fn value_of<'a>(variable: &'a [u8], name: &str) -> Option<&'a [u8]> {
    (name_of(variable) == name.as_bytes()).then(|| variable.get(name.len() + 1..).unwrap_or(&[]))
}

/// Whether the submitter's `PWD` names the child's directory. If so, the name is kept, even if it
/// leads through symbolic links: shells prefer such a name.
fn is_same_directory(named: &[u8], cwd: &Path) -> bool {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    let named = Path::new(OsStr::from_bytes(named));
    named.is_absolute() && (named == cwd || identity(named) == identity(cwd))
}

fn name_of(variable: &[u8]) -> &[u8] {
    variable
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or(variable)
}

fn push(strings: &mut CStrings, variable: &[u8]) -> Result<(), Refusal> {
    if strings.push(variable) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name_of(variable)).into_owned();
    Err(Refusal::new(
        NotStartedClass::Invalid,
        format!("the variable `{name}` holds a NUL byte"),
    ))
}
