//! Definition files as people write them for Consul, good and bad.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            let path = folder.0.path().join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        }
        folder
    }

    /// What was found, as kind and id, and what is said of the rest.
    fn load(&self, scripts: bool) -> (Vec<String>, Vec<String>) {
        let (defined, problems) = load(self.0.path(), scripts);
        let found = defined.iter().map(|one| {
            let (kind, id) = one.wanted.id();
            format!("{kind} {id}")
        });
        let here = self.0.path().display().to_string();
        let said = problems.iter().map(|problem| problem.to_string().replace(&here, "D"));
        (found.collect(), said.collect())
    }
}

const WEB: &str = r#"{
  "service": {
    "id": "web-1", "name": "web", "tags": ["blue"], "port": 80,
    "meta": {"Version": "7"},
    "check": {"http": "http://127.0.0.1/", "interval": "10s"}
  }
}"#;

#[test]
fn services_and_checks_are_read_services_first() {
    let folder = Folder::new(&[
        (
            "a.json",
            r#"{"check": {"id": "of-web", "name": "x", "ttl": "30s", "service_id": "web-1"}}"#,
        ),
        ("b.json", WEB),
        ("c.json", r#"{"services": [{"Name": "api"}, {"name": "db", "checks": [{"ttl": "1s"}]}]}"#),
        (".d.json", "nonsense"),
        ("README", "nonsense"),
    ]);
    let (found, said) = folder.load(false);
    assert_eq!(found, ["service web-1", "service api", "service db", "check of-web"]);
    assert!(said.is_empty(), "{said:?}");
    let missing = load(Path::new("/nowhere/at/all"), false);
    assert!(missing.0.is_empty() && missing.1.is_empty());
}

#[test]
fn a_bad_file_is_said_with_its_line_and_the_others_go_on() {
    let folder = Folder::new(&[
        ("a.json", "{\n  \"service\": {\n    \"name\": \"a\",,\n  }\n}"),
        ("b.json", WEB),
        (
            "c.json",
            "{\n \"checks\": [\n  {\"name\": \"good\", \"ttl\": \"1s\"},\n  {\"name\": \"bad\", \"grpc\": \"x:1\", \"interval\": \"1s\"}\n ]\n}",
        ),
        ("d.json", "{\"service\": {\"port\": 1}}"),
        ("e.json", "{\"service\": {\"name\": \"e\", \"port\": 70000}}"),
        ("f.json", "{\n  \"server\": true, \"checks\": {}\n}"),
        ("g.hcl", "service {}"),
        ("h.json", WEB),
    ]);
    let (found, said) = folder.load(false);
    assert_eq!(found, ["service web-1", "check good"]);
    assert_eq!(said[0], "D/g.hcl: HCL is not read; write it as JSON, with the same keys");
    assert!(said[1].starts_with("D/a.json:3:17: no JSON: "), "{said:?}");
    assert_eq!(said[2], "D/c.json:4:12: `checks` 2: gRPC checks are not supported by this agent");
    assert_eq!(said[3], "D/d.json:1:2: `service`: it has no name");
    assert!(
        said[4].starts_with("D/e.json:1:22: `service`: invalid value: integer `70000`"),
        "{said:?}"
    );
    assert_eq!(said[5], "D/f.json:2:19: `checks` must be a list");
    assert_eq!(said[6], "D/f.json:2:3: unknown key `server`: passed over");
    assert!(said[7].ends_with("service \"web-1\" stands in D/b.json already; keep one of them"));
    assert_eq!(said.len(), 8, "{said:?}");
}

#[test]
fn programs_ask_for_files_that_nobody_else_can_write() {
    let script = r#"{"check": {"name": "disk", "args": ["/bin/true"], "interval": "1m"}}"#;
    let folder = Folder::new(&[("a.json", script), ("b.json", WEB)]);
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!(folder.load(true).0.len(), 2);
    let file = folder.0.path().join("a.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("a mode");
    let (found, said) = folder.load(true);
    assert_eq!(found, ["service web-1"]);
    assert!(said[0].contains("others can write it"), "{said:?}");
    assert_eq!(folder.load(false).0.len(), 2, "refused later, when it is registered");
}
