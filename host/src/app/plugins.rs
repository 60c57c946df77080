//! What plugins there are, and what they may do.

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    view::{PluginDetail, PluginView},
};

impl Host {
    /// All plugins; `refresh` looks at the machine again.
    pub(crate) async fn plugins(&self, refresh: bool) -> Vec<PluginView> {
        self.plugins.list(refresh).await
    }

    pub(crate) async fn plugin(&self, name: &str) -> Result<PluginDetail, AppError> {
        self.plugins.inspect(name).await.ok_or_else(|| {
            AppError::new(ErrorKind::NotFound, format!("there is no plugin `{name}`"))
                .hint("`claudine plugin list` shows the plugins there are")
        })
    }
}
