//! Shows settings by name, in readable units, each with its origin.

use std::{collections::BTreeMap, fmt};

use claudine_domain::capacity::Slots;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::units::{dollars, duration_word, size_word};

/// Width up to which a list is written on one line.
const COLUMNS: usize = 80;

/// Origin of a value that is not the default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    File,
    Variable(&'static str),
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Variable(name) | Self::Option(name) => name,
        })
    }
}

/// A setting for display.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Shown {
    /// Name of the setting, preceded by its table: `budget.daily_usd`.
    pub(crate) name: String,
    /// Value of the setting. Absent if the setting is not set and has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<serde_json::Value>,
    /// Origin of the value: `default`, `file`, a variable of the environment, or an option.
    pub(crate) origin: String,
}

impl Shown {
    /// The value in the form in which it is written in the file.
    pub(crate) fn written(&self) -> Option<String> {
        written(self.value.as_ref()?)
    }
}

/// A value in the syntax of the file.
fn written(value: &serde_json::Value) -> Option<String> {
    let value = toml::Value::try_from(value).ok()?;
    Some(value.to_string())
}

/// Names of the settings in a file. A name in a table is preceded by the table's name. A table of
/// a plugin that has no settings is none: it may be what is left after a setting was removed.
pub(super) fn origins_in(text: &str) -> BTreeMap<String, Origin> {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let mut origins = BTreeMap::new();
    for (name, value) in table {
        let name = match name.as_str() {
            "task_timeout_ms" => "task_timeout".to_owned(),
            _ => name,
        };
        match value.as_table() {
            Some(table) => origins.extend(
                table
                    .iter()
                    .filter(|(_, value)| !is_hollow(value))
                    .map(|(key, _)| (format!("{name}.{key}"), Origin::File)),
            ),
            None => {
                origins.insert(name, Origin::File);
            }
        }
    }
    origins
}

/// Whether a value is a table that has nothing but such tables.
fn is_hollow(value: &toml::Value) -> bool {
    let table = value.as_table();
    table.is_some_and(|table| table.values().all(is_hollow))
}

/// A JSON number, without a fraction if the value is whole.
fn number(number: f64) -> serde_json::Value {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the number is whole, and small enough to be exact"
    )]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        (number as i64).into()
    } else {
        number.into()
    }
}

impl Settings {
    /// All settings, in the order of the file.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: Option<serde_json::Value>| {
            let origin = self.origins.get(name);
            all.push(Shown {
                name: name.to_owned(),
                value,
                origin: origin.map_or_else(|| "default".to_owned(), ToString::to_string),
            });
        };
        let limits = &self.limits;
        add(
            "slots",
            Some(match self.given_slots.unwrap_or(limits.slots) {
                Slots::Auto => "auto".into(),
                Slots::Fixed(slots) => slots.into(),
            }),
        );
        add("cpu_threshold", Some(number(limits.cpu_percent)));
        add(
            "memory_reserve",
            Some(size_word(limits.memory_reserve_bytes).into()),
        );
        add(
            "disk_reserve",
            Some(size_word(limits.disk_reserve_bytes).into()),
        );
        add("max_output", Some(size_word(self.max_output_bytes).into()));
        add(
            "task_timeout",
            self.task_timeout.map(|limit| duration_word(limit).into()),
        );
        add("keep", Some(duration_word(self.keep).into()));
        add(
            "prepare_timeout",
            Some(duration_word(self.prepare_timeout).into()),
        );
        add(
            "settle_timeout",
            Some(duration_word(self.settle_timeout).into()),
        );
        add("log_level", Some(self.log_level.clone().into()));
        add(
            "budget.daily_usd",
            limits
                .daily_micro_usd
                .map(|micro_usd| number(dollars(micro_usd))),
        );
        let mcp = &self.mcp;
        let strategies = mcp.merge_strategies.iter().map(|it| it.as_str());
        add("mcp.executors", Some(mcp.executors.clone().into()));
        add(
            "mcp.max_permission_mode",
            Some(mcp.max_permission_mode.clone().into()),
        );
        add(
            "mcp.merge_strategies",
            Some(strategies.collect::<Vec<_>>().into()),
        );
        add("mcp.extras", Some(mcp.extras.clone().into()));
        add("mcp.env", Some(mcp.env.clone().into()));
        add("mcp.directories", Some(mcp.directories.clone().into()));
        add("env.exclude", Some(self.env.exclude.clone().into()));
        all
    }
}

/// Writes a configuration file that would give the same settings, and the origin of each setting.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# data directory: {}", self.data_dir.display())?;
        match &self.file {
            Some(path) => writeln!(f, "# file: {}", path.display())?,
            None => writeln!(f, "# file: none")?,
        }
        let mut table = String::new();
        for shown in self.shown() {
            let (above, name) = match shown.name.rsplit_once('.') {
                Some((table, name)) => (table, name),
                None => ("", shown.name.as_str()),
            };
            if above != table {
                above.clone_into(&mut table);
                writeln!(f, "\n[{table}]")?;
            }
            let line = match shown.written() {
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} ="),
            };
            let origin = match &shown.value {
                Some(_) => shown.origin.as_str(),
                None => "not set",
            };
            let with_origin = |line: &str| format!("{line:<32}  # {origin}");
            let line = with_origin(&line);
            match &shown.value {
                Some(serde_json::Value::Array(items)) if line.chars().count() > COLUMNS => {
                    writeln!(f, "{}", with_origin(&format!("{name} = [")))?;
                    for item in items.iter().filter_map(written) {
                        writeln!(f, "    {item},")?;
                    }
                    writeln!(f, "]")?;
                }
                _ => writeln!(f, "{line}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{ffi::OsString, path::PathBuf};

    use super::{
        super::{CONFIG, Overrides},
        *,
    };

    #[test]
    fn only_what_has_a_value_counts_as_a_setting_of_a_file() {
        let names = |text: &str| origins_in(text).into_keys().collect::<Vec<_>>();
        for none in [
            "",
            "# ours\n",
            "[mcp]\n[budget]\n",
            "plugins = {}\n",
            "[plugins.claude]\n[plugins.other.inner]\n",
        ] {
            assert_eq!(names(none), Vec::<String>::new(), "{none}");
        }
        let text = "slots = 2\n[mcp]\nextras = []\n[plugins.a.b]\nc = 1\n[plugins.d]\n";
        assert_eq!(names(text), ["mcp.extras", "plugins.a", "slots"]);
    }

    #[test]
    fn settings_are_shown_with_origins_and_in_valid_syntax() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(
            &file,
            "keep = \"36h\"\ntask_timeout_ms = 5400000\n[mcp]\nextras = []\n[budget]\ndaily_usd = 2.5\n",
        )
        .unwrap();
        let load = |file: &std::path::Path| {
            let file = file.to_str().unwrap().to_owned();
            let env = move |name: &str| match name {
                "HOME" => Some(OsString::from("/h")),
                "CLAUDINE_MAX_OUTPUT_BUFFER" => Some(OsString::from("10M")),
                CONFIG => Some(OsString::from(&file)),
                _ => None,
            };
            let overrides = Overrides {
                slots: Some("3".to_owned()),
                ..Overrides::default()
            };
            Settings::load(&overrides, &env).unwrap()
        };
        let settings = load(&file);
        let shown = settings.to_string().replace(file.to_str().unwrap(), "FILE");
        insta::assert_snapshot!("shown", shown);
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(COLUMNS), "{shown}");
        let again = dir.path().join("again.toml");
        std::fs::write(&again, settings.to_string()).unwrap();
        let again = load(&again);
        let values = |settings: &Settings| {
            let shown = settings.shown().into_iter();
            shown.map(|it| (it.name, it.value)).collect::<Vec<_>>()
        };
        assert_eq!(values(&settings), values(&again));
        assert_eq!(again.data_dir, PathBuf::from("/h/.local/state/claudine"));
    }
}
