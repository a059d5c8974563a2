//! What is known of a new term when it begins: why, from whom, chosen how, and what was lost.
//!
//! It becomes the history of the term; nothing is decided by it.

use std::collections::BTreeMap;

use crate::candidate::Ranking;
use crate::name::InstanceName;
use crate::record::{Cause, FORMAT, HistoryRecord, HookStand, Phase, Step};

/// What a new term's history says.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) cause: Cause,
    pub(super) from: Option<InstanceName>,
    pub(super) loss: String,
    pub(super) ranking: Ranking,
    pub(super) asked_by: Option<String>,
    pub(super) steps: Vec<Step>,
    /// Hooks that ran before there was a term, at the request.
    pub(super) hooks: BTreeMap<Phase, HookStand>,
}

impl Story {
    pub(super) fn new(cause: Cause, from: Option<InstanceName>) -> Self {
        Self {
            cause,
            from,
            loss: String::new(),
            ranking: Ranking::default(),
            asked_by: None,
            steps: Vec::new(),
            hooks: BTreeMap::new(),
        }
    }

    /// As the record of the term has it, when it begins.
    pub(super) fn history(&self, to: &InstanceName) -> HistoryRecord {
        HistoryRecord {
            format: FORMAT,
            cause: self.cause.clone(),
            from: self.from.clone(),
            to: to.clone(),
            steps: self.steps.clone(),
            loss: self.loss.clone(),
            ranking: self.ranking.order.clone(),
            refusals: words(&self.ranking),
            asked_by: self.asked_by.clone(),
            hooks: self.hooks.clone(),
            unknown: serde_json::Map::new(),
        }
    }
}

fn words(ranking: &Ranking) -> BTreeMap<InstanceName, String> {
    ranking.refusals.iter().map(|(name, why)| (name.clone(), why.to_string())).collect()
}
