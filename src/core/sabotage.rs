//! The rules broken on purpose, one way at a time, to prove that the simulator would see it.
//!
//! Only with the cargo feature `sabotage`, which no shipped package enables ([`BUILT_IN`] is
//! `false` there, and `sengu` does not compile otherwise). Without the feature `sabotaged!` is the
//! constant `false` and nothing of this is in the program. What is broken is chosen per thread by
//! [`during`], or for a whole program, once, by [`choose`]; nothing here is read from a file, an
//! argument or the environment.

/// Can this build be told to break its rules? Never in what is shipped.
pub const BUILT_IN: bool = cfg!(feature = "sabotage");

/// Is this rule to be broken now?
#[cfg(feature = "sabotage")]
macro_rules! sabotaged {
    ($($name:ident),+) => {
        $($crate::sabotage::chosen($crate::sabotage::Sabotage::$name))||+
    };
}

/// Never: this build keeps its rules.
#[cfg(not(feature = "sabotage"))]
macro_rules! sabotaged {
    ($($name:ident),+) => {
        false
    };
}

pub(crate) use sabotaged;

#[cfg(feature = "sabotage")]
pub use chosen::{Sabotage, choose, during};

#[cfg(feature = "sabotage")]
pub(crate) use chosen::chosen;

#[cfg(feature = "sabotage")]
mod chosen {
    use std::cell::Cell;
    use std::sync::OnceLock;

    /// What is broken in all threads.
    static EVERYWHERE: OnceLock<Sabotage> = OnceLock::new();

    thread_local! {
        static CHOSEN: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    /// Runs something with one rule broken, on this thread.
    pub fn during<T>(sabotage: Sabotage, run: impl FnOnce() -> T) -> T {
        let before = CHOSEN.replace(Some(sabotage));
        let result = run();
        CHOSEN.set(before);
        result
    }

    /// Breaks one rule in the whole program from now on; false if one was broken before.
    pub fn choose(sabotage: Sabotage) -> bool {
        EVERYWHERE.set(sabotage).is_ok()
    }

    pub(crate) fn chosen(sabotage: Sabotage) -> bool {
        CHOSEN.get() == Some(sabotage) || EVERYWHERE.get() == Some(&sabotage)
    }

    /// One way to break one rule. What each does is told beside it in the proof's table.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    #[expect(missing_docs, reason = "the table of the proof says what each does")]
    pub enum Sabotage {
        // one-giver
        TermReused,
        LapseTooEarly,
        LapsedBeatenBack,
        RecordNotCompared,
        // fence-in-time
        DeadlineFromReceipt,
        FenceAtTheDeadline,
        FenceNotArmed,
        // starts-fenced
        OpenOnSightLeft,
        UnansweredStartGoesOn,
        UnfencedFileAdopted,
        // named-is-serving
        NamedWhenTaken,
        ValidUntilNotCompared,
        BeatAgeNotCompared,
        ServingBeforeReadBack,
        // proven-before-promoted
        ExitWithoutFileCounts,
        RefusedIsDead,
        PauseIsFence,
        AnyExitCounts,
        FailedFenceCounts,
        // detach-then-final
        NoDetach,
        FinalWrittenAgain,
        PositionBeforeFence,
        FollowForgotten,
        ShortTakerTakes,
        // nothing-older-runs
        PromotedWithoutTime,
        // no-needless-move
        VetoIgnored,
        HungAtOnce,
        // emptied-never-wins
        AnotherLifeGoesOn,
        StaleFinalCounts,
        // hook-once
        HookStartNotRecorded,
        HookRunAgain,
        // refusals-are-said
        RefusalDropped,
        FailedTriedAgain,
        // all-bounded
        RetriedWithoutPause,
        OriginsKept,
        // what is said, and what is kept
        LossIsNothing,
        FieldsDropped,
        MasterFieldsDropped,
        NewerFormatRead,
    }
}
