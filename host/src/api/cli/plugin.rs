//! `claudine plugin`

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Common,
    failure::Failure,
    output,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Colour, Look, Painted},
};
use crate::{
    api::Wiring,
    app::{PermissionView, PluginDetail, PluginView},
    text::shell_word,
};

/// Width of the labels of `plugin inspect`.
const LABEL_COLUMNS: usize = 11;

/// List, inspect and build plugins.
///
/// A plugin is a WASM component, limited to the permissions that were granted to it.
#[derive(Debug, Args)]
pub(super) struct Plugin {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List plugins and their health.
    List,
    /// Show the permissions, task fields and settings of a plugin.
    #[command(after_help = "\
Examples:
  claudine plugin inspect claude
  claudine plugin inspect shell --json | jq .task_schema")]
    Inspect {
        /// Name of the plugin.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Build a plugin from source.
    ///
    /// Detects the toolchain: the target wasm32-unknown-unknown of rustup, or Debian's packages
    /// rustc-web and rust-web-src. Prints the path of the component.
    #[command(after_help = "\
Examples:
  claudine plugin build .
  claudine plugin build examples/custom-executor --out target/plugins")]
    Build {
        /// Directory with Cargo.toml and plugin.toml.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Output directory [default: DIR/target/plugins].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

impl Plugin {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Build { dir, out } => {
                let out = out.unwrap_or_else(|| dir.join("target/plugins"));
                let component = (wiring.build_plugin)(&dir, &out, &mut |line| output::say(line))?;
                if common.json() {
                    output::json(&Built { component })?;
                } else {
                    output::line(&component.to_string_lossy())?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Verb::List => {
                let session = Session::new(common, wiring)?;
                session.block_on(list(&session))
            }
            Verb::Inspect { name } => {
                let session = Session::new(common, wiring)?;
                session.block_on(inspect(&session, &name))
            }
        }
    }
}

/// Result of a build.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Built {
    /// Path of the component.
    component: PathBuf,
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let plugins = session.client().plugins(true).await?;
    if session.json {
        output::json(&plugins)?;
    } else {
        output::painted(&table(&plugins, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn inspect(session: &Session, name: &str) -> Result<ExitCode, Failure> {
    let plugin = session.client().plugin(name).await?;
    if session.json {
        output::json(&plugin)?;
    } else {
        output::painted(&describe(&plugin, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [Column; 5] = [
    Column::new("NAME").cut(24, 8),
    Column::new("KIND").goes(Goes::Early(1)),
    Column::new("VERSION").goes(Goes::Late(1)),
    Column::new("HEALTH"),
    Column::new("MESSAGE").optional().cut(32, 8),
];

fn table(plugins: &[PluginView], look: Look) -> Painted {
    let mut table = Table::new(&COLUMNS);
    for plugin in plugins {
        table.row(row(plugin));
    }
    table.shown(look)
}

fn row(plugin: &PluginView) -> [Cell; 5] {
    let colour = match plugin.health.as_str() {
        "healthy" => Colour::Green,
        "undetected" | "needs_grant" => Colour::Yellow,
        _ => Colour::Red,
    };
    [
        Cell::new(&plugin.name),
        Cell::new(&plugin.kind),
        Cell::new(&plugin.version),
        Cell::painted(colour, &plugin.health.replace('_', " ")),
        Cell::new(&plugin.message),
    ]
}

/// The plugin, one attribute per line.
fn describe(detail: &PluginDetail, look: Look) -> Painted {
    let plugin = &detail.plugin;
    let mut lines = Lines {
        text: Painted::default(),
        look,
    };
    lines.add(
        "Plugin",
        &format!("{} {} ({})", plugin.name, plugin.version, plugin.kind),
    );
    lines.add("Does", &plugin.summary);
    lines.add("Origin", &plugin.origin);
    lines.add("Digest", &plugin.digest);
    lines.add("Health", &format!("{}: {}", plugin.health, plugin.message));
    for (name, value) in &detail.attributes {
        lines.add("", &format!("{name} = {value}"));
    }
    lines.add(
        "Imports",
        if detail.imports.is_empty() {
            "nothing"
        } else {
            "the plugin can do nothing beyond these:"
        },
    );
    for import in &detail.imports {
        lines.add("", import);
    }
    lines.add_permissions("Asks for", &detail.asks);
    lines.add_permissions("Granted", &detail.grants);
    lines.add("Tasks", &fields(&detail.task_schema));
    lines.add("Settings", &fields(&detail.config_schema));
    let command = format!(
        "claudine plugin inspect {} --json",
        shell_word(&plugin.name)
    );
    lines.add("Schemas", &format!("`{command}`"));
    lines.text
}

/// The fields of a schema, with those that are required first.
fn fields(schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)));
    let names = schema.get("properties").and_then(Value::as_object);
    let names = names.into_iter().flat_map(Map::keys);
    let (first, others): (Vec<_>, Vec<_>) = names.partition(|name| is_required(name));
    let first = first.into_iter().map(|name| format!("{name} (required)"));
    let fields: Vec<String> = first.chain(others.into_iter().cloned()).collect();
    if fields.is_empty() {
        "no fields".to_owned()
    } else {
        fields.join(", ")
    }
}

/// Lines of a label and a text.
struct Lines {
    text: Painted,
    look: Look,
}

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.add_indented(name, 0, value);
    }

    /// Adds a text that is indented more than others.
    fn add_indented(&mut self, name: &str, more: usize, value: &str) {
        let indent = LABEL_COLUMNS + more;
        let line = format!("{name:<indent$}{value}");
        self.look.prose(&mut self.text, &line, indent);
    }

    fn add_permissions(&mut self, name: &str, permissions: &[PermissionView]) {
        if permissions.is_empty() {
            self.add(name, "nothing");
        }
        for (index, permission) in permissions.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.add(name, &format!("{} {}", permission.kind, permission.scope));
            for (label, text) in [("why", &permission.why), ("worth", &permission.worth)] {
                if !text.is_empty() {
                    self.add_indented("", 2, &format!("{label}: {text}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    fn plugin(name: &str, health: &str, message: &str) -> serde_json::Value {
        serde_json::json!({
            "name": name, "kind": "executor", "version": "0.3.0", "summary": "Runs a task", "origin": "built-in",
            "digest": "9084c6727b84bf52388a1d5d0b3f7070db36e606419573b49cc329e7cbca63de", "health": health,
            "message": message,
        })
    }

    #[test]
    fn plugins_fit_the_width_of_the_terminal() {
        let missing =
            "`claude` was not found; install it with `npm install -g @anthropic-ai/claude-code`";
        let grant = "the plugin may not start make until this is granted: write `process = [\"make\"]` to grants/make.toml";
        let plugins: Vec<PluginView> = serde_json::from_value(serde_json::json!([
            plugin("claude", "undetected", missing),
            plugin("make", "needs_grant", grant),
            plugin("shell", "healthy", "ready"),
            plugin(
                "a-plugin-with-a-very-long-name\u{1b}[2J",
                "broken",
                "it cannot be compiled"
            ),
        ]))
        .unwrap();
        insta::assert_snapshot!("plugins", in_each_look(|look| table(&plugins, look)));
    }

    #[test]
    fn a_plugin_is_described_with_the_fields_of_its_tasks_in_place_of_their_schema() {
        let why = "it runs Claude Code, which runs commands; a task can let it do everything that the user may do";
        let permission = serde_json::json!({
            "kind": "process", "scope": "claude", "why": why,
            "worth": "as much as the command it starts: an agent or a shell can do whatever the user can",
        });
        let mut detail = plugin("claude", "healthy", "claude 2.1.332");
        let more = serde_json::json!({
            "imports": ["claudine:plugin/process@0.1.0"], "asks": [permission], "grants": [],
            "attributes": {"path": "/usr/bin/claude"},
            "task_schema": {"type": "object", "required": ["prompt"], "properties": {
                "allowed_tools": {}, "append_system_prompt": {}, "extra_args": {}, "model": {}, "permission_mode": {}, "prompt": {},
            }},
            "config_schema": {"type": "object"},
        });
        let more = more.as_object().unwrap().clone();
        detail.as_object_mut().unwrap().extend(more);
        let detail: PluginDetail = serde_json::from_value(detail).unwrap();
        insta::assert_snapshot!("plugin", in_each_look(|look| describe(&detail, look)));
    }
}
