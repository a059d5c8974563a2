//! The templates that come with sengu, each by what its reader would make of it.

use std::net::SocketAddr;

use super::*;

fn shipped(name: &str, catalog: &Catalog) -> String {
    text(&Source::read(name).expect("shipped").text, catalog)
}

/// As `stage`, with the master withdrawn.
fn withdrawn() -> Stage {
    let mut stage = stage();
    stage.vacant(NOW, "foo-redis", "db1", "10.0.0.1:6379");
    stage
}

#[test]
fn every_shipped_template_renders_and_ends_its_last_line() {
    for (name, _) in SHIPPED {
        let told = shipped(name, &stage().catalog);
        assert!(told.ends_with('\n') && !told.contains("\n\n\n"), "{name}:\n{told}");
        let empty =
            rendered_at(&Source::read(name).expect("shipped").text, &Catalog::default(), NOW);
        empty.unwrap_or_else(|error| panic!("{name} from an empty catalog: {error}"));
    }
}

#[test]
fn dnsmasq_asks_the_agent_for_its_domains() {
    let told = shipped("dnsmasq.tera", &stage().catalog);
    let lines: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "server=/sengu/127.0.0.1#8600",
            "server=/consul/127.0.0.1#8600",
            "rebind-domain-ok=/sengu/",
            "rebind-domain-ok=/consul/",
        ]
    );
}

#[test]
fn resolved_asks_the_agent_for_its_domains() {
    let told = shipped("resolved.tera", &stage().catalog);
    let lines: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        ["[Resolve]", "DNS=127.0.0.1:8600", "Domains=~sengu ~consul", "DNSSEC=false"]
    );
}

#[test]
fn haproxy_has_a_backend_for_the_master_one_for_replicas_and_one_for_each_other_service() {
    let backends = |catalog: &Catalog| -> Vec<(String, Vec<String>)> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for line in shipped("haproxy.tera", catalog).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["backend", name] => found.push(((*name).to_owned(), Vec::new())),
                ["server", _, endpoint, ..] => {
                    endpoint.parse::<SocketAddr>().expect("an endpoint");
                    found.last_mut().expect("in a backend").1.push((*endpoint).to_owned());
                }
                _ => {}
            }
        }
        for (_, servers) in &mut found {
            servers.sort();
        }
        found
    };
    let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let found = backends(&stage().catalog);
    assert_eq!(found[0], ("foo-redis-master".into(), own(&["10.0.0.1:6379"])));
    let replicas = own(&["10.0.0.2:6379", "10.0.0.3:6379"]);
    assert_eq!(found[1], ("foo-redis-replicas".into(), replicas));
    assert_eq!(found[2], ("web".into(), own(&["10.0.0.2:80", "10.9.9.9:81"])));
    let found = backends(&withdrawn().catalog);
    assert_eq!(found[0], ("foo-redis-master".into(), Vec::new()), "nobody is named");
}

#[test]
fn prometheus_reads_the_targets() {
    for stage in [stage(), withdrawn(), Stage::default()] {
        let told = shipped("prometheus-targets.tera", &stage.catalog);
        let groups: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        for group in groups.as_array().expect("a list") {
            assert!(group["labels"]["service"].is_string(), "{group}");
            for target in group["targets"].as_array().expect("a list") {
                let endpoint = target.as_str().expect("a text").parse::<SocketAddr>();
                endpoint.expect("an endpoint");
            }
        }
    }
    let told = shipped("prometheus-targets.tera", &stage().catalog);
    let groups: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(groups[1]["targets"], serde_json::json!(["10.0.0.2:80", "10.9.9.9:81"]));
    assert_eq!(groups[1]["labels"]["datacenter"], "dc1");
}

#[test]
fn a_program_finds_the_master_in_its_environment() {
    let told = shipped("redis-app.env.tera", &stage().catalog);
    let lines: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[0], "FOO_REDIS_MASTER=10.0.0.1:6379");
    assert_eq!(lines[1], "FOO_REDIS_MASTER_HOST=10.0.0.1");
    assert_eq!(lines[2], "FOO_REDIS_MASTER_PORT=6379");
    let replicas = lines[3].strip_prefix("FOO_REDIS_REPLICAS=").expect("replicas");
    let mut replicas: Vec<&str> = replicas.split(',').collect();
    replicas.sort_unstable();
    assert_eq!(replicas, ["10.0.0.2:6379", "10.0.0.3:6379"]);
    let told = shipped("redis-app.env.tera", &withdrawn().catalog);
    assert!(told.contains("FOO_REDIS_MASTER=\n"), "{told}");
}
