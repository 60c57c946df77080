//! Reads the settings of git by which programs are found that must not run.

use super::{At, Git, GitError, failed, is_no, spec::Spec, whole};

impl Git {
    /// What `parse` makes of the settings of a place that a command prints, or the default if there
    /// are none. Settings that cannot be parsed are an error, because they could name programs.
    pub(super) async fn settings_at<T: Default>(
        &self,
        at: &At,
        spec: &Spec,
        folds_case: bool,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, GitError> {
        let found = self.run_at(at, spec, &self.variables, folds_case).await?;
        if !found.status.success() {
            return if is_no(&found) {
                Ok(T::default())
            } else {
                Err(failed(spec, &found))
            };
        }
        let output = whole(spec, found)?;
        // A name must not be changed, because it would no longer denote the same program.
        let text = std::str::from_utf8(&output).ok();
        text.and_then(parse).ok_or_else(|| GitError::Unreadable {
            called: spec.called(),
            printed: String::from_utf8_lossy(&output).into_owned(),
        })
    }
}
