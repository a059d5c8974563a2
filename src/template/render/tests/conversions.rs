//! The worked conversions of `docs/templates.md`: what stands on the right renders as it should.

use super::super::*;
use super::stage;
use crate::template::stage::Stage;

/// Where the right half of each line begins.
const MIDDLE: usize = 56;

/// The right halves of the conversions, by the words in bold above each.
fn conversions() -> Vec<(String, String)> {
    let page = include_str!("../../../../docs/templates.md");
    let (_, section) = page.split_once("## From consul-template").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let blocks = section.split("\n**").skip(1);
    let conversion = |block: &str| {
        let (title, rest) = block.split_once("**").expect("a title");
        let (_, rest) = rest.split_once("```\n").expect("a block");
        let (lines, _) = rest.split_once("\n```").expect("its end");
        let right = |line: &str| line.chars().skip(MIDDLE).collect::<String>();
        (title.to_owned(), lines.lines().map(right).collect::<Vec<_>>().join("\n"))
    };
    blocks.map(conversion).collect()
}

/// Two servers of `web`, one of them big, and keys.
fn shop() -> Stage {
    let mut stage = stage();
    for (key, value) in [("kv/app/flags/blue", "on"), ("kv/app/flags/red", "off")] {
        stage.put(super::NOW, key, Some(value.as_bytes().into()));
    }
    stage
}

fn rendered(text: &str) -> String {
    let source = Source { name: "t".to_owned(), text: text.to_owned(), modified: None };
    let context = super::context("app1");
    let scene = Scene::new(shop().shared(), super::NOW, &context);
    render(source, scene, &values(&context), Arc::default()).expect("renders").text
}

#[test]
fn the_worked_conversions_render_what_they_say() {
    let conversions = conversions();
    let titles: Vec<&str> = conversions.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "nginx upstream",
            "haproxy with weights by tag",
            "a program's settings from keys",
            "the one master",
            "a hosts file of all nodes",
        ]
    );
    let text = |number: usize| rendered(&conversions[number].1);
    let nginx = text(0);
    assert!(nginx.starts_with("upstream web {\n  server 10."), "{nginx}");
    assert!(nginx.ends_with(";\n}"), "{nginx}");
    let haproxy = text(1);
    assert!(haproxy.lines().any(|line| line.trim_end().ends_with("10.0.0.2:80")), "{haproxy}");
    let settings = text(2);
    assert_eq!(settings.trim_end(), "limit=10\nblue=on\nred=off");
    assert_eq!(text(3).trim_end(), "redis_host=10.0.0.1");
    let table: toml::Table = conversions[4].1.parse().expect("a [[template]]");
    let source = table["template"][0]["source"].as_str().expect("a source");
    assert!(SHIPPED.iter().any(|(name, _)| *name == source));
}
