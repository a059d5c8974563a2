//! `/v1/kv/…`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use sengu_core::catalog::Catalog;
use sengu_core::consul::directory::Directory;
use sengu_core::consul::{Found, Otherwise, Plan, Refusal, derived, kv};
use sengu_core::kv::{Compare, Txn};

use super::Shell;
use super::answer::{Trouble, json, truth};
use super::query::Params;
use super::read::{Topic, answer_if_there, read};
use super::write::write;

/// The key as the client meant it: percent-decoded once, slashes kept as they stand.
fn key_of(uri: &Uri) -> Result<String, Trouble> {
    let path = uri.path().strip_prefix("/v1/kv").unwrap_or_default();
    let encoded = path.strip_prefix('/').unwrap_or(path);
    match percent_decode_str(encoded).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(Trouble::bad("key name is not UTF-8")),
    }
}

/// `GET`: one entry, its bytes, all under a prefix, or only their keys.
pub(crate) async fn get(State(shell): State<Arc<Shell>>, uri: Uri) -> Result<Response, Trouble> {
    let params = Params::of(&uri)?;
    let key = key_of(&uri)?;
    if derived::is_here(&key) {
        return derived_get(&shell, &params, &key).await;
    }
    if params.has("keys") {
        // Consul takes the misspelling of its first clients too.
        let separator = params.first("separator").or_else(|| params.first("seperator"));
        let separator = separator.unwrap_or_default();
        return answer_if_there(&shell, &params, Topic::Kv, |directory| {
            kv::keys(directory.catalog(), &key, separator)
        })
        .await;
    }
    if params.has("recurse") {
        return answer_if_there(&shell, &params, Topic::Kv, |directory| {
            kv::recurse(directory.catalog(), &key)
        })
        .await;
    }
    kv::check_key(&key)?;
    if params.has("raw") {
        return raw(&shell, &params, &key).await;
    }
    answer_if_there(&shell, &params, Topic::Kv, |directory| {
        let found = kv::get(directory.catalog(), &key);
        Found { index: found.index, body: found.body.map(|pair| [pair]) }
    })
    .await
}

/// What is made of the master records, under `sengu/`.
async fn derived_get(shell: &Shell, params: &Params, key: &str) -> Result<Response, Trouble> {
    if params.has("keys") || params.has("recurse") {
        let keys = params.has("keys");
        let (pairs, meta) =
            read(shell, params, Topic::Directory, |directory| derived::under(directory, key))
                .await?;
        if pairs.is_empty() {
            return Ok(meta.on(StatusCode::NOT_FOUND.into_response()));
        }
        let names: Vec<&String> = pairs.iter().map(|pair| &pair.key).collect();
        let pretty = params.has("pretty");
        return Ok(meta.on(if keys {
            json(StatusCode::OK, &names, pretty)
        } else {
            json(StatusCode::OK, &pairs, pretty)
        }));
    }
    if params.has("raw") {
        let run = |directory: &Directory<'_>| derived::get(directory, key);
        let (pair, meta) = read(shell, params, derived_topic(key), run).await?;
        let value = pair.and_then(|pair| STANDARD.decode(pair.value?).ok());
        return Ok(meta.on(value.map_or_else(|| StatusCode::NOT_FOUND.into_response(), plain)));
    }
    answer_if_there(shell, params, derived_topic(key), |directory| {
        let found = derived::get(directory, key);
        Found { index: found.index, body: found.body.map(|pair| [pair]) }
    })
    .await
}

/// The service that such a key is about.
fn derived_topic(key: &str) -> Topic<'_> {
    let name = key.strip_prefix(derived::ROOT).and_then(|rest| rest.split('/').next());
    name.map_or(Topic::Directory, Topic::Service)
}

async fn raw(shell: &Shell, params: &Params, key: &str) -> Result<Response, Trouble> {
    let run = |directory: &Directory<'_>| kv::raw(directory.catalog(), key);
    let (body, meta) = read(shell, params, Topic::Kv, run).await?;
    let Some(bytes) = body else {
        return Ok(meta.on(StatusCode::NOT_FOUND.into_response()));
    };
    Ok(meta.on(plain(bytes.to_vec())))
}

/// Bytes as they are; whatever was stored, a browser must not run it.
fn plain(bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
    ]
    .map(|(name, value): (HeaderName, &'static str)| (name, HeaderValue::from_static(value)));
    (headers, bytes).into_response()
}

/// `PUT`: `true` if it was written.
pub(crate) async fn put(
    State(shell): State<Arc<Shell>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Trouble> {
    let params = Params::of(&uri)?;
    params.datacenter(&shell.context.place.datacenter)?;
    params.exclusive(&["cas", "acquire", "release"])?;
    let key = key_of(&uri)?;
    kv::check_key(&key)?;
    let flags = params.number("flags")?.unwrap_or_default();
    let cas = cas(&params)?;
    let value = super::body::read(&headers, body).await?;
    let request = kv::Put { key: &key, value: &value, flags, cas };
    let done = if let Some(session) = params.first("acquire") {
        locked(&shell, |catalog| kv::acquire(catalog, &request, session)).await?
    } else if let Some(session) = params.first("release") {
        locked(&shell, |catalog| kv::release(catalog, &request, session)).await?
    } else {
        write(&shell, |directory| kv::put(directory.catalog(), &request)).await?
    };
    Ok(truth(done))
}

/// A write that takes a lock or gives it back; one that there is no plan for is not done. A
/// session was made a moment ago, perhaps on this connection: the newest catalog counts.
async fn locked(
    shell: &Shell,
    plan: impl Fn(&Catalog) -> Result<Option<Plan>, Refusal>,
) -> Result<bool, Trouble> {
    if plan(&*shell.catalog()?)?.is_none() {
        return Ok(false);
    }
    write(shell, |directory| {
        // Lost meanwhile: a plan that cannot be done is answered with `false`.
        Ok(plan(directory.catalog())?.unwrap_or_else(never))
    })
    .await
}

/// A plan that changes nothing and is answered with `false`.
fn never() -> Plan {
    let when = vec![Compare::Present("sessions/none".into())];
    Plan { txn: Txn { when, ..Txn::default() }, otherwise: Otherwise::False }
}

/// `DELETE`: one entry, or all under a prefix.
pub(crate) async fn delete(State(shell): State<Arc<Shell>>, uri: Uri) -> Result<Response, Trouble> {
    let params = Params::of(&uri)?;
    params.datacenter(&shell.context.place.datacenter)?;
    params.exclusive(&["recurse", "cas"])?;
    let key = key_of(&uri)?;
    let cas = cas(&params)?;
    let done = write(&shell, |_| {
        if params.has("recurse") { kv::delete_tree(&key) } else { kv::delete(&key, cas) }
    })
    .await?;
    Ok(truth(done))
}

/// `cas` given without a number is an error, not a write without a condition.
fn cas(params: &Params) -> Result<Option<u64>, Trouble> {
    match params.first("cas") {
        Some("") => Err(Trouble::bad("Invalid cas")),
        _ => params.number("cas"),
    }
}
