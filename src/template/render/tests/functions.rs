//! What templates can call beside the lists of hosts: keys, status, nearness, own filters.

use super::*;

fn keys() -> Stage {
    let mut stage = stage();
    stage.json("kv/app/limit", "25");
    stage.json("kv/app/colours", "[\"red\", \"blue\"]");
    stage.json("kv/app/deep/er", "x");
    stage.put(NOW, "kv/app/picture", Some(vec![0xff, 0xfe].into()));
    stage
}

#[test]
fn keys_are_read_with_and_without_a_default() {
    let catalog = keys().catalog;
    assert_eq!(text("{{ key(name='app/limit') }}", &catalog), "25");
    assert_eq!(text("{{ key_or(name='app/limit', default='1') }}", &catalog), "25");
    assert_eq!(text("{{ key_or(name='none', default='1') }}", &catalog), "1");
    let listed =
        "{% for k in keys(prefix='app') %}{{ k.key }}={{ k.value }} {{ k.path }};{% endfor %}";
    assert_eq!(
        text(listed, &catalog),
        "colours=[\"red\", \"blue\"] app/colours;deep/er=x app/deep/er;limit=25 app/limit;"
    );
    let missing = rendered_at("{{ key(name='none') }}", &catalog, NOW).expect_err("fails");
    assert!(missing.to_string().contains("no key \"none\"; `key_or`"), "{missing}");
    let binary = rendered_at("{{ key(name='app/picture') }}", &catalog, NOW).expect_err("fails");
    assert!(binary.to_string().contains("is no text"), "{binary}");
    let rendered = rendered_at(listed, &catalog, NOW).expect("renders");
    assert!(rendered.said.keys);
    assert!(rendered.said.left_out.iter().any(|text| text.contains("app/picture")));
    assert!(!rendered_at("{{ host }}", &catalog, NOW).expect("renders").said.keys);
}

#[test]
fn json_is_parsed() {
    let catalog = keys().catalog;
    let each = "{% for c in key(name='app/colours') | parse_json %}<{{ c }}>{% endfor %}";
    assert_eq!(text(each, &catalog), "<red><blue>");
    assert!(error("{{ '{' | parse_json }}").contains("it is no JSON"));
}

#[test]
fn servers_are_chosen_by_how_they_stand() {
    let mut stage = stage();
    let check = |stage: &mut Stage, node: &str, id: &str, status: &str| {
        stage.json(
            &format!("checks/{node}/{id}"),
            &format!(
                r#"{{"format":1,"node":"{node}","id":"{id}","name":"c","service_id":"{id}","status":"{status}"}}"#
            ),
        );
    };
    let web = |stage: &Stage, more: &str| {
        let call = format!(
            "{{% for s in service(name='web', order='sorted'{more}) %}}{{{{ s.instance }}}}:\
             {{{{ s.status }}}} {{% endfor %}}"
        );
        text(&call, &stage.catalog)
    };
    assert_eq!(web(&stage, ""), "web-1:passing web-2:passing ");
    check(&mut stage, "db2", "web-1", "warning");
    check(&mut stage, "db3", "web-2", "critical");
    assert_eq!(web(&stage, ""), "web-1:warning ");
    assert_eq!(web(&stage, ", status='passing'"), "");
    assert_eq!(web(&stage, ", status='critical'"), "web-2:critical ");
    assert_eq!(web(&stage, ", status='any'"), "web-1:warning web-2:critical ");
    assert_eq!(web(&stage, ", status='any', tag='blue'"), "web-1:warning ");
    assert!(error("{{ service(name='web', status='good') }}").contains("status \"good\""));
    // Of a managed service, those that are neither master nor in step come only by name.
    stage.instance_with(
        "foo-redis",
        "db3",
        "10.0.0.3:6379",
        Some("10.0.0.1:6379"),
        Health::Silent("no answer".into()),
    );
    let redis = |more: &str| {
        let call = format!(
            "{{% for s in service(name='foo-redis', order='sorted'{more}) %}}{{{{ s.host }}}} \
             {{% endfor %}}"
        );
        text(&call, &stage.catalog)
    };
    assert_eq!(redis(""), "db1 db2 ");
    assert_eq!(redis(", status='any'"), "db1 db2 db3 ");
    assert_eq!(redis(", status='critical'"), "db3 ");
    assert_eq!(redis(", status='any', tag='replica'"), "db2 ");
}

#[test]
fn near_ones_come_first_and_the_rest_keep_their_order() {
    let mut stage = stage();
    stage.node("app1", "10.0.0.7");
    stage.json(
        "services/app1/web-3",
        r#"{"format":1,"node":"app1","id":"web-3","name":"web","port":82,"owner":"catalog"}"#,
    );
    let hosts = |more: &str| {
        let call = format!(
            "{{% for s in service(name='web', order='sorted'{more}) %}}{{{{ s.host }}}} {{% endfor %}}"
        );
        text(&call, &stage.catalog)
    };
    assert_eq!(hosts(""), "db2 db3 app1 ");
    assert_eq!(hosts(", near='_agent'"), "app1 db2 db3 ");
    assert_eq!(hosts(", near='db3'"), "db3 db2 app1 ");
    assert_eq!(hosts(", near='elsewhere'"), "db2 db3 app1 ");
}

#[test]
fn any_list_can_have_the_hosts_own_order() {
    let catalog = stage().catalog;
    let servers = "{% for s in replicas(service='foo-redis', order='sorted') | per_host %}\
                   {{ s.host }} {% endfor %}";
    let own = "{% for s in replicas(service='foo-redis') %}{{ s.host }} {% endfor %}";
    assert_eq!(text(servers, &catalog), text(own, &catalog), "as `order` does it");
    let words = "{% for w in ['a', 'b', 'c', 'd'] | per_host %}{{ w }}{% endfor %}";
    let other = "{% for w in ['d', 'c', 'a', 'b'] | per_host %}{{ w }}{% endfor %}";
    let order = text(words, &catalog);
    assert_eq!(text(other, &catalog), order, "whatever order it had");
    assert_eq!(order.len(), 4);
    assert!(error("{{ 'text' | per_host }}").contains("orders a list"));
}

#[test]
fn metadata_that_could_break_a_line_is_left_out() {
    let mut stage = stage();
    stage.json(
        "services/db2/api",
        r#"{"format":1,"node":"db2","id":"api","name":"api","port":1,"owner":"catalog",
            "meta":{"path":"/a b","evil":"x\n6.6.6.6 bank","bad key":"y"}}"#,
    );
    let call = "{% for s in service(name='api') %}{{ s.meta.path }}|{{ s.meta.evil | default(value='-') }}{% endfor %}";
    assert_eq!(text(call, &stage.catalog), "/a b|-");
}

#[test]
fn what_was_told_is_counted() {
    let catalog = stage().catalog;
    let records = |call: &str| rendered_at(call, &catalog, NOW).expect("renders").said.records;
    assert_eq!(records("{{ host }}"), 0);
    assert_eq!(records("{{ hosts() | length }}"), 3);
    assert_eq!(records("{{ service(name='web') | length }}"), 2);
    assert_eq!(records("{{ services() | length }}"), 5, "three of a managed one, two of another");
    assert_eq!(records("{% if master(service='foo-redis') %}x{% endif %}"), 1);
}

#[test]
fn services_that_did_not_change_are_told_as_they_were() {
    let mut stage = stage();
    let kept = KeptServices::default();
    let context = context("app1");
    let call = "{% for s in services() %}{% for one in s.servers %}{{ one.endpoint }} {% endfor %}{% endfor %}";
    let render_with = |stage: &Stage, kept: &KeptServices| {
        let source = Source { name: "t".to_owned(), text: call.to_owned(), modified: None };
        let scene = Scene::new(stage.shared(), NOW, &context).with(kept);
        let rendered = render(source, scene, &values(&context), Arc::default()).expect("renders");
        (rendered.text, rendered.said.records)
    };
    // With and without what was told last, after each kind of change.
    let check = |stage: &Stage| {
        let fresh = render_with(stage, &KeptServices::default());
        assert_eq!(render_with(stage, &kept), fresh);
        assert_eq!(render_with(stage, &kept), fresh, "and again");
        fresh.0
    };
    let first = check(&stage);
    assert!(first.contains("10.0.0.2:80 ") && first.contains("10.9.9.9:81 "), "{first}");
    stage.node("db2", "10.0.0.22");
    assert!(check(&stage).contains("10.0.0.22:80 "), "its host has another address");
    stage.json(
        "checks/db3/c",
        r#"{"format":1,"node":"db3","id":"c","name":"c","service_id":"web-2","status":"critical"}"#,
    );
    assert!(!check(&stage).contains("10.9.9.9:81 "), "it stands otherwise");
    stage.put(NOW, "checks/db3/c", None);
    stage.put(NOW, "services/db2/web-1", None);
    assert!(!check(&stage).contains(":80 "), "a server is gone");
    stage.node("evil node", "10.0.0.66");
    stage.json(
        "services/evil node/x",
        r#"{"format":1,"node":"evil node","id":"x","name":"web","port":82,"owner":"catalog"}"#,
    );
    check(&stage);
    let left = |kept: &KeptServices| {
        let source = Source { name: "t".to_owned(), text: call.to_owned(), modified: None };
        let scene = Scene::new(stage.shared(), NOW, &context).with(kept);
        let rendered = render(source, scene, &values(&context), Arc::default()).expect("renders");
        rendered.said.left_out
    };
    assert!(!left(&kept).is_empty(), "what is left out is said each time");
}
