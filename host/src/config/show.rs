//! Settings as a configuration file.

use std::fmt;

use claudine_domain::capacity::Slots;

use super::Settings;
use crate::units::dollars;

impl fmt::Display for Settings {
    /// What `config show` prints: TOML that would give the same settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = match self.limits.slots {
            Slots::Auto => "\"auto\"".to_owned(),
            Slots::Fixed(slots) => slots.to_string(),
        };
        writeln!(f, "# data directory: {}", self.data_dir.display())?;
        match &self.file {
            Some(path) => writeln!(f, "# read from: {}", path.display())?,
            None => writeln!(
                f,
                "# no configuration file; these are the defaults and the environment"
            )?,
        }
        writeln!(f, "slots = {slots}")?;
        writeln!(f, "cpu_threshold = {}", self.limits.cpu_percent)?;
        writeln!(f, "memory_reserve = {}", self.limits.memory_reserve_bytes)?;
        writeln!(f, "disk_reserve = {}", self.limits.disk_reserve_bytes)?;
        writeln!(f, "max_output = {}", self.max_output_bytes)?;
        if let Some(timeout) = self.task_timeout {
            writeln!(f, "task_timeout_ms = {}", timeout.as_millis())?;
        }
        writeln!(f, "keep = \"{}s\"", self.keep.as_secs())?;
        let phases = [
            ("prepare_timeout", self.prepare_timeout),
            ("settle_timeout", self.settle_timeout),
        ];
        for (name, limit) in phases {
            writeln!(f, "{name} = \"{}s\"", limit.as_secs())?;
        }
        writeln!(f, "log_level = \"{}\"", self.log_level)?;
        if let Some(micro_usd) = self.limits.daily_micro_usd {
            writeln!(f, "\n[budget]\ndaily_usd = {}", dollars(micro_usd))?;
        }
        write!(f, "\n{}", self.mcp)?;
        writeln!(f, "\n[env]\nexclude = {:?}", self.env.exclude)
    }
}
