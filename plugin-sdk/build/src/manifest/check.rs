//! Rules for manifests. All faults are reported at once.

use std::time::Duration;

use super::document::{self, Document};
use super::{
    Account, CommandPattern, Fault, Manifest, Permissions, ProcessPermission, StopSignal, StopStep,
    Version, WIT_VERSION,
};

/// A month: a longer timeout is a mistake in the unit.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(30 * 24);

/// Longest wait of one step of a stop; a longer wait would be useless.
const LONGEST_STOP_WAIT: Duration = Duration::from_mins(10);

const MOST_STOP_STEPS: usize = 8;
const MOST_NAMES: usize = 64;
const LONGEST_NAME_BYTES: usize = 32;
const LONGEST_LINE_BYTES: usize = 200;

/// Stop steps if the manifest names none: a polite signal, then KILL.
const DEFAULT_STOP: [StopStep; 2] = [
    StopStep {
        signal: StopSignal::Term,
        wait: Duration::from_secs(5),
    },
    StopStep {
        signal: StopSignal::Kill,
        wait: Duration::ZERO,
    },
];

pub(super) fn check(document: Document) -> Result<Manifest, Vec<Fault>> {
    let mut faults = Faults(Vec::new());
    let version = faults.version("version", &document.version);
    let wit = faults.version("wit", &document.wit);
    if let Some(wit) = &wit
        && (wit.major, wit.minor) != (WIT_VERSION.major, WIT_VERSION.minor)
    {
        faults.add(
            "wit",
            format!("unsupported version {wit}: this Claudine supports {WIT_VERSION}"),
        );
    }
    faults.name(&document.name);
    faults.line("summary", &document.summary);
    let idle_timeout = faults.timeout("idle-timeout-ms", document.idle_timeout_ms);
    let start_timeout = faults.timeout("start-timeout-ms", document.start_timeout_ms);
    if document.serial_start && start_timeout.is_none() {
        let message = "needs start-timeout-ms: a start without a limit could hold up all others";
        faults.add("serial-start", message);
    }
    faults.variables("reads-env", &document.reads_env);
    let stop = faults.stop(&document.stop);
    let account = document.account.map(|account| faults.account(account));
    let process = document
        .permissions
        .process
        .map(|process| faults.process(process));

    match (version, wit) {
        (Some(version), Some(wit)) if faults.0.is_empty() => Ok(Manifest {
            kind: document.kind,
            name: document.name,
            version,
            wit,
            summary: document.summary,
            class: document.class,
            idle_timeout,
            start_timeout,
            serial_start: document.serial_start,
            standby: document.standby,
            reads_env: document.reads_env,
            stop,
            account,
            permissions: Permissions { process },
        }),
        _ => Err(faults.0),
    }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            message: message.into(),
        });
    }

    fn version(&mut self, field: &str, text: &str) -> Option<Version> {
        match Version::parse(text) {
            Ok(version) => Some(version),
            Err(error) => {
                self.add(
                    field,
                    format!("`{text}` is not a version like 1.2.3: {error}"),
                );
                None
            }
        }
    }

    fn name(&mut self, name: &str) {
        let words_fit = name.split('-').all(|word| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        if !words_fit
            || name.len() > LONGEST_NAME_BYTES
            || name.starts_with(|first: char| first.is_ascii_digit())
        {
            self.add(
                "name",
                format!(
                    "`{}` is not a valid name: lower-case letters, digits and single hyphens, a letter first, at most {LONGEST_NAME_BYTES} bytes",
                    name.escape_debug()
                ),
            );
        }
    }

    fn line(&mut self, field: &str, text: &str) {
        if text.trim().is_empty() {
            self.add(field, "is empty");
        } else if text.len() > LONGEST_LINE_BYTES || text.chars().any(char::is_control) {
            self.add(
                field,
                format!("must be one line of at most {LONGEST_LINE_BYTES} bytes"),
            );
        }
    }

    fn timeout(&mut self, field: &str, milliseconds: Option<u64>) -> Option<Duration> {
        let timeout = Duration::from_millis(milliseconds?);
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            self.add(
                field,
                "must be from 1 to 2,592,000,000 (30 days); leave the field out for no limit",
            );
        }
        Some(timeout)
    }

    fn variables(&mut self, field: &str, names: &[String]) {
        if names.len() > MOST_NAMES {
            self.add(
                field,
                format!(
                    "lists {} variables; at most {MOST_NAMES} are allowed",
                    names.len()
                ),
            );
        }
        for (index, name) in names.iter().enumerate() {
            if !is_variable(name) {
                self.add(
                    format!("{field}[{index}]"),
                    format!("`{}` is not a valid variable name", name.escape_debug()),
                );
            }
        }
    }

    fn stop(&mut self, steps: &[document::Stop]) -> Vec<StopStep> {
        if steps.is_empty() {
            return DEFAULT_STOP.to_vec();
        }
        if steps.len() > MOST_STOP_STEPS {
            self.add(
                "stop",
                format!(
                    "has {} steps; at most {MOST_STOP_STEPS} are allowed",
                    steps.len()
                ),
            );
        }
        let last = steps.len() - 1;
        let mut ladder = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let wait = Duration::from_millis(step.wait_ms.unwrap_or(0));
            if (step.signal == StopSignal::Kill) != (index == last) {
                self.add(
                    format!("stop[{index}].signal"),
                    "the last step, and no other, must be KILL",
                );
            }
            let fits = if index == last {
                step.wait_ms.is_none()
            } else {
                !wait.is_zero() && wait <= LONGEST_STOP_WAIT
            };
            if !fits {
                let message =
                    "must be from 1 to 600,000 (10 minutes), and left out in the last step";
                self.add(format!("stop[{index}].wait-ms"), message);
            }
            ladder.push(StopStep {
                signal: step.signal,
                wait,
            });
        }
        ladder
    }

    fn account(&mut self, account: document::Account) -> Account {
        if !is_variable(&account.directory_variable) {
            let message = format!(
                "`{}` is not a valid variable name",
                account.directory_variable.escape_debug()
            );
            self.add("account.directory-variable", message);
        }
        if !(account.default_directory.starts_with('/')
            || account.default_directory.starts_with("~/"))
        {
            self.add(
                "account.default-directory",
                "must be absolute, or below the home directory (~/…)",
            );
        }
        self.variables("account.credentials", &account.credentials);
        Account {
            directory_variable: account.directory_variable,
            default_directory: account.default_directory,
            credentials: account.credentials,
        }
    }

    fn process(&mut self, process: document::Process) -> ProcessPermission {
        self.line("permissions.process.why", &process.why);
        let field = "permissions.process.commands";
        let count = process.commands.len();
        if count == 0 || count > MOST_NAMES {
            self.add(
                field,
                format!("lists {count} commands; must be from 1 to {MOST_NAMES}"),
            );
        }
        if count > 1 && process.commands.iter().any(|command| command == "*") {
            self.add(
                field,
                "`*` stands for every command, so it must stand alone",
            );
        }
        let mut commands = Vec::with_capacity(count);
        for (index, command) in process.commands.into_iter().enumerate() {
            match pattern(&command) {
                Some(pattern) => commands.push(pattern),
                None => self.add(
                    format!("{field}[{index}]"),
                    format!(
                        "`{}` is neither `*`, nor a bare name, nor an absolute path",
                        command.escape_debug()
                    ),
                ),
            }
        }
        ProcessPermission {
            commands,
            why: process.why,
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_LINE_BYTES && !name.contains(['=', '\0'])
}

fn pattern(command: &str) -> Option<CommandPattern> {
    if command.is_empty()
        || command.chars().any(char::is_control)
        || command.split('/').any(|part| part == "..")
    {
        None
    } else if command == "*" {
        Some(CommandPattern::Any)
    } else if command.contains('*') {
        None
    } else if command.starts_with('/') {
        Some(CommandPattern::Path(command.to_owned()))
    } else if command.contains('/') {
        None
    } else {
        Some(CommandPattern::Name(command.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use super::super::{Class, Kind, ManifestError};
    use super::*;

    const LEAST: &str = r#"
        kind = "executor"
        name = "greet"
        version = "1.0.0"
        wit = "0.1.0"
        summary = "Says hello"
    "#;

    /// The smallest manifest, with one line replaced or added.
    fn with(line: &str) -> String {
        let key = line.split(['=', '\n']).next().unwrap_or(line);
        let kept = LEAST
            .lines()
            .filter(|known| !known.trim_start().starts_with(key));
        kept.chain([line]).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn smallest_manifest_requests_nothing() {
        let manifest = Manifest::parse(LEAST).unwrap();
        assert_eq!(
            (manifest.kind, manifest.class),
            (Kind::Executor, Class::Command)
        );
        assert_eq!(manifest.name, "greet");
        assert_eq!(
            (
                manifest.idle_timeout,
                manifest.start_timeout,
                manifest.serial_start
            ),
            (None, None, false)
        );
        assert_eq!(manifest.stop, DEFAULT_STOP);
        assert_eq!(
            (manifest.account, manifest.permissions),
            (None, Permissions::default())
        );
    }

    #[test]
    fn fields_of_a_manifest_are_parsed() {
        let text = with(
            r#"class = "agent"
            idle-timeout-ms = 1800000
            start-timeout-ms = 120000
            serial-start = true
            reads-env = ["HOME", "IS_SANDBOX"]
            [[stop]]
            signal = "INT"
            wait-ms = 5000
            [[stop]]
            signal = "KILL"
            [account]
            directory-variable = "CLAUDE_CONFIG_DIR"
            default-directory = "~/.claude"
            credentials = ["ANTHROPIC_API_KEY"]
            [permissions.process]
            commands = ["claude", "/usr/bin/env"]
            why = "it runs Claude Code"
            "#,
        );
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.class, Class::Agent);
        assert_eq!(manifest.idle_timeout, Some(Duration::from_mins(30)));
        assert_eq!(manifest.start_timeout, Some(Duration::from_mins(2)));
        assert!(manifest.serial_start);
        assert_eq!(manifest.reads_env, ["HOME", "IS_SANDBOX"]);
        assert_eq!(
            manifest.stop,
            [
                StopStep {
                    signal: StopSignal::Int,
                    wait: Duration::from_secs(5)
                },
                StopStep {
                    signal: StopSignal::Kill,
                    wait: Duration::ZERO
                },
            ]
        );
        let account = manifest.account.unwrap();
        assert_eq!(account.directory_variable, "CLAUDE_CONFIG_DIR");
        assert_eq!(
            (
                account.default_directory.as_str(),
                account.credentials.len()
            ),
            ("~/.claude", 1)
        );
        let process = manifest.permissions.process.unwrap();
        assert_eq!(process.why, "it runs Claude Code");
        let commands: Vec<_> = process.commands.iter().map(ToString::to_string).collect();
        assert_eq!(commands, ["claude", "/usr/bin/env"]);
    }

    /// Expects one fault, with this field and this part of its message.
    fn refused(line: &str, field: &str, part: &str) {
        let Err(ManifestError::Faults(faults)) = Manifest::parse(&with(line)) else {
            panic!("{line} should be refused for a fault");
        };
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert_eq!(faults[0].field, field, "{line}");
        assert!(
            faults[0].message.contains(part),
            "{line}: {}",
            faults[0].message
        );
    }

    #[test]
    fn fault_names_its_field() {
        for name in [
            "",
            "Shell",
            "a_b",
            "1a",
            "a--b",
            "-a",
            "a-",
            "ä",
            "a\\u0000",
            &"a".repeat(33),
        ] {
            refused(&format!("name = \"{name}\""), "name", "is not a valid name");
        }
        refused("version = \"1.0\"", "version", "is not a version");
        refused("wit = \"0.2.0\"", "wit", "this Claudine supports 0.1.0");
        refused("wit = \"one\"", "wit", "is not a version");
        refused("summary = \" \"", "summary", "is empty");
        refused("summary = \"a\\nb\"", "summary", "one line");
        refused("idle-timeout-ms = 0", "idle-timeout-ms", "from 1");
        refused(
            "start-timeout-ms = 2592000001",
            "start-timeout-ms",
            "30 days",
        );
        refused("serial-start = true", "serial-start", "start-timeout-ms");
        refused(
            "reads-env = [\"A\", \"B=C\"]",
            "reads-env[1]",
            "is not a valid variable name",
        );
        refused(
            "[[stop]]\nsignal = \"TERM\"",
            "stop[0].signal",
            "must be KILL",
        );
        let early = "[[stop]]\nsignal = \"KILL\"\nwait-ms = 5\n[[stop]]\nsignal = \"KILL\"";
        refused(early, "stop[0].signal", "no other");
        let hasty = "[[stop]]\nsignal = \"TERM\"\n[[stop]]\nsignal = \"KILL\"";
        refused(hasty, "stop[0].wait-ms", "from 1");
        refused(
            "[[stop]]\nsignal = \"KILL\"\nwait-ms = 5",
            "stop[0].wait-ms",
            "left out in the last",
        );
        let relative = "[account]\ndirectory-variable = \"D\"\ndefault-directory = \"x\"";
        refused(relative, "account.default-directory", "absolute");
        let unnamed = "[account]\ndirectory-variable = \"\"\ndefault-directory = \"/x\"";
        refused(
            unnamed,
            "account.directory-variable",
            "is not a valid variable name",
        );
    }

    #[test]
    fn command_is_a_star_a_name_or_a_path() {
        let process =
            |commands: &str| format!("[permissions.process]\nwhy = \"y\"\ncommands = [{commands}]");
        for command in ["./x", "bin/x", "", "a*", "/a/../b", "a\\n"] {
            refused(
                &process(&format!("\"{command}\"")),
                "permissions.process.commands[0]",
                "is neither",
            );
        }
        refused(
            &process(""),
            "permissions.process.commands",
            "lists 0 commands",
        );
        refused(
            &process("\"*\", \"ls\""),
            "permissions.process.commands",
            "stand alone",
        );
    }

    #[test]
    fn error_of_an_unreadable_manifest_names_the_fault() {
        for (text, part) in [
            (with("summry = \"x\""), "unknown field `summry`"),
            (with("class = \"robot\""), "unknown variant `robot`"),
            (with("kind = \"notifier\""), "unknown variant `notifier`"),
            (
                with("[[stop]]\nsignal = \"STOP\""),
                "unknown variant `STOP`",
            ),
            (with("idle-timeout-ms = -1"), "invalid value"),
            ("kind =".to_owned(), "line 1, column 7"),
            (String::new(), "missing field `kind`"),
        ] {
            let message = Manifest::parse(&text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = Manifest::parse(&"#".repeat(65_537))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "the manifest is 65537 bytes long; at most 65536 are read"
        );
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let text = with("name = \"A\"\nversion = \"x\"");
        let message = Manifest::parse(&text.replace("version = \"1.0.0\"", ""))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("name: ") && message.contains("; "),
            "{message}"
        );
        assert!(message.contains("version: "), "{message}");
    }
}
