//! One subscriber over all its streams, in the order of what it recorded; and whether each of its
//! streams kept order (P2).

use std::collections::{BTreeMap, HashMap};

use super::history::{Begin, Event, Line, Number, Scope, What};
use super::{Findings, Verdict};

/// How a stream began.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) at: u64,
    pub(super) journal: String,
    pub(super) start: String,
    pub(super) offset: u64,
}

/// What a node is known to have heard of what a subscriber acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed {
    /// When the ping was sent that the node answered after it.
    pub(super) pinged: u64,
    /// When that answer was heard.
    pub(super) heard: u64,
    pub(super) through: u64,
}

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) number: u32,
    pub(super) node: String,
    pub(super) from: Begin,
    pub(super) opened: Option<Opened>,
    /// Order, time and through where.
    pub(super) acknowledged: Vec<(usize, u64, u64)>,
    /// Order and which offset.
    pub(super) rejected: Vec<(usize, u64)>,
    /// Ping number, order and time.
    pub(super) pinged: BTreeMap<u64, (usize, u64)>,
    /// What it had acknowledged when it sent a ping that was answered.
    pub(super) confirmed: Vec<Confirmed>,
    newest: HashMap<String, u64>,
    newest_offset: u64,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) order: usize,
    pub(super) at: u64,
    /// The place of its stream among those of the subscriber.
    pub(super) stream: usize,
    pub(super) number: Number,
    pub(super) offset: u64,
    pub(super) event: Event,
}

/// A missed.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) order: usize,
    pub(super) at: u64,
    pub(super) stream: usize,
    pub(super) offset: u64,
    pub(super) scope: Scope,
}

/// One subscriber.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    pub(super) subscription: u32,
    sites: Vec<String>,
    exclude_sources: Vec<String>,
    pub(super) streams: Vec<Stream>,
    pub(super) heard: Vec<Heard>,
    /// The first delivery of each event.
    pub(super) first: HashMap<String, usize>,
    pub(super) told: Vec<Told>,
    /// From when until when it trusts what each node published.
    pub(super) fresh: BTreeMap<String, Vec<(u64, u64)>>,
    pub(super) closed: Option<u64>,
}

impl Listener {
    /// All subscribers.
    pub(super) fn read(lines: &[Line], found: &mut Findings) -> Vec<Self> {
        let mut listeners = BTreeMap::<u32, Self>::new();
        let mut owner = HashMap::<u32, u32>::new();
        for (order, line) in lines.iter().enumerate() {
            if let What::Opening { subscription, stream, .. } = &line.what {
                owner.insert(*stream, *subscription);
            }
            let number = match &line.what {
                What::Opening { subscription, .. } | What::Closed { subscription } => *subscription,
                What::Opened { stream, .. }
                | What::Heard { stream, .. }
                | What::Missed { stream, .. }
                | What::Acknowledging { stream, .. }
                | What::Rejecting { stream, .. }
                | What::Pinging { stream, .. }
                | What::Fresh { stream, .. } => match owner.get(stream) {
                    Some(subscription) => *subscription,
                    None => continue,
                },
                _ => continue,
            };
            let listener = listeners.entry(number).or_default();
            listener.subscription = number;
            listener.record(order, line, found);
        }
        listeners.into_values().collect()
    }

    /// Whether it asked for this event.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.hears_site(&event.site)
            && (event.source.is_empty() || !self.exclude_sources.contains(&event.source))
    }

    fn hears_site(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|heard| heard == site)
    }

    /// When its first stream had begun, and where.
    pub(super) fn began(&self) -> Option<(u64, &Begin)> {
        let first = self.streams.iter().find(|stream| stream.opened.is_some())?;
        Some((first.opened.as_ref()?.at, &first.from))
    }

    fn record(&mut self, order: usize, line: &Line, found: &mut Findings) {
        match &line.what {
            What::Opening { stream, node, sites, exclude_sources, from, .. } => {
                self.sites.clone_from(sites);
                self.exclude_sources.clone_from(exclude_sources);
                self.streams.push(Stream::new(*stream, node, from));
            }
            What::Closed { .. } => self.closed = Some(line.at),
            What::Opened { journal, start, offset, .. } => {
                let (journal, start) = (journal.clone(), start.clone());
                let opened = Opened { at: line.at, journal, start, offset: *offset };
                self.current(|stream| {
                    stream.newest_offset = opened.offset;
                    stream.opened = Some(opened);
                });
            }
            What::Heard { number, offset, attempt, event, .. } => {
                self.hear(order, line.at, (number, *offset, *attempt), event, found);
            }
            What::Missed { offset, scope, .. } => {
                let (at, stream) = (line.at, self.streams.len().saturating_sub(1));
                found.counts.missed += 1;
                self.told.push(Told { order, at, stream, offset: *offset, scope: scope.clone() });
            }
            What::Acknowledging { through, .. } => {
                self.current(|stream| stream.acknowledged.push((order, line.at, *through)));
            }
            What::Rejecting { offset, .. } => {
                self.current(|stream| stream.rejected.push((order, *offset)));
            }
            What::Pinging { number, .. } => {
                self.current(|stream| {
                    stream.pinged.insert(*number, (order, line.at));
                });
            }
            What::Fresh { number, until, .. } => self.refresh(line.at, *number, until, found),
            _ => {}
        }
    }

    fn current(&mut self, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.last_mut() {
            change(stream);
        }
    }

    fn hear(
        &mut self,
        order: usize,
        at: u64,
        (number, offset, attempt): (&Number, u64, u32),
        event: &Event,
        found: &mut Findings,
    ) {
        found.counts.heard += 1;
        if !self.wants(event) {
            let text = format!("{} heard {event:?}, for which it did not ask", self.subscription);
            found.fault(Verdict::Phantom, text);
        }
        let (subscription, stream) = (self.subscription, self.streams.len().saturating_sub(1));
        self.current(|stream| {
            if !stream.rises(number, offset, attempt) {
                let text = format!(
                    "{subscription} heard {number:?} at offset {offset}, attempt {attempt}, on \
                     stream {}, after {:?} and offset {}",
                    stream.number, stream.newest, stream.newest_offset
                );
                found.fault(Verdict::Reordered, text);
            }
            stream.newest.insert(number.origin.clone(), number.sequence);
            stream.newest_offset = offset;
        });
        let place = self.heard.len();
        if *self.first.entry(event.id.clone()).or_insert(place) != place {
            found.counts.heard_again += 1;
        }
        let (number, event) = (number.clone(), event.clone());
        self.heard.push(Heard { order, at, stream, number, offset, event });
    }

    fn refresh(
        &mut self,
        at: u64,
        number: u64,
        until: &BTreeMap<String, u64>,
        found: &mut Findings,
    ) {
        self.current(|stream| {
            let Some((sent, pinged)) = stream.pinged.get(&number).copied() else { return };
            let before = stream.acknowledged.iter().filter(|(order, ..)| *order < sent);
            if let Some(through) = before.map(|(_, _, through)| *through).max() {
                stream.confirmed.push(Confirmed { pinged, heard: at, through });
            }
        });
        for (node, until) in until.iter().filter(|(_, until)| **until > at) {
            found.counts.fresh += 1;
            self.fresh.entry(node.clone()).or_default().push((at, *until));
        }
    }
}

impl Stream {
    fn new(number: u32, node: &str, from: &Begin) -> Self {
        Self {
            number,
            node: node.to_owned(),
            from: from.clone(),
            opened: None,
            acknowledged: Vec::new(),
            rejected: Vec::new(),
            pinged: BTreeMap::new(),
            confirmed: Vec::new(),
            newest: HashMap::new(),
            newest_offset: 0,
        }
    }

    /// Whether a delivery comes after all before it; what a reject took back comes again.
    fn rises(&self, number: &Number, offset: u64, attempt: u32) -> bool {
        let again = attempt > 1 && self.rejected.iter().any(|(_, from)| *from <= offset);
        let newest = self.newest.get(&number.origin);
        again
            || (newest.is_none_or(|newest| number.sequence > *newest)
                && offset > self.newest_offset)
    }
}
