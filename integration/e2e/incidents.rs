//! Ten incidents on real servers, and what an operator who comes to them is told.
//!
//! Each test stages one, checks that `status`, `explain` and `history` answer who is master, since
//! when, why, what was lost and what to do next, and keeps the transcript if `SENGU_INCIDENTS`
//! names a folder. `integration/incidents` makes `docs/incidents.md` of these.

use std::fmt::Write as _;
use std::time::Duration;

use integration::rig::trio::SERVICE;
use integration::rig::{Settings, Trio, wait};

use crate::{LATER, SOON};

/// A staged incident.
struct Scene {
    trio: Trio,
    number: u8,
    title: &'static str,
    story: &'static str,
    next: &'static str,
}

/// Transcripts of what an operator would type.
struct Shown {
    status: String,
    explain: String,
    history: String,
}

impl Scene {
    fn shown(&self) -> Shown {
        let folder = self.trio.place.folder().display().to_string();
        let run = |words: &[&str]| {
            let told = self.trio.agent.sengu(words);
            told.all().replace(&folder, "/srv/demo")
        };
        Shown {
            status: run(&["status"]),
            explain: run(&["explain", SERVICE]),
            history: run(&["history", SERVICE, "--limit", "2"]),
        }
    }

    /// Checks that every one of these words is told somewhere, and keeps the transcript.
    #[track_caller]
    fn told(&self, words: &[&str]) {
        let shown = self.shown();
        let all = format!("{}{}{}", shown.status, shown.explain, shown.history);
        for word in words {
            assert!(all.contains(word), "`{word}` is not told:\n{all}");
        }
        let Some(folder) = std::env::var_os("SENGU_INCIDENTS") else { return };
        let mut page = String::new();
        let _ = writeln!(page, "## {}. {}\n\n{}\n", self.number, self.title, self.story);
        for (command, text) in [
            ("sengu status".to_owned(), &shown.status),
            (format!("sengu explain {SERVICE}"), &shown.explain),
            (format!("sengu history {SERVICE} --limit 2"), &shown.history),
        ] {
            let _ = writeln!(page, "```text\n$ {command}\n{}\n```\n", text.trim_end());
        }
        let _ = writeln!(page, "{}\n", self.answers());
        let file = std::path::Path::new(&folder).join(format!("{:02}.md", self.number));
        std::fs::write(file, page).expect("the transcript can be written");
    }

    /// The answers, from what programs are told.
    fn answers(&self) -> String {
        let status = self.trio.agent.status(SERVICE);
        let history = self.trio.agent.sengu(&["history", SERVICE, "--json", "--limit", "1"]);
        let last = history.good().json();
        let last = &last[0];
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Object(map) => map
                .iter()
                .map(|(word, why)| format!("{word}: {}", why.as_str().unwrap_or_default()))
                .collect(),
            serde_json::Value::Null => "nobody".to_owned(),
            other => other.to_string(),
        };
        format!(
            "| question | answer |\n|---|---|\n| who is master | {} |\n| in which term | {} |\n\
             | why (the last move) | {} |\n| what was lost | {} |\n| what to do next | {} |",
            text(&status["master"]),
            text(&status["term"]),
            text(&last["cause"]),
            text(&last["loss"]),
            self.next
        )
    }
}

fn scene(
    number: u8,
    title: &'static str,
    story: &'static str,
    next: &'static str,
    trio: Trio,
) -> Scene {
    Scene { trio, number, title, story, next }
}

fn write(trio: &Trio, count: u32) {
    for number in 0..count {
        trio.servers[0].ask(&["SET", &format!("key{number}"), "value"]);
    }
    trio.until("the copies have it", LATER, || {
        let all = trio.servers[1..].iter().filter(|server| !server.exited());
        let last = format!("key{}", count - 1);
        let mut have = all.map(|server| format!("{:?}", server.ask(&["GET", &last])));
        have.all(|answer| answer.contains("value")).then_some(())
    });
    // One more look, so that what the copies had is known.
    wait::holds(Duration::from_millis(1500), || true);
}

#[test]
fn incident_01_a_master_is_killed() {
    let trio = Trio::adopted(&Settings::default());
    write(&trio, 20);
    trio.servers[0].kill();
    let new = trio.until_other(&trio.servers[0], SOON).name.clone();
    trio.until_followed(trio.server(&new), LATER);
    scene(
        1,
        "The master's process is killed",
        "`failover = \"auto\"`; `cache1` was master and its process was killed.",
        "start `cache1` again; it joins as a replica by itself",
        trio,
    )
    .told(&["the master's process exited", "no writes for", "lost:", "cache1", &new]);
}

#[test]
fn incident_02_a_master_hangs() {
    let trio = Trio::adopted(&Settings::service("failover = \"auto\"\nhung_after = \"1s\"\n"));
    write(&trio, 20);
    trio.servers[0].stop();
    let new = trio.until_other(&trio.servers[0], LATER).name.clone();
    trio.until_followed(trio.server(&new), LATER);
    scene(
        2,
        "The master hangs",
        "`failover = \"auto\"`; `cache1` was stopped (SIGSTOP) and answered nothing.",
        "find out why it hung; start `cache1` again, it joins as a replica",
        trio,
    )
    .told(&["the master hung", "lost:", &new]);
}

#[test]
fn incident_03_a_planned_move() {
    let trio = Trio::adopted(&Settings::default());
    write(&trio, 20);
    trio.until_settled(LATER);
    trio.switchover(&["--to", "cache3", "--comment", "new kernel on cache1"]).good();
    trio.until_followed(&trio.servers[2], LATER);
    trio.until_settled(LATER);
    scene(
        3,
        "A planned move",
        "A person moved mastership from `cache1` to `cache3` to update the former.",
        "nothing; all is well",
        trio,
    )
    .told(&["all well", "switchover", "asked by", "new kernel on cache1", "nothing"]);
}

#[test]
fn incident_04_a_master_dies_and_a_person_decides() {
    let trio = Trio::adopted(&Settings::service("failover = \"manual\"\n"));
    write(&trio, 20);
    trio.servers[0].kill();
    trio.agent.until_status(SERVICE, "nobody is named", SOON, |status| status["master"].is_null());
    trio.agent.until_status(SERVICE, "it says why", LATER, |status| {
        status["refusals"].as_array().is_some_and(|all| all.len() > 1)
    });
    scene(
        4,
        "The master dies, and only a person may move it",
        "`failover = \"manual\"`; the process of `cache1` was killed, and nobody has acted yet.",
        "start `cache1` again, which takes again by itself, or `sengu failover foo-redis`",
        trio,
    )
    .told(&["1 of 1 services needs you", "failover = \"manual\"", "the master has failed"]);
}

#[test]
fn incident_05_a_master_dies_while_the_service_is_paused() {
    let trio = Trio::adopted(&Settings::default());
    write(&trio, 20);
    trio.agent.sengu(&["pause", SERVICE, "--comment", "switch is replaced"]).good();
    trio.servers[0].kill();
    trio.agent.until_status(SERVICE, "nobody is named", SOON, |status| status["master"].is_null());
    scene(
        5,
        "The master dies while the service is paused",
        "A person paused the service; then the process of `cache1` was killed.",
        "`sengu resume foo-redis`, or `sengu failover foo-redis`",
        trio,
    )
    .told(&["paused", "switch is replaced", "sengu resume", "sengu failover"]);
}

#[test]
fn incident_06_a_failover_that_lost_writes() {
    let trio = Trio::adopted(&Settings::default());
    write(&trio, 20);
    let [old, two, three] = &trio.servers[..] else { panic!("three servers") };
    two.stop();
    three.stop();
    for number in 0..50 {
        old.ask(&["SET", &format!("lost{number}"), "value"]);
    }
    wait::holds(Duration::from_millis(1200), || true);
    old.kill();
    two.resume();
    three.resume();
    let new = trio.until_other(old, LATER).name.clone();
    trio.until_followed(trio.server(&new), LATER);
    scene(
        6,
        "A failover that lost writes",
        "Both copies stood still for a moment while `cache1` took 50 writes; then it was killed.",
        "the writes of that moment are in the file of `cache1` only: save it before it is started",
        trio,
    )
    .told(&["the master's process exited", "lost:", &new]);
}

#[test]
fn incident_07_nobody_can_take_over() {
    let instances = vec![String::new(), "priority = 0\n".into(), "priority = 0\n".into()];
    let trio = Trio::adopted(&Settings { instances, ..Settings::default() });
    write(&trio, 20);
    trio.servers[0].kill();
    trio.agent.until_status(SERVICE, "it says why", LATER, |status| {
        let text = status["refusals"].to_string();
        status["master"].is_null() && text.contains("never promote")
    });
    scene(
        7,
        "Nobody may take over",
        "Both copies have `priority = 0`; the process of `cache1` was killed.",
        "start `cache1` again, or raise the priority of a copy",
        trio,
    )
    .told(&["never promote", "nobody would be master"]);
}

#[test]
fn incident_08_a_hook_says_no() {
    let outputs = "[[hook]]\nphase = \"before-failover\"\ncommand = [\"/bin/false\"]\n\
                   on_error = \"abort\"\n";
    let trio = Trio::adopted(&Settings { outputs: outputs.into(), ..Settings::default() });
    write(&trio, 20);
    trio.servers[0].kill();
    trio.agent.until_status(SERVICE, "each candidate was tried", LATER, |status| {
        status["master"].is_null() && status["refusals"].to_string().contains("failed in this")
    });
    scene(
        8,
        "A hook stops the move",
        "A `before-failover` hook with `on_error = \"abort\"` fails; `cache1` was killed.",
        "mend the hook, then `sengu failover foo-redis`",
        trio,
    )
    .told(&["hook", "exit", "its promotion failed in this incident"]);
}

#[test]
fn incident_09_failovers_one_after_the_other() {
    let service = "failover = \"auto\"\n[service.foo-redis.cooldown]\nfailovers = 2\n\
                   window = \"10m\"\n";
    let trio = Trio::adopted(&Settings::service(service));
    for _ in 0..2 {
        let old = trio.until_steady(LATER);
        old.kill();
        let new = trio.until_other(old, LATER);
        old.restart();
        trio.until_followed(new, LATER);
    }
    let last = trio.until_steady(LATER);
    last.kill();
    trio.agent.until_status(SERVICE, "it is told to be flapping", LATER, |status| {
        status["refusals"].to_string().contains("flapping")
    });
    scene(
        9,
        "Failovers one after the other",
        "The master was killed three times within a minute; two failovers in ten minutes are \
         allowed.",
        "find out why masters die; `sengu failover foo-redis` moves it once more",
        trio,
    )
    .told(&["flapping", "sengu failover", "2 of 2 failovers"]);
}

#[test]
fn incident_10_an_old_master_comes_back() {
    let trio = Trio::adopted(&Settings::default());
    write(&trio, 20);
    let old = &trio.servers[0];
    old.kill();
    let new = trio.until_other(old, SOON).name.clone();
    old.restart();
    trio.until_followed(trio.server(&new), LATER);
    trio.until_settled(LATER);
    scene(
        10,
        "The old master comes back",
        "`cache1` was killed, another took over, and `cache1` was started again.",
        "nothing; all is well",
        trio,
    )
    .told(&["all well", "in step", &new]);
}
