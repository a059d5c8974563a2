//! Bad input of every kind: a clear word, and the agent goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use integration::rig::agent::sengu;
use integration::rig::redis::Setup;
use integration::rig::trio::{MASTER, SERVICE};
use integration::rig::{Agent, Place, Settings, Trio, http, soon, until};

use crate::{LATER, SOON};

/// A configuration that is wrong, and words that must be said about it.
const WRONG: [(&str, &[&str]); 14] = [
    ("host = \n", &[":1:"]),
    ("[service.foo", &[":1:"]),
    ("hots = \"db1\"\n", &["hots", "host"]),
    ("host = 7\n", &["host", "text"]),
    ("host = \"a.b\"\n", &["a.b"]),
    ("address = \"10.0.0\"\n", &["10.0.0"]),
    ("[store]\nlease = \"1ms\"\n", &["lease", "1s"]),
    ("[store]\nkind = \"etcd\"\n", &["etcd"]),
    ("[dns]\nlisten = [\"nowhere\"]\n", &["nowhere"]),
    ("[http]\nlisten = [\"192.0.2.1:8500\"]\n", &["192.0.2.1", "loopback"]),
    ("[service.foo]\nkind = \"redish\"\n", &["redish", "redis"]),
    ("[service.foo]\nkind = \"redis\"\nfailover = \"maybe\"\n", &["maybe", "auto"]),
    (
        "[service.foo]\nkind = \"redis\"\n[service.foo.instance.a]\naddress = \"192.0.2.1:1\"\n",
        &["192.0.2.1"],
    ),
    ("[[hook]]\nphase = \"sometimes\"\ncommand = [\"x\"]\n", &["sometimes"]),
];

#[test]
fn a_wrong_configuration_is_refused_with_the_place_and_the_way_out() {
    let place = Place::claim();
    for (text, words) in WRONG {
        let file = place.path("wrong.toml");
        fs::write(&file, text).expect("writable");
        for command in [&["config", "--check"][..], &["agent"]] {
            let mut command = command.to_vec();
            let path = file.display().to_string();
            if command.len() > 1 {
                command.push(&path);
            }
            let told = sengu(&file, &command);
            assert_eq!(told.code, Some(1), "{text:?}: {}", told.all());
            for word in words {
                assert!(told.all().contains(word), "{text:?}: `{word}` is not in {}", told.all());
            }
            assert!(!told.all().contains("panicked"), "{}", told.all());
        }
    }
}

#[test]
fn a_configuration_that_is_absent_a_folder_or_no_text_is_refused() {
    let place = Place::claim();
    let binary = place.path("binary");
    fs::write(&binary, [0xff, 0xfe, 0, 1]).expect("writable");
    for file in [place.path("absent"), place.folder().to_owned(), binary] {
        let told = sengu(&file, &["agent"]);
        assert_eq!(told.code, Some(1), "{}", told.all());
        assert!(told.err.contains(&file.display().to_string()), "{}", told.err);
    }
}

#[test]
fn a_wrong_password_is_told_and_never_shown() {
    let lines = "requirepass right-word\nmasterauth right-word\n".to_owned();
    let setup = Setup { lines, ..Setup::default() };
    let place = Place::claim();
    let settings = Settings { count: 1, server: setup, ..Settings::default() };
    let secret = place.path("secret");
    fs::write(&secret, "wrong-word\n").expect("writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&secret, mode).expect("its mode can be set");
    let settings = Settings {
        service: format!("failover = \"auto\"\ncredentials = \"{}\"\n", secret.display()),
        ..settings
    };
    let servers = Trio::servers(&place, &settings);
    let config = Trio::config(&place, &settings, &servers);
    let mut agent = Agent::start(&place, &config);
    let told = agent.sengu(&["adopt", SERVICE, "--wait", "8"]).refused("password");
    let shown = format!("{}{}", told.all(), agent.sengu(&["explain", SERVICE]).all());
    assert!(!shown.contains("wrong-word"), "{shown}");

    fs::write(&secret, "right-word\n").expect("writable");
    agent.restart();
    agent.until_status(SERVICE, "it answers with the right one", LATER, |status| {
        status["instances"][0]["health"] == "up"
    });
    let log = fs::read_to_string(&agent.log).expect("readable");
    assert!(!log.contains("-word"), "a secret is in the log");
    let arguments = fs::read(format!("/proc/{}/cmdline", agent.pid())).expect("readable");
    assert!(!String::from_utf8_lossy(&arguments).contains("-word"));
}

/// An agent of a service whose one server is something else.
fn with_stranger(stranger: impl Fn(TcpStream) + Send + 'static) -> (Agent, Place) {
    let place = Place::claim();
    let address = place.socket(1, 6379);
    let listener = TcpListener::bind(address).expect("the address is free");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(10_000) {
            stranger(stream);
        }
    });
    let config = format!(
        "{}[service.{SERVICE}]\nkind = \"redis\"\nfailover = \"auto\"\n\
         [service.{SERVICE}.instance.cache1]\naddress = \"{address}\"\n",
        Agent::head(&place)
    );
    (Agent::start(&place, &config), place)
}

fn is_refused_soon(agent: &Agent) {
    let began = Instant::now();
    let told = agent.sengu(&["adopt", SERVICE, "--wait", "10"]);
    assert_eq!(told.code, Some(1), "{}", told.all());
    assert!(told.err.contains("cache1"), "{}", told.err);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(agent.addresses(MASTER).is_empty());
}

#[test]
fn a_database_that_refuses_is_told() {
    let place = Place::claim();
    let config = format!(
        "{}[service.{SERVICE}]\nkind = \"redis\"\n[service.{SERVICE}.instance.cache1]\n\
         address = \"{}\"\n",
        Agent::head(&place),
        place.socket(1, 6379)
    );
    let agent = Agent::start(&place, &config);
    is_refused_soon(&agent);
    let told = agent.sengu(&["explain", SERVICE]).good().out;
    assert!(told.contains("refuses connections"), "{told}");
}

#[test]
fn a_database_that_accepts_and_says_nothing_is_told() {
    let kept = std::sync::Mutex::new(Vec::new());
    let (agent, _place) = with_stranger(move |stream| {
        kept.lock().expect("nobody panics").push(stream);
    });
    is_refused_soon(&agent);
}

#[test]
fn a_database_that_speaks_nonsense_is_told() {
    let (agent, _place) = with_stranger(|mut stream| {
        // The other end may have gone.
        let _ = stream.write_all(&b"$999999999999\r\n*-7\r\nHTTP/1.1 200 OK\r\n".repeat(100));
    });
    is_refused_soon(&agent);
    assert!(agent.resident() < 100 * 1024, "{} KiB", agent.resident());
}

#[test]
fn hooks_that_hang_or_print_without_end_delay_a_failover_by_their_deadline_only() {
    let hook = |command: &str| {
        format!(
            "[[hook]]\nphase = \"before-failover\"\ntimeout = \"500ms\"\n\
             command = [\"/bin/sh\", \"-c\", \"{command}\"]\n"
        )
    };
    let outputs = hook("sleep 60 & sleep 60")
        + &hook("head -c 10000000 /dev/zero | tr '\\\\0' x")
        + &hook("exit 3");
    let trio = Trio::adopted(&Settings { outputs, ..Settings::default() });
    let old = &trio.servers[0];
    let before = trio.agent.resident();
    old.kill();
    trio.until_other(old, LATER);
    let grown = trio.agent.resident().saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB more");
    let told = trio.agent.sengu(&["history", SERVICE, "--json"]).good().out;
    assert!(
        told.contains("500ms") || told.contains("0.5 s") || told.contains("deadline"),
        "{told}"
    );
    assert!(told.len() < 100_000, "{} bytes of history", told.len());
}

#[test]
fn a_hook_that_says_no_stops_a_switchover() {
    let outputs = "[[hook]]\nphase = \"before-switchover\"\non_error = \"abort\"\n\
                   command = [\"/bin/sh\", \"-c\", \"echo not during lunch; exit 1\"]\n";
    let trio = Trio::adopted(&Settings { outputs: outputs.into(), ..Settings::default() });
    trio.switchover(&["--to", "cache2"]).refused("hook");
    trio.until_master(&trio.servers[0], SOON);
    assert_eq!(trio.writable(), [trio.servers[0].address]);
    assert_eq!(trio.agent.status(SERVICE)["term"], 1);
}

#[test]
fn dns_garbage_is_survived() {
    let trio = Trio::adopted(&Settings { count: 1, ..Settings::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut number = 0x2545_f491_u32;
    for length in (0..2000).map(|round| round % 600) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                number.to_be_bytes()[0]
            })
            .collect();
        // A closed port would be an error here, and is found out below.
        let _ = socket.send_to(&bytes, trio.agent.dns);
    }
    // A name that points at itself, and one without an end.
    let looping = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
    let endless = [&[0, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[63_u8; 500]].concat();
    for bytes in [&looping[..], &endless] {
        socket.send_to(bytes, trio.agent.dns).expect("sent");
    }
    let mut stream = TcpStream::connect(trio.agent.dns).expect("it listens");
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).expect("sent");
    trio.until_master(&trio.servers[0], SOON);
}

#[test]
fn http_bodies_and_heads_beyond_their_bounds_are_refused() {
    let place = Place::claim();
    let agent = Agent::start(&place, &Agent::head(&place));
    let put = |path: &str, body: &[u8]| http::put(agent.http, path, body).expect("an answer");
    assert_eq!(put("/v1/kv/large", &vec![b'x'; 10 << 20]).status, 413);
    assert_eq!(put("/v1/kv/fits", &vec![b'x'; 512 << 10]).status, 200);
    assert_eq!(put("/v1/catalog/register", b"{").status, 400);
    assert_eq!(put("/v1/catalog/register", &b"[".repeat(100_000)).status, 400);
    let unknown = http::get(agent.http, "/v1/no/such").expect("an answer");
    assert_eq!(unknown.status, 404);
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = http::raw(agent.http, long.as_bytes());
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400));
    let answer = http::raw(agent.http, b"\x16\x03\x01 not http\r\n\r\n");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400));
    assert!(http::get(agent.http, "/health").is_ok_and(|answer| answer.status == 200));
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let place = Place::claim();
    let agent = Agent::start(&place, &Agent::head(&place));
    let idle: Vec<TcpStream> =
        (0..200).filter_map(|_| TcpStream::connect(agent.http).ok()).collect();
    assert!(idle.len() > 100);
    let answered = soon(SOON, || http::get(agent.http, "/health").ok().filter(|a| a.status == 200));
    assert!(answered.is_some(), "{}", agent.tail());
    // The operator's socket has its own bound.
    agent.sengu(&["status"]).good();
}

#[test]
fn an_answer_beyond_udp_is_cut_and_told_whole_over_tcp() {
    let place = Place::claim();
    let agent = Agent::start(&place, &Agent::head(&place));
    for number in 0..200_u32 {
        let body = format!(
            "{{\"Node\": \"n{number}\", \"Address\": \"10.0.0.{number}\", \"Service\": \
             {{\"ID\": \"big{number}\", \"Service\": \"big\", \"Port\": {}}}}}",
            1000 + number
        );
        let answer = http::put(agent.http, "/v1/catalog/register", body.as_bytes());
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let name = "big.service.consul";
    let cut = until("it is answered", SOON, || {
        integration::rig::dns::ask(agent.dns, name, integration::rig::dns::A).ok()
    });
    assert!(cut.truncated, "{} addresses", cut.addresses.len());
    let whole = agent.sengu(&["dns", name, "--tcp", "--json"]).good().out;
    assert_eq!(whole.matches("10.0.0.").count(), 200);
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let place = Place::claim();
    let file = place.path("none.toml");
    for words in [&["switchover"][..], &["switchover", "a b"], &["pause", "x", "--for", "soon"]] {
        assert_eq!(sengu(&file, words).code, Some(2), "{words:?}");
    }
}

#[test]
fn the_operators_socket_is_for_root_only() {
    let place = Place::claim();
    let agent = Agent::start(&place, &Agent::head(&place));
    let socket = place.path("sengu.sock");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&socket).expect("it is there"));
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    // And it takes no more than it should.
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
    stream.set_read_timeout(Some(LATER)).expect("set");
    let head = "POST /v1/sengu/request/foo HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &vec![b'x'; 1 << 20]].concat()).expect("sent");
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).unwrap_or_default();
    let line = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(line.starts_with("HTTP/1.1 4"), "{line}");
    agent.sengu(&["status"]).good();
}
