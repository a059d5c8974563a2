//! The words of the tool: `before` withdraws the name, `after` has it published once that is true.

use super::{
    AGAIN, Announced, Ask, At, Cause, Compare, Cx, InstanceName, MasterRecord, MasterState,
    RequestRecord, Service, Stand, paused, put, request_key, story,
};

impl Service {
    /// `before`: withdraws the name, or says why not.
    pub(super) fn hear_before(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        waited: Option<&(String, &At<RequestRecord>)>,
    ) {
        let Some((id, asked)) = self.open_request(cx, &|ask| matches!(ask, Ask::Before(_))) else {
            return;
        };
        let Ask::Before(announced) = &asked.record.ask else { return };
        if asked.record.stand != Stand::Asked {
            return;
        }
        if let Err(why) = acceptable(cx, &at.record, announced, waited) {
            self.stand(cx, &id, asked, Stand::Refused(why));
            return;
        }
        let mut record = at.record.clone();
        let was = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        record.state = MasterState::Withdrawn {
            cause: Cause::Announced,
            intent: Some(id.clone()),
            fenced: announced.fence || was,
        };
        record.since = cx.now.wall;
        if let (Some(external), Some(epoch)) = (&mut record.external, announced.epoch) {
            external.epoch = external.epoch.max(Some(epoch));
        }
        let mut request = asked.record.clone();
        // A fence that was asked for is still to come; without one it is in force.
        request.stand = if announced.fence {
            Stand::Agreed { to: at.record.holder.instance.clone() }
        } else {
            Stand::Standing
        };
        let key = request_key(cx, &id);
        let mut when = vec![Compare::Modified(key.clone(), asked.revision)];
        let mut then = vec![put(key, &request)];
        if let Some((old, over)) = waited {
            let key = request_key(cx, old);
            let mut ended = over.record.clone();
            ended.stand = Stand::Refused(format!("overtaken by {id}"));
            when.push(Compare::Modified(key.clone(), over.revision));
            then.push(put(key, &ended));
        }
        if self.write_master(cx, Some(at), &record, when, then).is_some() {
            let text = format!(
                "`{}` is withdrawn: {} announced a move",
                at.record.holder.instance, asked.record.by
            );
            cx.out.say(cx.name, false, text);
        }
    }

    /// `after`: the agent of the instance that it names looks, and publishes or refuses.
    pub(super) fn hear_after(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some((id, asked)) = self.open_request(cx, &|ask| matches!(ask, Ask::After { .. }))
        else {
            return;
        };
        let Ask::After { to, epoch } = &asked.record.ask else { return };
        cx.out.wake(cx.now.time + AGAIN);
        if !self.own.contains_key(to) {
            self.doing = Some(format!("waiting for the agent of {to} to look at it"));
            return;
        }
        if let Err(why) = believable(cx, &at.record, to, *epoch) {
            self.stand(cx, &id, asked, Stand::Refused(why));
            return;
        }
        if paused(cx) {
            self.refuse(format!("paused: `sengu resume {}` lets the name move again", cx.name));
            return;
        }
        let serving = at.record.state == MasterState::Serving;
        let open = self.own.get(to).is_some_and(|own| own.opened > 0);
        if serving && open && at.record.holder.instance == *to {
            self.note_word(cx, at, &id, asked, *epoch);
            return;
        }
        if !self.looked_since(cx, &id) {
            self.doing = Some(format!("looking at {to}, which is told to be the new master"));
            return;
        }
        let Some(found) = self.claimed(cx, at, true) else { return };
        let others: Vec<&InstanceName> = found.iter().filter(|name| *name != to).collect();
        if let Some(other) = others.first() {
            self.refuse(format!(
                "`{to}` was told to be the new master, and `{other}` takes writes: nobody is named \
                 until it is closed"
            ));
        } else if !found.contains(to) {
            self.undo_for(cx, at, to, &id, asked);
        } else if serving {
            // Its own agent withdraws it as soon as that is certain; it is not named meanwhile.
            self.doing = Some(format!("waiting until {} is withdrawn", at.record.holder.instance));
        } else {
            self.publish_told(cx, at, to, &id, asked);
        }
    }

    /// The tool says that the one it had closed by sengu stays: its fence is undone.
    fn undo_for(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        to: &InstanceName,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        let fenced = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        if fenced && at.record.holder.instance == *to {
            match self.unmoved(cx, at) {
                Ok(()) => self.go_on(cx, at, Cause::Told, Some((id, asked))),
                Err(why) => self.refuse(format!("`{to}` is not opened again: {why}")),
            }
            return;
        }
        self.refuse(format!(
            "`{to}` was told to be the new master, and it takes no writes: sengu promotes nobody \
             here; open it, and say so again"
        ));
    }

    /// It is named already: the tool's word is noted once.
    fn note_word(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        id: &str,
        asked: &At<RequestRecord>,
        epoch: Option<u64>,
    ) {
        let holder = &at.record.holder.instance;
        let done = Stand::Done(format!("`{holder}` is master already (term {})", at.record.term));
        let mut record = at.record.clone();
        if let Some(external) = &mut record.external {
            external.told = true;
            external.epoch = external.epoch.max(epoch);
        }
        if record == at.record {
            self.stand(cx, id, asked, done);
            return;
        }
        let mut request = asked.record.clone();
        request.stand = done;
        request.warning = Some("nobody had announced it: it was seen before it was told".into());
        let key = request_key(cx, id);
        let when = vec![Compare::Modified(key.clone(), asked.revision)];
        self.write_master(cx, Some(at), &record, when, vec![put(key, &request)]);
    }

    /// Told, looked at, and alone: from now on it is named.
    fn publish_told(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        to: &InstanceName,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        let MasterState::Withdrawn { intent, .. } = &at.record.state else { return };
        let announced = self.awaited(cx, intent.as_deref());
        let mut done = asked.record.clone();
        let next = at.record.term.next();
        done.stand = Stand::Done(format!("`{to}` is master (term {next})"));
        if announced.is_none() {
            done.warning = Some("nobody had announced the move".to_owned());
        }
        let mut when = Vec::new();
        let mut then = Vec::new();
        for (id, at, stand) in std::iter::once((id.to_owned(), asked, None))
            .chain(announced.map(|(id, at)| (id, at, Some("the tool moved it"))))
        {
            let key = request_key(cx, &id);
            let mut ended = done.clone();
            if let Some(words) = stand {
                ended = at.record.clone();
                ended.stand = Stand::Done(format!("{words}: {to} is master (term {next})"));
            }
            when.push(Compare::Modified(key.clone(), at.revision));
            then.push(put(key, &ended));
        }
        let story = story(cx, at, to, Cause::Told, Some(&asked.record));
        let mut last = at.clone();
        if let (Some(external), Ask::After { epoch, .. }) =
            (&mut last.record.external, &asked.record.ask)
        {
            external.epoch = external.epoch.max(*epoch);
        }
        self.start_term(cx, Some(&last), to, MasterState::Serving, &story, when, then);
    }
}

/// May this announced move withdraw the name?
fn acceptable(
    cx: &Cx<'_>,
    record: &MasterRecord,
    announced: &Announced,
    waited: Option<&(String, &At<RequestRecord>)>,
) -> Result<(), String> {
    if paused(cx) {
        return Err(format!("paused: `sengu resume {}` lets the name move again", cx.name));
    }
    if let Some((_, asked)) = waited
        && asked.record.until > cx.now.wall
    {
        return Err(format!("another move is announced already, by {}", asked.record.by));
    }
    let (holder, term) = (&record.holder.instance, record.term);
    if let Some(from) = &announced.from
        && from != holder
    {
        return Err(format!("stale: `{from}` is not the master; `{holder}` is (term {term})"));
    }
    if announced.to.as_ref() == Some(holder) && record.state == MasterState::Serving {
        return Err(format!("stale: `{holder}` is the master already (term {term})"));
    }
    let last = record.external.as_ref().and_then(|external| external.epoch);
    match (announced.epoch, last) {
        (Some(epoch), Some(last)) if epoch <= last => {
            Err(format!("stale: epoch {epoch} is not above {last}, which was told already"))
        }
        _ => Ok(()),
    }
}

/// May the tool's word on a move that is done be believed at all?
fn believable(
    cx: &Cx<'_>,
    record: &MasterRecord,
    to: &InstanceName,
    epoch: Option<u64>,
) -> Result<(), String> {
    let (holder, term) = (&record.holder.instance, record.term);
    let external = record.external.as_ref();
    let last = external.and_then(|external| external.epoch);
    if let (Some(epoch), Some(last)) = (epoch, last)
        && epoch < last
    {
        return Err(format!("stale: epoch {epoch} is older than {last}, which was told already"));
    }
    let unanswered = external.and_then(|external| external.unanswered.as_ref());
    if let (Some(id), MasterState::Serving) = (unanswered, &record.state)
        && holder != to
        && epoch.is_none_or(|epoch| Some(epoch) <= last)
    {
        return Err(format!(
            "stale: the announced move {id} was not answered in time, and `{holder}` went on (term \
             {term}); close `{holder}`, and `{to}` is named once it alone takes writes \
             (`sengu explain {})`",
            cx.name
        ));
    }
    Ok(())
}
