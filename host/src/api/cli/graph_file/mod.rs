//! The file for `submit`: a JSON or YAML list, or JSON objects, one per line.
//!
//! A valid file is read once, directly into tasks. Only an invalid file is read again, with the
//! positions of all values, to report every mistake with its position.

mod located;
mod snippet;
mod wrong;
mod yaml;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::de::IgnoredAny;

use self::{
    located::{Content, Node},
    snippet::snippet,
    wrong::{Place, Written},
};
use super::failure::Failure;
use crate::{
    api::{
        lenient,
        member::Member,
        once::{self, Once},
    },
    app::{AppError, ErrorKind, Mistake, NewTask},
};

/// Limit of the nesting of lists and objects in JSON, a little below the limit of its parser.
const JSON_DEPTH: usize = 120;
/// Size limit of a request to the host.
const LIMIT_BYTES: u64 = 256 << 20;

/// The first mistake of a file, with its position if the parser has named one.
struct First {
    message: String,
    at: Option<Place>,
    /// Whether the file is JSON that is nested too deeply for any reading.
    is_too_deep: bool,
}

impl From<String> for First {
    fn from(message: String) -> Self {
        Self {
            message,
            at: None,
            is_too_deep: false,
        }
    }
}

/// The reason why the values of a file could not be read with their positions.
struct Unread {
    mistake: Mistake,
    is_given_twice: bool,
}

pub(super) struct GraphFile {
    /// Name of the file, as shown in messages.
    name: String,
    text: String,
}

impl GraphFile {
    #[cfg(test)]
    pub(super) fn of(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Reads a file, or standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = |mut from: &mut dyn Read, bytes: &mut Vec<u8>| {
            Read::take(&mut from, LIMIT_BYTES + 1).read_to_end(bytes)
        };
        let is_input = path.as_os_str() == "-";
        let name = if is_input {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let done = if is_input {
            read(&mut io::stdin().lock(), &mut bytes)
        } else {
            File::open(path).and_then(|mut file| read(&mut file, &mut bytes))
        };
        done.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
        if bytes.len() as u64 > LIMIT_BYTES {
            let mib = LIMIT_BYTES >> 20;
            return Err(Failure::Usage(format!(
                "{name} is larger than {mib} MiB, which is the limit for one request; split it"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::Usage(format!("{name} is not valid UTF-8 at byte {at}"))
        })?;
        Ok(Self { name, text })
    }

    /// The tasks of the file, or all of its mistakes.
    pub(super) fn tasks(&self, directory: &Path) -> Result<Vec<NewTask>, AppError> {
        let read = members(&self.text).and_then(|members| {
            let tasks = members
                .into_iter()
                .map(|member| member.into_task(directory));
            tasks
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| error.message.into())
        });
        match read {
            Ok(tasks) if tasks.is_empty() => Err(self.several(vec![Mistake {
                message: "the file has no tasks".to_owned(),
                ..Mistake::default()
            }])),
            Ok(tasks) if wrong::has_each_name_once(&tasks) => Ok(tasks),
            Ok(_) => {
                let first = "two tasks have the same name".to_owned();
                Err(self.wrong(first.into(), directory))
            }
            Err(first) => Err(self.wrong(first, directory)),
        }
    }

    /// Adds positions in this file to an error of the host.
    pub(super) fn located(&self, error: AppError) -> AppError {
        if error.errors.is_empty() {
            return error;
        }
        let written = self.written().unwrap_or_default();
        let mistakes = error.errors.into_iter();
        let mistakes = mistakes.map(|mistake| {
            let Some((task, node)) = wrong::found(&written, mistake.pointer.as_deref()) else {
                return mistake;
            };
            let hint = wrong::likely(&written, node).or(mistake.hint);
            let at = wrong::place(node.referenced, task.lines_before);
            self.at(Mistake { hint, ..mistake }, at)
        });
        let mistakes: Vec<_> = mistakes.collect();
        match error.kind {
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Ambiguous => {
                self.several(mistakes)
            }
            // Errors of other kinds keep their message, because the file itself is valid.
            _ => AppError {
                errors: mistakes,
                ..error
            },
        }
    }

    /// All mistakes of the file; `first` is reported if the second reading finds none.
    fn wrong(&self, first: First, directory: &Path) -> AppError {
        let mut mistakes: Vec<Mistake> = match self.written() {
            Err(_) if first.is_too_deep => Vec::new(),
            // The limits of the second reading do not apply to JSON.
            Err(unread) if !unread.is_given_twice && is_json(&self.text) => Vec::new(),
            Err(unread) => vec![unread.mistake],
            Ok(tasks) => {
                let found = wrong::all(&tasks, directory).into_iter();
                found.map(|(mistake, at)| self.at(mistake, at)).collect()
            }
        };
        if mistakes.is_empty() {
            let First { message, at, .. } = first;
            let mistake = Mistake {
                message,
                ..Mistake::default()
            };
            mistakes.push(self.at(mistake, at));
        }
        self.several(mistakes)
    }

    fn several(&self, mut errors: Vec<Mistake>) -> AppError {
        for mistake in &mut errors {
            mistake.file.get_or_insert_with(|| self.name.clone());
        }
        let message = match errors.as_slice() {
            [only] => only.to_string(),
            several => format!("{} has {} mistakes", self.name, several.len()),
        };
        AppError {
            errors,
            ..AppError::new(ErrorKind::Invalid, message)
        }
    }

    fn at(&self, mistake: Mistake, at: Option<Place>) -> Mistake {
        let Some(Place { line, column }) = at else {
            return mistake;
        };
        let text = usize::try_from(line - 1)
            .ok()
            .and_then(|line| self.text.lines().nth(line));
        Mistake {
            file: Some(self.name.clone()),
            line: Some(line),
            column: Some(column),
            snippet: text.map(|text| snippet(text, line, column)),
            ..mistake
        }
    }

    /// The tasks with their positions, or the reason why the file is not a list of tasks.
    fn written(&self) -> Result<Vec<Written>, Box<Unread>> {
        if is_lines(&self.text) {
            let lines = (0..).zip(self.text.lines());
            let lines = lines.filter(|(_, line)| !line.trim().is_empty());
            let written = lines.map(|(lines_before, line)| {
                let node = self.document(line, lines_before)?;
                Ok(Written { node, lines_before })
            });
            return written.collect();
        }
        let whole = self.document(&self.text, 0)?;
        let Content::List(tasks) = whole.value else {
            let no_list = Mistake {
                message: "the file has to be a list of tasks".to_owned(),
                hint: Some("`claudine submit --example` prints one".to_owned()),
                ..Mistake::default()
            };
            let unread = Unread {
                mistake: self.at(no_list, wrong::place(whole.referenced, 0)),
                is_given_twice: false,
            };
            return Err(unread.into());
        };
        let tasks = tasks.into_iter();
        let written = tasks.map(|node| Written {
            node,
            lines_before: 0,
        });
        Ok(written.collect())
    }

    fn document(&self, text: &str, lines_before: u64) -> Result<Node, Box<Unread>> {
        yaml::read(text).map_err(|error| {
            let mistake = Mistake {
                message: yaml::in_words(&error),
                ..Mistake::default()
            };
            let at = error.location();
            let at = at.and_then(|at| wrong::place(at, lines_before));
            let unread = Unread {
                mistake: self.at(mistake, at),
                is_given_twice: yaml::is_given_twice(&error),
            };
            unread.into()
        })
    }
}

/// Whether the text consists of JSON objects, one per line. Only such a text begins with a brace; a
/// list in JSON or YAML does not.
fn is_lines(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Whether the text is a JSON list, or JSON objects, one per line.
fn is_json(text: &str) -> bool {
    if is_lines(text) {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        return lines.all(|line| serde_json::from_str::<IgnoredAny>(line).is_ok());
    }
    serde_json::from_str::<Vec<IgnoredAny>>(text).is_ok()
}

/// Whether a text that is JSON so far is nested too deeply for its parser.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.is_syntax() && error.to_string().starts_with("recursion limit exceeded")
}

/// The mistake that a JSON parser has found in a document that `lines_before` lines precede.
fn mistake_of_json(error: &serde_json::Error, lines_before: usize) -> First {
    let is_too_deep = is_too_deep(error);
    let message = if is_too_deep {
        format!(
            "lists and objects are nested too deeply; they may have {JSON_DEPTH} levels, use fewer"
        )
    } else {
        let said = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        said.strip_suffix(&at).unwrap_or(&said).to_owned()
    };
    First {
        message,
        is_too_deep,
        at: Some(Place {
            line: (error.line() + lines_before) as u64,
            column: error.column().max(1) as u64,
        }),
    }
}

/// Reads the tasks of a JSON list, JSON lines, or a YAML list.
fn members(text: &str) -> Result<Vec<Member>, First> {
    match serde_json::from_str::<Vec<Once>>(text) {
        Ok(tasks) => {
            let tasks = tasks.into_iter().enumerate();
            let read = tasks.map(|(index, Once(task))| -> Result<Member, First> {
                lenient::read(task).map_err(|why| format!("task {}: {why}", index + 1).into())
            });
            return read.collect();
        }
        // In YAML this would be a mistake too, but its limit is lower than that of JSON.
        Err(error) if is_too_deep(&error) || once::is_given_twice(&error) => {
            return Err(mistake_of_json(&error, 0));
        }
        Err(_) => {}
    }
    if text.trim_start().is_empty() {
        return Ok(Vec::new());
    }
    if !is_lines(text) {
        return yaml::read(text).map_err(|error| yaml::in_words(&error).into());
    }
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| -> Result<Member, First> {
            let Once(task) =
                serde_json::from_str(line).map_err(|error| mistake_of_json(&error, index))?;
            lenient::read(task).map_err(|why| format!("line {}: {why}", index + 1).into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn file(text: &str) -> GraphFile {
        GraphFile::of("pipe.yaml", text)
    }

    #[test]
    fn a_graph_is_a_json_list_json_lines_or_a_yaml_list() {
        let check = |text: &str, expected: usize| {
            let read = file(text).tasks(Path::new("/work"));
            assert_eq!(read.map_or(0, |tasks| tasks.len()), expected, "{text}");
        };
        check(
            r#"[{"name": "a", "argv": ["true"]}, {"argv": ["true"], "dependencies": ["a"]}]"#,
            2,
        );
        check("{\"argv\": [\"true\"]}\n\n{\"argv\": [\"true\"]}\n", 2);
        check(
            "# two\n- {name: a, argv: [make]}\n- name: b\n  script: |\n    make\n    make install\n  depends-on: [a]\n",
            2,
        );
        check("[{name: a, argv: [make]}]", 1);
        check("", 0);
        check("a: b", 0);
    }

    #[test]
    fn a_yaml_file_may_have_as_many_values_as_a_request() {
        let names = (0_u32..25_000).map(|n| {
            let after = (n.saturating_sub(5)..n).map(|n| format!("t{n}"));
            let after = after.collect::<Vec<_>>().join(", ");
            format!("- {{name: t{n}, argv: [make], dependencies: [{after}]}}\n")
        });
        let text: String = names.collect();
        let read = file(&text).tasks(Path::new("/work")).unwrap();
        assert_eq!(read.len(), 25_000);
        // The second reading finds the positions.
        let text = format!("{text}- {{name: a, argv: [make], colour: red}}\n");
        assert_eq!(told(&text), ["pipe.yaml:25001:27: unknown field 'colour'"]);
    }

    #[test]
    fn a_mistake_in_json_is_reported_although_its_values_are_nested_too_deeply_for_yaml() {
        let (open, close) = ("[".repeat(100), "]".repeat(100));
        let task = format!(r#"{{"executor": "x", "spec": {open}{close}, "colour": "red"}}"#);
        for text in [format!("[{task}]"), format!("{task}\n{task}\n")] {
            let told = told(&text);
            assert!(told[0].contains("colour"), "{told:?}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_refused_with_the_limit_of_json() {
        let (open, close) = ("[".repeat(5_000), "]".repeat(5_000));
        let task = format!(r#"{{"argv": {open}{close}}}"#);
        for (text, line) in [
            (format!("[{task}]"), 1),
            (format!("{{\"argv\": [\"x\"]}}\n{task}\n"), 2),
            ("[".repeat(100_000), 1),
        ] {
            let told = told(&text);
            assert!(
                told[0].starts_with(&format!("pipe.yaml:{line}:"))
                    && told[0].contains("they may have 120 levels")
                    && !told[0].contains("write the file in JSON"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_field_that_is_given_twice_is_reported_with_its_position() {
        let check = |text: &str, expected: &str| assert_eq!(told(text), [expected], "{text}");
        check(
            r#"[{"name": "a", "argv": ["x"], "name": "b"}]"#,
            "pipe.yaml:1:31: the field 'name' is given twice",
        );
        check(
            "{\"argv\": [\"x\"]}\n{\"argv\": [\"x\"], \"env\": {\"A\": 1, \"A\": 2}}\n",
            "pipe.yaml:2:33: the field 'A' is given twice",
        );
        check(
            "- name: a\n  argv: [x]\n  name: b\n",
            "pipe.yaml:3:3: the field 'name' is given twice",
        );
    }

    /// The messages of the mistakes, without the quoted lines of the file.
    fn told(text: &str) -> Vec<String> {
        let error = file(text).tasks(Path::new("/work")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        error.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_position() {
        let check = |text: &str, expected: &[&str]| assert_eq!(told(text), expected, "{text}");
        check(
            "- {name: a, argv: [make]}\n- {name: b, argv: [make], dependecies: [a], tmeout: 3}\n",
            &[
                "pipe.yaml:2:27: unknown field 'dependecies'; did you mean 'dependencies'?",
                "pipe.yaml:2:45: unknown field 'tmeout'; did you mean 'timeout'?",
            ],
        );
        check(
            "- name: a\n  argv: [make]\n  colour: red\n",
            &["pipe.yaml:3:3: unknown field 'colour'"],
        );
        check(
            "- {name: a}\n- {name: b, argv: [x], retries: many}\n",
            &[
                "pipe.yaml:1:3: a task has one of `argv`, `script`, `prompt` and `spec`",
                "pipe.yaml:2:33: this has to be a whole number from 0, not the string \"many\"",
            ],
        );
        check(
            "- {name: a, argv: [x], dependencies: [{task: b, conditoin: any}]}\n",
            &["pipe.yaml:1:49: unknown field 'conditoin'; did you mean 'condition'?"],
        );
        check(
            "{\"argv\": [\"x\"]}\n\n{\"argv\": [\"x\"], \"nmae\": \"b\"}\n",
            &["pipe.yaml:3:17: unknown field 'nmae'; did you mean 'name'?"],
        );
        check(
            "- {name: a, argv: [x]}\n- {name: b, argv: [x]}\n- {name: a, argv: [x]}\n",
            &["pipe.yaml:3:10: two tasks have the name 'a' (see line 1)"],
        );
        check(
            "a: b\n",
            &["pipe.yaml:1:1: the file has to be a list of tasks"],
        );
        check("", &["pipe.yaml: the file has no tasks"]);
        let syntax = told("- {name: a\n- {name: b}\n");
        assert_eq!(syntax, ["pipe.yaml:1:3: unclosed bracket '{'"]);
    }

    #[test]
    fn mistakes_found_by_the_host_get_positions_too() {
        let file = file("- {name: checkout, argv: [x]}\n- {argv: [x], depends-on: [checkuot]}\n");
        let of = |pointer: &str| {
            let errors = vec![Mistake {
                message: "no such task".to_owned(),
                pointer: Some(pointer.to_owned()),
                ..Mistake::default()
            }];
            let error = AppError {
                errors,
                ..AppError::new(ErrorKind::NotFound, "no such task")
            };
            let error = file.located(error);
            assert_eq!(error.kind, ErrorKind::Invalid);
            (error.errors[0].to_string(), error.errors[0].hint.clone())
        };
        assert_eq!(
            of("/1/dependencies/0"),
            (
                "pipe.yaml:2:28: no such task".to_owned(),
                Some("did you mean 'checkout' (line 1)?".to_owned())
            )
        );
        assert_eq!(of("/0").0, "pipe.yaml:1:3: no such task");
        assert_eq!(of("/7").0, "pipe.yaml: no such task");
    }
}
