//! The inputs of decisions, as `sengu explain` prints them: a line for the store, one for the
//! master record, and one for each instance.

use sengu_core::explain::{Inputs, InstanceInput};
use sengu_core::name::ServiceName;
use sengu_core::observation::{SemiSync, Verdict};
use sengu_core::record::{FinalRecord, Lag, MasterRecord, Promise};
use sengu_core::sync::{Standing, SyncRecord};

use crate::cli::print::Look;
use crate::cli::words::seconds;

/// All of them.
pub(super) fn lines(service: &ServiceName, inputs: &Inputs, look: &Look) -> Vec<String> {
    let mut lines = vec![store(inputs)];
    if let Some((revision, record)) = &inputs.record {
        lines.push(format!("master/{service} (revision {revision}): {}", master(record, look)));
    }
    if let Some((revision, record)) = &inputs.sync {
        lines.push(format!("sync/{service} (revision {revision}): {}", sync(record)));
    }
    for (name, input) in &inputs.instances {
        lines.push(format!("instance {name} (revision {}): {}", input.revision, instance(input)));
        lines.extend(own(input).map(|own| format!("  this agent: {own}")));
    }
    let r#final = |(name, r#final): (_, &FinalRecord)| {
        format!("final of {name}: received {}, applied {}", r#final.received, r#final.applied)
    };
    lines.extend(inputs.finals.iter().map(r#final));
    lines.extend(inputs.unreadable.iter().map(|(key, why)| format!("{key} cannot be read: {why}")));
    lines
}

fn store(inputs: &Inputs) -> String {
    let judge = if inputs.judge == "shared" { "shared by several agents" } else { "embedded" };
    let mut line = format!(
        "store: {judge}, revision {}, answered {} ago, lease {}",
        inputs.revision,
        seconds(inputs.store_answered_ms),
        seconds(inputs.lease_ms)
    );
    if let Some(beat) = inputs.beat_ms {
        line += &format!(", last beat {} ago", seconds(beat));
    }
    if let Some(doubted) = inputs.doubted_ms {
        line += &format!(", this agent was late, or its clock jumped, {} ago", seconds(doubted));
    }
    line
}

fn master(record: &MasterRecord, look: &Look) -> String {
    let holder = &record.holder;
    let promise = match record.promise {
        Promise::None => "promises nothing".to_owned(),
        Promise::Fence { lease_ms } => format!("promises to be fenced in {}", seconds(lease_ms)),
    };
    let mut line = format!(
        "term {}, {}, held by {} on {} at {}, process {}, {promise}, {} known",
        record.term,
        record.state.word(),
        holder.instance,
        holder.host,
        holder.address,
        holder.boot_id.0,
        crate::config::count(record.origins.len(), "history").replace("historys", "histories"),
    );
    let names = |title: &str, names: Vec<String>| match names.is_empty() {
        true => String::new(),
        false => format!(", {title} {}", names.join(", ")),
    };
    line +=
        &names("failed in this incident:", record.failed.iter().map(ToString::to_string).collect());
    line += &names(
        "ran out before they were open:",
        record.unkept.iter().map(ToString::to_string).collect(),
    );
    let unproven = record.unproven.iter().map(|holder| holder.instance.to_string()).collect();
    line += &names("never proven stopped:", unproven);
    line += &names("failovers at", record.failovers.iter().map(|at| look.time(*at)).collect());
    line
}

/// Who may acknowledge commits, as far as the others know.
fn sync(record: &SyncRecord) -> String {
    let known = if record.complete {
        "the copies together hold every acknowledged write"
    } else {
        "the holder alone is known to hold every acknowledged write"
    };
    let mut line = format!(
        "term {}, {known}; a commit waits for {}",
        record.term,
        crate::config::count(record.acks as usize, "acknowledgement")
    );
    let copy = |(name, standing): (_, &Standing)| format!("{name} {}", standing.word());
    let copies: Vec<String> = record.copies.iter().map(copy).collect();
    if !copies.is_empty() {
        line += &format!("; {}", copies.join(", "));
    }
    if let Some(position) = &record.position {
        line += &format!("; a joining copy must hold {position}");
    }
    line
}

/// Both sides of semi-synchronous replication, where there is something to tell.
fn semi_sync(semi: &SemiSync) -> Option<String> {
    let mut parts = Vec::new();
    if semi.awaits > 0 {
        parts.push(format!("commits wait for {}", semi.awaits));
    }
    if semi.clients > 0 {
        parts.push(format!(
            "{} acknowledging",
            crate::config::count(semi.clients as usize, "copy").replace("copys", "copies")
        ));
    }
    if semi.waiting > 0 {
        parts.push(format!("{} waiting", semi.waiting));
    }
    if semi.acknowledges {
        parts.push("acknowledges".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn instance(input: &InstanceInput) -> String {
    let record = &input.record;
    let lag = match record.lag {
        Lag::None => "no lag",
        Lag::Some => "some lag",
        Lag::Far => "far behind",
        Lag::Unknown => "lag unknown",
    };
    let verdict = |what: &str, verdict: &Verdict| match verdict {
        Verdict::Good => what.to_owned(),
        Verdict::Bad(why) => format!("not {what}: {why}"),
        Verdict::Unknown => format!("{what}: not looked at yet"),
    };
    let mut parts = vec![
        format!("priority {}", record.priority),
        record
            .boot_id
            .as_ref()
            .map_or_else(|| "no process".into(), |id| format!("process {}", id.0)),
        format!("{:?}", record.process).to_lowercase(),
        lag.to_owned(),
        verdict("starts fenced", &record.starts_fenced),
        verdict("can be ended", &record.killable),
    ];
    parts.extend(record.semi_sync.as_ref().and_then(semi_sync));
    parts.extend(record.source.map(|source| format!("source {source}")));
    parts.extend(record.zone.as_ref().map(|zone| format!("zone {zone}")));
    parts.extend(record.quarantine.as_ref().map(|why| format!("quarantined: {why}")));
    parts.join(", ")
}

fn own(input: &InstanceInput) -> Option<String> {
    let own = input.own.as_ref()?;
    let mut parts = vec![format!("looked {} ago", seconds(own.looked_ms))];
    if let (Some(received), Some(applied)) = (&own.received, &own.applied) {
        parts.push(if received == applied {
            format!("has {applied}")
        } else {
            format!("received {received}, applied {applied}")
        });
    }
    if let Some((looks, words)) = &own.failing {
        parts.push(format!("{looks} looks failed: {words}"));
    }
    parts.push(if own.in_step { "in step" } else { "not in step in this life" }.to_owned());
    if own.fenced {
        parts.push("fenced".to_owned());
    }
    parts.extend(own.under_way.as_ref().map(|what| format!("under way: {what}")));
    Some(parts.join(", "))
}
