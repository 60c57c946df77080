//! The document of a task, and its faults.

use claudine_plugin_sdk::Issue;
use serde::Deserialize;

/// Scripts up to this length are passed as an argument. Linux allows 128 KiB; the margin is for
/// systems that allow less.
const LONGEST_ARGUMENT_SCRIPT_BYTES: usize = 100 * 1024;

/// The kernel's limit for one argument (`MAX_ARG_STRLEN`), its final NUL included.
const ARGUMENT_LIMIT_BYTES: usize = 128 * 1024;

/// Shells that can be given by name. Any other shell must be given by its absolute path.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ksh", "zsh", "fish"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    argv: Option<Vec<String>>,
    script: Option<String>,
    shell: Option<String>,
    stdin: Option<String>,
}

/// A valid spec.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work<'a> {
    Argv {
        command: &'a str,
        args: &'a [String],
        stdin: Option<&'a str>,
    },
    ShortScript {
        shell: &'a str,
        script: &'a str,
        stdin: Option<&'a str>,
    },
    LongScript {
        shell: &'a str,
        text: String,
    },
}

impl Spec {
    /// The work to do, or all faults.
    pub(crate) fn work(&self) -> Result<Work<'_>, Vec<Issue>> {
        match (&self.argv, &self.script) {
            (Some(argv), None) => self.argv(argv),
            (None, Some(script)) => self.script(script),
            (Some(_), Some(_)) => Err(vec![Issue::new(
                "",
                "both `argv` and `script` are given; give only one of them",
            )]),
            (None, None) => Err(vec![Issue::new(
                "",
                "nothing to run: give `argv` (a command and its arguments) or `script` (text for a shell)",
            )]),
        }
    }

    fn argv<'a>(&'a self, argv: &'a [String]) -> Result<Work<'a>, Vec<Issue>> {
        let mut issues: Vec<Issue> = argv
            .iter()
            .enumerate()
            .filter_map(|(index, arg)| argument_issue(&format!("/argv/{index}"), arg))
            .collect();
        if self.shell.is_some() {
            issues.push(Issue::new(
                "/shell",
                "`argv` runs without a shell; a shell belongs to `script`",
            ));
        }
        match argv.split_first() {
            None => issues.push(Issue::new(
                "/argv",
                "empty: the first element is the command",
            )),
            Some((command, _)) if command.is_empty() => {
                issues.push(Issue::new("/argv/0", "the command is the empty string"));
            }
            Some((command, args)) if issues.is_empty() => {
                return Ok(Work::Argv {
                    command,
                    args,
                    stdin: self.stdin.as_deref(),
                });
            }
            Some(_) => {}
        }
        Err(issues)
    }

    fn script<'a>(&'a self, script: &'a str) -> Result<Work<'a>, Vec<Issue>> {
        let shell = self.shell.as_deref().unwrap_or("sh");
        let long = script.len() > LONGEST_ARGUMENT_SCRIPT_BYTES;
        let issues: Vec<Issue> = [
            script.trim().is_empty().then(|| Issue::new("/script", "the script is empty")),
            nul_issue("/script", script),
            shell_issue(shell),
            (long && self.stdin.is_some()).then(|| {
                Issue::new(
                    "/stdin",
                    format!(
                        "a script over {} KiB comes to its shell on standard input, so it cannot have input of its own: \
                         put one of the two into a file",
                        LONGEST_ARGUMENT_SCRIPT_BYTES / 1024
                    ),
                )
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !issues.is_empty() {
            return Err(issues);
        }
        if long {
            return Ok(Work::LongScript {
                shell,
                text: with_empty_stdin(shell, script),
            });
        }
        Ok(Work::ShortScript {
            shell,
            script,
            stdin: self.stdin.as_deref(),
        })
    }
}

/// A long script, which is on its shell's standard input, preceded by a command that makes standard
/// input empty. The command is on the script's first line, so that line numbers stay correct. For
/// fish, which has no such command, and for unknown shells, which may have none, the script is
/// unchanged, and the commands in it may read the script as their input.
fn with_empty_stdin(shell: &str, script: &str) -> String {
    let name = shell.rsplit('/').next().unwrap_or(shell);
    if SHELLS.contains(&name) && name != "fish" {
        format!("exec </dev/null;{script}")
    } else {
        script.to_owned()
    }
}

fn shell_issue(shell: &str) -> Option<Issue> {
    if let Some(issue) = nul_issue("/shell", shell) {
        return Some(issue);
    }
    let known = SHELLS.contains(&shell) || (shell.starts_with('/') && shell.len() > 1);
    (!known).then(|| {
        Issue::new(
            "/shell",
            format!(
                "unknown shell `{shell}`: one of {}, or an absolute path",
                SHELLS.join(", ")
            ),
        )
    })
}

fn argument_issue(path: &str, arg: &str) -> Option<Issue> {
    if arg.len() >= ARGUMENT_LIMIT_BYTES {
        return Some(Issue::new(
            path,
            format!(
                "{} bytes long: the system accepts no argument of {} KiB or more; put its text into a file and give the path of the file, or use `script`, which may be longer",
                arg.len(),
                ARGUMENT_LIMIT_BYTES / 1024
            ),
        ));
    }
    nul_issue(path, arg)
}

fn nul_issue(path: &str, text: &str) -> Option<Issue> {
    let position = text.bytes().position(|byte| byte == 0)?;
    Some(Issue::new(
        path,
        format!("a NUL byte at byte {position}: arguments cannot contain one"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claudine_plugin_sdk::parse;
    use serde_json::{Value, json};

    use super::*;

    /// Expected: path and beginning of the message of each issue.
    fn refused(spec: Value, expected: &[(&str, &str)]) {
        let spec: Spec = parse(&spec.to_string()).unwrap();
        let issues = spec.work().err().unwrap_or_default();
        assert_eq!(issues.len(), expected.len(), "{issues:?}");
        for (issue, (path, message)) in issues.iter().zip(expected) {
            assert_eq!(issue.path, *path);
            assert!(issue.message.starts_with(message), "{issue:?}");
        }
    }

    #[test]
    fn faults_are_reported_with_their_place() {
        refused(json!({}), &[("", "nothing to run")]);
        refused(
            json!({"argv": ["ls"], "script": "ls"}),
            &[("", "both `argv` and `script`")],
        );
        refused(json!({"argv": []}), &[("/argv", "empty")]);
        refused(
            json!({"argv": ["", "x"]}),
            &[("/argv/0", "the command is the empty string")],
        );
        refused(
            json!({"argv": ["ls", "a\0b", "\0"]}),
            &[
                ("/argv/1", "a NUL byte at byte 1"),
                ("/argv/2", "a NUL byte at byte 0"),
            ],
        );
        refused(
            json!({"argv": ["ls", "x".repeat(131_072)]}),
            &[(
                "/argv/1",
                "131072 bytes long: the system accepts no argument of 128 KiB or more; put its text \
                 into a file",
            )],
        );
        refused(
            json!({"argv": ["ls"], "shell": "sh"}),
            &[("/shell", "`argv` runs without a shell")],
        );
        refused(
            json!({"script": " \n"}),
            &[("/script", "the script is empty")],
        );
        refused(
            json!({"script": "a\0"}),
            &[("/script", "a NUL byte at byte 1")],
        );
        refused(
            json!({"script": "ls", "shell": "perl"}),
            &[("/shell", "unknown shell `perl`")],
        );
        refused(
            json!({"script": "ls", "shell": "./sh"}),
            &[("/shell", "unknown shell `./sh`")],
        );
        refused(
            json!({"script": "ls", "shell": "/bin/\0"}),
            &[("/shell", "a NUL byte at byte 5")],
        );
        refused(
            json!({"script": "#".repeat(200_000), "stdin": ""}),
            &[("/stdin", "a script over 100 KiB")],
        );
    }

    fn accepted(spec: Value, expected: Work<'_>) {
        let spec: Spec = parse(&spec.to_string()).unwrap();
        assert_eq!(spec.work(), Ok(expected));
    }

    #[test]
    fn arguments_are_passed_unchanged() {
        accepted(
            json!({"argv": ["printf", "%s", "a b", "", "$HOME", "\u{fc}"], "stdin": "x\0y"}),
            Work::Argv {
                command: "printf",
                args: &["%s", "a b", "", "$HOME", "\u{fc}"].map(str::to_owned),
                stdin: Some("x\0y"),
            },
        );
    }

    #[test]
    fn short_script_is_an_argument_and_long_script_is_a_file() {
        accepted(
            json!({"script": "echo $0", "shell": "bash", "stdin": ""}),
            Work::ShortScript {
                shell: "bash",
                script: "echo $0",
                stdin: Some(""),
            },
        );
        let short = "#".repeat(LONGEST_ARGUMENT_SCRIPT_BYTES);
        accepted(
            json!({"script": short}),
            Work::ShortScript {
                shell: "sh",
                script: &short,
                stdin: None,
            },
        );
        let long = format!("{short}#");
        accepted(
            json!({"script": long, "shell": "/bin/dash"}),
            Work::LongScript {
                shell: "/bin/dash",
                text: format!("exec </dev/null;{long}"),
            },
        );
        accepted(
            json!({"script": long, "shell": "fish"}),
            Work::LongScript {
                shell: "fish",
                text: long.clone(),
            },
        );
    }

    #[test]
    fn schema_names_the_fields_of_the_type() {
        let schema: Value = serde_json::from_str(include_str!("schema.json")).unwrap();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let message = parse::<Spec>(r#"{"unknown": 1}"#).unwrap_err().message;
        for name in &names {
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
        assert_eq!(
            message.matches('`').count(),
            2 * (names.len() + 1),
            "{message}"
        );
    }
}
