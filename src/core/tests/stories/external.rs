//! Stories of a service that another tool moves: announced or not, answered, late, twice, wrong,
//! or dead in the middle. Whatever it does, no output names one that does not take writes, and
//! sengu promotes nobody.

use std::time::Duration;

use sengu_core::event::{Command, Event};
use sengu_core::policy::{Failover, Judge};
use sengu_core::record::{Announced, Ask, Cause, MasterState, Promise, Stand};

use crate::world::{Database, Store, World, address, alone, instance, position, shared};

/// `cache1` takes writes, two copies follow it, and another tool moves them. Adopted.
fn world_of(judge: Judge) -> World {
    let at = || position("first", 100);
    let databases = [
        ("cache1", Database::master(1, at())),
        ("cache2", Database::replica(1, "cache1", at())),
        ("cache3", Database::replica(1, "cache1", at())),
    ];
    let mut world = World::new(Failover::External, judge, &databases);
    world.config.remembered.clear();
    world.start_agent();
    world.run_for(Duration::from_secs(1));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.named().as_deref(), Some("cache1"), "adopted\n{}", world.tell());
    assert_eq!(world.master().promise, Promise::None, "it promises nothing");
    world.forget();
    world
}

fn world() -> World {
    world_of(alone())
}

fn before(world: &mut World, id: &str, announced: Announced) {
    let term = world.master().term.0;
    world.ask(id, Ask::Before(announced), Some(term));
}

fn after(world: &mut World, id: &str, to: &str, epoch: Option<u64>) {
    world.ask(id, Ask::After { to: instance(to), epoch }, None);
}

/// What a tool does to the servers: the others follow the new master.
fn tool_moves_to(world: &mut World, to: &str) {
    for name in ["cache1", "cache2", "cache3"] {
        if name == to {
            world.database_mut(name).open();
        } else if world.database(name).life.is_some() {
            world.database_mut(name).follow(address(to));
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn refused(world: &World, id: &str) -> String {
    match world.stand(id) {
        Stand::Refused(why) => why,
        other => panic!("{id} is {other:?}\n{}", world.tell()),
    }
}

fn done(world: &World, id: &str) -> String {
    match world.stand(id) {
        Stand::Done(words) => words,
        other => panic!("{id} is {other:?}\n{}", world.tell()),
    }
}

/// Nothing was told to any database.
fn untouched(world: &World) {
    assert!(world.commands().is_empty(), "{:?}\n{}", world.commands(), world.tell());
}

/// The tool announces, moves, and says so.
#[test]
fn an_announced_move_is_named_when_it_is_told_and_true() {
    let mut world = world();
    before(&mut world, "move", Announced { to: Some(instance("cache2")), ..Announced::default() });
    world.run_for(seconds(1));
    assert_eq!(world.named(), None, "withdrawn\n{}", world.tell());
    assert_eq!(world.stand("move"), Stand::Standing, "in force\n{}", world.tell());
    tool_moves_to(&mut world, "cache2");
    world.run_for(seconds(10));
    assert_eq!(world.named(), None, "its answer is waited for\n{}", world.tell());
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(2));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert_eq!(world.master().term.0, 2, "{}", world.tell());
    assert_eq!(world.history_cause(2), Cause::Told);
    assert_eq!(done(&world, "told"), "`cache2` is master (term 2)");
    assert!(done(&world, "move").contains("cache2 is master"));
    untouched(&world);
}

/// It announces and never comes back: at the deadline everything is as it was.
#[test]
fn an_unanswered_before_ends_at_its_deadline_under_a_new_term() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(55));
    assert_eq!(world.named(), None, "waited for\n{}", world.tell());
    world.run_for(seconds(8));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert_eq!(world.master().term.0, 2, "{}", world.tell());
    assert_eq!(world.history_cause(2), Cause::Unanswered);
    assert!(refused(&world, "move").contains("not answered in time"));
    // The tool was only slow: what it says now is stale, and of two that take writes none is named.
    world.database_mut("cache2").open();
    after(&mut world, "late", "cache2", None);
    world.run_for(seconds(5));
    let why = refused(&world, "late");
    assert!(why.starts_with("stale: the announced move move"), "{why}");
    assert_eq!(world.named(), None, "two take writes\n{}", world.tell());
    world.run_for(seconds(20));
    assert_eq!(world.named(), None, "still two\n{}", world.tell());
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "it is alone now\n{}", world.tell());
    untouched(&world);
}

/// The tool dies half way: a copy was pointed elsewhere, nobody was opened.
#[test]
fn a_tool_that_dies_in_the_middle_leaves_the_name_withdrawn_and_says_so() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    world.database_mut("cache3").follow(address("cache2"));
    world.run_for(seconds(70));
    assert_eq!(world.named(), None, "`cache3` is not on it\n{}", world.tell());
    let said = world.refusals();
    let alarm = said.iter().any(|why| why.contains("not answered in time: `cache3` follows"));
    assert!(alarm, "{said:?}");
    // A person, or the tool started again, finishes it.
    tool_moves_to(&mut world, "cache2");
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    untouched(&world);
}

/// The tool dies after it opened the new one, before it said so: nobody guesses.
#[test]
fn a_tool_that_dies_before_it_tells_names_nobody_until_somebody_does() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    tool_moves_to(&mut world, "cache2");
    world.run_for(seconds(70));
    assert_eq!(world.named(), None, "{}", world.tell());
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
}

/// Two announcements: the second is told of the first.
#[test]
fn a_second_before_is_refused_while_the_first_stands() {
    let mut world = world();
    before(&mut world, "one", Announced::default());
    world.run_for(seconds(1));
    before(&mut world, "two", Announced::default());
    world.run_for(seconds(1));
    assert!(refused(&world, "two").contains("announced already, by root"));
    assert_eq!(world.stand("one"), Stand::Standing);
    assert_eq!(world.named(), None);
}

/// The same `after` comes three times, as from three Sentinels: one transition.
#[test]
fn a_double_after_is_one_transition() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    tool_moves_to(&mut world, "cache2");
    for id in ["one", "two", "three"] {
        after(&mut world, id, "cache2", Some(7));
        world.run_for(seconds(2));
    }
    assert_eq!(world.master().term.0, 2, "{}", world.tell());
    assert_eq!(done(&world, "one"), "`cache2` is master (term 2)");
    for id in ["two", "three"] {
        assert_eq!(done(&world, id), "`cache2` is master already (term 2)");
    }
    let revision = world.revision();
    world.run_for(seconds(20));
    assert_eq!(world.revision(), revision, "nothing moves any more\n{}", world.tell());
}

/// All three are there before the agent looks.
#[test]
fn three_afters_at_once_are_one_transition() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    tool_moves_to(&mut world, "cache2");
    for id in ["one", "two", "three"] {
        after(&mut world, id, "cache2", None);
    }
    world.run_for(seconds(5));
    assert_eq!(world.master().term.0, 2, "{}", world.tell());
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    for id in ["one", "two", "three"] {
        assert!(done(&world, id).contains("`cache2` is master"), "{id}");
    }
}

/// It says that it is done, and the new one takes no writes.
#[test]
fn a_tool_that_says_done_and_is_not_is_refused() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(58));
    assert_eq!(world.named(), None, "{}", world.tell());
    let said = world.refusals();
    let other = "takes writes: nobody is named until it is closed";
    assert!(said.iter().any(|why| why.contains(other)), "{said:?}");
    world.run_for(seconds(4));
    // The deadline of the announced move: everything is as it was.
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert!(refused(&world, "told").starts_with("stale"));
    // Closed, and still nobody opened the new one.
    world.database_mut("cache1").close();
    world.run_for(seconds(3));
    after(&mut world, "again", "cache2", None);
    world.run_for(seconds(62));
    let why = refused(&world, "again");
    assert!(why.contains("it takes no writes: sengu promotes nobody here"), "{why}");
    assert_eq!(world.named(), None, "{}", world.tell());
    untouched(&world);
}

/// `after` without `before`: looked at, believed once it is so, and said.
#[test]
fn an_after_without_before_is_believed_when_it_is_true() {
    let mut world = world();
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache1"), "not so yet\n{}", world.tell());
    tool_moves_to(&mut world, "cache2");
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert_eq!(done(&world, "told"), "`cache2` is master (term 2)");
    let warning = world.request("told").warning.expect("it is said");
    assert!(warning.contains("nobody had announced"), "{warning}");
    untouched(&world);
}

/// A foreign promotion without a word: the roles alone move the name.
#[test]
fn a_promotion_without_any_hook_moves_the_name() {
    let mut world = world();
    tool_moves_to(&mut world, "cache2");
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert_eq!(world.history_cause(2), Cause::Seen);
    // Its word comes after: noted, nothing moves.
    after(&mut world, "told", "cache2", Some(3));
    world.run_for(seconds(2));
    assert_eq!(done(&world, "told"), "`cache2` is master already (term 2)");
    assert!(world.master().external.is_some_and(|it| it.told && it.epoch == Some(3)));
    untouched(&world);
}

/// The master dies, the tool promotes a copy and says nothing.
#[test]
fn a_dead_master_is_withdrawn_at_once_and_its_successor_is_named() {
    let mut world = world();
    world.exit("cache1");
    world.run_for(seconds(1));
    assert_eq!(world.named(), None, "{}", world.tell());
    let withdrawn =
        MasterState::Withdrawn { cause: Cause::ProcessExited, intent: None, fenced: false };
    assert_eq!(world.state(), withdrawn);
    world.run_for(seconds(30));
    assert!(world.open().is_empty(), "sengu promotes nobody\n{}", world.tell());
    tool_moves_to(&mut world, "cache3");
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache3"), "{}", world.tell());
    untouched(&world);
}

/// It died, and its supervisor started it again before the tool did anything.
#[test]
fn a_master_that_comes_back_by_itself_is_named_under_a_new_term() {
    let mut world = world();
    world.exit("cache1");
    world.run_for(seconds(1));
    world.restart("cache1", Database::master(2, position("reloaded", 1)));
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert_eq!(world.master().term.0, 2);
    untouched(&world);
}

/// Two take writes, and nobody said which counts: none is named, without swinging.
#[test]
fn of_two_that_take_writes_none_is_named() {
    let mut world = world();
    world.database_mut("cache2").open();
    world.run_for(seconds(2));
    assert_eq!(world.named(), None, "{}", world.tell());
    let revision = world.revision();
    world.run_checked(seconds(20), |world| assert_eq!(world.named(), None, "{}", world.tell()));
    assert_eq!(world.revision(), revision, "no swinging\n{}", world.tell());
    untouched(&world);
}

/// Sentinel moved the master; the old one comes back as a master for some seconds.
#[test]
fn an_old_master_that_returns_open_does_not_unseat_the_one_that_was_told() {
    let mut world = world();
    world.exit("cache1");
    world.run_for(seconds(1));
    tool_moves_to(&mut world, "cache2");
    after(&mut world, "told", "cache2", Some(1));
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    world.restart("cache1", Database::master(2, position("first", 100)));
    world.run_for(seconds(8));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    let said = world.refusals();
    assert!(said.iter().any(|why| why.contains("`cache1` takes writes too")), "{said:?}");
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(seconds(3));
    assert_eq!(world.master().term.0, 2, "{}", world.tell());
    untouched(&world);
}

/// `before` with a fence, and the tool never comes back: sengu opens what it closed.
#[test]
fn a_fence_that_was_asked_for_is_undone_at_the_deadline() {
    let mut world = world();
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(2));
    assert!(world.was_fenced("cache1"), "{}", world.tell());
    assert_eq!(world.stand("move"), Stand::Standing, "fenced\n{}", world.tell());
    assert!(world.open().is_empty());
    world.run_for(seconds(70));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert_eq!(world.open(), ["cache1"]);
    assert_eq!(world.history_cause(2), Cause::Unanswered);
    only_opened(&world, &["cache1"]);
}

/// The same, and the tool says that the old one stays.
#[test]
fn a_move_that_was_given_up_opens_what_was_fenced_for_it() {
    let mut world = world();
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(2));
    after(&mut world, "stays", "cache1", None);
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert!(done(&world, "stays").contains("`cache1` goes on (term 2)"));
    only_opened(&world, &["cache1"]);
}

/// The same, and the tool did move it: the old one stays closed.
#[test]
fn a_fence_that_was_asked_for_stays_when_the_move_is_made() {
    let mut world = world();
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(2));
    world.database_mut("cache2").open();
    world.database_mut("cache3").follow(address("cache2"));
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(90));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert_eq!(world.open(), ["cache2"]);
    only_opened(&world, &[]);
}

/// The fence does not work: the name stays withdrawn, and the tool is told.
#[test]
fn a_fence_that_fails_is_told_and_names_nobody() {
    let mut world = world();
    world.database_mut("cache1").fence_works = false;
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(5));
    let request = world.request("move");
    assert_eq!(request.stand, Stand::Standing);
    let warning = request.warning.expect("it is said");
    assert!(warning.contains("`cache1` could not be fenced: the fence failed"), "{warning}");
    assert_eq!(world.named(), None, "{}", world.tell());
    world.database_mut("cache2").open();
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(30));
    assert_eq!(world.named(), None, "two take writes\n{}", world.tell());
}

/// Nothing but these was ever told to take writes.
fn only_opened(world: &World, names: &[&str]) {
    for (name, command) in world.commands() {
        match command {
            Command::Promote { .. } => assert!(names.contains(&name.as_str()), "{name}"),
            Command::Fence { .. } => assert_eq!(name, "cache1"),
            other => panic!("{name} was told {other:?}"),
        }
    }
}

/// The tool numbers its moves: what is older than the newest number is stale.
#[test]
fn words_of_an_older_epoch_are_stale() {
    let mut world = world();
    world.exit("cache1");
    tool_moves_to(&mut world, "cache2");
    after(&mut world, "new", "cache2", Some(9));
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    after(&mut world, "old", "cache3", Some(8));
    before(&mut world, "older", Announced { epoch: Some(9), ..Announced::default() });
    world.run_for(seconds(3));
    assert!(refused(&world, "old").starts_with("stale: epoch 8 is older than 9"));
    assert!(refused(&world, "older").starts_with("stale: epoch 9 is not above 9"));
    let from = Some(instance("cache1"));
    before(&mut world, "gone", Announced { from, ..Announced::default() });
    world.run_for(seconds(3));
    assert!(refused(&world, "gone").starts_with("stale: `cache1` is not the master"));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
}

/// The agent starts again in the middle of an announced move, and the process of another tool
/// knows nothing of that.
#[test]
fn an_agent_that_starts_again_goes_on_waiting() {
    let mut world = world();
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    world.start_agent();
    world.run_for(seconds(5));
    assert_eq!(world.named(), None, "{}", world.tell());
    tool_moves_to(&mut world, "cache2");
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    world.start_agent();
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert_eq!(world.master().term.0, 2);
    untouched(&world);
}

/// Paused: nothing is announced and nothing is published, and that is said.
#[test]
fn a_pause_refuses_the_tool() {
    let mut world = world();
    world.ask_at("pause", Ask::Pause, None, Stand::Standing);
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(2));
    assert!(refused(&world, "move").starts_with("paused"));
    assert_eq!(world.named().as_deref(), Some("cache1"));
    tool_moves_to(&mut world, "cache2");
    world.run_for(seconds(5));
    assert_eq!(world.named(), None, "what is not so is not named\n{}", world.tell());
    world.take_back("pause");
    world.run_for(seconds(3));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
}

/// Shared store: nothing is promised, nothing is armed, and a store that is cut off closes nobody.
#[test]
fn a_shared_store_that_is_lost_closes_nobody() {
    let mut world = world_of(shared());
    assert!(world.armed.is_empty(), "{:?}", world.armed);
    world.run_for(seconds(20));
    assert_eq!(world.named().as_deref(), Some("cache1"), "beats keep the name\n{}", world.tell());
    world.store_does = Store::CutOff;
    world.run_for(seconds(30));
    assert_eq!(world.named(), None, "nobody vouches for it\n{}", world.tell());
    assert_eq!(world.open(), ["cache1"]);
    untouched(&world);
    // The agent starts without an answer of the store: nothing is fenced either.
    world.store_does = Store::Answers;
    world.run_for(seconds(10));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    assert!(world.armed.is_empty(), "{:?}", world.armed);
}

/// Shared store: a move as the tool tells it.
#[test]
fn a_shared_store_names_what_is_told() {
    let mut world = world_of(shared());
    before(&mut world, "move", Announced::default());
    world.run_for(seconds(1));
    tool_moves_to(&mut world, "cache2");
    after(&mut world, "told", "cache2", None);
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    assert!(world.armed.is_empty(), "{:?}", world.armed);
    untouched(&world);
}

/// The file says `manual` while the term is another tool's: nothing is done, and that is said.
#[test]
fn a_policy_that_changes_changes_nothing_until_it_is_adopted_again() {
    let mut world = world();
    let settings = world.config.services.values_mut().next().expect("it is configured");
    settings.policy.failover = Failover::Auto;
    world.reload();
    world.database_mut("cache2").open();
    world.run_for(seconds(10));
    untouched(&world);
    let said = world.refusals();
    assert!(
        said.iter().any(|why| why.contains("begun under `failover = \"external\"`")),
        "{said:?}"
    );
    world.database_mut("cache2").follow(address("cache1"));
    world.ask("release", Ask::Release, Some(1));
    world.run_for(seconds(2));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.run_for(seconds(5));
    assert_eq!(world.state(), MasterState::Serving, "{}", world.tell());
    assert_eq!(world.master().external, None);
}

/// The other way round: a service that sengu moved is left to a tool.
#[test]
fn a_service_that_sengu_moved_is_left_to_a_tool_by_release_and_adoption() {
    let mut world = World::trio(Failover::Auto);
    let settings = world.config.services.values_mut().next().expect("it is configured");
    settings.policy.failover = Failover::External;
    world.reload();
    world.exit("cache1");
    world.run_for(seconds(10));
    assert!(world.open().is_empty(), "sengu promotes nobody\n{}", world.tell());
    assert_eq!(world.named(), None, "{}", world.tell());
    world.database_mut("cache2").open();
    world.database_mut("cache3").follow(address("cache2"));
    world.restart("cache1", Database::replica(2, "cache2", position("first", 100)));
    world.ask("release", Ask::Release, Some(1));
    world.run_for(seconds(3));
    world.ask("adopt", Ask::Adopt { master: None }, None);
    world.run_for(seconds(5));
    assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    untouched(&world);
}

/// The same fence, and the agent starts again before the deadline: what it closed in its earlier
/// life it opens in this one.
#[test]
fn a_fence_of_an_earlier_life_of_the_agent_is_undone_too() {
    let mut world = world();
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(2));
    assert!(world.open().is_empty());
    world.start_agent();
    world.run_for(seconds(70));
    assert_eq!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
    only_opened(&world, &["cache1"]);
}

/// Fenced, pointed to the new one by the tool, which dies before it opens that one.
#[test]
fn what_a_tool_pointed_elsewhere_is_not_opened_again() {
    let mut world = world();
    before(&mut world, "move", Announced { fence: true, ..Announced::default() });
    world.run_for(seconds(2));
    world.database_mut("cache1").follow(address("cache2"));
    world.run_for(seconds(90));
    assert_eq!(world.named(), None, "{}", world.tell());
    assert!(world.open().is_empty(), "{}", world.tell());
    let said = world.refusals();
    assert!(said.iter().any(|why| why.contains("`cache1` follows")), "{said:?}");
    only_opened(&world, &[]);
}

/// The agent stands still for 10 s while the tool moves the master: nothing is named from what was
/// seen before, however soon its store answers.
#[test]
fn what_was_seen_before_a_stall_names_nobody() {
    for judge in [alone(), shared()] {
        let mut world = world_of(judge);
        world.pass(seconds(10));
        tool_moves_to(&mut world, "cache2");
        world.step(Event::Stalled { late: seconds(10) });
        world.turn(false);
        world.drain();
        assert_ne!(world.named().as_deref(), Some("cache1"), "old looks\n{}", world.tell());
        world.run_checked(seconds(5), |world| {
            assert_ne!(world.named().as_deref(), Some("cache1"), "{}", world.tell());
        });
        assert_eq!(world.named().as_deref(), Some("cache2"), "{}", world.tell());
    }
}
