//! `probe = "alias"`: a service in the catalog stands well, by its own checks.
//!
//! The worst of the checks of an entry and of its host counts, as Consul's alias checks have it.
//! An entry that is not there is critical; a catalog that was never read is unknown.

use std::sync::Arc;

use async_trait::async_trait;
use sengu_core::catalog::Catalog;
use sengu_core::consul::directory::managed_id;
use sengu_core::consul::record::Status;
use sengu_core::health::Judged;
use sengu_core::record::Health;

use super::keys::Keys;
use super::placeholder::fill;
use super::{Kind, Probe, Scene};

pub(super) const KIND: Kind = Kind { name: "alias", read };

#[derive(Debug)]
struct AliasProbe {
    service: String,
    node: Option<String>,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let service = keys.text("service");
    if service.is_none() && !keys.has("service") {
        keys.missing("service", "\"web\"");
    }
    let node = keys.text("node").map(|node| node.value);
    Some(Arc::new(AliasProbe { service: service?.value, node }))
}

#[async_trait]
impl Probe for AliasProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let Some(catalog) = scene.view.catalog() else {
            return Judged::unknown(scene.now, "nothing was read from the store yet");
        };
        let own = || scene.setup.host.to_string();
        let node = self.node.as_ref().map_or_else(own, |node| fill(node, scene));
        let (status, words) = repeat(&catalog, &node, Some(&fill(&self.service, scene)), "");
        match status {
            Status::Passing => Judged::passing(scene.now, words),
            Status::Warning => Judged::warning(scene.now, words),
            Status::Critical => Judged::failing(scene.now, words),
        }
    }
}

/// What the checks of a registered service (by id or name) and of its host say; without a
/// service, those of the host alone. The check named `but` is passed over: it would repeat
/// itself.
pub(super) fn repeat(
    catalog: &Catalog,
    node: &str,
    service: Option<&str>,
    but: &str,
) -> (Status, String) {
    let registry = catalog.registry();
    let ids: Option<Vec<&str>> = service.map(|wanted| {
        let own = registry.services_on(node).map(|kept| &kept.record);
        let same = own.filter(|one| one.id == wanted || one.name.eq_ignore_ascii_case(wanted));
        same.map(|one| one.id.as_str()).collect()
    });
    if let (Some(wanted), Some([])) = (service, ids.as_deref()) {
        if let Some(found) = managed(catalog, node, wanted) {
            return found;
        }
        return (Status::Critical, format!("service {wanted} is not registered on {node}"));
    }
    if service.is_none() && registry.node(node).is_none() {
        return (Status::Critical, format!("host {node} is not known"));
    }
    let concerns = |id: Option<&str>| match (id, &ids) {
        (None, _) => true,
        (Some(id), Some(ids)) => ids.contains(&id),
        (Some(_), None) => false,
    };
    let checks = registry.checks_on(node).map(|kept| &kept.record);
    let checks = checks.filter(|check| check.id != but && concerns(check.service_id.as_deref()));
    let bad: Vec<_> = checks.filter(|check| check.status != Status::Passing).collect();
    let Some(worst) = bad.iter().map(|check| check.status).max() else {
        return (Status::Passing, "all checks pass".to_owned());
    };
    let words: Vec<String> = bad
        .iter()
        .filter(|check| check.status == worst)
        .map(|check| format!("{} is {}", check.id, check.status.as_str()))
        .collect();
    (worst, words.join(", "))
}

/// The same of an instance that sengu manages, by its id or its service's name.
fn managed(catalog: &Catalog, node: &str, wanted: &str) -> Option<(Status, String)> {
    let all = catalog.services().flat_map(|(name, view)| {
        view.instances.iter().map(move |(instance, at)| (name, instance, &at.record))
    });
    let here = all.filter(|(_, _, record)| record.host.as_str().eq_ignore_ascii_case(node));
    let (_, instance, record) = here.into_iter().find(|(name, instance, _)| {
        name.as_str() == wanted || managed_id(name, instance) == wanted
    })?;
    Some(match &record.health {
        Health::Up => (Status::Passing, format!("{instance} is up")),
        Health::Troubled(why) => (Status::Warning, format!("{instance}: {why}")),
        Health::Silent(why) => (Status::Critical, format!("{instance}: {why}")),
        Health::Exited => (Status::Critical, format!("{instance}: its process has exited")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sengu_core::health::Status as Judgement;
    use sengu_core::kv::{Change, KeyValue};

    use super::super::fixture::Stage;
    use super::*;

    fn put(catalog: &mut Catalog, key: &str, value: &str) {
        let revision = catalog.revision + 1;
        let value = value.as_bytes().into();
        let entry = KeyValue {
            key: key.into(),
            value,
            created: 1,
            modified: revision,
            version: 1,
            lease: 0,
        };
        let change = Change { revision, key: key.into(), now: Some(Arc::new(entry)) };
        catalog.apply(Stage::time(0), revision, &[change]);
    }

    #[tokio::test]
    async fn it_says_what_the_other_says() {
        let stage = Stage::default();
        let check = Stage::check("[[all]]\nprobe = \"alias\"\nservice = \"web\"");
        let look = async || {
            let judged = check.all[0].look(&stage.scene(0)).await;
            (judged.status, judged.output)
        };
        let said = |status, text: &str| (status, text.to_owned());
        let unread = said(Judgement::Unknown, "nothing was read from the store yet");
        assert_eq!(look().await, unread);
        let mut catalog = Catalog::default();
        stage.view.publish(Arc::new(catalog.clone()));
        let missing = said(Judgement::Critical, "service web is not registered on db1");
        assert_eq!(look().await, missing);
        let service =
            r#"{"format":1,"node":"db1","id":"web-1","name":"Web","port":80,"owner":"agent"}"#;
        put(&mut catalog, "services/db1/web-1", service);
        stage.view.publish(Arc::new(catalog.clone()));
        assert_eq!(look().await, said(Judgement::Passing, "all checks pass"));
        let checked = |status: &str, of: &str| {
            format!(r#"{{"format":1,"node":"db1","id":"c","name":"c","status":"{status}"{of}}}"#)
        };
        put(&mut catalog, "checks/db1/c", &checked("warning", r#","service_id":"web-1""#));
        stage.view.publish(Arc::new(catalog.clone()));
        assert_eq!(look().await, said(Judgement::Warning, "c is warning"));
        put(&mut catalog, "checks/db1/c", &checked("critical", r#","service_id":"other""#));
        stage.view.publish(Arc::new(catalog.clone()));
        assert_eq!(look().await, said(Judgement::Passing, "all checks pass"));
        put(&mut catalog, "checks/db1/c", &checked("critical", ""));
        stage.view.publish(Arc::new(catalog.clone()));
        assert_eq!(look().await, said(Judgement::Critical, "c is critical"));
        let mut managed = crate::template::stage::Stage::default();
        managed.instance("foo", "db1", "10.0.0.1:6379", None);
        for wanted in ["foo", "foo-db1"] {
            let told = repeat(&managed.catalog, "db1", Some(wanted), "");
            assert_eq!(told, (Status::Passing, "db1 is up".to_owned()));
        }
        assert_eq!(repeat(&managed.catalog, "db2", Some("foo"), "").0, Status::Critical);
        assert_eq!(repeat(&catalog, "db1", None, "c").0, Status::Critical, "host not registered");
        assert_eq!(repeat(&catalog, "db1", Some("web-1"), "c").0, Status::Passing, "not itself");
    }
}
