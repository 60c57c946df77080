//! A usage limit: the account's agents wait for the end of the limit, and one of them is retried
//! earlier.

use claudine_tests::wait_for;

use super::{
    Day,
    agents::{REVIEW, TRANSLATE},
};

/// The agents wait until one minute after the end that the service announced.
const UNTIL: &str = "Claude usage limit (5-hour) until tomorrow 02:01 (in 9h";

impl Day {
    /// Lets two agents meet a usage limit; returns the endings of their ids.
    pub(super) fn meets_a_usage_limit(&self) -> [String; 2] {
        let review = self.delegates("--name review", REVIEW);
        self.is_parked(&review, 1);
        let translate = self.delegates("--name translate", TRANSLATE);
        // The second task has made no attempt, and so no request to the service.
        self.is_parked(&translate, 0);
        self.shell
            .types("claudine list")
            .has(&[UNTIL, " · 2 tasks wait"])
            .row_has(&review, &["waiting", "review"])
            .row_has(&translate, &["waiting", "translate"]);
        self.shell
            .types(&format!("claudine logs {review}"))
            .has(&["You've hit your 5-hour limit"]);
        let why = self.shell.types(&format!("claudine why {translate}"));
        why.fits()
            .has(&[&format!("{translate} is waiting, for "), UNTIL]);
        let now = why.copied("claudine retry --now");
        let (now, _) = now.split_once('`').expect("a command in quotes");
        assert_eq!(now, format!("claudine retry --now {translate}"), "{why}");
        self.shell.types(now);
        // The limit still applies.
        self.is_parked(&translate, 1);
        self.shell
            .types(&format!("claudine status {translate}"))
            .has(&["State      ○ waiting\n", "Until      tomorrow 02:01 (in 9h"]);
        [review, translate]
    }

    pub(super) fn sees_the_limit_over(&self, parked: &[String; 2]) {
        let [review, translate] = parked;
        self.shell
            .types(&format!("claudine wait {review} {translate}"))
            .has(&[
                &format!("✓ review ({review}) succeeded"),
                &format!("✓ translate ({translate}) succeeded"),
            ]);
        self.shell
            .types(&format!("claudine status {review}"))
            .has(&[
                "Created    yesterday 16:",
                "Attempt 2  ✓ ",
                "No objections.",
            ]);
        self.shell
            .types("claudine list")
            .fits()
            .has_not(&["usage limit", "waiting"]);
    }

    /// Waits until the task waits for the end of the limit, after this number of attempts.
    #[track_caller]
    fn is_parked(&self, id: &str, attempts: usize) {
        wait_for(&format!("{id} to be parked"), || {
            let task = self.world.host.status(id);
            let ended = task["attempts"].as_array().map_or(0, |all| {
                let has_ended = |attempt: &&serde_json::Value| attempt["finished_at"].is_string();
                all.iter().filter(has_ended).count()
            });
            (task["state"] == "waiting" && ended == attempts).then_some(())
        });
    }
}
