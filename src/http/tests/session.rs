//! `/v1/session`, locks on keys, and `/v1/txn`, as Consul's clients use them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::testing::{Rig, Running};

async fn session(server: &Running, body: &Value) -> String {
    let made = server.put("/v1/session/create", body.to_string().as_bytes()).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()["ID"].as_str().expect("an id").to_owned()
}

async fn acquire(server: &Running, key: &str, session: &str) -> Value {
    server.put(&format!("/v1/kv/{key}?acquire={session}"), b"mine").await.json()
}

#[tokio::test]
async fn a_session_is_made_shown_renewed_and_destroyed() {
    let rig = Rig::new();
    let server = rig.server().await;
    let id = session(
        &server,
        &json!({"name": "s", "ttl": "15s", "lockdelay": "0.001s", "behavior": "delete", "checks": []}),
    )
    .await;
    assert_eq!(id.len(), 36);
    let leases: Vec<Duration> = rig.store.leases().into_values().collect();
    assert_eq!(leases, [Duration::from_secs(30)], "twice the TTL, and no lock-delay");
    let info = server.get(&format!("/v1/session/info/{id}")).await;
    let row = &info.json()[0];
    assert_eq!((&row["ID"], &row["Name"], &row["Node"]), (&json!(id), &json!("s"), &json!("db1")));
    assert_eq!((&row["TTL"], &row["Behavior"]), (&json!("15s"), &json!("delete")));
    assert_eq!((&row["LockDelay"], &row["NodeChecks"]), (&json!(1_000_000), &json!([])));
    assert!(info.index() > 0);
    assert_eq!(server.get("/v1/session/list").await.json().as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/v1/session/node/db1").await.json()[0]["ID"], json!(id));
    assert_eq!(server.get("/v1/session/node/db2").await.json(), json!([]));
    let renewed = server.put(&format!("/v1/session/renew/{id}"), b"").await;
    assert_eq!((renewed.status, &renewed.json()[0]["ID"]), (200, &json!(id)));
    assert_eq!(server.put(&format!("/v1/session/destroy/{id}"), b"").await.json(), json!(true));
    assert!(rig.store.leases().is_empty());
    assert_eq!(server.get(&format!("/v1/session/info/{id}")).await.json(), json!([]));
    let gone = server.put(&format!("/v1/session/renew/{id}"), b"").await;
    assert_eq!((gone.status, gone.text()), (404, format!("Session id '{id}' not found")));
    assert_eq!(server.put("/v1/session/destroy/none", b"").await.json(), json!(true));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_as_consul_words_it() {
    let rig = Rig::new();
    let server = rig.server().await;
    for (body, status, text) in [
        (
            json!({"TTL": "9s"}),
            500,
            "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]",
        ),
        (json!({"TTL": "x"}), 400, "Request TTL decode failed"),
        (json!({"Behavior": "keep"}), 500, "Invalid Behavior setting 'keep'"),
        (json!({"Node": "db9"}), 500, "Missing node registration"),
        (json!({"Checks": ["own"]}), 500, "Missing check 'own' registration"),
        (json!({"LockDelay": true}), 400, "Request LockDelay decode failed"),
    ] {
        let answer = server.put("/v1/session/create", body.to_string().as_bytes()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().starts_with(text), "{body}: {}", answer.text());
    }
    let unknown = server.put("/v1/kv/k?acquire=nobody", b"x").await;
    assert_eq!((unknown.status, unknown.text().as_str()), (500, "invalid session \"nobody\""));
    assert_eq!(server.put("/v1/kv/k?release=nobody", b"x").await.json(), json!(false));
    assert!(rig.store.leases().is_empty());
}

#[tokio::test]
async fn one_holds_a_lock_and_gives_it_back() {
    let rig = Rig::new();
    let server = rig.server().await;
    let (a, b) = (session(&server, &json!({})).await, session(&server, &json!({})).await);
    assert_eq!(acquire(&server, "k", &a).await, json!(true));
    let row = server.get("/v1/kv/k").await.json()[0].clone();
    assert_eq!((&row["Session"], &row["LockIndex"]), (&json!(a), &json!(1)));
    assert_eq!(acquire(&server, "k", &a).await, json!(true), "again, by the same");
    assert_eq!(acquire(&server, "k", &b).await, json!(false));
    assert_eq!(server.get("/v1/kv/k").await.json()[0]["LockIndex"], 1);
    server.put("/v1/kv/k", b"anybody may write").await;
    assert_eq!(server.get("/v1/kv/k").await.json()[0]["Session"], json!(a), "the lock stays");
    let release = format!("/v1/kv/k?release={b}");
    assert_eq!(server.put(&release, b"x").await.json(), json!(false));
    let release = format!("/v1/kv/k?release={a}");
    assert_eq!(server.put(&release, b"x").await.json(), json!(true));
    let row = server.get("/v1/kv/k").await.json()[0].clone();
    assert_eq!((row.get("Session"), &row["LockIndex"]), (None, &json!(1)));
    assert_eq!(acquire(&server, "k", &b).await, json!(true), "no delay after giving back");
    assert_eq!(server.get("/v1/kv/k").await.json()[0]["LockIndex"], 2);
    assert_eq!(server.delete("/v1/kv/k").await.json(), json!(true));
    assert_eq!(acquire(&server, "k", &a).await, json!(true), "a removed entry has no lock");
    assert_eq!(server.get("/v1/kv/k").await.json()[0]["LockIndex"], 1);
}

#[tokio::test]
async fn a_session_that_is_not_renewed_lets_go_and_the_delay_holds() {
    let rig = Rig::new();
    let server = rig.server().await;
    let body = json!({"TTL": "10s", "LockDelay": "15s"});
    let (a, b) = (session(&server, &body).await, session(&server, &json!({"TTL": "10s"})).await);
    assert_eq!(acquire(&server, "k", &a).await, json!(true));
    let index = server.get("/v1/kv/k").await.index();
    let (lease, delay) = (1, 2);
    assert_eq!(rig.store.leases()[&delay], Duration::from_secs(35));
    let waiting_path = format!("/v1/kv/k?index={index}&wait=30s");
    let waiting = server.get(&waiting_path);
    let ends = async { rig.store.run_out(lease) };
    let (woken, ()) = tokio::join!(waiting, ends);
    assert_eq!(woken.json()[0].get("Session"), None, "who waits is woken by the end of the lock");
    assert_eq!(woken.json()[0]["Value"], "bWluZQ==", "released, not removed");
    assert!(woken.index() > index);
    assert_eq!(acquire(&server, "k", &b).await, json!(false), "the lock-delay holds");
    rig.store.run_out(delay);
    assert_eq!(acquire(&server, "k", &b).await, json!(true));
}

#[tokio::test]
async fn behavior_delete_removes_the_entry() {
    let rig = Rig::new();
    let server = rig.server().await;
    let body = json!({"TTL": "10s", "LockDelay": 0, "Behavior": "delete"});
    let a = session(&server, &body).await;
    assert_eq!(acquire(&server, "k", &a).await, json!(true));
    server.put("/v1/kv/k", b"written by somebody").await;
    rig.store.run_out(1);
    rig.context.view.reached(rig.store.txn_revision()).await;
    assert_eq!(server.get("/v1/kv/k").await.status, 404);
    let b = session(&server, &json!({"Behavior": "delete", "LockDelay": "5s"})).await;
    assert_eq!(acquire(&server, "k", &b).await, json!(true));
    assert_eq!(server.put(&format!("/v1/session/destroy/{b}"), b"").await.json(), json!(true));
    assert_eq!(server.get("/v1/kv/k").await.status, 404);
    let c = session(&server, &json!({})).await;
    assert_eq!(acquire(&server, "k", &c).await, json!(false), "destroyed, and delayed");
}

async fn txn(server: &Running, body: Value) -> (u16, Value) {
    let answer = server.put("/v1/txn", body.to_string().as_bytes()).await;
    if answer.status == 200 || answer.status == 409 {
        (answer.status, answer.json())
    } else {
        (answer.status, json!(answer.text()))
    }
}

#[tokio::test]
async fn a_txn_is_done_whole_or_not_at_all() {
    let rig = Rig::new();
    let server = rig.server().await;
    let set = |key: &str, value: &str| json!({"KV": {"Verb": "set", "Key": key, "Value": value}});
    let (status, done) = txn(&server, json!([set("a", "MQ=="), set("b", "Mg==")])).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!((&done["Results"][1]["KV"]["Key"], &done["Errors"]), (&json!("b"), &Value::Null));
    let index = done["Results"][0]["KV"]["ModifyIndex"].as_u64().expect("an index");
    assert_eq!(done["Results"][1]["KV"]["ModifyIndex"], index, "one revision");

    let cas =
        |index: u64| json!({"KV": {"Verb": "cas", "Key": "a", "Value": "Mw==", "Index": index}});
    let (status, failed) = txn(&server, json!([set("c", "NA=="), cas(index + 7)])).await;
    assert_eq!(status, 409);
    assert_eq!(failed["Errors"][0]["OpIndex"], 1);
    assert_eq!(failed["Errors"][0]["What"], "failed to set key \"a\", index is stale");
    assert_eq!(server.get("/v1/kv/c").await.status, 404, "nothing was done");
    let (status, _) = txn(&server, json!([set("c", "NA=="), cas(index)])).await;
    assert_eq!(status, 200);

    let verb = |verb: &str, key: &str| json!({"kv": {"verb": verb, "key": key}});
    let (status, read) =
        txn(&server, json!([verb("get", "a"), verb("get-or-empty", "x"), verb("get-tree", "")]))
            .await;
    assert_eq!(status, 200, "{read}");
    let results = read["Results"].as_array().expect("results");
    assert_eq!(results.len(), 5, "{read}");
    assert_eq!(
        (&results[0]["KV"]["Value"], &results[1]["KV"]["Value"]),
        (&json!("Mw=="), &Value::Null)
    );
    let (status, failed) =
        txn(&server, json!([verb("get", "x"), verb("check-not-exists", "a")])).await;
    assert_eq!((status, failed["Errors"].as_array().map(Vec::len)), (409, Some(2)), "{failed}");
    let (status, _) = txn(&server, json!([verb("check-not-exists", "d"), set("d", "MQ==")])).await;
    assert_eq!(status, 200);
    let (status, _) = txn(&server, json!([verb("delete", "d"), verb("delete-tree", "zz")])).await;
    assert_eq!((status, server.get("/v1/kv/d").await.status), (200, 404));
}

#[tokio::test]
async fn a_txn_locks_and_is_bounded() {
    let rig = Rig::new();
    let server = rig.server().await;
    let id = session(&server, &json!({})).await;
    let lock =
        |verb: &str| json!([{"KV": {"Verb": verb, "Key": "l", "Value": "MQ==", "Session": id}}]);
    assert_eq!(txn(&server, lock("unlock")).await.0, 409, "not held yet");
    assert_eq!(txn(&server, lock("lock")).await.0, 200);
    assert_eq!(server.get("/v1/kv/l").await.json()[0]["Session"], json!(id));
    assert_eq!(txn(&server, lock("check-session")).await.0, 200);
    assert_eq!(txn(&server, lock("unlock")).await.0, 200);
    let many: Vec<Value> =
        (0..129).map(|n| json!({"KV": {"Verb": "get", "Key": n.to_string()}})).collect();
    let (status, text) = txn(&server, json!(many)).await;
    assert_eq!(
        (status, text),
        (413, json!("Transaction contains too many operations (129 > 128)"))
    );
    let many: Vec<Value> = (0..128)
        .map(|n| json!({"KV": {"Verb": "set", "Key": format!("m{n}"), "Value": "MQ=="}}))
        .collect();
    assert_eq!(txn(&server, json!(many)).await.0, 200, "as many as Consul takes");
    for (body, words) in [
        (json!([{"Node": {"Verb": "get"}}]), "only KV operations"),
        (json!({"KV": {}}), "Failed to parse body"),
        (json!([{"KV": {"Verb": "fly", "Key": "k"}}]), "unknown KV verb"),
        (
            json!([{"KV": {"Verb": "set", "Key": "k"}}, {"KV": {"Verb": "get", "Key": "k"}}]),
            "written by an earlier",
        ),
    ] {
        let (status, text) = txn(&server, body.clone()).await;
        assert_eq!(status, 400, "{body}: {text}");
        assert!(text.as_str().expect("text").contains(words), "{body}: {text}");
    }
}

#[tokio::test]
async fn keys_of_sengu_follow_the_master_and_belong_to_nobody_else() {
    let rig = Rig::new();
    rig.with_service(sengu_core::record::Promise::None).await;
    let server = rig.server().await;
    let master = server.get("/v1/kv/sengu/foo-redis/master?raw").await;
    assert_eq!((master.status, master.text().as_str()), (200, "10.0.0.1:6379"));
    let keys = server.get("/v1/kv/sengu/?keys").await.json();
    assert_eq!(
        keys,
        json!(["sengu/foo-redis/instance", "sengu/foo-redis/master", "sengu/foo-redis/term"])
    );
    let index = master.index();
    let path = format!("/v1/kv/sengu/foo-redis/master?index={index}&wait=30s");
    rig.put("nodes/other".into(), b"{}".as_slice().into()).await;
    let withdraw = async {
        let mut record = crate::http::testing::master(sengu_core::record::Promise::None);
        record.state = sengu_core::record::MasterState::Lapsed;
        let key = sengu_core::record::key::master(&crate::http::testing::service());
        rig.put(key, sengu_core::record::Record::encode(&record)).await
    };
    let (gone, revision) = tokio::join!(server.get(&path), withdraw);
    assert_eq!((gone.status, gone.index()), (404, revision), "withdrawn with the name");
    let put = server.put("/v1/kv/sengu/foo-redis/master", b"me").await;
    assert_eq!(put.status, 409);
    assert!(put.text().contains("belongs to sengu"), "{}", put.text());
    assert_eq!(server.delete("/v1/kv/sengu/foo-redis/master").await.status, 409);
    assert_eq!(server.delete("/v1/kv/sengu/?recurse").await.status, 409);
    assert_eq!(server.put("/v1/kv/free", b"x").await.status, 200);
    let all = server.get("/v1/kv/?keys").await.json();
    assert_eq!(all, json!(["free"]), "they show only below their own prefix");
}
