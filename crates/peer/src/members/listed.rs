//! What the list of members changes here: who is waited for, who is dialled, who is forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{NodeName, Origin, Sequence};
use evermesh_journal::Listed;

use super::Members;
use super::unheard::{Seen, unheard};

impl Members {
    /// Another node told whom it knows. True: it took this node for one that left, and this node
    /// joins anew.
    pub(crate) fn told(&self, from: &NodeName, list: &[(NodeName, Listed)], now: Duration) -> bool {
        if list.is_empty() {
            return false;
        }
        let away = list.iter().filter(|(_, listed)| listed.away).map(|(name, _)| name.clone());
        let doubled = list.iter().filter(|(_, listed)| listed.present.len() > 1);
        let doubled = doubled.map(|(name, listed)| (name.clone(), listed.present.clone()));
        let mut table = self.table();
        let heard = table.heard.entry(from.clone()).or_default();
        let before = std::mem::replace(&mut heard.doubled, doubled.collect());
        heard.away = away.collect();
        let now_doubled = heard.doubled.clone();
        drop(table);
        let merged = self.journal.merge_members(from, list);
        for (node, journals) in now_doubled {
            let known = before.get(&node).map(Vec::as_slice).unwrap_or_default();
            for journal in journals.into_iter().filter(|journal| !known.contains(journal)) {
                self.journal.journal_pulls(&Origin { node: node.clone(), journal });
            }
        }
        if merged.changed {
            self.reconcile(now);
        }
        if merged.returned {
            tracing::warn!(
                by = %from,
                "this node had left, or was forgotten: it joins anew, as another incarnation"
            );
            self.start_over();
        }
        merged.returned
    }

    /// Whoever forgot this node may have trusted its cache without it since: nothing that was heard
    /// before counts.
    fn start_over(&self) {
        let mut table = self.table();
        for heard in table.heard.values_mut() {
            heard.last_ping = None;
        }
        drop(table);
        let cursors = self.journal.cursors();
        for member in cursors.snapshot().iter().filter(|m| m.presence != Presence::Left) {
            let nothing = vec![(String::new(), Sequence::ZERO)];
            cursors.applied(&member.label, member.stored, nothing);
            cursors.presence(&member.label, Presence::Expected);
        }
    }

    /// Whoever is listed is waited for from now on; the feed of who left ends.
    pub(crate) fn reconcile(&self, now: Duration) {
        let known: BTreeSet<_> =
            self.journal.cursors().snapshot().into_iter().map(|member| member.label).collect();
        let own = &self.journal.origin().node;
        for (name, listed) in self.journal.members().iter().filter(|(name, _)| name != own) {
            let mut table = self.table();
            if listed.left {
                table.left.entry(name.clone()).or_insert(now);
                let heard = table.heard.get_mut(name);
                let feed = heard.and_then(|heard| {
                    if let Some(twin) = &heard.twin {
                        // If it is what comes back, it does so under the name alone.
                        twin.feeding.stop.cancel();
                    }
                    heard.feed.take()
                });
                drop(table);
                if let Some(feed) = feed {
                    feed.stop.cancel();
                }
                continue;
            }
            let back = table.left.remove(name).is_some();
            if let Some(heard) = table.heard.get_mut(name).filter(|_| back) {
                heard.last_ping = None;
            }
            drop(table);
            if back || !known.contains(name.as_str()) {
                let nothing = vec![(String::new(), Sequence::ZERO)];
                self.journal.cursors().applied(name.as_str(), Sequence::ZERO, nothing);
                self.journal.cursors().presence(name.as_str(), Presence::Expected);
            }
        }
    }

    /// When it was heard in this start that a member left.
    pub(crate) fn left_since(&self, name: &NodeName) -> Option<Duration> {
        self.table().left.get(name).copied()
    }

    /// It left, as far as is known here.
    pub(crate) fn has_left(&self, name: &NodeName) -> bool {
        self.table().left.contains_key(name)
    }

    /// The addresses of members that are not configured here, and have to be dialled. Those of
    /// others that were learnt before are forgotten.
    pub(crate) fn learnt(&self) -> BTreeSet<String> {
        let listed = self.journal.members();
        let mut table = self.table();
        let configured: BTreeSet<_> = {
            let configured = table.addresses.values().filter(|entry| !entry.learnt);
            configured.filter_map(|entry| entry.name.clone()).collect()
        };
        let own = &self.journal.origin().node;
        // Until each configured address was tried, it may be the one of who was learnt.
        let mut fixed = table.addresses.values().filter(|entry| !entry.learnt);
        let untried = fixed.any(|entry| entry.name.is_none() && entry.trouble.is_none());
        let wanted = listed.into_iter().filter(|(name, listed)| {
            let there = !listed.left && !listed.address.is_empty() && name != own;
            let known = table.addresses.get(&listed.address).is_some_and(|entry| !entry.learnt);
            let dialled = table.addresses.contains_key(&listed.address);
            there && !configured.contains(name) && !known && (dialled || !untried)
        });
        let wanted: Vec<_> = wanted.map(|(name, listed)| (listed.address, name)).collect();
        for (address, name) in &wanted {
            let entry = table.addresses.entry(address.clone()).or_default();
            entry.learnt = true;
            entry.name.get_or_insert_with(|| name.clone());
        }
        let wanted: BTreeSet<_> = wanted.into_iter().map(|(address, _)| address).collect();
        table.addresses.retain(|address, entry| !entry.learnt || wanted.contains(address));
        wanted
    }

    /// Members that nobody has heard for so long that they are forgotten. What is found on the way
    /// is told to others.
    pub(crate) fn unheard(&self, now: Duration, forget_after: Duration) -> Vec<NodeName> {
        let there = self.seen(now);
        for seen in &there {
            self.journal.note_away(&seen.name, seen.silent, seen.is_away(forget_after));
        }
        unheard(&there, forget_after)
    }

    /// Every other member that did not leave, and for how long it was not heard.
    fn seen(&self, now: Duration) -> Vec<Seen> {
        let (began, before) = (self.began.0, &self.began.1);
        let own = &self.journal.origin().node;
        let listed = self.journal.members();
        let table = self.table();
        let silent = |name: &NodeName| {
            let linked = table
                .addresses
                .values()
                .any(|entry| entry.pulling && entry.name.as_ref() == Some(name));
            let heard = table.heard.get(name).and_then(|heard| heard.last_ping);
            match heard {
                _ if linked => Duration::ZERO,
                Some(at) if !self.is_silent(now, at) => Duration::ZERO,
                Some(at) => now.saturating_sub(at),
                None => now.saturating_sub(began) + before.get(name).copied().unwrap_or_default(),
            }
        };
        let there = listed.into_iter().filter(|(name, listed)| !listed.left && name != own);
        let seen = there.map(|(name, _)| Seen {
            silent: silent(&name),
            away: table.heard.get(&name).map(|heard| heard.away.clone()).unwrap_or_default(),
            name,
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests;
