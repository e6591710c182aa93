//! Who is a member: what this node knows, what others told it, and who left.
//!
//! Each node keeps such a list and tells it to every other, so that all come to the same one: of
//! two that say something else of one member, the higher incarnation counts; of two with the same
//! one, that it left. A node that hears that it left itself, and did not, comes back under the next
//! incarnation. Kept over restarts; bounded.

mod listed;
mod table;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::{JournalId, NodeName, Offset, Origin, Sequence};
use tokio::sync::watch;

pub use self::listed::Listed;
pub(crate) use self::table::Row;
use self::table::Table;
use crate::journal::Journal;

/// Whether this node leaves the mesh for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// To be stored.
    Asked,
    /// Now everybody may be told.
    Stored,
}

/// The list of members. Lives in the journal, where the links and the applications meet.
#[derive(Debug)]
pub(crate) struct Roster {
    table: Mutex<Table>,
    /// Counts changes of what is told to others. Links and pings hold the other end.
    version: watch::Sender<u64>,
    /// The writer stores it, and whoever asked waits for that.
    pub(crate) leaving: watch::Sender<Leaving>,
}

/// What became of a list that another node told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// This node knows something that it did not.
    pub changed: bool,
    /// Others took this node for one that left: it comes back as a new incarnation, and knows
    /// nothing any more of who trusts whom.
    pub returned: bool,
}

/// A member that left, as this node still has to settle it, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Who.
    pub node: NodeName,
    /// For how long it is known that it left.
    pub since: Duration,
    /// What nobody has of it was told as missed, as far as that is needed.
    pub settled: bool,
}

impl Roster {
    pub(crate) fn new(own: Origin, rows: Vec<(NodeName, Row)>) -> Self {
        let (version, _) = watch::channel(0);
        let leaving = watch::Sender::new(Leaving::No);
        Self { table: Mutex::new(Table::new(own, rows)), version, leaving }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows to be stored; `None` is gone.
    pub(crate) fn take_dirty(&self) -> Vec<(NodeName, Option<Row>)> {
        self.table().take_dirty()
    }

    /// Nothing of this origin can be missed without having been told. `seen`: the highest sequence
    /// of it that was ever said to be on a disk.
    pub(crate) fn is_closed(&self, origin: &Origin, at: Sequence, seen: Sequence) -> bool {
        self.table().is_closed(origin, at, seen)
    }

    /// Its last word is known.
    pub(crate) fn has_ended(&self, origin: &Origin) -> bool {
        self.table().has_ended(origin)
    }

    /// A member that did not leave was linked under other journals than this one last.
    pub(crate) fn is_former(&self, origin: &Origin) -> bool {
        self.table().is_former(origin)
    }

    /// The journals of a member that ended for good, as far as their last words were heard.
    pub(crate) fn ended_of(&self, node: &NodeName) -> Vec<Origin> {
        let ended = self.table().get(node).map(|listed| listed.ended).unwrap_or_default();
        ended.into_iter().map(|(journal, _)| Origin { node: node.clone(), journal }).collect()
    }

    /// This node had left, and joins anew: the others are told what it numbered last before, should
    /// its goodbye not have reached them.
    pub(crate) fn joins_anew(&self, last_word: Option<(JournalId, Sequence)>) {
        if let Some((journal, head)) = last_word {
            self.table().ended_here(journal, head);
        }
    }

    /// This node leaves: nobody brings it back by saying so.
    pub(crate) fn leave(&self) {
        self.table().leaves();
        self.leaving.send_replace(Leaving::Asked);
    }

    /// Under which journal the name was linked last, and which were there beside it.
    pub(crate) fn present_of(&self, name: &NodeName) -> Vec<JournalId> {
        self.table().present_of(name)
    }

    /// Those are they now.
    pub(crate) fn present(&self, name: &NodeName, journals: Vec<JournalId>) {
        if self.table().present(name, journals) {
            self.changed();
        }
    }

    /// Its origins with which others are linked, or were, or that pull from here, and with which
    /// this node never was.
    pub(crate) fn heard_of(&self, node: &NodeName) -> Vec<Origin> {
        let heard = self.table().heard_of(node);
        heard.into_iter().map(|journal| Origin { node: node.clone(), journal }).collect()
    }

    /// The same of all names.
    pub(crate) fn all_heard(&self) -> Vec<Origin> {
        self.table().all_heard()
    }

    /// Others are to be told.
    fn changed(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// What may be missed of this origin was told.
    pub(crate) fn close(&self, origin: &Origin) {
        self.table().close(origin);
    }
}

impl Journal {
    /// Every member that is known, this node included, as others are told.
    #[must_use]
    pub fn members(&self) -> Vec<(NodeName, Listed)> {
        self.shared().roster.table().list()
    }

    /// Counts up with each change of [`Journal::members`].
    #[must_use]
    pub fn watch_members(&self) -> watch::Receiver<u64> {
        self.shared().roster.version.subscribe()
    }

    /// What is known of one member.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<Listed> {
        self.shared().roster.table().get(name)
    }

    /// Another node told whom it knows.
    pub fn merge_members(&self, from: &NodeName, list: &[(NodeName, Listed)]) -> Merged {
        let shared = self.shared();
        let merged = shared.roster.table().merge(from, list, shared.now());
        self.members_changed(merged.changed || merged.returned);
        merged
    }

    /// Where a member is dialled, unless it is known from itself. This node's own: where others
    /// dial it.
    pub fn note_address(&self, name: &NodeName, address: &str) {
        let changed = self.shared().roster.table().note_address(name, address);
        self.members_changed(changed);
    }

    /// A member is forgotten, by an operator or because nobody hears it: it left.
    pub fn forget_member(&self, name: &NodeName) -> bool {
        let shared = self.shared();
        let left = shared.roster.table().leave(name, shared.now());
        self.members_changed(left);
        left
    }

    /// A member said that this journal of its never comes back, and what it numbered last.
    pub fn journal_ended(&self, origin: &Origin, head: Sequence) {
        self.shared().roster.table().ended(origin, head);
        self.members_changed(true);
    }

    /// A member is there under this journal id, whatever was thought of it before.
    pub fn journal_lives(&self, origin: &Origin) {
        let changed = self.shared().roster.table().lives(origin);
        self.members_changed(changed);
    }

    /// A node is there under this journal: it pulls from here, or somebody saw it beside another of
    /// its name. Whatever was told of it before.
    pub fn journal_pulls(&self, origin: &Origin) {
        let shared = self.shared();
        if origin.node == self.origin().node && !shared.storage.outlives() {
            // Whoever comes back with a place of a former start is told so.
            return;
        }
        let changed = shared.roster.table().pulls(origin);
        self.members_changed(changed);
    }

    /// Under which journal a member was linked last, and under which others of its name nodes were
    /// there at the same time.
    #[must_use]
    pub fn present_of(&self, name: &NodeName) -> Vec<JournalId> {
        self.shared().roster.present_of(name)
    }

    /// Under which journals others are linked with a member, or were, or it pulls from here, and
    /// this node never was linked with it.
    #[must_use]
    pub fn heard_of(&self, name: &NodeName) -> Vec<JournalId> {
        self.shared().roster.table().heard_of(name)
    }

    /// The members that were linked last while other nodes bore their names.
    #[must_use]
    pub fn not_alone(&self) -> Vec<NodeName> {
        self.shared().roster.table().not_alone()
    }

    /// For how long no member's ping came, while this node ran; zero: one came. `away`: others are
    /// told that it is.
    pub fn note_away(&self, name: &NodeName, silent: Duration, away: bool) {
        let changed = self.shared().roster.table().note_away(name, silent, away);
        self.members_changed(changed);
    }

    /// For how long a member was not heard, in this start and before.
    #[must_use]
    pub fn away_for(&self, name: &NodeName) -> Duration {
        self.shared().roster.table().away_for(name)
    }

    /// The members that left and are not forgotten altogether.
    #[must_use]
    pub fn departed(&self) -> Vec<Departed> {
        self.shared().roster.table().departed(self.shared().now())
    }

    /// Each member that left, by name, with the offset at which all that may be missed of it is
    /// settled; `None`: it is not yet.
    #[must_use]
    pub fn left_members(&self) -> BTreeMap<String, Option<Offset>> {
        self.shared().roster.table().left()
    }

    /// A member that left so long ago is not told of any more, nor what it numbered, once nothing
    /// of that is held. It stays known that there was one, so that others may speak of it.
    pub fn drop_departed(&self, name: &NodeName) {
        let shared = self.shared();
        if shared.numbering().forget(shared, name) {
            shared.roster.table().drop_departed(name);
            self.members_changed(true);
        }
    }

    /// Of this name nothing is known any more, and nothing wanted.
    #[must_use]
    pub fn is_dropped(&self, name: &NodeName) -> bool {
        self.shared().roster.table().is_dropped(name)
    }

    /// The events of a member that left are settled: told as missed, or all here.
    pub(crate) fn settled(&self, name: &NodeName, at: Offset) {
        self.shared().roster.table().settled(name, at);
        self.members_changed(true);
    }

    fn members_changed(&self, changed: bool) {
        if changed {
            self.shared().roster.changed();
            self.shared().bell.ring();
        }
    }
}
