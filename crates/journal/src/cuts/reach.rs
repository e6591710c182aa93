//! How far one origin gets in a stretch of records, and what of it was lost if that is cut.

use std::collections::BTreeMap;

use evermesh_event::{Block, Offset, Sequence};

use crate::record::{Missed, Record};

/// Sites that are told apart in one origin; beyond them it is all of its sites.
pub(super) const SITES_MAX: usize = 64;

/// How far an origin gets in a stretch of records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reach {
    /// Its last sequence there.
    pub(crate) through: Sequence,
    /// The end of its last record there.
    pub(crate) offset: Offset,
    /// The last sequence there that is lost if the stretch is cut. What lies behind it was left
    /// out before, because newer events replace it.
    pub(crate) lost: Sequence,
    /// The last offset of each site that had something to lose there. The empty site: every one.
    pub(crate) sites: BTreeMap<String, Offset>,
    /// Leads from `lost` to `through`, where that is further.
    pub(crate) mark: Option<Block>,
}

impl Reach {
    /// Its next block there.
    pub(super) fn note(&mut self, block: &Block, record: &Record) {
        let end = record.end();
        if block.coalesced() {
            for (offset, entry) in record.taken_entries() {
                self.lose(entry.glance().site, entry.sequence, offset);
            }
        } else if block.kinds().is_empty() {
            self.lose("", block.last(), end);
        } else {
            block.kinds().iter().for_each(|kind| self.lose(&kind.site, block.last(), end));
        }
        self.offset = self.offset.max(end);
        if block.last() > self.through {
            self.through = block.last();
            self.mark = (self.through > self.lost).then(|| block.watermark(self.lost));
        }
        self.settle();
    }

    /// Something was missed: whoever did not pass that lacks it still.
    pub(super) fn note_missed(&mut self, missed: &Missed, end: Offset) {
        if missed.sites.is_empty() {
            self.lose("", missed.through, end);
        }
        missed.sites.iter().for_each(|site| self.lose(site, missed.through, end));
        self.offset = self.offset.max(end);
        self.settle();
    }

    /// What comes next goes on from a sequence: what lies between was lost, and nothing shows whose
    /// it was.
    pub(super) fn goes_on(&mut self, before: Sequence, offset: Offset) {
        if before > self.through {
            self.lose_all(before, offset);
        }
    }

    /// Everything through a sequence may be lost, of every site.
    pub(super) fn lose_all(&mut self, through: Sequence, offset: Offset) {
        self.lose("", through, offset);
        self.offset = self.offset.max(offset);
        self.settle();
    }

    /// What follows it is cut, too.
    pub(super) fn join(&mut self, later: &Self) {
        later.sites.iter().for_each(|(site, offset)| self.note_site(site, *offset));
        self.lost = self.lost.max(later.lost);
        self.offset = self.offset.max(later.offset);
        if later.through > self.through {
            self.through = later.through;
            self.mark.clone_from(&later.mark);
        }
        self.settle();
    }

    /// The same, of an origin that is not known any more.
    pub(super) fn of_nobody(self) -> Self {
        Self { through: Sequence::ZERO, lost: Sequence::ZERO, mark: None, ..self }
    }

    fn lose(&mut self, site: &str, through: Sequence, offset: Offset) {
        self.note_site(site, offset);
        self.lost = self.lost.max(through);
        self.through = self.through.max(through);
    }

    /// The mark goes on from what is lost, or there is none.
    fn settle(&mut self) {
        let leads = |mark: &Block| mark.last() == self.through && self.lost < self.through;
        self.mark = self.mark.take().filter(leads).map(|mark| {
            if mark.previous() == self.lost { mark } else { mark.watermark(self.lost) }
        });
        if self.mark.is_none() {
            self.lost = self.through;
        }
    }

    pub(super) fn note_site(&mut self, site: &str, offset: Offset) {
        if let Some(last) = self.sites.get_mut(site) {
            *last = offset.max(*last);
        } else if self.sites.len() < SITES_MAX {
            self.sites.insert(site.to_owned(), offset);
        } else {
            let last = self.sites.values().copied().max().unwrap_or(offset).max(offset);
            self.sites = BTreeMap::from([(String::new(), last)]);
        }
    }

    /// Where the last of what was lost had been.
    pub(crate) fn lost_at(&self) -> Offset {
        self.sites.values().copied().max().unwrap_or_default()
    }

    /// Which sites had something after an offset; empty: all of them.
    pub(super) fn sites_after(&self, after: Offset) -> Vec<String> {
        let hit = self.sites.iter().filter(|(_, offset)| **offset > after);
        let sites: Vec<_> = hit.map(|(site, _)| site.clone()).collect();
        if sites.iter().any(String::is_empty) { Vec::new() } else { sites }
    }
}
