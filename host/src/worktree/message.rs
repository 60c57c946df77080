//! The messages of commits that are made for a task.

use claudine_domain::id::TaskId;

use super::record::Record;
use crate::text::shortened;

/// Maximum length of the first line, if it is made from the prompt. A longer line is cut, and ends
/// with `…`.
const SUBJECT_CHARS: usize = 72;
/// The trailer by which the commits of a task can be found: `git log --grep`, `git
/// interpret-trailers`.
const TRAILER: &str = "Claudine-Task";

pub(super) struct Message {
    task: TaskId,
    /// The message without the trailer.
    text: String,
}

impl Message {
    /// Makes the message from the text that the user gave, or else from the first line of the
    /// prompt.
    pub(super) fn new(task: TaskId, asked: Option<&str>, summary: &str) -> Self {
        let asked = asked.map(str::trim).filter(|text| !text.is_empty());
        let text = match asked {
            Some(text) => text.to_owned(),
            None => shortened(summary.trim().trim_end_matches('…'), SUBJECT_CHARS - 1),
        };
        Self { task, text }
    }

    /// The first line of the message, which is also the title of a pull request.
    pub(super) fn subject(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    pub(super) fn of_work(&self) -> String {
        self.with_trailer(&self.text)
    }

    /// The message of the commit that merges the branch into its base.
    pub(super) fn of_merge(&self, record: &Record) -> String {
        let branch = &record.branch;
        self.with_trailer(&format!("Merge branch '{branch}'\n\n{}", self.text))
    }

    /// The message of the commit that merges the base into the branch.
    pub(super) fn of_base_merged(&self, record: &Record) -> String {
        let base = record.base.as_ref().map_or("", |base| base.name());
        let branch = &record.branch;
        self.with_trailer(&format!("Merge branch '{base}' into {branch}"))
    }

    /// The text of a pull request.
    pub(super) fn of_request(&self) -> String {
        let rest = self.text.strip_prefix(self.subject()).unwrap_or_default();
        let rest = rest.trim();
        let text = if rest.is_empty() { &self.text } else { rest };
        format!("{text}\n\nMade by claudine, {}.", self.task)
    }

    fn with_trailer(&self, text: &str) -> String {
        let last = text.rsplit("\n\n").next().unwrap_or_default();
        // The first paragraph is never a list of trailers, even if it looks like one.
        let has_trailers = last.len() < text.len() && last.lines().all(is_trailer);
        let gap = if has_trailers { "\n" } else { "\n\n" };
        format!("{text}{gap}{TRAILER}: {}", self.task)
    }
}

/// Whether a line has the form `Name: value`.
fn is_trailer(line: &str) -> bool {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        !name.is_empty() && letters.all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    line.split_once(": ").is_some_and(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_message_names_subject_and_task() {
        let task = TaskId::new(0, 1);
        let trailer = format!("Claudine-Task: {task}");
        let check = |asked: Option<&str>, summary: &str, expected: &str| {
            let message = Message::new(task, asked, summary).of_work();
            assert_eq!(message, expected.replace("TRAILER", &trailer));
        };
        check(None, "Fix the tests", "Fix the tests\n\nTRAILER");
        check(None, "Fix the tests…", "Fix the tests\n\nTRAILER");
        check(Some("  "), "Fix", "Fix\n\nTRAILER");
        check(
            Some("fix: count cents\n"),
            "Fix",
            "fix: count cents\n\nTRAILER",
        );
        let signed = "Count cents\n\nBecause.\n\nReviewed-by: A\nCo-authored-by: B";
        check(Some(signed), "", &format!("{signed}\nTRAILER"));
        check(
            Some("a\n\nnot: a\ntrailer"),
            "",
            "a\n\nnot: a\ntrailer\n\nTRAILER",
        );
        let long = "word ".repeat(40);
        let message = Message::new(task, None, &long);
        assert_eq!(message.subject().chars().count(), SUBJECT_CHARS);
    }
}
