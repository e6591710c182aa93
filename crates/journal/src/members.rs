//! Who was where: the member behind each address, and what it said to hold, kept over a restart.
//!
//! So a member that is away when this node starts is known by its name, and what it held is not
//! forgotten. Stored with a commit when an address is new, and at the end of each start.

use std::collections::BTreeMap;

use evermesh_event::{NodeName, Sequence};

use crate::cursors::Cursors;

/// Addresses kept: as many as members that a mesh may have.
const ADDRESSES_MAX: usize = 4096;

/// The member that was last found at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMember {
    /// Its name.
    pub name: NodeName,
    /// Through which of this node's sequences it held everything on its disk.
    pub stored: Sequence,
}

/// By address.
#[derive(Debug, Default)]
pub(crate) struct Members {
    known: BTreeMap<String, KnownMember>,
    changed: bool,
}

impl Members {
    pub(crate) const fn new(known: BTreeMap<String, KnownMember>) -> Self {
        Self { known, changed: false }
    }

    pub(crate) fn at(&self, address: &str) -> Option<KnownMember> {
        self.known.get(address).cloned()
    }

    pub(crate) fn note(&mut self, address: &str, name: &NodeName) {
        let known = self.known.get(address);
        let room = self.known.len() < ADDRESSES_MAX || known.is_some();
        if room && known.is_none_or(|known| known.name != *name) {
            let member = KnownMember { name: name.clone(), stored: Sequence::ZERO };
            self.known.insert(address.to_owned(), member);
            self.changed = true;
        }
    }

    /// What is to be stored, with the newest cursors; `None` if nothing is new and this is not the
    /// end.
    pub(crate) fn take(
        &mut self,
        cursors: &Cursors,
        end: bool,
    ) -> Option<Vec<(String, KnownMember)>> {
        if !std::mem::take(&mut self.changed) && !end {
            return None;
        }
        for replica in cursors.snapshot() {
            let named = |known: &&mut KnownMember| known.name.as_str() == replica.label;
            for known in self.known.values_mut().filter(named) {
                // What was in its memory is on no disk when this node comes back.
                known.stored = if replica.in_memory { Sequence::ZERO } else { replica.stored };
            }
        }
        let all: Vec<_> =
            self.known.iter().map(|(at, known)| (at.clone(), known.clone())).collect();
        (!all.is_empty()).then_some(all)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_newest_cursor_is_kept_under_the_address() {
        let (mut members, cursors) = (Members::default(), Cursors::default());
        let name = NodeName::new("web-2").unwrap();
        members.note("https://web-2:7443", &name);
        cursors.stored("web-2", Sequence::from_u64(7));
        let stored = members.take(&cursors, false).unwrap();
        let known = KnownMember { name, stored: Sequence::from_u64(7) };
        assert_eq!(stored, [("https://web-2:7443".to_owned(), known)]);
        assert!(members.take(&cursors, false).is_none(), "nothing is new");
        cursors.at_most("web-2", Sequence::from_u64(5));
        let at_the_end = members.take(&cursors, true).unwrap();
        assert_eq!(at_the_end.first().unwrap().1.stored, Sequence::from_u64(5));
        cursors.in_memory("web-2", true);
        let at_the_end = members.take(&cursors, true).unwrap();
        assert_eq!(at_the_end.first().unwrap().1.stored, Sequence::ZERO, "on no disk");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut members = Members::default();
        for n in 0..=ADDRESSES_MAX {
            members.note(&format!("https://h{n}:1"), &NodeName::new("web-2").unwrap());
        }
        assert_eq!(members.known.len(), ADDRESSES_MAX);
    }
}
