//! What changed between two configurations, in lines for `sengu reload` and the log.
//!
//! Both are spelled out as key and value and compared; secrets are spelled as "set".

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Config, HookCall, HttpConfig, ServiceConfig, StoreConfig};
use crate::duration::format;

/// One line for each difference: `+` new, `-` gone, `~` changed.
pub(super) fn lines(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (spelled(old), spelled(new));
    let mut lines = Vec::new();
    for (key, value) in &before {
        match after.get(key) {
            None => lines.push(format!("- {key} = {value}")),
            Some(now) if now != value => lines.push(format!("~ {key} = {now} (was {value})")),
            Some(_) => {}
        }
    }
    for (key, value) in &after {
        if !before.contains_key(key) {
            lines.push(format!("+ {key} = {value}"));
        }
    }
    for (name, service) in &new.services {
        let secret = old.services.get(name).map(|old| &old.credentials);
        if secret.is_some_and(|secret| *secret != service.credentials) {
            lines.push(format!("~ service.{name}.credentials (not shown)"));
        }
    }
    for (name, token) in &new.tokens {
        let hashes = old.tokens.get(name).map(|old| &old.hashes);
        if hashes.is_some_and(|hashes| *hashes != token.hashes) {
            lines.push(format!("~ token.{name} (not shown)"));
        }
    }
    lines
}

fn spelled(config: &Config) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut put = |key: String, value: String| drop(lines.insert(key, value));
    put("host".into(), config.host.to_string());
    put("address".into(), config.address.to_string());
    put("data_dir".into(), config.data_dir.display().to_string());
    put("socket".into(), config.socket.display().to_string());
    put("datacenter".into(), config.datacenter.clone());
    put("guard".into(), config.guard.to_string());
    put("store.lease".into(), format(config.lease));
    spell_store(&mut put, &config.store);
    put("dns.listen".into(), list(&config.dns.listen));
    put("dns.domains".into(), list(&config.dns.domains));
    put("dns.ttl".into(), format(config.dns.ttl));
    put("dns.recursors".into(), list(&config.dns.recursors));
    let clients = config.dns.recursion_clients.iter().map(|(net, bits)| format!("{net}/{bits}"));
    put("dns.recursion_clients".into(), list(clients.collect::<Vec<_>>()));
    put("dns.responses_per_second".into(), config.dns.responses_per_second.to_string());
    put("dns.connections".into(), config.dns.connections.to_string());
    let each = config.dns.connections_per_address.to_string();
    put("dns.connections_per_address".into(), each);
    spell_http(&mut put, &config.http);
    for (name, token) in &config.tokens {
        put(format!("token.{name}.scope"), token.scope.to_string());
    }
    put("checks.folder".into(), config.checks.folder.display().to_string());
    put("checks.services".into(), config.checks.services.display().to_string());
    put("checks.scripts".into(), config.checks.scripts.to_string());
    put("checks.http_scripts".into(), config.checks.http_scripts.to_string());
    for (name, service) in &config.services {
        spell_service(&mut put, &format!("service.{name}"), service);
    }
    for template in &config.templates {
        let key = format!("template {}", template.destination.display());
        let program = |words: &Option<Vec<String>>| words.as_ref().map(list).unwrap_or_default();
        put(format!("{key}: source"), template.source.clone());
        put(format!("{key}: command"), program(&template.command));
        put(format!("{key}: validate"), program(&template.validate));
        put(format!("{key}: timeout"), format(template.timeout));
        put(format!("{key}: wait_min"), format(template.wait_min));
        put(format!("{key}: wait_max"), format(template.wait_max));
        put(format!("{key}: allow_empty"), template.allow_empty.to_string());
        put(format!("{key}: min_records"), template.min_records.to_string());
        put(format!("{key}: block"), template.block.to_string());
        put(format!("{key}: in_place"), template.in_place.to_string());
        put(format!("{key}: backup"), template.backup.to_string());
        let mode = template.mode.map(|mode| format!("{mode:04o}"));
        let kept = || "the old file's".to_owned();
        put(format!("{key}: owner"), template.owner.clone().unwrap_or_else(kept));
        put(format!("{key}: mode"), mode.unwrap_or_else(kept));
    }
    for (index, hook) in config.hooks.iter().enumerate() {
        let key = format!("hook {}: {}", index + 1, hook.phase.as_str());
        let services =
            if hook.services.is_empty() { "all services".into() } else { list(&hook.services) };
        let error = word(&hook.on_error);
        let call = match &hook.call {
            HookCall::Program(command) => list(command),
            HookCall::Http { url, .. } => crate::probe::http::shown(url),
        };
        let user = hook.user.as_deref().unwrap_or("the agent's user");
        let value = format!(
            "{call} for {services}, as {user} in {}, timeout {}, on_error {error}",
            hook.folder.display(),
            format(hook.timeout)
        );
        put(key, value);
    }
    lines
}

fn spell_http(put: &mut impl FnMut(String, String), http: &HttpConfig) {
    put("http.listen".into(), list(&http.listen));
    put("http.plaintext".into(), http.plaintext.to_string());
    put("http.health_without_token".into(), http.health_without_token.to_string());
    put("http.loopback_without_token".into(), http.loopback_without_token.to_string());
    if let Some(tls) = &http.tls {
        put("http.tls.certificate".into(), tls.certificate.display().to_string());
        put("http.tls.key".into(), tls.key.display().to_string());
        let none = || "none".to_owned();
        let client_ca = tls.client_ca.as_ref().map_or_else(none, |ca| ca.display().to_string());
        put("http.tls.client_ca".into(), client_ca);
        put("http.tls.loopback".into(), tls.loopback.to_string());
    }
    let limits = &http.limits;
    for (key, value) in [
        ("connections", limits.connections.to_string()),
        ("connections_per_address", limits.connections_per_address.to_string()),
        ("waiting", limits.waiting.to_string()),
        ("streams", limits.streams.to_string()),
        ("requests_per_second", limits.requests_per_second.to_string()),
        ("header", format(limits.header)),
        ("header_bytes", limits.header_bytes.to_string()),
        ("body", format(limits.body)),
        ("stall", format(limits.stall)),
        ("idle", format(limits.idle)),
    ] {
        put(format!("http.limits.{key}"), value);
    }
}

fn set(there: bool) -> String {
    if there { "set" } else { "none" }.to_owned()
}

fn spell_store(put: &mut impl FnMut(String, String), store: &StoreConfig) {
    match store {
        StoreConfig::Embedded => put("store.kind".into(), "embedded".into()),
        StoreConfig::Etcd(etcd) => {
            put("store.kind".into(), "etcd".into());
            put("store.endpoints".into(), list(&etcd.endpoints));
            put("store.prefix".into(), etcd.prefix.clone());
            put("store.election".into(), format(etcd.election));
            put("store.fence".into(), format(etcd.fence));
            put("store.credentials".into(), set(etcd.credentials.is_some()));
            put("store.tls".into(), set(etcd.tls.is_some()));
        }
    }
}

fn spell_service(put: &mut impl FnMut(String, String), key: &str, service: &ServiceConfig) {
    let policy = &service.policy;
    put(format!("{key}.kind"), word(&service.kind));
    put(format!("{key}.failover"), word(&policy.failover));
    put(format!("{key}.loss"), word(&policy.loss));
    put(format!("{key}.rejoin"), word(&policy.rejoin));
    put(format!("{key}.kill"), policy.kill.to_string());
    put(format!("{key}.max_lag"), format(policy.max_lag));
    put(format!("{key}.hung_after"), format(policy.hung_after));
    put(format!("{key}.candidate_wait"), format(policy.candidate_wait));
    put(format!("{key}.cooldown.failovers"), policy.cooldown_failovers.to_string());
    put(format!("{key}.cooldown.window"), format(policy.cooldown_window));
    put(format!("{key}.max_attempts"), policy.max_attempts.to_string());
    put(format!("{key}.interval"), format(service.interval));
    put(format!("{key}.timeout"), format(service.timeout));
    let tls = service.tls.as_ref().map_or_else(
        || "none".into(),
        |tls| {
            let ca = tls
                .ca
                .as_ref()
                .map_or_else(|| "the system's".into(), |ca| ca.display().to_string());
            let certificate = tls.identity.as_ref().map(|(certificate, _)| certificate.display());
            let certificate = certificate.map_or_else(|| "none".into(), |path| path.to_string());
            format!("ca {ca}, certificate {certificate}")
        },
    );
    put(format!("{key}.tls"), tls);
    for (name, instance) in &service.instances {
        let key = format!("{key}.instance.{name}");
        put(format!("{key}.address"), instance.address.to_string());
        put(format!("{key}.zone"), instance.zone.clone().unwrap_or_else(|| "none".into()));
        put(format!("{key}.priority"), instance.priority.to_string());
    }
}

/// A variant as the file spells it.
fn word(value: &impl Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}
