//! What is lacking because it is damaged, for whoever asks other members for it.

use evermesh_event::{Block, Origin, Sequence};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::record::Content;

/// Events of one origin that were here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lacking {
    /// Whose.
    pub origin: Origin,
    /// Everything through here is here, or came back.
    pub after: Sequence,
    /// The last of them.
    pub through: Sequence,
}

impl Journal {
    /// From now on readers wait before what is damaged, until it came back or was given up. Whoever
    /// calls this has to see to the one or the other.
    pub fn await_mending(&self) {
        self.shared().wounds().awaits();
    }

    /// What was here and is damaged, as far as there is room for it to come back now.
    #[must_use]
    pub fn lacking(&self) -> Vec<Lacking> {
        let lacking = self.shared().wounds().lacking().into_iter();
        lacking.map(|(origin, after, through)| Lacking { origin, after, through }).collect()
    }

    /// Something else is damaged than before, or less: look at [`Journal::lacking`] again.
    #[must_use]
    pub fn wounds(&self) -> watch::Receiver<u64> {
        self.shared().damaged.version.subscribe()
    }

    /// A block that was here before: takes what of it is lacking, if anything is.
    pub fn mend(&self, block: &Block) -> bool {
        let mut wounds = self.shared().wounds();
        let took = !wounds.is_empty() && wounds.offer(block);
        if took {
            self.shared().came(&Content::Block { block: block.clone(), skip: 0 });
        }
        drop(wounds);
        if took {
            self.shared().bell.ring();
        }
        took
    }

    /// No member that is reachable holds what is lacking, through a sequence: it is missed.
    pub fn give_up(&self, lacking: &Lacking, through: Sequence) {
        let mut wounds = self.shared().wounds();
        if wounds.give_up(&lacking.origin, lacking.after, through) {
            wounds.change();
            self.shared().wounds_changed(wounds);
            self.shared().bell.ring();
        }
    }
}
