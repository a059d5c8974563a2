//! Txns and other long things in a few words, for the trace.

use sengu_core::kv::{Op, Txn, TxnReply};
use sengu_core::record::{
    FinalRecord, HistoryRecord, InstanceRecord, MasterRecord, MasterState, RequestRecord,
};

use super::version::read;

/// What a txn wrote.
pub(crate) fn describe(txn: &Txn, reply: &TxnReply) -> String {
    let ops = if reply.succeeded { &txn.then } else { &txn.otherwise };
    let ops = if ops.is_empty() { &txn.then } else { ops };
    let words: Vec<String> = ops.iter().filter_map(operation).collect();
    words.join(", ")
}

fn operation(op: &Op) -> Option<String> {
    match op {
        Op::Put { key, value, .. } => Some(format!("writes {key} {}", value_of(key, value))),
        Op::Delete(key) => Some(format!("removes {key}")),
        Op::DeletePrefix(key) => Some(format!("removes {key}*")),
        Op::Get(_) | Op::GetPrefix(_) => None,
    }
}

fn value_of(key: &str, value: &[u8]) -> String {
    let kind = key.split('/').next().unwrap_or_default();
    let text = match kind {
        "master" => read::<MasterRecord>(value).map(|record| {
            let state = match &record.state {
                MasterState::Taken { cause } => format!("taken ({cause:?})"),
                MasterState::Giving { to, position, .. } => format!("giving to {to} at {position}"),
                MasterState::Vacant { proof, cause, .. } => {
                    format!("vacant ({proof:?}, {cause:?})")
                }
                other => other.word().to_owned(),
            };
            let unproven: Vec<_> = record.unproven.iter().map(|it| it.instance.as_str()).collect();
            format!(
                "term {} {state} {} {:?} unproven {unproven:?} failed {:?}",
                record.term, record.holder.instance, record.promise, record.failed
            )
        }),
        "finals" => read::<FinalRecord>(value).map(|record| {
            format!("{} unfit {:?} ({})", record.applied, record.unfit, record.boot_id)
        }),
        "requests" => read::<RequestRecord>(value)
            .map(|record| format!("{:?} term {:?} {:?}", record.ask, record.term, record.stand)),
        "instances" => read::<InstanceRecord>(value).map(|record| {
            format!(
                "{:?} {:?} writable {} link {} syncing {} from {:?} {:?}",
                record.health,
                record.role,
                record.writable,
                record.link_up,
                record.syncing,
                record.source,
                record.quarantine
            )
        }),
        "history" => read::<HistoryRecord>(value).map(|record| {
            format!("to {} loss {:?} hooks {:?}", record.to, record.loss, record.hooks)
        }),
        _ => Ok(format!("({} bytes)", value.len())),
    };
    text.unwrap_or_else(|error| format!("unreadable: {error}"))
}
