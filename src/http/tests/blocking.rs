//! A blocking read is woken by what it is about, and by nothing else.

use std::time::Duration;

use sengu_core::record::{Promise, Record, key};
use sengu_core::time::Wall;
use serde_json::{Value, json};

use crate::http::testing::{Rig, Running, master, service};

async fn register(server: &Running, body: Value) {
    let answer = server.put("/v1/catalog/register", body.to_string().as_bytes()).await;
    assert_eq!((answer.status, answer.text()), (200, "true".to_owned()));
}

fn entry(node: &str, name: &str, port: u16) -> Value {
    json!({"Node": node, "Address": "10.0.1.1",
           "Service": {"ID": name, "Service": name, "Port": port}})
}

fn check(node: &str, id: &str, status: &str, service: Option<&str>) -> Value {
    json!({"Node": node, "Address": "10.0.1.1",
           "Check": {"CheckID": id, "Name": id, "Status": status, "ServiceID": service}})
}

/// Reads, then waits above what it read while things are done: was it woken early?
async fn woken(server: &Running, path: &str, doing: impl Future<Output = ()>) -> bool {
    let index = server.get(path).await.index();
    let join = if path.contains('?') { '&' } else { '?' };
    // What is done comes while the read waits; a read that is woken comes back at once.
    let waiting = format!("{path}{join}index={index}&wait=400ms");
    let began = std::time::Instant::now();
    let (answer, ()) = tokio::join!(server.get(&waiting), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        doing.await;
    });
    let early = began.elapsed() < Duration::from_millis(400);
    assert!(answer.index() >= index, "an index went back");
    assert_eq!(early, answer.index() > index, "woken without a new index: {path}");
    early
}

#[tokio::test]
async fn a_reader_of_one_service_sleeps_through_changes_of_others() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    for (node, name) in [("web1", "shop"), ("web2", "blog")] {
        register(&server, entry(node, name, 80)).await;
    }
    for path in ["/v1/health/service/shop", "/v1/catalog/service/shop", "/v1/health/checks/shop"] {
        let others = async {
            register(&server, entry("web2", "blog", 81)).await;
            register(&server, check("web2", "c", "critical", None)).await;
            register(&server, check("web2", "d", "critical", Some("blog"))).await;
            register(&server, entry("web3", "news", 80)).await;
            let gone = json!({"Node": "web3"}).to_string();
            server.put("/v1/catalog/deregister", gone.as_bytes()).await;
            server.put("/v1/kv/a", b"1").await;
            let mut moved = master(Promise::None);
            moved.since = Wall(7);
            rig.put(key::master(&service()), moved.encode()).await;
        };
        assert!(!woken(&server, path, others).await, "{path}");
        let reset = json!({"Node": "web2", "Address": "10.0.1.1", "Checks": [
            {"CheckID": "c", "Name": "c", "Status": "passing"},
            {"CheckID": "d", "Name": "d", "Status": "passing", "ServiceID": "blog"}]});
        register(&server, reset).await;
        register(&server, entry("web2", "blog", 80)).await;
    }
    // A managed service does not hear of registered ones, nor of checks on other hosts.
    let others = async {
        register(&server, entry("web2", "blog", 82)).await;
        register(&server, check("web2", "c", "critical", None)).await;
    };
    assert!(!woken(&server, "/v1/health/service/foo-redis", others).await);
}

#[tokio::test]
async fn a_reader_of_one_service_is_woken_by_all_that_bears_on_it() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    register(&server, entry("web1", "shop", 80)).await;
    let shop = "/v1/health/service/shop";
    assert!(woken(&server, shop, register(&server, entry("web1", "shop", 81))).await, "itself");
    let own = check("web1", "c", "critical", Some("shop"));
    assert!(woken(&server, shop, register(&server, own)).await, "its check");
    let of_node = check("web1", "n", "critical", None);
    assert!(woken(&server, shop, register(&server, of_node)).await, "a check of its node");
    let turned = check("web1", "c", "critical", None);
    assert!(woken(&server, shop, register(&server, turned)).await, "a check turned to its node");
    let more = entry("web2", "Shop", 80);
    assert!(woken(&server, shop, register(&server, more)).await, "another of its name");
    let managed = "/v1/health/service/foo-redis";
    let mut moved = master(Promise::None);
    moved.since = Wall(9);
    let moving = async {
        rig.put(key::master(&service()), moved.encode()).await;
    };
    assert!(woken(&server, managed, moving).await, "the master record");
    let on_host = check("db1", "n", "critical", None);
    let on_host = json!({"Node": "db1", "Address": "10.0.0.1", "Check": on_host["Check"]});
    assert!(woken(&server, managed, register(&server, on_host)).await, "a check of its host");
    let gone = async {
        for node in ["web1", "web2"] {
            let body = json!({"Node": node}).to_string();
            server.put("/v1/catalog/deregister", body.as_bytes()).await;
        }
    };
    assert!(woken(&server, shop, gone).await, "its end");
    let back = register(&server, entry("web1", "shop", 80));
    assert!(woken(&server, shop, back).await, "its return");
}

#[tokio::test]
async fn readers_of_one_node_and_of_lists_are_woken_by_their_own() {
    let rig = Rig::new();
    let server = rig.server().await;
    register(&server, entry("web1", "shop", 80)).await;
    register(&server, entry("web2", "blog", 80)).await;
    for path in ["/v1/health/node/web1", "/v1/catalog/node/web1"] {
        let other = register(&server, check("web2", path, "critical", None));
        assert!(!woken(&server, path, other).await, "{path}");
        let own = register(&server, check("web1", path, "critical", None));
        assert!(woken(&server, path, own).await, "{path}");
    }
    let noise = register(&server, check("web1", "n", "critical", None));
    assert!(!woken(&server, "/v1/catalog/services", noise).await, "checks have no part in it");
    let new = register(&server, entry("web2", "news", 80));
    assert!(woken(&server, "/v1/catalog/services", new).await);
    let state = register(&server, check("web1", "n", "passing", None));
    assert!(woken(&server, "/v1/health/state/critical", state).await);
    let node = register(&server, entry("web3", "news", 80));
    assert!(woken(&server, "/v1/catalog/nodes", node).await);
}

#[tokio::test]
async fn a_reader_of_a_prefix_sleeps_through_changes_elsewhere() {
    let rig = Rig::new();
    let server = rig.server().await;
    for key in ["a/1", "a/2", "b/1", "b/2"] {
        assert_eq!(server.put(&format!("/v1/kv/{key}"), b"x").await.text(), "true");
    }
    for path in ["/v1/kv/a?recurse", "/v1/kv/a?keys", "/v1/kv/a/1"] {
        let elsewhere = async {
            server.put("/v1/kv/b/1", b"y").await;
            server.delete("/v1/kv/b/2").await;
            server.put("/v1/kv/b/2", b"x").await;
        };
        assert!(!woken(&server, path, elsewhere).await, "{path}");
        server.put("/v1/kv/b/1", b"x").await;
    }
    let removed = async {
        server.delete("/v1/kv/a/2").await;
    };
    assert!(woken(&server, "/v1/kv/a?recurse", removed).await);
    let absent = async {
        server.put("/v1/kv/c", b"x").await;
    };
    assert!(woken(&server, "/v1/kv/c", absent).await);
}
