//! Registrations with the agent, done by the store's own machine on a catalog that follows it.

use serde_json::json;

use super::super::directory::Place;
use super::super::json::decode;
use super::super::register;
use super::*;
use crate::catalog::Catalog;
use crate::kv::Kv;
use crate::name::HostName;
use crate::time::Time;

const CLIENT: Origin = Origin::Client { scripts: false };

/// Agent `db1`, its store and its catalog.
struct World {
    kv: Kv,
    catalog: Catalog,
    place: Place,
}

impl World {
    fn new() -> Self {
        let place = Place {
            host: HostName::new("db1").expect("a name"),
            address: [10, 0, 0, 1].into(),
            datacenter: "dc1".to_owned(),
            lease: std::time::Duration::from_secs(6),
        };
        Self { kv: Kv::new(), catalog: Catalog::default(), place }
    }

    fn directory(&self) -> Directory<'_> {
        Directory::new(&self.catalog, Time(1), &self.place)
    }

    /// Carries a plan out; the status and text of a refusal.
    fn run(
        &mut self,
        plan: impl Fn(&Directory<'_>) -> Result<Plan, Refusal>,
    ) -> Result<(), (u16, String)> {
        let plan = plan(&self.directory()).map_err(|no| (no.status(), no.to_string()))?;
        let applied = self.kv.apply(&plan.txn).expect("a good txn");
        assert!(applied.reply.succeeded, "{plan:?}");
        self.catalog.apply(Time(1), applied.reply.revision, &applied.changes);
        Ok(())
    }

    fn service(&mut self, body: &Value) -> Result<(), (u16, String)> {
        let request: AgentService = decode(body.to_string().as_bytes()).expect("reads");
        self.run(|directory| register_service(directory, &request, false, CLIENT))
    }

    fn check(&mut self, body: &Value, origin: Origin) -> Result<(), (u16, String)> {
        let request: AgentCheck = decode(body.to_string().as_bytes()).expect("reads");
        self.run(|directory| register_check(directory, &request, origin))
    }

    fn tell(&mut self, id: &str, status: Status, output: &str) -> Result<(), (u16, String)> {
        self.run(|directory| told(directory, id, status, output))
    }

    /// Each own check with how it stands.
    fn standing(&self) -> Vec<(String, &'static str)> {
        let directory = self.directory();
        own_checks(&directory).map(|check| (check.id.clone(), check.status.as_str())).collect()
    }
}

fn web() -> Value {
    json!({"Name": "web", "Tags": ["blue"], "Port": 80, "Check": {"TTL": "10s"}})
}

#[test]
fn a_service_comes_with_its_checks_and_goes_with_them() {
    let mut world = World::new();
    world.service(&web()).expect("registered");
    assert_eq!(world.standing(), [("service:web".to_owned(), "critical")]);
    let record = own_service(&world.directory(), "web").expect("there").clone();
    assert_eq!((record.name.as_str(), record.port, record.owner), ("web", 80, Owner::Agent));
    let two = json!({"ID": "api/1", "Name": "api",
        "Checks": [{"TTL": "1s", "Status": "passing"}, {"CheckID": "mine", "TTL": "2s"}]});
    world.service(&two).expect("registered");
    let mine = ("mine".to_owned(), "critical");
    assert_eq!(world.standing()[0], mine);
    assert_eq!(world.standing()[1], ("service:api/1:1".to_owned(), "passing"));
    world.run(|directory| deregister_service(directory, "api/1")).expect("gone");
    assert_eq!(world.standing(), [("service:web".to_owned(), "critical")]);
    let (code, text) =
        world.run(|directory| deregister_service(directory, "api")).expect_err("unknown");
    assert!(code == 404 && text.contains("not the service name"), "{code} {text}");
}

#[test]
fn what_a_check_said_holds_over_a_new_registration() {
    let mut world = World::new();
    world.service(&web()).expect("registered");
    world.tell("service:web", Status::Passing, "fine").expect("told");
    let before = world.kv.revision();
    world.tell("service:web", Status::Passing, "fine").expect("told again");
    world.service(&web()).expect("registered again");
    assert_eq!(world.kv.revision(), before, "nothing changed, so nothing is written");
    let longer = json!({"Name": "web", "Port": 81, "Check": {"TTL": "20s", "Status": "critical"}});
    world.service(&longer).expect("registered anew");
    assert_eq!(world.standing(), [("service:web".to_owned(), "passing")]);
}

#[test]
fn other_checks_stay_unless_they_are_to_be_replaced() {
    let mut world = World::new();
    world.service(&web()).expect("registered");
    let extra = json!({"Name": "extra", "ServiceID": "web", "TTL": "1s"});
    world.check(&extra, CLIENT).expect("registered");
    world.service(&web()).expect("registered");
    assert_eq!(world.standing().len(), 2);
    world.run(|directory| maintain(directory, Some("web"), true, "")).expect("marked");
    let request: AgentService = decode(web().to_string().as_bytes()).expect("reads");
    world.run(|directory| register_service(directory, &request, true, CLIENT)).expect("replaced");
    let ids: Vec<String> = world.standing().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["_service_maintenance:web", "service:web"]);
}

#[test]
fn checks_are_told_only_if_they_wait_for_that() {
    let mut world = World::new();
    let tcp = json!({"Name": "port", "TCP": "127.0.0.1:1", "Interval": "10s"});
    world.check(&tcp, CLIENT).expect("registered");
    let (code, text) = world.tell("port", Status::Passing, "").expect_err("no TTL");
    assert!(code == 500 && text.contains("does not have associated TTL"), "{code} {text}");
    assert_eq!(world.tell("none", Status::Passing, "").expect_err("unknown").0, 404);
    let lost = json!({"Name": "x", "ServiceID": "none", "TTL": "1s"});
    let (code, text) = world.check(&lost, CLIENT).expect_err("no service");
    assert!(code == 404 && text.contains("does not exist"), "{code} {text}");
    world.run(|directory| deregister_check(directory, "port")).expect("gone");
    assert_eq!(
        world.run(|directory| deregister_check(directory, "port")).expect_err("unknown").0,
        404
    );
}

#[test]
fn programs_are_refused_with_the_key_that_allows_them() {
    let mut world = World::new();
    let check = json!({"Name": "disk", "Args": ["/bin/true"], "Interval": "1m"});
    let (code, text) = world.check(&check, CLIENT).expect_err("refused");
    assert!(code == 400 && text.contains("http_scripts"), "{text}");
    assert!(text.contains("enable_script_checks") && text.contains("enable_local_script_checks"));
    let file = Origin::File { scripts: false };
    let (_, text) = world.check(&check, file).expect_err("refused");
    assert!(text.contains("set `scripts = true`"), "{text}");
    world.check(&check, Origin::File { scripts: true }).expect("allowed");
    assert!(own_check(&world.directory(), "disk").is_some_and(|check| check.from_file));
    world.check(&check, Origin::Client { scripts: true }).expect("allowed");
}

#[test]
fn maintenance_is_a_critical_check_until_it_ends() {
    let mut world = World::new();
    world.service(&web()).expect("registered");
    world.tell("service:web", Status::Passing, "").expect("told");
    let aggregated = |world: &World| {
        let directory = world.directory();
        let checks: Vec<_> =
            own_checks(&directory).map(|check| (check.id.clone(), check.status)).collect();
        aggregated(checks.iter().map(|(id, status)| (id.as_str(), *status)))
    };
    assert_eq!(aggregated(&world), "passing");
    for service in [None, Some("web")] {
        world.run(|directory| maintain(directory, service, true, "new disks")).expect("marked");
        let before = world.kv.revision();
        world.run(|directory| maintain(directory, service, true, "new disks")).expect("again");
        assert_eq!(world.kv.revision(), before);
        assert_eq!(aggregated(&world), "maintenance");
        world.run(|directory| maintain(directory, service, false, "")).expect("ended");
        assert_eq!(aggregated(&world), "passing");
    }
    assert_eq!(
        world.run(|directory| maintain(directory, Some("none"), true, "")).expect_err("no").0,
        404
    );
}

#[test]
fn the_catalog_may_remove_and_does_not_take_over() {
    let mut world = World::new();
    world.service(&web()).expect("registered");
    let body = json!({"Node": "db1", "Address": "10.0.0.1", "SkipNodeUpdate": true,
        "Service": {"Service": "web", "Port": 8080},
        "Check": {"CheckID": "service:web", "ServiceID": "web", "Status": "warning"}});
    world
        .run(|directory| register::register(directory, body.to_string().as_bytes()))
        .expect("written");
    let record = own_service(&world.directory(), "web").expect("still the agent's").clone();
    assert_eq!(record.port, 8080, "the last writer's words");
    let check = own_check(&world.directory(), "service:web").expect("still the agent's").clone();
    assert_eq!(check.status, Status::Warning);
    assert!(check.definition.is_some(), "and it is still kept");
    let body = json!({"Node": "db1", "ServiceID": "web"});
    world
        .run(|directory| register::deregister(directory, body.to_string().as_bytes()))
        .expect("removed");
    assert!(world.standing().is_empty());
    assert!(report(&world.directory(), "service:web", Status::Passing, "").is_none());
}

#[test]
fn the_agents_own_names_are_refused() {
    let mut world = World::new();
    let (code, _) = world.service(&json!({"Name": "consul"})).expect_err("refused");
    assert_eq!(code, 409);
    let serf = json!({"Name": "serfHealth", "TTL": "1s"});
    assert_eq!(world.check(&serf, CLIENT).expect_err("refused").0, 409);
    assert_eq!(world.service(&json!({"Port": 1})).expect_err("no name").0, 400);
    let twice = json!({"Name": "a", "Checks": [{"CheckID": "x", "TTL": "1s"}, {"CheckID": "x", "TTL": "1s"}]});
    assert_eq!(world.service(&twice).expect_err("two of one id").0, 400);
}
