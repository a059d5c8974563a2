//! Configurations and what becomes of them: defaults, the table of keys, and every mistake with
//! the exact message.

mod http;
mod mistakes;
mod mysql;
mod parts;

use std::net::IpAddr;

use super::keys::{Preset, SECTIONS};
use super::*;

/// A machine that is the same everywhere.
struct Fixed;

impl Machine for Fixed {
    fn name(&self) -> String {
        "DB1.example.org".into()
    }
    fn address(&self) -> IpAddr {
        IpAddr::from([10, 0, 0, 11])
    }
    fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || address == self.address()
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "REDIS_SECRET").then(|| "from the environment".into())
    }
    fn exists(&self, path: &Path) -> bool {
        !path.to_string_lossy().contains("absent")
    }
    fn secret(&self, path: &Path) -> Result<String, String> {
        match path.to_str() {
            Some("/etc/sengu/redis.secret") => Ok("user = app\npassword = hunter2\n".into()),
            Some("/etc/sengu/mysql.secret") => Ok("user = sengu\npassword = hunter2\n\
                 replication_user = repl\nreplication_password = hunter3\n"
                .into()),
            Some("/etc/sengu/etcd.secret") => Ok("user = sengu\npassword = hunter2\n".into()),
            Some("/etc/sengu/bare.secret") => Ok("hunter2\n".into()),
            Some("/etc/sengu/two.token") => Ok(format!(
                "# old, new\n{}\nhunter2-hunter2-hunter2\n",
                Hash::of("an-older-token-of-theirs")
            )),
            _ => Err(format!("cannot read {}: no such file", path.display())),
        }
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/sengu/sengu.toml"), &Fixed)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{}", error.render(false, 100)))
}

const SERVICE: &str = "[service.foo]\nkind = \"redis\"\n[service.foo.instance.a]\n\
                       address = \"127.0.0.1:6379\"\n";

#[test]
fn an_empty_file_means_the_defaults() {
    let config = good("");
    assert_eq!(config.host.as_str(), "db1");
    assert_eq!(config.address, IpAddr::from([10, 0, 0, 11]));
    assert_eq!(config.data_dir, Path::new("/var/lib/sengu"));
    assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.datacenter, "dc1");
    assert_eq!(config.lease, Duration::from_secs(6));
    assert_eq!(config.dns.listen, ["127.0.0.1:8600".parse().expect("good")]);
    assert_eq!(config.dns.domains, ["sengu", "consul"]);
    assert_eq!(config.dns.ttl, Duration::ZERO);
    assert_eq!(config.http.listen, ["127.0.0.1:8500".parse().expect("good")]);
    assert_eq!(config.checks.folder, Path::new("/etc/sengu/checks"));
    assert!(config.services.is_empty() && config.templates.is_empty() && config.hooks.is_empty());
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    assert_eq!(good(&page::defaults()), good(""));
}

/// A file with one section of every kind, with the keys that `choose` gives a value.
fn written(choose: impl Fn(&keys::Key) -> Option<&'static str>) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        text += &format!("{}\n", section.header);
        // They stand in the place of another key.
        let apart = ["credentials_env", "url", "token", "file"];
        for key in section.keys.iter().filter(|key| !apart.contains(&key.name)) {
            if let Some(value) = choose(key) {
                text += &format!("{} = {value}\n", key.name);
            }
        }
    }
    text
}

#[test]
fn every_documented_key_is_accepted_and_every_documented_default_is_one() {
    let all = good(&written(|key| Some(key.example)));
    let secret = all.services.values().next().and_then(|s| s.credentials.clone());
    assert_eq!(secret.map(|s| s.password).as_deref(), Some("hunter2"));
    let least = written(|key| (key.preset == Preset::Required).then_some(key.example));
    let spelled = written(|key| match key.preset {
        Preset::Fixed(value) => Some(value),
        Preset::Found(_) => None,
        Preset::Required => Some(key.example),
    });
    assert_eq!(good(&least), good(&spelled));
    let hook = "[[hook]]\nphase = \"detected\"\nurl = \"http://127.0.0.1/x\"\ntoken = \"t\"\n";
    let call =
        HookCall::Http { url: "http://127.0.0.1/x".to_owned(), token: Some("/etc/sengu/t".into()) };
    assert_eq!(good(hook).hooks[0].call, call);
    assert!(parse(&format!("{hook}command = [\"true\"]\n")).is_err(), "not both");
    let variable = SERVICE.replace("kind", "credentials_env = \"REDIS_SECRET\"\nkind");
    let read = good(&variable).services.into_values().next().and_then(|s| s.credentials);
    assert_eq!(read.map(|s| s.password).as_deref(), Some("from the environment"));
}

#[test]
fn the_page_is_current() {
    crate::cli::bless::check("docs/configuration.md", &page::markdown());
}

#[test]
fn the_core_is_told_policy_instances_and_phases() {
    let text = format!(
        "{SERVICE}[[hook]]\nphase = \"before-failover\"\ncommand = [\"true\"]\n\
         [[hook]]\nphase = \"after-failover\"\nservices = [\"foo\"]\ncommand = [\"true\"]\n"
    );
    let core = good(&text).core("agent".into(), "start".into());
    assert_eq!(core.judge, Judge::Alone { lease: Duration::from_secs(6) });
    let service = core.services.values().next().expect("one");
    let hooks: Vec<_> = service.hooks.iter().map(|(phase, error)| (*phase, *error)).collect();
    let continues = OnError::Continue;
    assert_eq!(hooks, [(Phase::BeforeFailover, continues), (Phase::AfterFailover, continues)]);
    assert_eq!(service.instances.len(), 1);
    assert_eq!(service.policy, Policy::default());
}

#[test]
fn the_hosts_template_alone_writes_a_block_and_files_stand_beside_the_configuration() {
    let template = |source: &str, more: &str| {
        let text = format!("[[template]]\nsource = \"{source}\"\ndestination = \"/x\"\n{more}");
        let template = good(&text).templates.remove(0);
        (template.source, template.block)
    };
    assert_eq!(template("hosts.tera", ""), ("hosts.tera".into(), true));
    assert_eq!(template("hosts.tera", "block = false"), ("hosts.tera".into(), false));
    assert_eq!(template("own/x.tera", ""), ("/etc/sengu/own/x.tera".into(), false));
    assert_eq!(template("own/x.tera", "block = true"), ("/etc/sengu/own/x.tera".into(), true));
    assert_eq!(template("/opt/x.tera", ""), ("/opt/x.tera".into(), false));
}

#[test]
fn a_difference_is_told_line_by_line_and_without_secrets() {
    let old = good(&format!(
        "{SERVICE}[service.bar]\nkind = \"redis\"\n[service.bar.instance.b]\n\
         address = \"127.0.0.2:1\"\n"
    ));
    let new = good(
        "[service.foo]\nkind = \"redis\"\nfailover = \"auto\"\n\
         credentials = \"/etc/sengu/redis.secret\"\n[service.foo.instance.a]\n\
         address = \"127.0.0.1:6379\"\n[http]\nlisten = []\n",
    );
    let lines = old.diff(&new);
    for line in [
        "~ http.listen = [] (was [127.0.0.1:8500])",
        "~ service.foo.failover = auto (was manual)",
        "~ service.foo.credentials (not shown)",
        "- service.bar.instance.b.address = 127.0.0.2:1",
    ] {
        assert!(lines.iter().any(|have| have == line), "{line:?} is not in {lines:#?}");
    }
    assert!(!lines.concat().contains("hunter2"));
    assert!(new.diff(&new).is_empty());
}

#[test]
fn the_socket_is_found_even_in_a_bad_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sengu.toml");
    assert_eq!(socket(&path), Path::new(DEFAULT_SOCKET));
    std::fs::write(&path, "socket = \"/run/x.sock\"\nbad = 1\n").expect("written");
    assert_eq!(socket(&path), Path::new("/run/x.sock"));
}

/// All mistakes as they are shown, without empty lines.
fn bad(text: &str, wanted: &str) {
    let error = parse(text.trim_start()).expect_err("refused");
    let shown = error.render(false, 100);
    let shown: Vec<_> = shown.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let shown = shown.join("\n");
    assert_eq!(shown, wanted.trim_matches('\n'), "\n{shown}\n");
}
