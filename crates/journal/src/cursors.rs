//! What other members hold of this node's events: the far end of step 4, carried back by links.
//!
//! In memory, and at the end of a start in the state database by the way of `members`. A cursor
//! moves back only when a member says that it lacks what it had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evermesh_event::Sequence;
use evermesh_event::assurance::{Presence, Replica};
use tokio::sync::watch;

/// Members that are kept: as many as a mesh may have, with those that left.
const MEMBERS_MAX: usize = 4096;

/// The cursors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cursors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    members: Mutex<BTreeMap<String, Replica>>,
    /// Counts changes. Publishers that wait for `REPLICATED` hold the other end.
    version: watch::Sender<u64>,
}

impl Default for Cursors {
    fn default() -> Self {
        let (version, _) = watch::channel(0);
        Self(Arc::new(Inner { members: Mutex::default(), version }))
    }
}

impl Cursors {
    /// A member said to hold everything through here on its disk. A member never heard of is
    /// expected from now on.
    pub fn stored(&self, member: &str, through: Sequence) {
        self.change(member, |replica| {
            let moved = through > replica.stored;
            replica.stored = replica.stored.max(through);
            moved
        });
    }

    /// The same, and for which sites its applications have not acknowledged all of it. What was
    /// said before of sites is void.
    pub fn applied(&self, member: &str, stored: Sequence, lagging: Vec<(String, Sequence)>) {
        self.change(member, |replica| {
            let moved = stored > replica.stored || lagging != replica.lagging;
            replica.stored = replica.stored.max(stored);
            replica.lagging = lagging;
            moved
        });
    }

    /// A member said through where it lacks nothing: it cannot hold more than that, whatever it
    /// said before. Its disk may have been replaced.
    pub fn at_most(&self, member: &str, through: Sequence) {
        self.change(member, |replica| {
            let moved = through < replica.stored;
            replica.stored = replica.stored.min(through);
            moved
        });
    }

    /// Whether a member keeps no disk. What one told that kept none says nothing of the disk that
    /// it has since.
    pub fn in_memory(&self, member: &str, in_memory: bool) {
        self.change(member, |replica| {
            let changed = replica.in_memory != in_memory;
            if changed && !in_memory {
                replica.stored = Sequence::ZERO;
            }
            replica.in_memory = in_memory;
            changed
        });
    }

    /// Whether a member counts.
    pub fn presence(&self, member: &str, presence: Presence) {
        self.change(member, |replica| {
            let changed = replica.presence != presence;
            replica.presence = presence;
            changed
        });
    }

    /// A member that was known by its address told its name. What was known of both is joined.
    pub fn rename(&self, member: &str, name: &str) {
        if member == name {
            return;
        }
        let mut members = self.members();
        let Some(mut renamed) = members.remove(member) else {
            return;
        };
        renamed.label = name.to_owned();
        if let Some(known) = members.get(name) {
            renamed.stored = renamed.stored.max(known.stored);
            renamed.in_memory = known.in_memory;
            renamed.lagging.clone_from(&known.lagging);
            renamed.presence = known.presence;
        }
        members.insert(name.to_owned(), renamed);
        drop(members);
        self.changed();
    }

    /// Of two that bore one name the other one remains, and counts under the name as it did.
    pub fn succeed(&self, name: &str, other: &str) {
        let mut members = self.members();
        let Some(remains) = members.remove(other) else { return };
        members.insert(name.to_owned(), Replica { label: name.to_owned(), ..remains });
        drop(members);
        self.changed();
    }

    /// A member is none any more: it is neither counted nor named.
    pub fn forget(&self, member: &str) {
        let removed = self.members().remove(member).is_some();
        if removed {
            self.changed();
        }
    }

    /// Every member, by label.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Replica> {
        self.members().values().cloned().collect()
    }

    /// Counts up with each change: look at [`Cursors::snapshot`] again.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    fn change(&self, member: &str, change: impl FnOnce(&mut Replica) -> bool) {
        let mut members = self.members();
        let changed = if let Some(replica) = members.get_mut(member) {
            change(replica)
        } else if members.len() >= MEMBERS_MAX {
            tracing::warn!(member, "more than {MEMBERS_MAX} members: this one is not counted");
            false
        } else {
            let label = member.to_owned();
            let mut replica = Replica {
                label,
                stored: Sequence::ZERO,
                in_memory: false,
                lagging: Vec::new(),
                presence: Presence::Expected,
            };
            change(&mut replica);
            members.insert(member.to_owned(), replica);
            true
        };
        drop(members);
        if changed {
            self.changed();
        }
    }

    fn changed(&self) {
        self.0.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Replica>> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_moves_back_and_each_change_is_seen() {
        let cursors = Cursors::default();
        let mut watch = cursors.watch();
        cursors.stored("b", Sequence::from_u64(5));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        cursors.stored("b", Sequence::from_u64(4));
        cursors.presence("b", Presence::Expected);
        assert!(!watch.has_changed().unwrap(), "nothing changed");
        cursors.presence("b", Presence::Suspended);
        assert!(watch.has_changed().unwrap());
        assert_eq!(cursors.snapshot()[0].stored, Sequence::from_u64(5));
    }

    #[test]
    fn p4_what_a_member_had_in_memory_is_not_taken_for_stored_later() {
        let cursors = Cursors::default();
        cursors.in_memory("b", true);
        cursors.stored("b", Sequence::from_u64(5));
        cursors.in_memory("b", true);
        assert_eq!(cursors.snapshot()[0].stored, Sequence::from_u64(5));
        cursors.in_memory("b", false);
        assert_eq!(cursors.snapshot()[0].stored, Sequence::ZERO, "its disk said nothing yet");
    }

    #[test]
    fn p9_of_two_under_one_name_the_one_that_remains_counts_on() {
        let cursors = Cursors::default();
        cursors.stored("b", Sequence::from_u64(9));
        cursors.presence("b", Presence::Suspended);
        let lagging = vec![("shop".to_owned(), Sequence::from_u64(2))];
        cursors.applied("b, journal 2", Sequence::from_u64(7), lagging.clone());
        cursors.succeed("b", "b, journal 2");
        let all = cursors.snapshot();
        assert_eq!((all.len(), all[0].label.as_str()), (1, "b"));
        assert_eq!((all[0].presence, all[0].stored), (Presence::Expected, Sequence::from_u64(7)));
        assert_eq!(all[0].lagging, lagging);
    }

    #[test]
    fn a_renamed_member_keeps_what_is_known_of_both() {
        let cursors = Cursors::default();
        cursors.presence("https://b:7443", Presence::Expected);
        cursors.stored("b", Sequence::from_u64(7));
        cursors.presence("b", Presence::Suspended);
        cursors.rename("https://b:7443", "b");
        let all = cursors.snapshot();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].label.as_str(), all[0].stored), ("b", Sequence::from_u64(7)));
        assert_eq!(all[0].presence, Presence::Suspended);
        cursors.forget("b");
        assert!(cursors.snapshot().is_empty());
    }
}
