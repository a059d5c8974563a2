//! `/v1/kv`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::testing::Rig;
use crate::store::StoreError;

#[tokio::test]
async fn a_value_is_written_read_and_removed() {
    let rig = Rig::new();
    let server = rig.server().await;
    let put = server.put("/v1/kv/a/b?flags=42", b"hello").await;
    assert_eq!((put.status, put.json()), (200, json!(true)));
    let got = server.get("/v1/kv/a/b").await;
    let row = &got.json()[0];
    assert_eq!(row["Key"], "a/b");
    assert_eq!(row["Value"], "aGVsbG8=");
    assert_eq!(row["Flags"], 42);
    assert_eq!(row["LockIndex"], 0);
    assert_eq!(row["ModifyIndex"], got.index());
    assert_eq!(row["CreateIndex"], row["ModifyIndex"]);
    assert_eq!(got.header("x-consul-lastcontact"), "0");
    assert_eq!(got.header("x-consul-knownleader"), "true");
    assert_eq!(server.delete("/v1/kv/a/b").await.json(), json!(true));
    let gone = server.get("/v1/kv/a/b").await;
    assert_eq!((gone.status, gone.text().as_str()), (404, ""));
    assert!(gone.index() > got.index(), "a removal moves the index");
}

#[tokio::test]
async fn flags_change_and_an_identical_write_moves_no_index() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k?flags=1", b"v").await;
    let first = server.get("/v1/kv/k").await.json()[0].clone();
    assert_eq!(server.put("/v1/kv/k?flags=1", b"v").await.json(), json!(true));
    assert_eq!(server.get("/v1/kv/k").await.json()[0], first, "nothing was written");
    server.put("/v1/kv/k", b"v").await;
    let second = server.get("/v1/kv/k").await.json()[0].clone();
    assert_eq!(second["Flags"], 0, "flags not given are 0");
    assert!(second["ModifyIndex"].as_u64() > first["ModifyIndex"].as_u64());
    assert_eq!(second["CreateIndex"], first["CreateIndex"]);
    let max = server.put(&format!("/v1/kv/k?flags={}", u64::MAX), b"v").await;
    assert_eq!(max.status, 200);
    assert_eq!(server.get("/v1/kv/k").await.json()[0]["Flags"], u64::MAX);
    assert_eq!(server.put("/v1/kv/k?flags=-1", b"v").await.status, 400);
}

#[tokio::test]
async fn cas_writes_and_removes_only_what_was_read() {
    let rig = Rig::new();
    let server = rig.server().await;
    assert_eq!(server.put("/v1/kv/k?cas=0", b"1").await.json(), json!(true));
    assert_eq!(server.put("/v1/kv/k?cas=0", b"2").await.json(), json!(false));
    let index = server.get("/v1/kv/k").await.index();
    assert_eq!(server.put(&format!("/v1/kv/k?cas={}", index + 9), b"2").await.json(), false);
    assert_eq!(server.put(&format!("/v1/kv/k?cas={index}"), b"1").await.json(), true);
    assert_eq!(server.get("/v1/kv/k").await.index(), index, "the same value again");
    assert_eq!(server.put(&format!("/v1/kv/k?cas={index}"), b"2").await.json(), true);
    assert_eq!(server.put(&format!("/v1/kv/k?cas={index}"), b"3").await.json(), false);
    assert_eq!(server.put("/v1/kv/k?cas=x", b"3").await.status, 400);
    assert_eq!(server.put("/v1/kv/k?cas", b"3").await.status, 400);
    assert_eq!(server.get("/v1/kv/k?raw").await.body, b"2");

    assert_eq!(server.delete(&format!("/v1/kv/k?cas={index}")).await.json(), false);
    assert_eq!(server.delete("/v1/kv/k?cas=0").await.json(), false);
    let index = server.get("/v1/kv/k").await.index();
    assert_eq!(server.delete(&format!("/v1/kv/k?cas={index}")).await.json(), true);
    assert_eq!(server.delete(&format!("/v1/kv/k?cas={index}")).await.json(), true, "missing");
    assert_eq!(server.get("/v1/kv/k").await.status, 404);
}

#[tokio::test]
async fn prefixes_are_listed_cut_and_removed() {
    let rig = Rig::new();
    let server = rig.server().await;
    assert_eq!(server.get("/v1/kv/?keys").await.json(), json!([]), "an empty root");
    assert_eq!(server.get("/v1/kv/?recurse").await.status, 404);
    for key in ["a/1", "a/b/2", "a/b/3", "ab", "z/"] {
        server.put(&format!("/v1/kv/{key}"), key.as_bytes()).await;
    }
    let keys = |answer: Value| -> Vec<String> {
        answer.as_array().expect("rows").iter().map(|r| r["Key"].to_string()).collect()
    };
    let under = server.get("/v1/kv/a/?recurse").await;
    assert_eq!(keys(under.json()), ["\"a/1\"", "\"a/b/2\"", "\"a/b/3\""]);
    assert_eq!(server.get("/v1/kv/?recurse").await.json().as_array().map(Vec::len), Some(5));
    let cut = server.get("/v1/kv/a/?keys&separator=/").await;
    assert_eq!(cut.json(), json!(["a/1", "a/b/"]));
    assert_eq!(server.get("/v1/kv?keys&seperator=/").await.json(), json!(["a/", "ab", "z/"]));
    assert_eq!(server.get("/v1/kv/a?keys").await.json(), json!(["a/1", "a/b/2", "a/b/3", "ab"]));
    assert_eq!(server.get("/v1/kv/nothing?keys").await.status, 404);

    assert_eq!(server.delete("/v1/kv/a/?recurse").await.json(), json!(true));
    let left = server.get("/v1/kv/?keys").await;
    assert_eq!(left.json(), json!(["ab", "z/"]));
    assert!(left.index() > under.index(), "removals move a prefix's index");
    assert_eq!(server.delete("/v1/kv/?recurse").await.json(), json!(true));
    assert_eq!(server.get("/v1/kv/?keys").await.json(), json!([]));
}

#[tokio::test]
async fn any_bytes_and_any_key_come_back() {
    let rig = Rig::new();
    let server = rig.server().await;
    let bytes: Vec<u8> = (0..=255).collect();
    server.put("/v1/kv/bin", &bytes).await;
    let raw = server.get("/v1/kv/bin?raw").await;
    assert_eq!(raw.body, bytes);
    assert_eq!(raw.header("content-type"), "text/plain");
    assert_eq!(raw.header("x-content-type-options"), "nosniff");
    assert_eq!(raw.header("content-security-policy"), "sandbox");
    assert!(raw.index() > 0);
    assert_eq!(server.get("/v1/kv/none?raw").await.status, 404);
    server.put("/v1/kv/empty", b"").await;
    assert_eq!(server.get("/v1/kv/empty").await.json()[0]["Value"], Value::Null);

    for (path, key) in [
        ("a%2Fb", "a/b"),
        ("a%20b%3Fc", "a b?c"),
        ("plus+plus", "plus+plus"),
        ("caf%C3%A9", "café"),
        ("pct%2525", "pct%25"),
        ("x//y", "x//y"),
        ("/lead", "/lead"),
    ] {
        assert_eq!(server.put(&format!("/v1/kv/{path}"), b"v").await.json(), true, "{path}");
        assert_eq!(server.get(&format!("/v1/kv/{path}")).await.json()[0]["Key"], key);
    }
    assert_eq!(server.get("/v1/kv/a/b").await.status, 200, "one key, written either way");
    assert_eq!(server.put("/v1/kv/%FF", b"v").await.status, 400);
    assert_eq!(server.put("/v1/kv/a%0Ab", b"v").await.status, 400);
    assert_eq!(server.put(&format!("/v1/kv/{}", "k".repeat(2049)), b"v").await.status, 400);
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let rig = Rig::new();
    let server = rig.server().await;
    for (method, path, status, text) in [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/k?cas=1&acquire=x", 400, "Conflicting flags"),
        ("DELETE", "/v1/kv/k?recurse&cas=1", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/k?acquire=abc", 500, "invalid session \"abc\""),
        ("GET", "/v1/kv/k?dc=dc2", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/k?dc=dc2", 500, "No path to datacenter"),
        ("GET", "/v1/kv/k?stale&consistent", 400, "Cannot specify ?stale with ?consistent"),
        ("GET", "/v1/kv/k?index=x", 400, "Invalid index"),
        ("GET", "/v1/kv/k?index=1&wait=10", 400, "Invalid wait time"),
        ("GET", "/v1/other", 404, "Invalid URL path"),
        ("POST", "/v1/kv/k", 405, "method POST not allowed"),
    ] {
        let answer = server.call(method, path, b"").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.text().starts_with(text), "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    assert_eq!(server.put("/v1/kv/k?release=abc", b"").await.json(), json!(false));
    let allowed = server.call("POST", "/v1/kv/k", b"").await;
    for method in ["GET", "PUT", "DELETE"] {
        assert!(allowed.header("allow").contains(method), "{}", allowed.header("allow"));
    }
    let options = server.call("OPTIONS", "/v1/kv/k", b"").await;
    assert_eq!(options.status, 200);
    assert!(options.header("allow").contains("PUT"));
}

#[tokio::test]
async fn values_have_a_bound() {
    let rig = Rig::new();
    let server = rig.server().await;
    let most = vec![b'x'; 512 * 1024];
    assert_eq!(server.put("/v1/kv/most", &most).await.status, 200);
    let over = server.put("/v1/kv/over", &vec![b'x'; 512 * 1024 + 1]).await;
    assert_eq!(over.status, 413);
    assert_eq!(over.text(), "Request body(524289 bytes) too large, max size: 524288 bytes.");
    let far_over = server.put("/v1/kv/over", &vec![b'x'; 4 * 1024 * 1024]).await;
    assert_eq!(far_over.status, 413, "it is read to its end, so the client sees the answer");
    assert_eq!(server.get("/v1/kv/over").await.status, 404);
}

#[tokio::test]
async fn a_store_that_fails_is_no_missing_key() {
    let rig = Rig::new();
    let server = rig.server().await;
    rig.store.fail(Some(StoreError::Refused("no space left on the disk".to_owned())));
    let refused = server.put("/v1/kv/k", b"v").await;
    assert_eq!(refused.status, 500);
    assert_eq!(refused.text(), "rpc error: the store refused: no space left on the disk");
    rig.store.fail(Some(StoreError::Unknown("time ran out".to_owned())));
    assert_eq!(server.delete("/v1/kv/k").await.status, 500);
    assert_eq!(server.get("/v1/kv/k?consistent").await.status, 500);
    assert_eq!(server.get("/v1/kv/k?stale").await.status, 404);
    rig.store.fail(None);
    assert_eq!(server.get("/v1/kv/k?consistent").await.status, 404);
    rig.valid_until(crate::clock::time());
    assert_eq!(server.get("/v1/kv/k").await.header("x-consul-knownleader"), "false");
    assert_eq!(server.get("/v1/status/leader").await.json(), "");
}

#[tokio::test]
async fn a_blocked_read_is_woken_by_its_key_alone() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let path = format!("/v1/kv/k?index={index}&wait=30s");
    let other = async {
        // Neither another key nor a beat wakes it.
        server.put("/v1/kv/other", b"x").await;
        rig.put("beats/db9".into(), (*b"{}").into()).await;
        server.put("/v1/kv/k", b"2").await
    };
    let (woken, written) = tokio::join!(server.get(&path), other);
    assert_eq!(written.json(), true);
    assert_eq!(woken.json()[0]["Value"], "Mg==");
    assert!(woken.index() > index);
    assert_eq!(woken.json()[0]["ModifyIndex"], woken.index());
}

#[tokio::test]
async fn a_blocked_read_ends_with_its_wait() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let began = crate::clock::time();
    let same = server.get(&format!("/v1/kv/k?index={index}&wait=160ms")).await;
    let took = crate::clock::time().since(began);
    assert_eq!((same.status, same.index()), (200, index));
    assert!(took >= Duration::from_millis(160), "{took:?}");
    let missing = server.get("/v1/kv/none").await;
    let path = format!("/v1/kv/none?index={}&wait=50ms", missing.index());
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn blocked_reads_see_keys_come_and_go() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/p/a", b"1").await;
    let index = server.get("/v1/kv/p/b").await.index();
    let path = format!("/v1/kv/p/b?index={index}&wait=30s");
    let (come, _) = tokio::join!(server.get(&path), server.put("/v1/kv/p/b", b"2"));
    assert_eq!(come.json()[0]["Value"], "Mg==");

    let index = server.get("/v1/kv/p/?recurse").await.index();
    let path = format!("/v1/kv/p/?recurse&index={index}&wait=30s");
    let (gone, _) = tokio::join!(server.get(&path), server.delete("/v1/kv/p/a"));
    assert_eq!(gone.json().as_array().map(Vec::len), Some(1));
    let path = format!("/v1/kv/p/b?index={}&wait=30s", gone.index());
    let (gone, _) = tokio::join!(server.get(&path), server.delete("/v1/kv/p/b"));
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn ten_blocked_reads_are_all_woken() {
    let rig = Rig::new();
    let server = rig.server().await;
    server.put("/v1/kv/k", b"1").await;
    let index = server.get("/v1/kv/k").await.index();
    let path = format!("/v1/kv/k?index={index}&wait=60s");
    let readers = futures_util::future::join_all((0..10).map(|_| server.get(&path)));
    let write = async {
        // Connections are taken up in order: once this is answered, the readers wait.
        assert_eq!(server.get("/health").await.status, 200);
        server.put("/v1/kv/k", b"2").await
    };
    let (answers, _) = tokio::join!(readers, write);
    assert_eq!(answers.len(), 10);
    for answer in answers {
        assert_eq!(answer.json()[0]["Value"], "Mg==");
    }
}
