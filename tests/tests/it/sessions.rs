//! Conversations of agents that clients and persons continue.

use std::fs;

use claudine_tests::{TestHost, mcp::Client, short_id, wait_for};
use serde_json::{Value, json};

use crate::authority::{refused, with_agent};

const READ: &str = "[mcp]\nexecutors = [\"claude\"]\nmax_permission_mode = \"plan\"\n";

/// Does the same as Claude Code: reports its session, and ends.
const AGENT: &str = r#"for word; do
    case "$last" in --resume | --session-id) id=$word;; esac
    last=$word
done
if test -z "$id"; then echo '2.1.0 (Claude Code)'; exit; fi
cat > /dev/null
printf '{"type":"system","subtype":"init","session_id":"%s","model":"m","tools":[]}\n' "$id"
printf '{"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"%s","num_turns":1,"total_cost_usd":0.01,"duration_ms":1,"usage":{},"permission_denials":[]}\n' "$id""#;

/// An agent that reports its session and fails, until the file `good` exists beside it.
fn failing_at_first() -> String {
    let fails = r#"cat > /dev/null
if ! test -e "${0%/*}/good"; then
    printf '{"type":"system","subtype":"init","session_id":"%s","model":"m","tools":[]}\n' "$id"
    exit 3
fi"#;
    AGENT.replace("cat > /dev/null", fails)
}

/// Delegates a task of a person with these options, in plan mode; returns its id.
fn mine(host: &TestHost, options: &[&str]) -> String {
    let delegate = ["delegate", "--permission-mode", "plan"];
    host.text([&delegate[..], options, &["mine"]].concat())
}

/// Delegates a task to an agent; returns the ids of the task and of its session once it has ended.
fn begun(host: &TestHost, client: &mut Client) -> (String, String) {
    let asked = json!({"prompt": "begin", "permissionMode": "plan"});
    let id = client.call("DelegateTask", asked)["taskId"].clone();
    let id = id.as_str().unwrap().to_owned();
    let task = host.finished(&id);
    let session = task["attempts"][0]["session_id"].as_str();
    (id, session.unwrap().to_owned())
}

/// Otherwise a client could write into a conversation that a person has continued with more rights.
#[test]
fn client_neither_delegates_nor_resumes_in_a_session_that_a_person_has_continued() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let (continued, session) = begun(&host, &mut client);
    let (resumed, other) = begun(&host, &mut client);
    let (own, third) = begun(&host, &mut client);
    let edit = ["--permission-mode", "acceptEdits"];
    let named = ["delegate", "--resume-session", &session, "mine"];
    let mine = host.text([&named[..], &edit[..]].concat());
    host.finished(&mine);
    host.run(["resume", &resumed, "--context", "mine"]).check();
    host.finished(&resumed);

    let delegated =
        |session: &str| json!({"prompt": "p", "permissionMode": "plan", "resumeSession": session});
    let again = |id: &str| json!({"taskId": id, "additionalContext": "theirs"});
    let mut check = |tool: &str, asked: Value, says: &str| {
        let complaint = client.fail(tool, asked);
        for says in ["may not be continued over MCP", says] {
            assert!(complaint.contains(says), "{tool}: {complaint}");
        }
    };
    let theirs = "it belongs to task";
    check("DelegateTask", delegated(&session), theirs);
    check("ResumeTask", again(&continued), theirs);
    check("ResumeTask", json!({"taskId": continued}), theirs);
    let too = "owner has continued it in task";
    check("DelegateTask", delegated(&other), too);
    check("ResumeTask", again(&resumed), too);
    for (id, attempts) in [(&continued, 1), (&resumed, 2)] {
        let task = host.status(id);
        assert_eq!(task["attempts"].as_array().unwrap().len(), attempts);
    }
    // A session that only the client has used is continued by both tools.
    client.call("ResumeTask", again(&own));
    host.finished(&own);
    let next = client.call("DelegateTask", delegated(&third));
    let task = host.finished(next["taskId"].as_str().unwrap());
    assert_eq!(task["attempts"][0]["session_id"], third, "{task:#}");
}

/// Otherwise a client could write into the conversation with a task that it queued in time.
#[test]
fn queued_task_of_a_client_fails_at_its_start_if_a_person_has_continued_its_session_meanwhile() {
    // An agent that is to fail waits until a file exists.
    let fails = r#"if grep -q "fail at first"; then
    printf '{"type":"system","subtype":"init","session_id":"%s","model":"m","tools":[]}\n' "$id"
    touch "${0%/*}/begun"; until test -e "${0%/*}/go"; do sleep 0.05; done; exit 3
fi"#;
    let (host, agent) = with_agent(READ, &AGENT.replace("cat > /dev/null", fails));
    let mut client = Client::connect(&host);
    let (first, session) = begun(&host, &mut client);
    let (_, other) = begun(&host, &mut client);
    let held = |name: &str, session: &str| {
        json!({
            "name": name, "prompt": "p", "permissionMode": "plan", "resumeSession": session,
            "hold": true,
        })
    };
    let again = json!({
        "name": "again", "prompt": "fail at first", "permissionMode": "plan",
        "resumeSession": session, "retries": 1, "retryOn": ["no_result"], "backoff": "10ms",
    });
    let tasks = [held("held", &session), held("untouched", &other), again];
    client.call("SubmitGraph", json!({ "tasks": tasks }));
    wait_for("the agent to begin", || {
        agent.path().join("begun").exists().then_some(())
    });
    host.run(["resume", &first, "--context", "mine"]).check();
    assert_eq!(host.finished(&first)["outcome"], "succeeded");

    host.run(["release", "held", "untouched"]).check();
    fs::write(agent.path().join("go"), "").unwrap();
    for (name, attempts) in [("held", 1), ("again", 2)] {
        let task = host.finished(name);
        assert_eq!(task["reason"]["class"], "permission", "{task:#}");
        let message = task["reason"]["message"].as_str().unwrap();
        for says in [
            format!("owner has continued it in task {}", short_id(&first)).as_str(),
            "submit the task again without the session",
        ] {
            assert!(message.contains(says), "{message}");
        }
        let all = task["attempts"].as_array().unwrap();
        assert_eq!(all.len(), attempts, "{task:#}");
    }
    let task = host.finished("untouched");
    assert_eq!(task["attempts"][0]["session_id"], other, "{task:#}");
}

/// Otherwise a client could put words into a conversation before a person's task continues it.
#[test]
fn client_does_not_continue_a_session_that_a_queued_task_of_a_person_is_to_continue() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let (own, session) = begun(&host, &mut client);
    let (_, other) = begun(&host, &mut client);
    let delegated =
        |session: &str| json!({"prompt": "p", "permissionMode": "plan", "resumeSession": session});
    let again = json!({"taskId": own, "additionalContext": "theirs"});
    let mut held = delegated(&session);
    held["name"] = "held".into();
    held["hold"] = true.into();
    client.call("SubmitGraph", json!({ "tasks": [held] }));

    let gate = host.text(["run", "--hold", "--", "true"]);
    let queued = |waits: &[&str]| {
        let named = [
            "delegate",
            "--permission-mode",
            "plan",
            "--resume-session",
            &session,
        ];
        let submitted = host.run([&named[..], waits, &["mine"][..]].concat()).ok();
        submitted.says(&["is queued to continue session", "refused at its start"]);
        submitted.text()
    };
    let upper = session.to_uppercase();
    for waits in [
        &["--after", "1h"][..],
        &["--depends-on-success", &gate][..],
        &["--hold"][..],
    ] {
        let mine = queued(waits);
        let says = format!("task {} of owner is to continue it", short_id(&mine));
        for (tool, asked) in [
            ("DelegateTask", delegated(&session)),
            ("DelegateTask", delegated(&upper)),
            ("ResumeTask", again.clone()),
        ] {
            refused(&mut client, tool, asked, &[&says]);
        }
        host.run(["cancel", &mine]).check();
    }
    let mine = queued(&["--hold"]);
    host.run(["release", "held"]).check();
    let task = host.finished("held");
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("is to continue it"), "{message}");

    // Other sessions stay open, and so does this one once the person's task cannot continue it.
    let next = client.call("DelegateTask", delegated(&other));
    let task = host.finished(next["taskId"].as_str().unwrap());
    assert_eq!(task["attempts"][0]["session_id"], other, "{task:#}");
    host.run(["cancel", &mine]).check();
    client.call("ResumeTask", again);
    assert_eq!(host.finished(&own)["outcome"], "succeeded");
}

/// Tasks over MCP have a generated key, and so are kept for a day, however short the retention is.
#[test]
fn session_that_a_person_has_continued_stays_closed_after_the_persons_task_was_removed() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let (own, session) = begun(&host, &mut client);
    let mine = mine(&host, &["--resume-session", &session]);
    host.finished(&mine);
    // Each host removes old tasks when it starts.
    wait_for("the person's task to be removed", || {
        host.run(["down"]).check();
        host.run(["up", "--keep", "1s"]).check();
        let status = host.run(["status", &mine]);
        (!status.status.success()).then_some(())
    });
    assert_eq!(host.status(&own)["outcome"], "succeeded");

    let delegated =
        |session: &str| json!({"prompt": "p", "permissionMode": "plan", "resumeSession": session});
    let again = json!({"taskId": own, "additionalContext": "theirs"});
    let says = [
        "may not be continued over MCP",
        "has continued it since its last use may be no longer stored",
    ];
    refused(&mut client, "DelegateTask", delegated(&session), &says);
    refused(&mut client, "ResumeTask", again, &says);
    assert_eq!(host.status(&own)["attempts"].as_array().unwrap().len(), 1);
    // The client may begin a session, and continue it.
    let (_, new) = begun(&host, &mut client);
    let next = client.call("DelegateTask", delegated(&new));
    let task = host.finished(next["taskId"].as_str().unwrap());
    assert_eq!(task["attempts"][0]["session_id"], new, "{task:#}");
}

/// Otherwise two tasks of the person would go on in one conversation, at a moment that the client
/// chooses.
#[test]
fn client_does_not_run_a_persons_task_again_in_a_session_in_which_the_person_has_gone_on() {
    let (host, agent) = with_agent(READ, &failing_at_first());
    let mut client = Client::connect(&host);
    let [first, alone] = [mine(&host, &[]), mine(&host, &[])];
    let task = host.finished(&first);
    assert_eq!(task["outcome"], "failed", "{task:#}");
    assert_eq!(host.finished(&alone)["outcome"], "failed");
    fs::write(agent.path().join("good"), "").unwrap();
    let session = task["attempts"][0]["session_id"].as_str().unwrap();
    let next = mine(&host, &["--resume-session", session]);
    assert_eq!(host.finished(&next)["outcome"], "succeeded");

    let belongs = format!("it belongs to task {} of owner", short_id(&next));
    let says = ["may not be continued over MCP", belongs.as_str()];
    for tool in ["RetryTask", "ResumeTask"] {
        refused(&mut client, tool, json!({ "taskId": first }), &says);
    }
    assert_eq!(host.status(&first)["attempts"], task["attempts"]);
    // Nobody else has used the session of the other task.
    client.call("ResumeTask", json!({ "taskId": alone }));
    assert_eq!(host.finished(&alone)["outcome"], "succeeded");
}

/// The same, but the person goes on after the request of the client.
#[test]
fn persons_task_fails_at_its_start_for_a_client_if_the_person_has_gone_on_in_its_session_meanwhile()
{
    let (host, agent) = with_agent(READ, &failing_at_first());
    let mut client = Client::connect(&host);
    let [first, alone] = [mine(&host, &[]), mine(&host, &[])];
    let [session, other] = [&first, &alone].map(|id| {
        let task = host.finished(id);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        task["attempts"][0]["session_id"].clone()
    });
    fs::write(agent.path().join("good"), "").unwrap();
    host.run(["pause"]).check();
    for id in [&first, &alone] {
        client.call("ResumeTask", json!({ "taskId": id }));
    }
    let next = mine(&host, &["--resume-session", session.as_str().unwrap()]);
    host.run(["unpause"]).check();
    let task = host.finished(&first);
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    for says in [
        "may not be continued over MCP",
        short_id(&next),
        "a person can run the task again with `claudine retry",
    ] {
        assert!(message.contains(says), "{message}");
    }
    let task = host.finished(&next);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["attempts"][0]["session_id"], session, "{task:#}");
    let task = host.finished(&alone);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["attempts"][1]["session_id"], other, "{task:#}");
}

/// Otherwise a client could say something before the next turn of the person, although the session
/// is closed to it as long as the person's task is queued.
#[test]
fn client_does_not_revive_a_persons_task_after_it_has_gone_on_in_its_session() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let delegated =
        |session: &str| json!({"prompt": "p", "permissionMode": "plan", "resumeSession": session});
    let up = json!({"name": "up", "prompt": "p", "permissionMode": "plan", "hold": true});
    let up = client.call("SubmitGraph", json!({ "tasks": [up] }))["taskIds"][0].clone();
    let up = up.as_str().unwrap();
    // Each of the person's tasks cannot run once the client has cancelled a task: the task itself,
    // or the client's own one above it.
    for (waits, above) in [
        (&["--hold"][..], None),
        (&["--depends-on-success", up][..], Some(up)),
    ] {
        let (_, session) = begun(&host, &mut client);
        let mine = mine(&host, &[waits, &["--resume-session", &session]].concat());
        let cancelled = above.unwrap_or(&mine);
        let again = json!({ "taskId": cancelled });
        client.call("CancelTask", again.clone());
        let ended = host.finished(&mine);
        // As long as nobody has gone on in the session, the client may take that back.
        client.call("RetryTask", again.clone());
        assert_ne!(host.status(&mine)["state"], "done");
        client.call("CancelTask", again.clone());
        assert_eq!(host.finished(&mine)["outcome"], ended["outcome"]);

        let said = client.call("DelegateTask", delegated(&session))["taskId"].clone();
        let said = said.as_str().unwrap();
        assert_eq!(host.finished(said)["outcome"], "succeeded");
        let continued = format!("has continued it in task {}", short_id(said));
        let says = ["may not be continued over MCP", continued.as_str()];
        refused(&mut client, "RetryTask", again, &says);
        let task = host.status(&mine);
        assert_eq!(task["outcome"], ended["outcome"], "{task:#}");

        let told = format!("task {} of owner via mcp has gone on", short_id(said));
        let says = [told.as_str(), "`claudine logs"];
        host.run(["retry", cancelled]).ok().says(&says);
        host.run(["release", cancelled]).check();
        let task = host.finished(&mine);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
        assert_eq!(task["attempts"][0]["session_id"], session, "{task:#}");
    }
}

/// The same, but the person goes on, with the task of the client that has begun the session.
#[test]
fn persons_task_fails_at_its_start_for_a_client_if_the_person_has_resumed_the_clients_task() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let (own, session) = begun(&host, &mut client);
    let mine = mine(&host, &["--hold", "--resume-session", &session]);
    host.run(["cancel", &mine]).check();
    client.call("RetryTask", json!({ "taskId": mine }));
    host.run(["resume", &own, "--context", "mine"]).check();
    assert_eq!(host.finished(&own)["outcome"], "succeeded");
    host.run(["release", &mine]).check();
    let task = host.finished(&mine);
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    let continued = format!("owner has continued it in task {}", short_id(&own));
    for says in [
        continued.as_str(),
        "a person can run the task again with `claudine retry",
    ] {
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn person_is_told_of_a_clients_task_that_runs_in_the_session_to_be_continued() {
    // An agent that is to stay waits until a file exists.
    let stays = r#"if grep -q "stay"; then
    printf '{"type":"system","subtype":"init","session_id":"%s","model":"m","tools":[]}\n' "$id"
    touch "${0%/*}/begun"; until test -e "${0%/*}/go"; do sleep 0.05; done
fi"#;
    let (host, agent) = with_agent(READ, &AGENT.replace("cat > /dev/null", stays));
    let mut client = Client::connect(&host);
    let (first, session) = begun(&host, &mut client);
    let asked = json!({"prompt": "stay", "permissionMode": "plan", "resumeSession": session});
    let theirs = client.call("DelegateTask", asked)["taskId"].clone();
    let theirs = theirs.as_str().unwrap();
    wait_for("the agent to begin", || {
        agent.path().join("begun").exists().then_some(())
    });
    let runs = format!("task {} of owner via mcp runs in session", short_id(theirs));
    let says = [runs.as_str(), "`claudine cancel"];
    let delegate = ["delegate", "--hold", "--permission-mode", "plan", "mine"];
    let alone = host.run(delegate).ok();
    assert!(!alone.complaint().contains("warning"), "{alone}");
    let named = [&delegate[..], &["--resume-session", &session][..]].concat();
    host.run(named).ok().says(&says);
    host.run(["resume", &first, "--context", "mine"])
        .ok()
        .says(&says);
    fs::write(agent.path().join("go"), "").unwrap();
    assert_eq!(host.finished(theirs)["outcome"], "succeeded");
    assert_eq!(host.finished(&first)["outcome"], "succeeded");
}

/// An agent that notes its arguments. It reports the session in the file `begun` when it begins,
/// and the one in `ended` when it ends, if there are such files beside it.
const REPORTING: &str = r#"for word; do
    case "$last" in --resume | --session-id) id=$word;; esac
    last=$word
done
if test -z "$id"; then echo '2.1.0 (Claude Code)'; exit; fi
cat > /dev/null
place=${0%/*}; begun=$id; ended=$id
echo "$*" > "$place/line"
if test -e "$place/begun"; then begun=$(cat "$place/begun"); ended=$(cat "$place/ended"); fi
printf '{"type":"system","subtype":"init","session_id":"%s","model":"m","tools":[]}\n' "$begun"
printf '{"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"%s","num_turns":1,"total_cost_usd":0.01,"duration_ms":1,"usage":{},"permission_denials":[]}\n' "$ended""#;

/// Otherwise an agent could give the next agent options, and go on in a person's conversation.
#[test]
fn text_that_an_agent_reports_as_its_session_is_not_passed_to_the_next_agent() {
    let (host, agent) = with_agent(READ, REPORTING);
    let mut client = Client::connect(&host);
    let task = host.finished(&mine(&host, &[]));
    let persons = task["attempts"][0]["session_id"].as_str().unwrap();
    let option = "--dangerously-skip-permissions";
    for (begun, ended) in [
        (option.to_owned(), option.to_owned()),
        (format!("{persons}\\n"), format!("{persons}\\n")),
        (format!("./{persons}"), persons.to_owned()),
    ] {
        let file = agent.path().join("begun");
        fs::write(&file, &begun).unwrap();
        fs::write(agent.path().join("ended"), &ended).unwrap();
        let asked = json!({"prompt": "begin", "permissionMode": "plan"});
        let id = client.call("DelegateTask", asked)["taskId"].clone();
        let id = id.as_str().unwrap();
        let task = host.finished(id);
        assert_eq!(task["attempts"][0]["session_id"], Value::Null, "{task:#}");
        fs::remove_file(file).unwrap();

        let again = json!({"taskId": id, "additionalContext": "more"});
        client.call("ResumeTask", again);
        let task = host.finished(id);
        let line = fs::read_to_string(agent.path().join("line")).unwrap();
        assert!(!line.contains(option), "{line}");
        assert!(!line.contains(persons), "{line}");
        let continued = line
            .split(' ')
            .skip_while(|word| *word != "--resume")
            .nth(1);
        assert_eq!(
            task["attempts"][1]["session_id"].as_str(),
            continued,
            "{line}"
        );
    }
}
