//! `/v1/catalog`: what clients register, and what sengu manages.

use sengu_core::record::{Promise, Record, key};
use serde_json::{Value, json};

use crate::http::testing::{Rig, Running, master, service};

async fn register(server: &Running, body: Value) -> (u16, String) {
    let answer = server.put("/v1/catalog/register", body.to_string().as_bytes()).await;
    (answer.status, answer.text())
}

async fn deregister(server: &Running, body: Value) -> (u16, String) {
    let answer = server.put("/v1/catalog/deregister", body.to_string().as_bytes()).await;
    (answer.status, answer.text())
}

fn web() -> Value {
    json!({
        "Node": "Web1", "Address": "10.0.1.1", "NodeMeta": {"env": "prod"},
        "Service": {"ID": "web-1", "Service": "Web", "Tags": ["v1", "Blue"], "Port": 80,
                    "Meta": {"k": "v"}},
        "Check": {"Name": "web alive", "ServiceID": "web-1", "Status": "passing"},
    })
}

fn yes() -> (u16, String) {
    (200, "true".to_owned())
}

#[tokio::test]
async fn an_external_service_is_registered_listed_and_removed() {
    let rig = Rig::new();
    let server = rig.server().await;
    assert_eq!(register(&server, web()).await, yes());
    let rows = server.get("/v1/catalog/service/web").await;
    let row = &rows.json()[0];
    assert_eq!(row["Node"], "Web1");
    assert_eq!(row["Address"], "10.0.1.1");
    assert_eq!(row["ServiceID"], "web-1");
    assert_eq!(row["ServiceName"], "Web");
    assert_eq!(row["ServiceTags"], json!(["v1", "Blue"]));
    assert_eq!(row["ServicePort"], 80);
    assert_eq!(row["ServiceMeta"], json!({"k": "v"}));
    assert_eq!(row["NodeMeta"], json!({"env": "prod"}));
    assert_eq!(row["Datacenter"], "dc1");

    let names = server.get("/v1/catalog/services").await.json();
    assert_eq!(names, json!({"Web": ["Blue", "v1"], "consul": []}));
    let all = server.get("/v1/sengu/services").await;
    assert_eq!(
        all.json(),
        json!([{"service": "Web", "managed": false, "tags": ["Blue", "v1"], "passing": 1,
                "warning": 0, "critical": 0, "addresses": ["10.0.1.1:80"]}])
    );
    assert!(all.index() > 0);
    let nodes = server.get("/v1/catalog/nodes").await.json();
    let found: Vec<&Value> = nodes.as_array().expect("rows").iter().map(|n| &n["Node"]).collect();
    assert_eq!(found, ["db1", "Web1"]);
    let node = server.get("/v1/catalog/node/web1").await.json();
    assert_eq!(node["Services"]["web-1"]["Service"], "Web");
    assert_eq!(server.get("/v1/catalog/node/none").await.json(), Value::Null);
    assert_eq!(server.get("/v1/catalog/datacenters").await.json(), json!(["dc1"]));

    let remove = json!({"Node": "web1", "ServiceID": "web-1"});
    assert_eq!(deregister(&server, remove).await, yes());
    let gone = server.get("/v1/catalog/service/web").await;
    assert_eq!(gone.json(), json!([]));
    assert!(gone.index() > rows.index());
    assert_eq!(server.get("/v1/health/node/web1").await.json(), json!([]), "its check too");
    assert_eq!(deregister(&server, json!({"Node": "web1"})).await, yes());
    assert_eq!(server.get("/v1/catalog/node/web1").await.json(), Value::Null);
    assert_eq!(deregister(&server, json!({"Node": "never"})).await, yes());
}

#[tokio::test]
async fn readers_choose_by_tag_and_metadata() {
    let rig = Rig::new();
    let server = rig.server().await;
    register(&server, web()).await;
    for (query, found) in [
        ("", 1),
        ("tag=blue", 1),
        ("tag=blue&tag=v1", 1),
        ("tag=blue&tag=v2", 0),
        ("node-meta=env:prod", 1),
        ("node-meta=env:test", 0),
        ("near=_agent&ns=default&partition=x&cached", 1),
    ] {
        let rows = server.get(&format!("/v1/catalog/service/web?{query}")).await.json();
        assert_eq!(rows.as_array().map(Vec::len), Some(found), "{query}");
    }
    assert_eq!(server.get("/v1/catalog/service/web?filter=x").await.status, 400);
    let missing = server.get("/v1/catalog/node-services/none").await.json();
    assert_eq!(missing, json!({"Node": null, "Services": []}));
    let listed = server.get("/v1/catalog/node-services/WEB1").await.json();
    assert_eq!(listed["Node"]["Node"], "Web1");
    assert_eq!(listed["Services"][0]["ID"], "web-1");
    assert_eq!(server.get("/v1/catalog/service/").await.status, 400);
    assert_eq!(server.get("/v1/catalog/nodes?dc=dc2").await.status, 500);
    assert_eq!(server.get("/v1/catalog/register").await.status, 405);
    assert_eq!(server.get("/v1/catalog/nodes?node-meta=env:prod").await.json()[0]["Node"], "Web1");
}

#[tokio::test]
async fn registering_the_same_again_moves_no_index() {
    let rig = Rig::new();
    let server = rig.server().await;
    register(&server, web()).await;
    let first = server.get("/v1/catalog/service/web").await;
    assert_eq!(register(&server, web()).await, yes());
    let second = server.get("/v1/catalog/service/web").await;
    assert_eq!((second.index(), second.json()), (first.index(), first.json()));
    let mut changed = web();
    changed["Service"]["Port"] = json!(81);
    let path = format!("/v1/catalog/service/web?index={}&wait=30s", first.index());
    let (woken, _) = tokio::join!(server.get(&path), register(&server, changed));
    assert_eq!(woken.json()[0]["ServicePort"], 81);
}

#[tokio::test]
async fn a_service_that_changes_its_name_wakes_readers_of_the_old_one() {
    let rig = Rig::new();
    let server = rig.server().await;
    register(&server, web()).await;
    let index = server.get("/v1/catalog/service/web").await.index();
    let mut renamed = web();
    renamed["Service"]["Service"] = json!("shop");
    let path = format!("/v1/catalog/service/web?index={index}&wait=30s");
    let (woken, _) = tokio::join!(server.get(&path), register(&server, renamed));
    assert_eq!(woken.json(), json!([]));
}

#[tokio::test]
async fn bad_registrations_are_refused_with_the_reason() {
    let rig = Rig::new();
    let server = rig.server().await;
    for (body, status, text) in [
        (json!({}), 500, "Must provide node"),
        (json!({"Node": "n"}), 500, "Must provide address"),
        (json!({"Node": "n", "Address": "not one"}), 500, "node address"),
        (json!({"Node": "n/m", "Address": "10.0.0.9"}), 500, "node name"),
        (json!({"Node": "n", "SkipNodeUpdate": true}), 500, "node n is not registered"),
        (json!({"Node": "n", "Address": "10.0.0.9", "Datacenter": "x"}), 500, "No path"),
        (json!({"Node": "n", "Address": "10.0.0.9", "Service": {"ID": "x"}}), 500, "Must provide"),
        (
            json!({"Node": "n", "Address": "10.0.0.9",
                   "Service": {"Service": "x", "Address": "0.0.0.0"}}),
            500,
            "Invalid service address",
        ),
        (
            json!({"Node": "n", "Address": "10.0.0.9", "Check": {"Name": "c", "ServiceID": "x"}}),
            500,
            "Missing service registration",
        ),
        (
            json!({"Node": "n", "Address": "10.0.0.9", "Check": {"Name": "c", "Status": "x"}}),
            500,
            "Invalid check status",
        ),
        (json!({"Node": 7}), 400, "Request decode failed"),
    ] {
        let (got, message) = register(&server, body.clone()).await;
        assert_eq!(got, status, "{body}: {message}");
        assert!(message.starts_with(text), "{body}: {message}");
    }
    assert_eq!(server.get("/v1/catalog/node/n").await.json(), Value::Null);
}

#[tokio::test]
async fn a_managed_service_shows_who_is_master() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    let rows = server.get("/v1/catalog/service/foo-redis?tag=master").await.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    assert_eq!(rows[0]["ServiceID"], "foo-redis-cache1");
    assert_eq!(rows[0]["Node"], "db1");
    assert_eq!(rows[0]["ServiceAddress"], "10.0.0.1");
    assert_eq!(rows[0]["ServicePort"], 6379);
    assert_eq!(rows[0]["ServiceTags"], json!(["master", "primary"]));
    let rows = server.get("/v1/catalog/service/FOO-redis?tag=slave").await.json();
    assert_eq!(rows[0]["ServiceID"], "foo-redis-cache2");
    let names = server.get("/v1/catalog/services").await.json();
    assert_eq!(names["foo-redis"], json!(["master", "primary", "replica", "slave"]));
    let own = server.get("/v1/agent/services").await.json();
    assert_eq!(own.as_object().expect("a map").keys().collect::<Vec<_>>(), ["foo-redis-cache1"]);
    let servers = server.get("/v1/catalog/service/consul").await.json();
    assert_eq!(servers.as_array().map(Vec::len), Some(2));
    assert_eq!(
        server.get("/v1/status/peers").await.json(),
        json!(["10.0.0.1:8300", "10.0.0.2:8300"])
    );
    assert_eq!(server.get("/v1/status/leader").await.json(), "10.0.0.1:8300");
}

#[tokio::test]
async fn nobody_writes_what_sengu_manages() {
    let rig = Rig::new();
    rig.with_service(Promise::None).await;
    let server = rig.server().await;
    let node = |service: Value| json!({"Node": "web1", "Address": "10.0.1.1", "Service": service});
    for body in [
        node(json!({"Service": "Foo-Redis", "Tags": ["master"]})),
        node(json!({"Service": "consul"})),
        json!({"Node": "db1", "Address": "10.9.9.9"}),
        json!({"Node": "db2", "Address": "10.0.0.2",
               "Service": {"Service": "x", "ID": "foo-redis-cache2"}}),
        json!({"Node": "db2", "Address": "10.0.0.2", "Check": {"CheckID": "serfHealth"}}),
    ] {
        let (status, text) = register(&server, body.clone()).await;
        assert_eq!(status, 409, "{body}: {text}");
        assert!(text.contains("sengu") || text.contains("agent"), "{text}");
    }
    for body in [
        json!({"Node": "db1"}),
        json!({"Node": "db1", "ServiceID": "foo-redis-cache1"}),
        json!({"Node": "db2", "CheckID": "service:foo-redis-cache2"}),
    ] {
        assert_eq!(deregister(&server, body.clone()).await.0, 409, "{body}");
    }
    // A service of somebody's own may stand on an agent's host.
    let own = json!({"Node": "db1", "Address": "10.0.0.1", "Service": {"Service": "exporter"}});
    assert_eq!(register(&server, own).await, yes());
    let rows = server.get("/v1/catalog/service/exporter").await.json();
    assert_eq!(rows[0]["Address"], "10.0.0.1");
}

#[tokio::test]
async fn a_name_that_becomes_managed_hides_what_was_registered_under_it() {
    let rig = Rig::new();
    let server = rig.server().await;
    let body = json!({"Node": "w", "Address": "10.0.1.1",
                      "Service": {"Service": "foo-redis", "Tags": ["master"]}});
    assert_eq!(register(&server, body.clone()).await, yes());
    rig.with_service(Promise::None).await;
    let rows = server.get("/v1/catalog/service/foo-redis?tag=master").await.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    assert_eq!(rows[0]["Node"], "db1");
    rig.put(key::master(&service()), master(Promise::None).encode()).await;
    assert_eq!(register(&server, body).await.0, 409);
}

#[tokio::test]
async fn the_agent_tells_about_itself() {
    let rig = Rig::new();
    let server = rig.server().await;
    let own = server.get("/v1/agent/self").await.json();
    assert_eq!(own["Config"]["Datacenter"], "dc1");
    assert_eq!(own["Config"]["NodeName"], "db1");
    assert_eq!(own["Member"]["Addr"], "10.0.0.1");
    assert_eq!(own["Stats"]["consul"]["leader_addr"], "10.0.0.1:8300");
    assert!(own["Config"]["Version"].as_str().is_some_and(|version| version.starts_with("1.")));
    let members = server.get("/v1/agent/members").await.json();
    assert_eq!((&members[0]["Name"], &members[0]["Status"]), (&json!("db1"), &json!(1)));
    let pretty = server.get("/v1/agent/self?pretty").await.text();
    assert!(pretty.contains("\n  \"Config\""), "{pretty}");
}
