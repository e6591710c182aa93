//! The list of members on the wire: it rides hello, welcome, pings and echoes, where it changed.

use evermesh_event::NodeName;
use evermesh_journal::{Journal, Listed};
use evermesh_proto::v1;
use tokio::sync::watch;

/// What is told to one peer: the whole list, whenever something in it changed.
#[derive(Debug)]
pub(crate) struct Told(watch::Receiver<u64>);

impl Told {
    /// To a peer that was told nothing yet.
    pub(crate) fn nothing(journal: &Journal) -> Self {
        let mut version = journal.watch_members();
        version.mark_changed();
        Self(version)
    }

    /// The list, if it is news.
    pub(crate) fn news(&mut self, journal: &Journal) -> Vec<v1::ListedMember> {
        if !self.0.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        self.0.mark_unchanged();
        of_journal(journal)
    }

    /// What was to be told last was not sent.
    pub(crate) fn untold(&mut self) {
        self.0.mark_changed();
    }
}

/// Everybody who is known here, this node included.
pub(crate) fn of_journal(journal: &Journal) -> Vec<v1::ListedMember> {
    journal.members().iter().map(|(name, listed)| listed.to_proto(name)).collect()
}

/// What another node told. Whom it does not name well is left out.
pub(crate) fn read(sent: &[v1::ListedMember]) -> Vec<(NodeName, Listed)> {
    sent.iter().filter_map(Listed::from_proto).collect()
}
