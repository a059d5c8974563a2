//! The ways a master record may change: a table, and nothing but the table.
//!
//! Every txn on `master/S` that the core builds is checked against it, the simulator checks every
//! change that a store ever saw, and the diagram in ARCHITECTURE.md is printed from it.

use std::fmt::Write;

use crate::record::{MasterRecord, MasterState};

/// A state's name, `Absent` before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No record, or sengu does not hold the service.
    Unmanaged,
    /// Won, being promoted.
    Taken,
    /// Named.
    Serving,
    /// Fenced, handing over.
    Giving,
    /// Nobody; the last holder is proven stopped.
    Vacant,
    /// The beats ran out.
    Lapsed,
    /// Could not be fenced.
    FenceFailed,
    /// Another tool moves it; nobody is named.
    Withdrawn,
}

/// What happens to the term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermChange {
    /// It stays.
    Same,
    /// The next one.
    Next,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Transition {
    /// From here ...
    pub from: Stage,
    /// ... to there.
    pub to: Stage,
    /// What happens to the term.
    pub term: TermChange,
    /// Who may write it.
    pub by: &'static str,
    /// What must hold, for operators.
    pub when: &'static str,
}

const fn row(
    from: Stage,
    to: Stage,
    term: TermChange,
    by: &'static str,
    when: &'static str,
) -> Transition {
    Transition { from, to, term, by, when }
}

/// All of them.
pub const TABLE: &[Transition] = {
    use Stage::{FenceFailed, Giving, Lapsed, Serving, Taken, Unmanaged, Vacant, Withdrawn};
    use TermChange::{Next, Same};
    &[
        row(
            Unmanaged,
            Serving,
            Next,
            "the writable instance's agent",
            "adopted: one is writable, all others follow it",
        ),
        row(
            Unmanaged,
            Taken,
            Next,
            "the agent of the one a person named",
            "adopted cold: none is writable",
        ),
        row(Vacant, Taken, Next, "the first candidate's agent", "all finals seen, nobody vetoes"),
        row(Lapsed, Taken, Next, "the first candidate's agent", "all finals seen, nobody vetoes"),
        row(Giving, Taken, Next, "the named taker's agent", "it has all that was acknowledged"),
        row(
            Giving,
            Vacant,
            Same,
            "the giver's agent, or any after a wait",
            "the giver's process exited, or nobody has all that was acknowledged",
        ),
        row(Serving, Taken, Next, "the holder's agent", "it reopens its own fenced instance"),
        row(Taken, Serving, Same, "the holder's agent", "promoted, and read back writable"),
        row(Serving, Giving, Same, "the holder's agent", "fenced, position read twice"),
        row(
            Serving,
            Vacant,
            Same,
            "the holder's agent",
            "its process exited, or the fence is acknowledged",
        ),
        row(
            Taken,
            Vacant,
            Same,
            "the holder's agent",
            "the promotion failed and the fence is acknowledged",
        ),
        row(Serving, Lapsed, Same, "any agent", "no beat for 1.03 leases"),
        row(Taken, Lapsed, Same, "any agent", "no beat for 1.03 leases"),
        row(Serving, FenceFailed, Same, "the holder's agent", "every rung of the fence failed"),
        row(Taken, FenceFailed, Same, "the holder's agent", "every rung of the fence failed"),
        row(
            FenceFailed,
            Vacant,
            Same,
            "the holder's agent",
            "a later fence or exit is acknowledged",
        ),
        row(
            Taken,
            Unmanaged,
            Same,
            "any agent",
            "released by a person, its holder taken out of the configuration",
        ),
        row(Serving, Unmanaged, Same, "the holder's agent", "released by a person"),
        row(Vacant, Unmanaged, Same, "any agent", "released by a person"),
        row(Lapsed, Unmanaged, Same, "any agent", "released by a person"),
        row(FenceFailed, Unmanaged, Same, "any agent", "released by a person"),
        row(
            Serving,
            Withdrawn,
            Same,
            "any agent",
            "external: a move is announced, or it is not the one that takes writes",
        ),
        row(
            Withdrawn,
            Serving,
            Next,
            "the writable instance's agent",
            "external: it alone takes writes, and the tool said so or was not expected",
        ),
        row(
            Withdrawn,
            Taken,
            Next,
            "the holder's agent",
            "external: the announced move did not come, and sengu's own fence is undone",
        ),
        row(
            Taken,
            Withdrawn,
            Same,
            "the holder's agent",
            "external: what sengu had fenced could not be opened again",
        ),
        row(Withdrawn, Unmanaged, Same, "any agent", "released by a person"),
    ]
};

/// The stage of a record, or of its absence.
#[must_use]
pub fn stage(record: Option<&MasterRecord>) -> Stage {
    match record.map(|record| &record.state) {
        None | Some(MasterState::Unmanaged) => Stage::Unmanaged,
        Some(MasterState::Taken { .. }) => Stage::Taken,
        Some(MasterState::Serving) => Stage::Serving,
        Some(MasterState::Giving { .. }) => Stage::Giving,
        Some(MasterState::Vacant { .. }) => Stage::Vacant,
        Some(MasterState::Lapsed) => Stage::Lapsed,
        Some(MasterState::FenceFailed { .. }) => Stage::FenceFailed,
        Some(MasterState::Withdrawn { .. }) => Stage::Withdrawn,
    }
}

/// Whether one record may follow another. A record may also be annotated: same state, same
/// holder, same term.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(from: Option<&MasterRecord>, to: &MasterRecord) -> Result<(), String> {
    let (old, new) = (stage(from), stage(Some(to)));
    let term = from.map_or(0, |record| record.term.0);
    let change = match to.term.0.checked_sub(term) {
        Some(0) => TermChange::Same,
        Some(1) => TermChange::Next,
        _ => return Err(format!("term {term} was followed by {}", to.term)),
    };
    if change == TermChange::Same
        && let Some(from) = from
    {
        if from.holder != to.holder {
            return Err(format!("term {term} changed its holder"));
        }
        if old == new {
            return Ok(());
        }
    }
    let found = TABLE.iter().any(|row| row.from == old && row.to == new && row.term == change);
    if found { Ok(()) } else { Err(format!("{old:?} was followed by {new:?}, {change:?} term")) }
}

/// The table as a Mermaid diagram, as ARCHITECTURE.md shows it.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for row in TABLE {
        let term = if row.term == TermChange::Next { "term+1: " } else { "" };
        let from =
            if row.from == Stage::Unmanaged { "[*]".to_owned() } else { format!("{:?}", row.from) };
        let to =
            if row.to == Stage::Unmanaged { "[*]".to_owned() } else { format!("{:?}", row.to) };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {from} --> {to}: {term}{}", row.when);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stage::{FenceFailed, Giving, Lapsed, Serving, Taken, Unmanaged, Vacant, Withdrawn};

    #[test]
    fn every_stage_is_reached_and_left() {
        for stage in [Unmanaged, Taken, Serving, Giving, Vacant, Lapsed, FenceFailed, Withdrawn] {
            assert!(TABLE.iter().any(|row| row.to == stage), "{stage:?} is never reached");
            assert!(TABLE.iter().any(|row| row.from == stage), "{stage:?} is never left");
        }
    }

    #[test]
    fn only_a_new_term_makes_a_master() {
        for row in TABLE {
            let open = matches!(row.from, Unmanaged | Withdrawn);
            let makes = matches!(row.to, Taken) || (open && row.to == Serving);
            assert_eq!(makes, row.term == TermChange::Next, "{row:?}");
        }
    }

    #[test]
    fn the_diagram_in_the_architecture_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md is there");
        assert!(text.contains(&diagram()), "put this into ARCHITECTURE.md:\n{}", diagram());
    }
}
