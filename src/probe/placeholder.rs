//! `{service}` and its like in the texts of check files.

use super::Scene;

/// Words that may stand in braces.
pub(crate) const NAMES: [&str; 5] = ["service", "instance", "host", "datacenter", "domain"];

/// Those, and where the instance is.
const PLACES: [&str; 3] = ["address", "ip", "port"];

/// Puts what the scene knows in the place of `{service}`, `{instance}`, `{host}`,
/// `{datacenter}`, `{domain}`, `{address}`, `{ip}` and `{port}`; leaves other braces alone.
pub(crate) fn fill(text: &str, scene: &Scene<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let known = NAMES.iter().chain(&PLACES).find(|word| {
            rest[1..].strip_prefix(**word).is_some_and(|after| after.starts_with('}'))
        });
        if let Some(word) = known {
            filled.push_str(&value(word, scene));
            rest = &rest[word.len() + 2..];
        } else {
            filled.push('{');
            rest = &rest[1..];
        }
    }
    filled.push_str(rest);
    filled
}

/// The words in braces of a text, with the byte where each stands.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).map(|after| after.split_once('}').map_or(after, |(word, _)| word))
}

fn value(word: &str, scene: &Scene<'_>) -> String {
    let target = scene.target;
    match word {
        "service" => target.id.service.to_string(),
        "instance" => target.id.instance.to_string(),
        "host" => scene.setup.host.to_string(),
        "datacenter" => scene.setup.datacenter.clone(),
        "domain" => scene.setup.domain.clone(),
        "address" => target.address.to_string(),
        "ip" => target.address.ip().to_string(),
        "port" => target.address.port().to_string(),
        other => unreachable!("{other} is not in the lists above"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Stage;
    use super::*;

    #[test]
    fn known_words_are_filled_and_other_braces_stay() {
        let stage = Stage::default();
        let scene = stage.scene(0);
        for (text, filled) in [
            ("master.{service}.service", "master.foo-redis.service"),
            ("{instance}@{host}.{datacenter}.{domain}", "cache1@db1.dc1.sengu"),
            ("-H {ip} -p {port} {address}", "-H 127.0.0.11 -p 6379 127.0.0.11:6379"),
            ("{ print $1 } {", "{ print $1 } {"),
            ("{{service}} {services} {service", "{foo-redis} {services} {service"),
        ] {
            assert_eq!(fill(text, &scene), filled);
        }
    }

    #[test]
    fn words_are_found() {
        let found: Vec<&str> = words("a.{service}.{hst}.{open").collect();
        assert_eq!(found, ["service", "hst", "open"]);
        assert_eq!(words("none").count(), 0);
    }
}
