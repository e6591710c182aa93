//! Who is asked for what was damaged here, and when it is given up. Pure: no await, no clock.
//!
//! One member after the other, for one range at a time; each may hold a part. Missed is told only
//! for what every linked member was asked for in vain (P1). Who does not answer is not waited for
//! longer than a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use evermesh_event::{NodeName, Origin, Sequence};
use evermesh_journal::Lacking;

/// How many leases a member that is not linked is waited for, since something came last: a restart
/// takes less.
const GRACE_LEASES: u32 = 2;
/// What is kept of what one member said to lack: as many ranges as a mesh may remember origins.
const REFUSED_MAX: usize = 4096;

/// Who was asked.
#[derive(Debug, Default)]
pub(crate) struct Mend {
    links: BTreeMap<NodeName, Link>,
    /// What was lacking when it was looked at last, and since when that is so.
    seen: (Vec<Lacking>, Duration),
}

#[derive(Debug, Default)]
struct Link {
    /// What it was asked for, and when something of that came last.
    asked: Option<(Lacking, Duration)>,
    /// What it does not hold: after where, and through where.
    refused: BTreeMap<(Origin, Sequence), Sequence>,
}

impl Link {
    fn refused(&self, lacking: &Lacking) -> Option<Sequence> {
        self.refused.get(&(lacking.origin.clone(), lacking.after)).copied()
    }

    fn refuse(&mut self, lacking: &Lacking, goes_on: Sequence) {
        if self.refused.len() >= REFUSED_MAX {
            // What was given up or came back meanwhile; of the rest it is asked again.
            self.refused.clear();
        }
        let goes_on = if goes_on > lacking.after { goes_on } else { lacking.through };
        self.refused.insert((lacking.origin.clone(), lacking.after), goes_on);
    }
}

impl Mend {
    /// A member is linked, or anew.
    pub(crate) fn linked(&mut self, name: &NodeName) {
        self.links.insert(name.clone(), Link::default());
    }

    /// It is linked no more.
    pub(crate) fn unlinked(&mut self, name: &NodeName) {
        self.links.remove(name);
    }

    /// What a member is to be asked for now.
    pub(crate) fn ask(
        &mut self,
        name: &NodeName,
        lacking: &[Lacking],
        now: Duration,
    ) -> Option<Lacking> {
        let asked: Vec<_> = self.links.values().filter_map(|link| link.asked.as_ref()).collect();
        let free = |lacking: &&Lacking| {
            asked
                .iter()
                .all(|(other, _)| other.origin != lacking.origin || other.through <= lacking.after)
        };
        let link = self.links.get(name).filter(|link| link.asked.is_none())?;
        let wanted = lacking.iter().filter(free).find(|lacking| link.refused(lacking).is_none());
        let wanted = wanted?.clone();
        self.links.get_mut(name)?.asked = Some((wanted.clone(), now));
        Some(wanted)
    }

    /// Something of what it was asked for came.
    pub(crate) fn came(&mut self, name: &NodeName, now: Duration) {
        if let Some((_, since)) = self.links.get_mut(name).and_then(|link| link.asked.as_mut()) {
            *since = now;
        }
    }

    /// A member has sent what it holds; `goes_on`: through where it lacks the rest.
    pub(crate) fn answered(&mut self, name: &NodeName, goes_on: Sequence, lacking: &[Lacking]) {
        let Some(link) = self.links.get_mut(name) else { return };
        let Some((asked, _)) = link.asked.take() else { return };
        if lacking.contains(&asked) {
            link.refuse(&asked, goes_on);
        }
    }

    /// What nobody who is linked holds, and through where.
    pub(crate) fn hopeless(
        &mut self,
        lacking: &[Lacking],
        all_linked: bool,
        lease: Duration,
        now: Duration,
    ) -> Vec<(Lacking, Sequence)> {
        for link in self.links.values_mut() {
            let silent = |(_, since): &mut (Lacking, Duration)| now.saturating_sub(*since) >= lease;
            if let Some((asked, _)) = link.asked.take_if(silent) {
                link.refuse(&asked, asked.through);
            }
        }
        if self.seen.0 != lacking {
            self.seen = (lacking.to_vec(), now);
        }
        let waited = now.saturating_sub(self.seen.1) >= lease * GRACE_LEASES;
        let hopeless = lacking.iter().filter_map(|lacking| {
            let refused = self.links.values().map(|link| link.refused(lacking));
            let asked = refused.clone().all(|refused| refused.is_some());
            let goes_on = refused.flatten().min().unwrap_or(lacking.through);
            (waited || (all_linked && asked)).then(|| (lacking.clone(), goes_on))
        });
        hopeless.collect()
    }
}

#[cfg(test)]
mod tests;
