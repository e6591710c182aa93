//! Damage that is found while the node runs: the segment is looked through once, and what is not
//! what was written becomes a wound, as if it had been found at the start.
//!
//! What was lost is known exactly: how far each origin got in the segment is in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};

use evermesh_event::{Frontier, Offset, Origin, Sequence};

use crate::record::Record;
use crate::recover::goes_on_from;
use crate::segment::HEADER_BYTES;
use crate::segment::scan::Scan;
use crate::shared::Shared;
use crate::wounds::{Lack, Place, Wound};

/// What is known of a segment without reading it.
struct Known {
    marker: u32,
    end: u64,
    last: Offset,
    /// How far each origin was before it.
    before: Frontier,
    /// And how far it gets in it.
    reaches: Vec<(Origin, Sequence)>,
}

/// What the look found.
struct Look {
    head: Offset,
    at: Frontier,
    /// Where the last record of each origin ended.
    behind: BTreeMap<Origin, Offset>,
    wounds: Vec<Wound>,
    lacks: Vec<Lack>,
}

/// Looks through a segment in which a record cannot be read; false if nothing new was found.
pub(crate) fn survey(shared: &Shared, first: Offset) -> io::Result<bool> {
    let _one = shared.damaged.survey.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = known(shared, first) else { return Ok(true) };
    let old = shared.wounds().in_segment(first);
    let file = shared.storage.open_segment(first)?;
    let mut scan = Scan::new(Arc::clone(&file), known.marker, known.end);
    let before = Offset::from_u64(first.as_u64().saturating_sub(1));
    let mut look = Look {
        head: before,
        at: known.before.clone(),
        behind: BTreeMap::new(),
        wounds: Vec::new(),
        lacks: Vec::new(),
    };
    look.through(&mut scan, &known, first, &old)?;
    for (origin, through) in &known.reaches {
        look.lacks(origin, *through, known.last.plus(1).unwrap_or(known.last));
    }
    // It was written anew meanwhile: nothing of that look is true.
    if self::known(shared, first).is_none_or(|now| now.marker != known.marker) {
        return Ok(true);
    }
    if look.wounds.is_empty() {
        return Ok(false);
    }
    let mut wounds = shared.wounds();
    wounds.change();
    for wound in &look.wounds {
        tracing::error!(
            file = shared.storage.segment_name(first), position = wound.place.position,
            after = %wound.after, through = %wound.through,
            "a record is not what was written: what was lost is asked of other members or told as \
            missed"
        );
        wounds.add(*wound);
    }
    for lack in look.lacks {
        if look.wounds.iter().any(|wound| lack.spans(wound)) {
            wounds.lacks(lack);
        }
    }
    shared.wounds_changed(wounds);
    Ok(true)
}

fn known(shared: &Shared, first: Offset) -> Option<Known> {
    let mut before = shared.cuts().frontier();
    let catalog = shared.catalog.read().unwrap_or_else(PoisonError::into_inner);
    let segment = catalog.get(first)?;
    catalog.frontier_before(first, &mut before);
    let reaches = segment.reaches.iter();
    Some(Known {
        marker: segment.marker,
        end: segment.end,
        last: segment.last,
        before,
        reaches: reaches.map(|(origin, reach)| (origin.clone(), reach.through)).collect(),
    })
}

impl Look {
    fn through(
        &mut self,
        scan: &mut Scan,
        known: &Known,
        first: Offset,
        old: &[Wound],
    ) -> io::Result<()> {
        let mut position = HEADER_BYTES;
        let mut passed = None;
        loop {
            let here = old.iter().find(|wound| wound.place.position == position);
            if let Some(wound) = here.filter(|wound| passed != Some(wound.after)) {
                (passed, self.head, position) =
                    (Some(wound.after), wound.through, wound.goes_on_at);
                continue;
            }
            if position >= known.end {
                return Ok(());
            }
            if let Ok(decoded) = scan.record_at(position)? {
                self.take(&decoded.record);
                position += decoded.length as u64;
                continue;
            }
            let mut next = scan.record_from(position)?;
            while let Some((at, decoded)) = next.take_if(|(_, d)| d.record.offset <= self.head) {
                next = scan.record_from(at + decoded.length as u64)?;
            }
            let (goes_on_at, through) = match &next {
                Some((at, decoded)) => {
                    let next = decoded.record.offset.as_u64();
                    (*at, Offset::from_u64(next.saturating_sub(1)))
                }
                None => (known.end, known.last),
            };
            let place = Place { segment: first, marker: known.marker, position };
            self.wounds.push(Wound { place, goes_on_at, after: self.head, through });
            (self.head, position) = (through, goes_on_at);
        }
    }

    fn take(&mut self, record: &Record) {
        if let Some((origin, before)) = goes_on_from(record) {
            self.lacks(origin, before, record.offset);
        }
        if let Some((origin, through)) = record.moves() {
            self.at.advance(origin, through);
            self.behind.insert(origin.clone(), record.end());
        }
        self.head = record.end();
    }

    fn lacks(&mut self, origin: &Origin, before: Sequence, hi: Offset) {
        let at = self.at.get(origin);
        if before > at {
            let lo = self.behind.get(origin).copied().unwrap_or(Offset::ZERO);
            self.lacks.push(Lack::new(origin.clone(), at, before, lo, hi));
            self.at.advance(origin, before);
        }
    }
}
