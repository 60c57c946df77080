//! Changes settings in the configuration file, and leaves everything else in the file unchanged.

use std::{collections::BTreeMap, path::Path};

use toml_edit::{Array, DocumentMut, Item, RawString, Table, TableLike, TomlError, Value};

use super::{ConfigError, Settings, parse_file, unparsable, values::Setting};

/// All settings, except those of plugins.
pub(crate) const NAMES: [&str; 18] = [
    "slots",
    "cpu_threshold",
    "memory_reserve",
    "disk_reserve",
    "max_output",
    "task_timeout",
    "keep",
    "prepare_timeout",
    "settle_timeout",
    "log_level",
    "budget.daily_usd",
    "mcp.executors",
    "mcp.max_permission_mode",
    "mcp.merge_strategies",
    "mcp.extras",
    "mcp.env",
    "mcp.directories",
    "env.exclude",
];
/// The settings that are lists.
const LISTS: [&str; 6] = [
    "mcp.executors",
    "mcp.merge_strategies",
    "mcp.extras",
    "mcp.env",
    "mcp.directories",
    "env.exclude",
];
/// Prefix of plugin tables, whose settings only the plugins know.
const PLUGINS: &str = "plugins.";
/// Minimum similarity at which a known name is suggested in place of an unknown one. 1 means
/// identical.
const LIKELY: f64 = 0.6;

/// Checks that a host could start with this text as its configuration file, and that plugins could
/// use their settings.
pub(crate) fn check(path: &Path, text: &str) -> Result<(), ConfigError> {
    let file = parse_file(path, text)?;
    let wrong = unusable(&path.display().to_string(), &file.plugins).next();
    Settings::from_file(path, file, "/".into())?;
    wrong.map_or(Ok(()), Err)
}

/// Checks that a host could start with this text, in which one setting was changed, and that the
/// plugin of this setting could use it. Returns what to say of the entries of other plugins that
/// are no tables. They refuse no change, because a host starts with them too, and because a file
/// with two of them could otherwise not be put right one by one.
pub(crate) fn check_change(
    path: &Path,
    text: &str,
    name: &str,
) -> Result<Vec<String>, ConfigError> {
    let file = parse_file(path, text)?;
    let plugin = plugin_of(name).and_then(|plugin| file.plugins.get_key_value(plugin));
    let wrong = plugin.filter(|(_, settings)| !settings.is_object());
    let source = path.display().to_string();
    let wrong = wrong.map(|(plugin, value)| no_table(&source, plugin, &value.to_string()));
    let settings = Settings::from_file(path, file, "/".into())?;
    wrong.map_or(Ok(settings.warnings), Err)
}

/// Whether a change of a setting failed at another part of the file, which was wrong `before`.
pub(crate) fn was_wrong_before(error: &ConfigError, path: &Path, before: &str, name: &str) -> bool {
    match error {
        ConfigError::Value { name: wrong, .. } => {
            let rest = name.strip_prefix(wrong.as_str());
            rest.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('.'))
        }
        ConfigError::Parse { .. } => parse_file(path, before).is_err(),
        _ => false,
    }
}

/// The plugin to which a setting belongs.
fn plugin_of(name: &str) -> Option<&str> {
    name.strip_prefix(PLUGINS)?.split('.').next()
}

/// The errors of entries of `[plugins]` that are no tables. A host starts nevertheless, because
/// other executors work.
pub(super) fn unusable(
    source: &str,
    plugins: &BTreeMap<String, serde_json::Value>,
) -> impl Iterator<Item = ConfigError> {
    let wrong = plugins.iter().filter(|(_, settings)| !settings.is_object());
    wrong.map(move |(name, value)| no_table(source, name, &value.to_string()))
}

fn no_table(source: &str, plugin: &str, value: &str) -> ConfigError {
    let name = format!("{PLUGINS}{plugin}");
    let setting = Setting {
        source,
        name: &name,
    };
    setting.wrong(
        value,
        "a table of the plugin's settings: `claudine config set plugins.NAME.SETTING VALUE` sets \
         one, `claudine config set --unset plugins.NAME` removes all",
    )
}

/// The text of the file after a setting was changed or removed.
pub(crate) fn changed(
    path: &Path,
    text: &str,
    name: &str,
    value: Option<&str>,
) -> Result<String, ConfigError> {
    let has_empty_part = name.split('.').any(str::is_empty);
    if !NAMES.contains(&name) && (!name.starts_with(PLUGINS) || has_empty_part) {
        return Err(ConfigError::Unknown {
            name: name.to_owned(),
            likely: likely(name),
        });
    }
    let wrong = |message: String| unparsable(path, &message);
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: TomlError| wrong(error.to_string()))?;
    // In a file without settings, the comments stand behind the place of the first setting.
    let head = document.is_empty().then(|| text.to_owned());
    if head.is_some() {
        document = DocumentMut::new();
    }
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let plugin = plugin_of(name);
    let (above, key) = name.rsplit_once('.').unwrap_or(("", name));
    for part in above.split('.').filter(|part| !part.is_empty()) {
        let item = table.entry(part).or_insert_with(implicit);
        let value = item.to_string();
        table = item.as_table_like_mut().ok_or_else(|| {
            if plugin == Some(part) {
                no_table(&path.display().to_string(), part, value.trim())
            } else {
                wrong(format!("`{part}` is not a table"))
            }
        })?;
    }
    if name == "task_timeout" {
        table.remove("task_timeout_ms");
    }
    match value {
        None => {
            table.remove(key);
            let above: Vec<&str> = above.split('.').collect();
            prune(document.as_table_mut(), &above);
        }
        Some(value) => set(table, key, of(name, value)),
    }
    let changed = document.to_string();
    Ok(match head {
        None => changed,
        Some(head) if changed.is_empty() || head.is_empty() || head.ends_with('\n') => {
            head + &changed
        }
        Some(head) => head + "\n" + &changed,
    })
}

/// Removes the tables on the way to a removed setting that have nothing left, not even a comment.
fn prune(table: &mut dyn TableLike, way: &[&str]) {
    let Some((next, rest)) = way.split_first() else {
        return;
    };
    let Some(item) = table.get_mut(next) else {
        return;
    };
    if let Some(inner) = item.as_table_like_mut() {
        prune(inner, rest);
    }
    // A comment stands before the header, or behind it.
    let has_comment = item.as_table().is_some_and(|table| {
        let around = [table.decor().prefix(), table.decor().suffix()];
        let mut texts = around.into_iter().flatten().filter_map(RawString::as_str);
        texts.any(|text| text.contains('#'))
    });
    let is_empty = item.as_table_like().is_some_and(TableLike::is_empty);
    if is_empty && !has_comment {
        table.remove(next);
    }
}

/// A table that has no header of its own as long as it has no values.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Sets a value, and keeps the spaces and comments around the old one.
fn set(table: &mut dyn TableLike, key: &str, value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let around = old.decor().clone();
            *old = value;
            *old.decor_mut() = around;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// Parses a value as given on the command line: a string needs no quotes, and a list needs no
/// brackets.
fn of(name: &str, value: &str) -> Value {
    let read = value.trim().parse::<Value>().ok();
    let is_list = LISTS.contains(&name);
    match read {
        Some(read) if read.is_array() || !is_list => read,
        _ if is_list => {
            let items = value.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            Value::Array(items.collect::<Array>())
        }
        _ => value.into(),
    }
}

fn likely(name: &str) -> Option<&'static str> {
    likely_among(name, NAMES)
}

/// The known name that is most similar to a name, if one is similar.
pub(super) fn likely_among<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let likeness = known
        .into_iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let likely = likeness.filter(|(likeness, _)| *likeness >= LIKELY);
    likely
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn set(text: &str, name: &str, value: Option<&str>) -> Result<String, String> {
        let path = Path::new("config.toml");
        let text = changed(path, text, name, value).map_err(|error| error.to_string())?;
        check_change(path, &text, name).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn only_the_given_setting_changes() {
        let check = |text: &str, name: &str, value: Option<&str>, expected: &str| {
            assert_eq!(set(text, name, value).as_deref(), Ok(expected), "{name}");
        };
        let text = "# ours\nkeep = \"1d\"   # a day\n\n[mcp]\nextras = []\n";
        check(
            text,
            "keep",
            Some("30d"),
            "# ours\nkeep = \"30d\"   # a day\n\n[mcp]\nextras = []\n",
        );
        check(text, "keep", None, "\n[mcp]\nextras = []\n");
        check(
            text,
            "mcp.executors",
            Some("claude, shell"),
            "# ours\nkeep = \"1d\"   # a day\n\n[mcp]\nextras = []\nexecutors = [\"claude\", \"shell\"]\n",
        );
        check("", "slots", Some("4"), "slots = 4\n");
        check("", "slots", Some("auto"), "slots = \"auto\"\n");
        check(
            "",
            "budget.daily_usd",
            Some("20"),
            "[budget]\ndaily_usd = 20\n",
        );
        check(
            "task_timeout_ms = 60000\n",
            "task_timeout",
            Some("1h30m"),
            "task_timeout = \"1h30m\"\n",
        );
        check(
            "",
            "plugins.claude.program",
            Some("/opt/claude"),
            "[plugins.claude]\nprogram = \"/opt/claude\"\n",
        );
        check("", "keep", None, "");
        let note = "# ours\n";
        check(note, "keep", Some("1d"), "# ours\nkeep = \"1d\"\n");
        let below = "# ours\n[budget]\ndaily_usd = 20\n";
        check(note, "budget.daily_usd", Some("20"), below);
        check("# ours", "slots", Some("4"), "# ours\nslots = 4\n");
        check("# ours", "slots", None, "# ours");
        let wrong = "[plugins]\nclaude = \"x\"\n";
        check(wrong, "plugins.claude", None, "");
    }

    /// An empty table would count as a file with settings for whoever looks only at the text.
    #[test]
    fn a_table_is_removed_with_its_last_setting_unless_it_has_a_comment() {
        let check = |text: &str, name: &str, expected: &str| {
            assert_eq!(set(text, name, None).as_deref(), Ok(expected), "{name}");
        };
        let text = "slots = 2\n\n[plugins.claude]\nx = 1\n";
        check(text, "plugins.claude.x", "slots = 2\n");
        let two = "[plugins.claude]\nx = 1\ny = 2\n";
        check(two, "plugins.claude.x", "[plugins.claude]\ny = 2\n");
        check("plugins = { claude = { x = 1 } }\n", "plugins.claude.x", "");
        check("[budget]\ndaily_usd = 2\n", "budget.daily_usd", "");
        check("[mcp]\n", "mcp.extras", "");
        let noted = "# money\n[budget]\ndaily_usd = 2\n";
        check(noted, "budget.daily_usd", "# money\n[budget]\n");
        let behind = "[budget] # money\ndaily_usd = 2\n";
        check(behind, "budget.daily_usd", "[budget] # money\n");
        check("slots = 2\n", "plugins.claude.x", "slots = 2\n");
    }

    #[test]
    fn invalid_settings_are_refused() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = set("", name, Some(value)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "keeep",
            "1d",
            "unknown setting 'keeep'; did you mean 'keep'?",
        );
        check("colour", "red", "unknown setting 'colour'");
        check("keep", "soon", "keep is `soon`, but must be");
        check("slots", "0", "slots is `0`, but must be `auto` or");
        check("budget.daily_usd", "0.0000001", "at least 0.000001");
        check("plugins.", "x", "unknown setting 'plugins.'");
        check("plugins..model", "x", "unknown setting 'plugins..model'");
        let no_table = "plugins.claude is `\"x\"`, but must be a table of the plugin's settings";
        check("plugins.claude", "x", no_table);
        let wrong = "[plugins]\nclaude = \"x\"\n";
        let error = set(wrong, "plugins.claude.model", Some("opus")).unwrap_err();
        assert!(error.contains(no_table), "{error}");
        let whole = super::check(Path::new("config.toml"), wrong)
            .unwrap_err()
            .to_string();
        assert!(whole.contains(no_table), "{whole}");
        for name in ["env.exclude", "mcp.env"] {
            for value in ["A\nB", "A,B=C", "[\"\"]"] {
                check(name, value, "but must be a list of names of variables");
            }
        }
        let error = set("keep = [", "keep", Some("1d")).unwrap_err();
        assert!(error.starts_with("config.toml: "), "{error}");
    }

    /// A file with two wrong entries could otherwise not be put right with one command each.
    #[test]
    fn entries_of_other_plugins_that_are_no_tables_refuse_no_change_and_are_told() {
        let path = Path::new("config.toml");
        let text = "[plugins]\na = 1\nb = 2\n";
        let check = |name: &str, value: Option<&str>, left: &str, told: &[&str]| {
            let text = changed(path, text, name, value).unwrap();
            assert_eq!(text, left, "{name}");
            let warnings = check_change(path, &text, name).unwrap();
            assert_eq!(warnings.len(), told.len(), "{warnings:?}");
            for (warning, told) in warnings.iter().zip(told) {
                assert!(warning.contains(told), "{warning}");
            }
        };
        let (a, b) = ("plugins.a is `1`, but must", "plugins.b is `2`, but must");
        check(
            "keep",
            Some("1d"),
            "keep = \"1d\"\n[plugins]\na = 1\nb = 2\n",
            &[a, b],
        );
        check("plugins.a", None, "[plugins]\nb = 2\n", &[b]);
        let error = check_change(path, text, "plugins.b.model").unwrap_err();
        assert!(error.to_string().contains(b), "{error}");
    }

    #[test]
    fn a_change_that_fails_at_another_part_of_the_file_is_known() {
        let path = Path::new("config.toml");
        let check = |before: &str, name: &str, value: &str, expected: bool| {
            let change = changed(path, before, name, Some(value));
            let change = change.and_then(|text| check_change(path, &text, name));
            let is_other = was_wrong_before(&change.unwrap_err(), path, before, name);
            assert_eq!(is_other, expected, "{before}");
        };
        check("slots = 0\n", "keep", "1d", true);
        check("slots = 0\n", "slots", "0", false);
        check("", "slots", "0", false);
        check("keep = [", "keep", "1d", true);
        check("colour = 'red'\n", "keep", "1d", true);
        check("", "mcp.executors", "[1]", false);
        check("slots = 0\n", "colour", "red", false);
        check("[plugins]\na = 1\n", "plugins.a.b", "1", false);
    }

    #[test]
    fn every_displayed_setting_can_be_set() {
        let env = |name: &str| (name == "HOME").then(|| std::ffi::OsString::from("/nowhere"));
        let settings = Settings::load(&super::super::Overrides::default(), &env).unwrap();
        let shown: Vec<_> = settings.shown().into_iter().map(|it| it.name).collect();
        assert_eq!(shown, NAMES);
    }
}
