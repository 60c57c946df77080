//! `claudine plugin`

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Common,
    failure::Failure,
    output,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Colour, Look, harmless},
};
use crate::{
    api::Wiring,
    app::{PermissionView, PluginDetail, PluginView},
};

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
    /// Show the permissions and the task schema of a plugin.
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
        let mut table = Table::new(&COLUMNS);
        for plugin in &plugins {
            table.row(row(plugin));
        }
        output::painted(&table.shown(Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn inspect(session: &Session, name: &str) -> Result<ExitCode, Failure> {
    let plugin = session.client().plugin(name).await?;
    if session.json {
        output::json(&plugin)?;
    } else {
        output::text(&describe(&plugin))?;
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

fn describe(detail: &PluginDetail) -> String {
    let plugin = &detail.plugin;
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        text.extend([format!("{name:<11}"), harmless(value), "\n".to_owned()]);
    };
    add(
        "Plugin",
        &format!("{} {} ({})", plugin.name, plugin.version, plugin.kind),
    );
    add("Does", &plugin.summary);
    add("Origin", &plugin.origin);
    add("Digest", &plugin.digest);
    add("Health", &format!("{}: {}", plugin.health, plugin.message));
    for (name, value) in &detail.attributes {
        add("", &format!("{name} = {value}"));
    }
    add(
        "Imports",
        if detail.imports.is_empty() {
            "nothing"
        } else {
            "the plugin can do nothing beyond these:"
        },
    );
    for import in &detail.imports {
        add("", import);
    }
    permissions(&mut add, "Asks for", &detail.asks);
    permissions(&mut add, "Granted", &detail.grants);
    add("Tasks", &detail.task_schema.to_string());
    add("Settings", &detail.config_schema.to_string());
    text
}

fn permissions(add: &mut impl FnMut(&str, &str), name: &str, permissions: &[PermissionView]) {
    if permissions.is_empty() {
        add(name, "nothing");
    }
    for (index, permission) in permissions.iter().enumerate() {
        add(
            if index == 0 { name } else { "" },
            &format!("{} {}", permission.kind, permission.scope),
        );
        if !permission.why.is_empty() {
            add("", &format!("  why: {}", permission.why));
        }
        if !permission.worth.is_empty() {
            add("", &format!("  worth: {}", permission.worth));
        }
    }
}
