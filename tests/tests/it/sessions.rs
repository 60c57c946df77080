//! Conversations of agents that clients and persons continue.

use claudine_tests::mcp::Client;
use serde_json::{Value, json};

use crate::authority::with_agent;

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

/// Otherwise a client could write into a conversation that a person has continued with more rights.
#[test]
fn client_neither_delegates_nor_resumes_in_a_session_that_a_person_has_continued() {
    let (host, _agent) = with_agent(READ, AGENT);
    let mut client = Client::connect(&host);
    let mut begun = || -> (String, String) {
        let asked = json!({"prompt": "begin", "permissionMode": "plan"});
        let id = client.call("DelegateTask", asked)["taskId"].clone();
        let id = id.as_str().unwrap().to_owned();
        let task = host.finished(&id);
        let session = task["attempts"][0]["session_id"].as_str();
        (id, session.unwrap().to_owned())
    };
    let (continued, session) = begun();
    let (resumed, other) = begun();
    let (own, third) = begun();
    let edit = ["--permission-mode", "acceptEdits"];
    let named = ["delegate", "--resume-session", &session, "mine"];
    let mine = host.text([&named[..], &edit[..]].concat());
    host.finished(&mine);
    let says = ["resume", &resumed, "--context", "mine"];
    host.run([&says[..], &edit[..]].concat()).check();
    host.finished(&resumed);

    let delegated =
        |session: &str| json!({"prompt": "p", "permissionMode": "plan", "resumeSession": session});
    let again = |id: &str| json!({"taskId": id, "additionalContext": "theirs"});
    let lowered = |id: &str| json!({"taskId": id, "permissionMode": "plan"});
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
    check("ResumeTask", lowered(&resumed), too);
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
