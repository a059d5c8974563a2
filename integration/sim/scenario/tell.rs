//! Plays a story, looks at what it asks for, and keeps the lines worth telling.

use super::super::fact::Id;
use super::super::schedule::{MILLI, Micros, SECOND};
use super::super::storm::BEGIN;
use super::super::world::{World, note, say};
use super::{Scenario, What};

/// How often the world is looked at while something must become or stay true.
const STEP: Micros = 50 * MILLI;

/// How a story went.
#[derive(Debug, Clone)]
pub struct Told {
    /// What did not hold: the line's number and what was so instead, or a rule that broke.
    pub wrong: Vec<String>,
    /// The lines worth telling: what a `.trace` file keeps.
    pub story: Vec<String>,
    /// Every line.
    pub lines: Vec<String>,
}

/// Plays a story.
#[must_use]
pub fn tell(scenario: &Scenario) -> Told {
    let mut world = World::new(scenario.options.clone(), true);
    world.run_until(3 * SECOND);
    if scenario.adopted {
        world.adopt();
    }
    world.run_until(BEGIN);
    world.trace.begin_story(BEGIN);
    world.calm = false;
    let mut told = Teller { world, wrong: Vec::new(), named: Vec::new() };
    told.play(scenario);
    told.end(scenario);
    let Teller { world, wrong, .. } = told;
    Told { wrong, story: world.trace.story, lines: world.trace.lines }
}

struct Teller {
    world: World,
    wrong: Vec<String>,
    /// Whom each agent named when somebody last looked.
    named: Vec<Option<Id>>,
}

impl Teller {
    fn play(&mut self, scenario: &Scenario) {
        let deeds: Vec<_> = scenario
            .lines
            .iter()
            .filter_map(|line| match &line.what {
                What::Deed(deed) => Some((BEGIN + line.at, deed.clone())),
                What::Now(_) | What::By(_) | What::Until(_) => None,
            })
            .collect();
        self.world.plan_deeds(&deeds);
        // What must become true, and has not yet.
        let mut open: Vec<_> =
            scenario.lines.iter().filter(|line| matches!(line.what, What::By(_))).collect();
        for line in &scenario.lines {
            self.go_to(scenario, BEGIN + line.at, &mut open);
            if let What::Now(check) = &line.what
                && let Err(instead) = check.look(&self.world)
            {
                self.wrong.push(format!("line {}: {instead}", line.number));
            }
        }
        self.go_to(scenario, BEGIN + scenario.end, &mut open);
    }

    /// Lets the world go on, looking all the time.
    fn go_to<'a>(
        &mut self,
        scenario: &'a Scenario,
        until: Micros,
        open: &mut Vec<&'a super::Line>,
    ) {
        loop {
            self.tell_names();
            self.look(scenario, open);
            if self.world.now >= until || self.world.judges.violation.is_some() {
                return;
            }
            let next = until.min(self.world.now + STEP);
            self.world.run_until(next);
        }
    }

    fn look<'a>(&mut self, scenario: &'a Scenario, open: &mut Vec<&'a super::Line>) {
        let (now, world) = (self.world.now, &self.world);
        let mut wrong = Vec::new();
        open.retain(|line| {
            let What::By(check) = &line.what else { return false };
            let Err(instead) = check.look(world) else { return false };
            if now < BEGIN + line.at {
                return true;
            }
            wrong.push(format!("line {}: {instead}", line.number));
            false
        });
        for line in &scenario.lines {
            if let What::Until(check) = &line.what
                && now <= BEGIN + line.at
                && let Err(instead) = check.look(world)
            {
                let at = (now - BEGIN) / MILLI;
                wrong.push(format!("line {}: at {at} ms {instead}", line.number));
            }
        }
        // One that does not hold for long is told once.
        wrong.retain(|line| {
            let number = line.split(':').next().unwrap_or_default();
            !self.wrong.iter().any(|known| known.starts_with(&format!("{number}:")))
        });
        self.wrong.extend(wrong);
    }

    /// Tells when agents begin to name somebody else.
    fn tell_names(&mut self) {
        let hosts = self.world.hosts();
        let named: Vec<Option<Id>> = (0..hosts).map(|host| self.world.name_at(host, 0)).collect();
        if named == self.named {
            return;
        }
        let mut words = Vec::new();
        let mut told: Vec<Option<Id>> = Vec::new();
        for name in &named {
            if told.contains(name) {
                continue;
            }
            told.push(*name);
            let who: Vec<String> = (0..hosts)
                .filter(|host| named[*host] == *name)
                .map(|host| format!("h{}", host + 1))
                .collect();
            let verb = if who.len() == 1 { "names" } else { "name" };
            let whom = name.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
            words.push(format!("{} {verb} {whom}", who.join(" ")));
        }
        self.named = named;
        let world = &mut self.world;
        note!(world, "  {}", words.join(", "));
    }

    fn end(&mut self, scenario: &Scenario) {
        if scenario.rests && self.wrong.is_empty() {
            let world = &mut self.world;
            say!(world, "all is mended");
            world.mend_all();
            world.come_to_rest();
        }
        if let Some(violation) = &self.world.judges.violation {
            self.wrong.push(format!("{} broke: {}", violation.slug, violation.text));
        }
        for (limit, violation) in &self.world.judges.limits {
            if !scenario.limits.iter().any(|known| limit.contains(known.as_str())) {
                let (slug, text) = (violation.slug, &violation.text);
                self.wrong.push(format!("{slug} broke by a limit ({limit}): {text}"));
            }
        }
        for known in &scenario.limits {
            if !self.world.judges.limits.iter().any(|(limit, _)| limit.contains(known.as_str())) {
                self.wrong.push(format!("nothing broke by the limit `{known}`"));
            }
        }
        self.wrong.truncate(8);
    }
}
