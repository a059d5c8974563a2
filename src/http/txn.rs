//! `PUT /v1/txn`: several KV operations, all or none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use sengu_core::consul::kv::Pair;
use sengu_core::consul::transaction::{self, Failure};
use serde_json::{Value, json};

use super::Shell;
use super::answer::{Trouble, json as answer_json};
use super::query::Params;
use super::signals::note;
use super::write::send;

/// How often it is planned again because its keys changed meanwhile.
const ATTEMPTS: u32 = 8;

pub(crate) async fn put(
    State(shell): State<Arc<Shell>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Trouble> {
    Params::of(&uri)?.datacenter(&shell.context.place.datacenter)?;
    let body = super::body::read(&headers, body).await?;
    let operations = transaction::operations(&body)?;
    for _ in 0..ATTEMPTS {
        let catalog = shell.catalog()?;
        let draft = match transaction::plan(&catalog, &operations)? {
            Ok(draft) => draft,
            Err(failures) => return Ok(failed(&failures)),
        };
        drop(catalog);
        let reply = send(&shell, draft.txn.clone()).await?;
        shell.reached(reply.revision).await?;
        if reply.succeeded {
            let results = draft.results(&*shell.catalog()?);
            return Ok(done(&results));
        }
    }
    Err(Trouble::new(500, "rpc error: others change the same entries all the time; try again"))
}

fn done(results: &[Pair]) -> Response {
    let results: Vec<Value> = results.iter().map(|pair| json!({ "KV": pair })).collect();
    let results = if results.is_empty() { Value::Null } else { Value::Array(results) };
    answer_json(StatusCode::OK, &json!({ "Results": results, "Errors": null }), false)
}

fn failed(failures: &[Failure]) -> Response {
    let body = json!({ "Results": null, "Errors": failures });
    let mut response = answer_json(StatusCode::CONFLICT, &body, false);
    let words: Vec<&str> = failures.iter().map(|failure| failure.what.as_str()).collect();
    note(&mut response, None, Some(format!("rolled back: {}", words.join("; "))));
    response
}
