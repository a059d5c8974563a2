//! What is removed when it stays critical, and what is worth a write.

use sengu_core::name::HostName;
use sengu_core::record::Owner;

use super::*;
use crate::store::memory::MemoryStore;

fn record(status: Status, service: Option<&str>, reap_ms: Option<u64>) -> CheckRecord {
    CheckRecord {
        format: 1,
        node: "db1".to_owned(),
        id: "c".to_owned(),
        name: "c".to_owned(),
        service_id: service.map(str::to_owned),
        status,
        output: "words".to_owned(),
        notes: String::new(),
        owner: Owner::Agent,
        from_file: false,
        definition: Some(Definition {
            way: Way::Ttl { ttl_ms: 1000 },
            interval_ms: 0,
            timeout_ms: 0,
            successes: 0,
            failures_warning: 0,
            failures: 0,
            reap_ms,
        }),
        unknown: Default::default(),
    }
}

#[test]
fn only_services_that_were_critical_for_long_enough_are_removed() {
    let at = |seconds: u64| Time(seconds * 1_000_000);
    let critical = record(Status::Critical, Some("web"), Some(60_000));
    assert!(!over(&critical, Some(at(0)), at(60)));
    assert!(over(&critical, Some(at(0)), at(61)));
    assert!(!over(&critical, None, at(1000)), "nobody has seen since when");
    let rest = [
        record(Status::Warning, Some("web"), Some(60_000)),
        record(Status::Critical, Some("web"), None),
        record(Status::Critical, None, Some(60_000)),
    ];
    assert!(rest.iter().all(|record| !over(record, Some(at(0)), at(1000))));
}

#[tokio::test]
async fn a_status_is_worth_a_write_and_words_alone_only_now_and_then() {
    let place = Place {
        host: HostName::new("db1").expect("a name"),
        address: [10, 0, 0, 1].into(),
        datacenter: "dc1".to_owned(),
        lease: Duration::from_secs(6),
    };
    let store = Arc::new(MemoryStore::new());
    let registered = Registered::new(Arc::default(), store, place, Scripts::default());
    let standing = record(Status::Passing, None, None);
    assert!(!registered.worth(&standing, Status::Passing, "words"));
    assert!(registered.worth(&standing, Status::Critical, "words"));
    assert!(registered.worth(&standing, Status::Passing, "other words"));
    registered.beat("c", "other words");
    registered.wrote("c");
    assert!(!registered.worth(&standing, Status::Passing, "more words"), "written just now");
    assert!(registered.worth(&standing, Status::Warning, "more words"));
    assert_eq!(registered.output("c").as_deref(), Some("other words"));
}
