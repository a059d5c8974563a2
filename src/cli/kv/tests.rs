//! `sengu kv` against a small HTTP server: what is asked, and how the command ends.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};

use super::*;

type Asked = Arc<Mutex<Vec<String>>>;

async fn answer(
    State(asked): State<Asked>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    let body = String::from_utf8_lossy(&body);
    asked.lock().expect("alone").push(format!("{method} {uri} {body}").trim_end().to_owned());
    let path = uri.path();
    if path.ends_with("absent") {
        return (StatusCode::NOT_FOUND, String::new());
    }
    let text = match (method, uri.query()) {
        (Method::GET, Some("raw")) => "value".to_owned(),
        (Method::GET, Some("keys")) => r#"["a/b","a/c"]"#.to_owned(),
        (Method::GET, _) => r#"[{"Key":"a/b","Value":"dmFsdWU="}]"#.to_owned(),
        (_, Some("cas=9")) => "false".to_owned(),
        _ => "true\n".to_owned(),
    };
    (StatusCode::OK, text)
}

/// Runs command lines against one server; gives how each ended and what was asked.
fn run(lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let asked = Asked::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    runtime.spawn(async { axum::serve(listener, routes).await });
    let ends = lines.iter().map(|line| {
        let words = ["sengu", "kv", "--http", &url].into_iter().chain(line.split(' '));
        format!("{:?}", crate::cli::run(words.map(Into::into)))
    });
    let ends = ends.collect();
    runtime.shutdown_background();
    let asked = asked.lock().expect("alone").clone();
    (ends, asked)
}

fn code(exit: Exit) -> String {
    format!("{:?}", std::process::ExitCode::from(exit))
}

#[test]
fn each_verb_asks_as_consul_does() {
    let (ends, asked) = run(&[
        "get a/b",
        "get a/b --json",
        "put a/b value --cas 0",
        "delete a --recurse",
        "list a/",
        "list absent",
    ]);
    assert_eq!(ends, vec![code(Exit::Done); 6]);
    assert_eq!(
        asked,
        [
            "GET /v1/kv/a/b?raw",
            "GET /v1/kv/a/b",
            "PUT /v1/kv/a/b?cas=0 value",
            "DELETE /v1/kv/a?recurse",
            "GET /v1/kv/a/?keys",
            "GET /v1/kv/absent?keys",
        ]
    );
}

#[test]
fn what_is_absent_or_was_changed_by_another_fails() {
    let (ends, _) = run(&["get absent", "put a/b value --cas 9", "delete a/b --cas 9"]);
    assert_eq!(ends, vec![code(Exit::Failed); 3]);
}

#[test]
fn keys_keep_their_slashes_and_nothing_else_that_means_something() {
    assert_eq!(path("a/b c?d"), "/v1/kv/a/b%20c%3Fd");
    assert_eq!(path(""), "/v1/kv/");
}
