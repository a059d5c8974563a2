//! A configuration of several files and variables, on a real disk where it matters.

use std::collections::BTreeMap;
use std::fs;

use super::*;

/// A machine with variables of its own.
#[derive(Default)]
struct With(BTreeMap<String, String>);

impl With {
    fn set(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }
}

impl Machine for With {
    fn name(&self) -> String {
        "db1".into()
    }
    fn address(&self) -> IpAddr {
        IpAddr::from([127, 0, 0, 1])
    }
    fn has(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
    fn variables(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
    fn exists(&self, _: &Path) -> bool {
        true
    }
    fn secret(&self, path: &Path) -> Result<String, String> {
        Err(format!("cannot read {}", path.display()))
    }
}

fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let main = folder.path().join("sengu.toml");
    (folder, main)
}

const MAIN: &str = "host = \"a\"\n[store]\nlease = \"4s\"\n[service.foo]\nkind = \"redis\"\n\
    [service.foo.instance.one]\naddress = \"127.0.0.1:1\"\n\
    [[hook]]\nphase = \"after-failover\"\ncommand = [\"/bin/true\"]\n";

#[test]
fn files_of_the_folder_are_read_in_order_over_the_main_one() {
    let (_folder, main) = files(&[
        ("sengu.toml", MAIN),
        (
            "sengu.d/20-b.toml",
            "host = \"c\"\n[[hook]]\nphase = \"failed-failover\"\ncommand = [\"/bin/true\"]\n",
        ),
        (
            "sengu.d/10-a.toml",
            "host = \"b\"\n[service.foo]\nfailover = \"auto\"\n\
            [service.foo.instance.two]\naddress = \"127.0.0.1:2\"\n",
        ),
        ("sengu.d/notes.txt", "not TOML"),
        ("sengu.d/.hidden.toml", "not TOML"),
    ]);
    let config = Config::load_on(&main, &With::default()).expect("good");
    assert_eq!(config.host.as_str(), "c", "the later file wins");
    assert_eq!(config.lease, Duration::from_secs(4), "what is not said again stays");
    let foo = config.services.values().next().expect("a service");
    assert_eq!(foo.instances.len(), 2, "tables are joined");
    assert_eq!(foo.policy.failover, policy::Failover::Auto);
    assert_eq!(config.hooks.len(), 2, "lists of tables add up");
}

#[test]
fn a_mistake_is_shown_in_the_file_that_it_stands_in() {
    let (folder, main) = files(&[
        ("sengu.toml", MAIN),
        ("sengu.d/10-a.toml", "# fine\n"),
        ("sengu.d/20-b.toml", "[store]\nleese = \"5s\"\npassword = \"hunter2\"\n"),
    ]);
    let error = Config::load_on(&main, &With::default()).expect_err("a mistake");
    let shown = error.render(false, 100);
    let file = folder.path().join("sengu.d/20-b.toml");
    assert!(shown.contains(&format!("{}:2:1", file.display())), "{shown}");
    assert!(shown.contains("did you mean `lease`?"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");

    let (folder, main) = files(&[("sengu.toml", MAIN), ("sengu.d/a.toml", "store = 5\n")]);
    let shown = Config::load_on(&main, &With::default()).expect_err("a mistake").render(false, 100);
    assert!(shown.contains("`store` is a table in an earlier file"), "{shown}");
    assert!(shown.contains(&folder.path().join("sengu.d/a.toml").display().to_string()), "{shown}");

    let (_folder, main) = files(&[("sengu.toml", MAIN), ("sengu.d/a.toml", "host = \n")]);
    let shown = Config::load_on(&main, &With::default()).expect_err("a mistake").render(false, 100);
    assert!(shown.contains("sengu.d/a.toml:1:"), "{shown}");
}

#[test]
fn variables_win_over_files_and_are_named_in_mistakes() {
    let (_folder, main) = files(&[("sengu.toml", MAIN), ("sengu.d/a.toml", "host = \"b\"\n")]);
    let set = With::set(&[
        ("SENGU_HOST", "c"),
        ("SENGU_STORE__LEASE", "9s"),
        ("SENGU_CHECKS__SCRIPTS", "true"),
        ("SENGU_LOG", "debug"),
    ]);
    let config = Config::load_on(&main, &set).expect("good");
    assert_eq!((config.host.as_str(), config.lease), ("c", Duration::from_secs(9)));
    assert!(config.checks.scripts);
    for (name, value, words) in [
        ("SENGU_STORE__LEASE", "soon", "`soon`"),
        ("SENGU_STORE__LEESE", "5s", "did you mean SENGU_STORE__LEASE?"),
        ("SENGU_DNS__LISTEN", "127.0.0.1:53", "`listen` is a list"),
        ("SENGU_CHECKS__SCRIPTS", "true\nx = 1", "is not `true` or `false`"),
    ] {
        let error = Config::load_on(&main, &With::set(&[(name, value)])).expect_err(name);
        let shown = error.render(false, 100);
        assert!(shown.contains(&format!("environment variable {name}")), "{shown}");
        assert!(shown.contains(words) || words == "`soon`", "{shown}");
    }
}

#[test]
fn what_commands_need_is_found_in_every_part() {
    let (_folder, main) = files(&[
        ("sengu.toml", "socket = \"/a\"\ndata_dir = \"/x\"\n"),
        ("sengu.d/a.toml", "socket = \"/b\"\nwhat = \n"),
    ]);
    assert_eq!(socket(&main), Path::new("/b"), "even of a file with mistakes");
    assert_eq!(data_dir(&main), Path::new("/x"));
    assert_eq!(socket(Path::new("/absent/sengu.toml")), Path::new(DEFAULT_SOCKET));
}

#[test]
fn a_file_can_be_checked_on_another_machine() {
    let text = "[service.foo]\nkind = \"redis\"\ncredentials = \"/etc/absent\"\n\
        [service.foo.instance.a]\naddress = \"192.0.2.7:6379\"\n";
    let (_folder, main) = files(&[("sengu.toml", text)]);
    assert!(Config::load_on(&main, &With::default()).is_err(), "here it is not good");
    assert!(Config::load_on(&main, &Elsewhere).is_ok());
    let (_folder, main) = files(&[("sengu.toml", "[service.foo]\nkind = \"redis\"\n")]);
    assert!(Config::load_on(&main, &Elsewhere).is_err(), "what is wrong everywhere is told");
}

#[test]
fn the_schema_has_every_key_with_its_kind() {
    let schema = schema::schema();
    let properties = &schema["properties"];
    assert_eq!(properties["host"]["type"], "string");
    assert_eq!(properties["store"]["properties"]["lease"]["default"], "6s");
    assert_eq!(properties["dns"]["properties"]["listen"]["type"], "array");
    let service = &properties["service"]["additionalProperties"];
    assert_eq!(service["properties"]["kill"]["type"], "boolean");
    assert_eq!(service["required"], serde_json::json!(["kind"]));
    let instance = &service["properties"]["instance"]["additionalProperties"];
    assert_eq!(instance["properties"]["priority"]["type"], "integer");
    assert_eq!(properties["hook"]["type"], "array");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_example_of_the_layout_page_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/layout/sengu.toml");
    let config = Config::load_on(&file, &Elsewhere).expect("good");
    assert_eq!((config.services.len(), config.instances()), (2, 5));
    assert_eq!((config.templates.len(), config.hooks.len()), (2, 2));
}
