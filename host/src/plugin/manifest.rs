//! tmp
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) permissions: Permissions,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Permissions {
    #[serde(default)]
    pub(crate) process: Process,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Process {
    #[serde(default)]
    pub(crate) commands: Vec<String>,
}
impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Manifest, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }
}
