//! `/check/NAME`: one status for balancers and monitoring, from the last results of a check.
//!
//! 200 if it passes or warns, 503 if it does not or nobody knows, 404 for a check that does not
//! run here. Nothing is run: results come from the agent's own rhythm and expire, so that any
//! number of askers costs the database nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use sengu_core::catalog::Named;
use sengu_core::consul::duration;
use sengu_core::health::Status;
use serde_json::{Value, json};

use super::Shell;
use super::answer::{self, Trouble};
use super::query::Params;
use crate::clock;
use crate::probe::{CheckReport, verdict};

/// An older result counts as unknown, unless told.
const MAX_AGE: Duration = Duration::from_secs(30);

/// How a check stands on this host; `?service=`, `?instance=` and `?max_age=` narrow it.
pub(super) async fn check(
    State(shell): State<Arc<Shell>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let params = Params::of(&uri)?;
    let max_age = match params.first("max_age").filter(|text| !text.is_empty()) {
        None => MAX_AGE,
        Some(text) => duration::parse(text)
            .ok_or_else(|| Trouble::bad(format!("Invalid max_age {text:?}: write it as 10s")))?,
    };
    let reports = reports(&shell);
    if !reports.iter().any(|report| report.name == name) {
        let mut known: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
        known.dedup();
        let known = known.join(", ");
        return Err(Trouble::new(404, format!("no such check on this host; known are: {known}")));
    }
    let wanted = |what: &str, have: &str| params.first(what).is_none_or(|wanted| wanted == have);
    let chosen: Vec<CheckReport> = reports
        .into_iter()
        .filter(|report| {
            report.name == name
                && wanted("service", report.service.as_str())
                && wanted("instance", report.instance.as_str())
        })
        .collect();
    let alone = params.has("instance");
    let mut worst = None;
    let mut services = Vec::new();
    for group in chosen.chunk_by(|one, next| one.service == next.service) {
        let (status, words) = verdict::together(group, alone, max_age);
        worst = worst.max(Some(status));
        let instances: Vec<Value> = group
            .iter()
            .map(|report| {
                json!({
                    "instance": report.instance, "status": verdict::judge(report, max_age),
                    "output": report.output, "age_ms": report.age_ms,
                })
            })
            .collect();
        let service = &group[0].service;
        services.push(json!({
            "service": service, "status": status, "output": words, "instances": instances,
        }));
    }
    let status = worst.unwrap_or(Status::Unknown);
    let body = json!({ "check": name, "status": status, "services": services });
    let code =
        if status <= Status::Warning { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(answer::json(code, &body, params.has("pretty")))
}

/// The last results of all checks, with the masters that are named now.
fn reports(shell: &Shell) -> Vec<CheckReport> {
    let Some(checks) = &shell.context.checks else { return Vec::new() };
    let mut reports = checks.snapshot(clock::now());
    let catalog = shell.context.view.catalog();
    for report in &mut reports {
        let named = catalog.as_ref().map(|catalog| catalog.master(&report.service, clock::time()));
        report.named = matches!(named, Some(Named::Master(who, _)) if *who == report.instance);
    }
    reports
}
