//! `[http]` and `[token.NAME]`: what they mean together, and what is refused.

use super::*;

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn token(name: &str) -> String {
    format!("[token.{name}]\nscope = \"write\"\nhash = \"{HASH}\"\n")
}

/// The first mistake, in one line.
fn wrong(text: &str) -> String {
    let error = parse(text).expect_err("refused").render(false, 400);
    assert!(!error.contains("hunter2"), "{error}");
    error.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn beyond_loopback_it_takes_tokens_and_tls_or_the_word_for_none() {
    let listen = "[http]\nlisten = [\"127.0.0.1:8500\", \"10.0.0.11:8500\"]\n";
    let tls = "[http.tls]\ncertificate = \"/etc/a.pem\"\nkey = \"/etc/a.key\"\n";
    let told = wrong(listen);
    assert!(told.contains("10.0.0.11:8500 is beyond loopback, and there are no tokens"), "{told}");
    assert!(wrong(&format!("{listen}{tls}")).contains("there are no tokens"));
    let told = wrong(&format!("{listen}{}", token("a")));
    assert!(told.contains("10.0.0.11:8500 is beyond loopback, and there is no TLS"), "{told}");
    assert!(told.contains("plaintext = true"), "{told}");
    let config = good(&format!("{listen}{tls}{}", token("a")));
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.http.tls.expect("there").certificate, Path::new("/etc/a.pem"));
    assert!(good(&format!("{listen}plaintext = true\n{}", token("a"))).http.plaintext);
    let mapped = "[http]\nlisten = [\"[::ffff:10.0.0.11]:8500\"]\n";
    assert!(wrong(mapped).contains("there are no tokens"));
    good("[http]\nlisten = [\"[::ffff:127.0.0.1]:8500\"]\n");
}

#[test]
fn tokens_are_hashes_or_files() {
    let config =
        good(&format!("{}[token.b]\nscope = \"read\"\nfile = \"two.token\"\n", token("a")));
    assert_eq!(config.tokens["a"].scope, Scope::Write);
    assert_eq!(config.tokens["a"].hashes.len(), 1);
    let two = [Hash::of("an-older-token-of-theirs"), Hash::of("hunter2-hunter2-hunter2")];
    assert_eq!(config.tokens["b"].hashes, two);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn tokens_that_make_no_sense_are_refused() {
    for (text, words) in [
        (token("a").replace("write", "writ"), "did you mean `write`?"),
        (token("a").replace("sha256:9f", "sha256:"), "a hash is written as `sha256:` and 64"),
        ("[token.a]\nscope = \"read\"\n".into(), "`hash` is missing in [token.a]"),
        (token("a").replace("scope = \"write\"\n", ""), "`scope` is missing in [token.a]"),
        (token("a").replace("token.a", "token.\"a b\""), "\"a b\" is no name for a token"),
        (token("a") + "file = \"two.token\"\n", "`hash` and `file` exclude each other"),
        (token("a") + &token("b"), "token b is the same as a"),
        ("[token.a]\nscope = \"read\"\nfile = \"bare.secret\"\n".into(), "at least 20"),
        ("[token.a]\nscope = \"read\"\nfile = \"none\"\n".into(), "cannot read /etc/sengu/none"),
    ] {
        let told = wrong(&text);
        assert!(told.contains(words), "{text}\n{told}");
        assert!(told.contains("has 1 mistake"), "{told}");
    }
}

#[test]
fn tls_takes_both_files_and_limits_have_bounds() {
    let told = wrong("[http.tls]\ncertificate = \"/etc/a.pem\"\n");
    assert!(told.contains("`key` is missing in [http.tls]"), "{told}");
    let told = wrong("[http.tls]\nclient_ca = \"/etc/a.pem\"\n");
    assert!(told.contains("has 2 mistakes"), "{told}");
    let told = wrong("[http.tls]\ncertificate = \"/absent\"\nkey = \"/etc/a.key\"\n");
    assert!(told.contains("there is no file /absent"), "{told}");
    assert_eq!(good("[http.tls]\n").http.tls, None);
    let limits = good("[http.limits]\nconnections = 100\nidle = \"5m\"\n").http.limits;
    assert_eq!((limits.connections, limits.waiting, limits.streams), (100, 75, 12));
    assert_eq!(limits.idle, Duration::from_secs(300));
    let told = wrong("[http.limits]\nconnections = 100\nwaiting = 76\n");
    assert!(told.contains("it may be 1 to 75"), "{told}");
    assert!(wrong("[http.limits]\nheader = \"0s\"\n").contains("out of bounds"));
}

#[test]
fn a_change_of_tokens_is_told_without_them() {
    let (one, other) = (good(&token("a")), good(&token("a").replace("9f86", "0000")));
    assert_eq!(one.diff(&other), ["~ token.a (not shown)"]);
    assert_eq!(good("").diff(&one), ["+ token.a.scope = write"]);
}

#[test]
fn an_open_resolver_is_refused() {
    for network in ["0.0.0.0/0", "::/0", "10.0.0.0/7"] {
        let told = wrong(&format!("[dns]\nrecursion_clients = [\"127.0.0.0/8\", \"{network}\"]\n"));
        assert!(told.contains(&format!("{network} would make this an open resolver")), "{told}");
    }
    let config = good("[dns]\nrecursion_clients = [\"10.0.0.0/8\"]\nresponses_per_second = 50\n");
    assert_eq!(config.dns.responses_per_second, 50);
}
