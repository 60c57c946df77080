//! Reads settings from the environment.
//!
//! The environment is inherited, so a value in it may not be intended for this host. An invalid
//! value is reported and ignored, because otherwise every command would fail.

use super::{ConfigError, Environment, Settings, show::Origin, values::Setting};

impl Settings {
    pub(super) fn apply_environment(&mut self, env: Environment<'_>) {
        let mut read = Read {
            env,
            warnings: Vec::new(),
            taken: Vec::new(),
        };
        let limits = &mut self.limits;
        read.set(&mut limits.slots, "CLAUDINE_SLOTS", Setting::slots);
        read.set(
            &mut limits.cpu_percent,
            "CLAUDINE_CPU_THRESHOLD",
            Setting::percent,
        );
        read.set(
            &mut limits.memory_reserve_bytes,
            "CLAUDINE_MEMORY_RESERVE",
            Setting::bytes,
        );
        read.set(
            &mut limits.disk_reserve_bytes,
            "CLAUDINE_DISK_RESERVE",
            Setting::bytes,
        );
        read.set(
            &mut self.max_output_bytes,
            "CLAUDINE_MAX_OUTPUT_BUFFER",
            Setting::output,
        );
        read.set(&mut self.keep, "CLAUDINE_KEEP", Setting::keep);
        read.set(
            &mut self.prepare_timeout,
            "CLAUDINE_PREPARE_TIMEOUT",
            Setting::keep,
        );
        read.set(
            &mut self.settle_timeout,
            "CLAUDINE_SETTLE_TIMEOUT",
            Setting::keep,
        );
        read.set(&mut self.log_level, "CLAUDINE_LOG_LEVEL", Setting::level);
        read.set(
            &mut self.task_timeout,
            "CLAUDINE_TASK_TIMEOUT",
            |setting, value| setting.timeout(value).map(Some),
        );
        self.warnings.append(&mut read.warnings);
        for variable in read.taken {
            let name = name_of(variable);
            self.origins.insert(name, Origin::Variable(variable));
        }
    }
}

/// Name of the setting for a variable.
fn name_of(variable: &str) -> String {
    match variable {
        "CLAUDINE_MAX_OUTPUT_BUFFER" => "max_output".to_owned(),
        other => other.trim_start_matches("CLAUDINE_").to_ascii_lowercase(),
    }
}

struct Read<'a> {
    env: Environment<'a>,
    warnings: Vec<String>,
    /// Variables whose values are used.
    taken: Vec<&'static str>,
}

impl Read<'_> {
    /// Sets a value from its variable, if the variable is set and valid.
    fn set<T>(
        &mut self,
        place: &mut T,
        name: &'static str,
        parse: impl FnOnce(Setting<'static>, &str) -> Result<T, ConfigError>,
    ) {
        let Some(value) = (self.env)(name) else {
            return;
        };
        // Invalid UTF-8 is replaced by a character that no setting accepts, so the value is
        // refused.
        let value = value.to_string_lossy();
        let source = "environment";
        match parse(Setting { source, name }, &value) {
            Ok(value) => {
                *place = value;
                self.taken.push(name);
            }
            Err(error) => self.warnings.push(format!("{error}; it is ignored")),
        }
    }
}
