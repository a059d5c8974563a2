use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn row() -> Value {
    json!({
        "Node": {"ID": "", "Node": "web-1", "Address": "10.0.0.1", "Datacenter": "dc1",
                 "TaggedAddresses": {"lan": "10.0.0.1"}, "Meta": {"env": "prod", "a-b": "x"}},
        "Service": {"ID": "api1", "Service": "api", "Tags": ["v1", "blue"], "Address": "",
                    "Meta": {}, "Port": 8080, "Weights": {"Passing": 1, "Warning": 1},
                    "EnableTagOverride": false},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing", "ServiceTags": []},
                   {"CheckID": "service:api1", "Status": "critical", "ServiceTags": ["v1"]}],
    })
}

fn asked(text: &str) -> Result<bool, String> {
    let filter = Filter::new(text, SERVICE_ENTRY).map_err(|refusal| refusal.to_string())?;
    Ok(filter.keeps(&row()))
}

#[test]
fn every_operator_says_what_consul_says() {
    for (text, wanted) in [
        ("Service.Service == api", true),
        ("Service.Service==\"api\"", true),
        ("Service.Service == `api`", true),
        ("Service.Service != api", false),
        ("Node.Meta.env == prod", true),
        ("Node.Meta[\"a-b\"] == x", true),
        ("Node.Meta[ `a-b` ] != \"x\"", false),
        ("Service.Port == 8080", true),
        ("Service.Port != 80", true),
        ("Service.EnableTagOverride == true", false),
        ("v1 in Service.Tags", true),
        ("\"v2\" in Service.Tags", false),
        ("v2 not in Service.Tags", true),
        ("Service.Tags contains blue", true),
        ("Service.Tags not contains blue", false),
        ("\"eb-\" in Node.Node", true),
        ("env in Node.Meta", true),
        ("Node.Meta is empty", false),
        ("Node.Meta is not empty", true),
        ("Service.Meta is empty", true),
        ("Service.Tags is   not\n empty", true),
        ("Node.Node matches \"^web-[0-9]+$\"", true),
        ("Node.Node not matches `^web-\\d+$`", false),
        ("Service.Weights.Passing == 1", true),
        ("Node.TaggedAddresses.lan == \"10.0.0.1\"", true),
    ] {
        assert_eq!(asked(text), Ok(wanted), "{text}");
    }
}

#[test]
fn one_row_of_a_list_is_enough_and_what_is_not_there_equals_nothing() {
    for (text, wanted) in [
        ("Checks.Status == critical", true),
        ("Checks.Status != critical", true),
        ("not Checks.Status == critical", false),
        ("Checks.Status == warning", false),
        ("v1 in Checks.ServiceTags", true),
        ("Checks is empty", false),
        ("Node.Meta.none == x", false),
        ("Node.Meta.none != x", true),
        ("Node.Meta.none matches x", false),
        ("Node.Meta.none not matches x", true),
        ("x not in Node.Meta.none", true),
    ] {
        assert_eq!(asked(text), Ok(wanted), "{text}");
    }
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    let (yes, no) = ("Service.Port == 8080", "Service.Port == 1");
    for (text, wanted) in [
        (format!("{yes} or {no} and {no}"), true),
        (format!("({yes} or {no}) and {no}"), false),
        (format!("not {no} and {yes}"), true),
        (format!("not ({no} or {yes})"), false),
        (format!("not not {yes}"), true),
        (format!("  ( ( {yes} ) )  "), true),
        (format!("not({no})and({yes})"), true),
    ] {
        assert_eq!(asked(&text), Ok(wanted), "{text}");
    }
}

#[test]
fn what_does_not_fit_the_endpoint_is_refused_in_consuls_words() {
    for (text, words) in [
        ("Service.Sevrice == x", "Selector \"Service.Sevrice\" is not valid"),
        ("Status == x", "Selector \"Status\" is not valid"),
        ("Service.ID.x == x", "Selector \"Service.ID.x\" is not valid"),
        ("Service.Tags == x", "Invalid match operator \"Equal\" for selector \"Service.Tags\""),
        ("Service.Port is empty", "Invalid match operator \"Is Empty\" for selector"),
        ("Service == x", "Invalid match operator \"Equal\" for selector \"Service\""),
        ("Service.Port == x", "Failed to coerce value \"x\" for selector \"Service.Port\""),
        ("Service.EnableTagOverride == 2", "Failed to coerce value \"2\""),
        ("Node.Node matches \"(\"", "Failed to compile regular expression \"(\""),
        ("Service.Port", "1:13 (12): no match found, expected: an operator"),
        ("Service.Port ==", "1:16 (15): no match found, expected: a selector or a value"),
        ("\"x\" == Service.ID", "1:1 (0): no match found, expected: a selector"),
        ("x in \"Service.ID\"", "1:6 (5): no match found, expected: a selector"),
        ("(Service.ID == x", "1:17 (16): no match found, expected: \")\""),
        ("Service.ID == x)", "1:16 (15): no match found, expected: \"and\", \"or\" or the end"),
        ("Service.ID == x\nand", "no match found, expected: \"and\", \"or\" or the end"),
        ("Service.ID == \"x", "no match found, expected: \"\\\"\""),
        ("Service.ID == 1x", "no match found, expected: a number"),
        ("Service.ID == \"\\q\"", "no match found, expected: an escape"),
    ] {
        let refused = asked(text).expect_err(text);
        let told = refused.strip_prefix("Failed to create boolean expression evaluator: ");
        assert!(told.is_some_and(|told| told.contains(words)), "{text}: {refused}");
    }
}

#[test]
fn length_depth_and_regular_expressions_are_bounded() {
    let deep = format!("{}Service.ID == x", "not ".repeat(100));
    assert!(asked(&deep).expect_err("too deep").contains("nests deeper"));
    let long = format!("Service.ID == \"{}\"", "x".repeat(LENGTH_MAX));
    assert!(asked(&long).expect_err("too long").contains("longer than"));
    let wide = vec!["Service.ID == x"; 400].join(" or ");
    assert_eq!(asked(&wide), Ok(false));
    let large = "Node.Node matches \"((a{100}){100}){100}\"";
    assert!(asked(large).expect_err("too large").contains("Failed to compile"));
}

/// An expression with what it must come to.
fn expressions() -> impl Strategy<Value = (String, bool)> {
    let leaf = prop_oneof![
        Just(("Service.Service == api".to_owned(), true)),
        Just(("Service.Service != \"api\"".to_owned(), false)),
        Just(("v1 in Service.Tags".to_owned(), true)),
        Just(("Service.Meta is not empty".to_owned(), false)),
        Just(("Checks.Status==critical".to_owned(), true)),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, holds)| (format!("not ({text})"), !holds)),
            (inner.clone(), inner.clone())
                .prop_map(|((a, x), (b, y))| (format!("({a}) and ({b})"), x && y)),
            (inner.clone(), inner)
                .prop_map(|((a, x), (b, y))| (format!("( {a} ) or ( {b} )"), x || y)),
        ]
    })
}

proptest! {
    #[test]
    fn nested_expressions_come_to_what_their_parts_do((text, wanted) in expressions()) {
        prop_assert_eq!(asked(&text), Ok(wanted));
    }

    #[test]
    fn no_text_makes_it_fall(text in "[ a-zA-Z0-9_./()\\[\\]\"`=!\\\\é-]{0,60}") {
        // Only that it ends, with an answer or a refusal.
        let told = asked(&text);
        prop_assert!(told.is_ok() || told.is_err_and(|why| !why.is_empty()));
    }

    #[test]
    fn a_quoted_text_is_found_as_it_is(name in "[ -~é]{0,20}") {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = Filter::new(&format!("Node == \"{quoted}\""), NODE).expect("good");
        let row = json!({ "Node": name });
        prop_assert!(filter.keeps(&row));
    }
}
