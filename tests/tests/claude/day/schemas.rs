//! The answers for programs match the schemas that `claudine schema` prints, whatever has happened
//! to the tasks.

use claudine_tests::schema::faults;
use serde_json::{Deserializer, Value};

use super::Day;

impl Day {
    /// Checks the answers about all tasks in their present states.
    #[track_caller]
    pub(super) fn answers_match_their_schemas(&self) {
        let lists = self.answers("list", &[&[]]);
        let tasks = lists[0]["tasks"].as_array().unwrap().iter();
        let ids: Vec<[&str; 1]> = tasks.map(|task| [task["id"].as_str().unwrap()]).collect();
        let each: Vec<&[&str]> = ids.iter().map(|id| &id[..]).collect();
        self.answers("status", &each);
        self.answers("why", &each);
        self.answers("events", &[&["--since", "0"]]);
        for command in ["worktree list", "cost", "doctor"] {
            self.answers(command, &[&[]]);
        }
    }

    /// Runs a command once with each of these lists of arguments; any exit code is accepted.
    #[track_caller]
    fn answers(&self, command: &str, arguments: &[&[&str]]) -> Vec<Value> {
        let host = &self.world.host;
        let words: Vec<&str> = command.split(' ').collect();
        let schema = host.run([&["schema"][..], &words].concat()).ok().json();
        let mut answers = Vec::new();
        for &arguments in arguments {
            let ran = host.run([&words[..], arguments, &["--json"]].concat());
            // `events` answers with a value for each event.
            for answer in Deserializer::from_slice(&ran.stdout).into_iter::<Value>() {
                let answer = answer.unwrap_or_else(|error| panic!("{error}\n{ran}"));
                let found = faults(&schema, &answer);
                assert!(found.is_empty(), "{found:#?}\n{ran}");
                answers.push(answer);
            }
        }
        assert!(!answers.is_empty(), "`{command}` has not answered");
        answers
    }
}
