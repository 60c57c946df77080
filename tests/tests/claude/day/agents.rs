//! The agents of the day: answers of the scripted service, selected by a word in their prompts.

use claudine_tests::messages_api::{Answer, Rule, Script};

/// The prompts, as typed.
pub(super) const TOTAL: &str = "Count the total in cents.";
pub(super) const CURRENCY: &str = "Name the currency in the total.";
pub(super) const SLOW: &str = "Find out what is slow.";
pub(super) const NOTES: &str = "Write the release notes.";
pub(super) const RENAME: &str = "Give the read-me a name in lower case.";
pub(super) const REVIEW: &str = "Review the last change.";
pub(super) const TRANSLATE: &str = "Translate the read-me.";

/// Answers on the first day. The last two agents meet the account's usage limit, which ends at
/// `limit_until_s`.
///
/// The conversation of an agent may also contain prompts of other agents, as subjects of commits.
/// So that each agent gets its own answers, the rules for prompts that never become commits come
/// first. The rules for the other prompts follow, in the reverse order of their commits.
pub(super) fn first_day(limit_until_s: u64) -> Script {
    let script = Script::default();
    let limit = Answer::usage_limit(limit_until_s);
    let script = script.then(Rule::new(limit.clone()).containing(REVIEW));
    let script = script.then(Rule::new(limit).containing(TRANSLATE));
    let log = Answer::bash("git log --format=%s");
    let notes = "Totals are in cents, and name their currency.";
    let script = does(script, NOTES, log, notes);
    // The slow agent runs a command after each of three answers, and each answer costs money.
    let looks = held("slow", Answer::bash("cat cart.py"));
    let script = script.then(Rule::new(looks).containing(SLOW).times(3));
    let script = script.then(Rule::new(Answer::text("Nothing is.")).containing(SLOW));
    let script = does(script, RENAME, rename(), "I was not allowed to rename it.");
    let eur = Answer::bash("sed -i 's/^total/total_eur/' cart.py");
    let script = does(script, CURRENCY, held("currency", eur), "It says so now.");
    let cents = Answer::bash("sed -i 's/sum(prices)/sum(prices) * 100/' cart.py");
    does(script, TOTAL, held("total", cents), "Totals are cents now.")
}

/// Answers on the next day: the limit is over, and the agent that was denied a tool tries again.
pub(super) fn next_day() -> Script {
    let script = Script::default()
        .then(Rule::new(Answer::text("No objections.")).containing(REVIEW))
        .then(Rule::new(Answer::text("# Laden")).containing(TRANSLATE));
    does(script, RENAME, rename(), "Renamed it.")
}

/// An agent that runs one command and then answers with text.
fn does(script: Script, prompt: &str, command: Answer, says: &str) -> Script {
    script
        .then(Rule::new(command).containing(prompt).times(1))
        .then(Rule::new(Answer::text(says)).containing(prompt))
}

/// An answer that is sent once its point is released.
fn held(point: &str, answer: Answer) -> Answer {
    Answer {
        hold: Some(point.to_owned()),
        ..answer
    }
}

fn rename() -> Answer {
    Answer::bash("git mv README.md readme.md")
}
