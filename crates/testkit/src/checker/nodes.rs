//! The starts of each node: which journal, and how each start ended.

use std::collections::BTreeMap;

use super::history::{End, Line, What};

/// One start of a node.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) journal: String,
    pub(super) start: String,
    pub(super) ended: Option<(u64, End)>,
    began: u64,
    lease: u64,
    forgets_ids: bool,
}

/// The starts of each node, in order.
#[derive(Debug, Default)]
pub(super) struct Nodes(BTreeMap<String, Vec<Start>>);

impl Nodes {
    pub(super) fn read(lines: &[Line]) -> Self {
        let mut nodes = Self::default();
        for line in lines {
            match &line.what {
                What::Started { node, journal, start, lease, forgets_ids, .. } => {
                    let (journal, start, began) = (journal.clone(), start.clone(), line.at);
                    let (lease, forgets_ids) = (*lease, *forgets_ids);
                    let start = Start { journal, start, ended: None, began, lease, forgets_ids };
                    nodes.0.entry(node.clone()).or_default().push(start);
                }
                What::Stopped { node, how } => {
                    let last = nodes.0.get_mut(node).and_then(|starts| starts.last_mut());
                    if let Some(last) = last.filter(|last| last.ended.is_none()) {
                        last.ended = Some((line.at, *how));
                    }
                }
                _ => {}
            }
        }
        nodes
    }

    pub(super) fn starts(&self, node: &str) -> &[Start] {
        self.0.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// When a start of this node began.
    pub(super) fn began(&self, node: &str, start: &str) -> u64 {
        let known = self.starts(node).iter().find(|known| known.start == start);
        known.map_or(0, |known| known.began)
    }

    /// Whether a start of this node ended without closing its journal before a time.
    pub(super) fn crashed_before(&self, node: &str, at: u64) -> bool {
        self.starts(node)
            .iter()
            .any(|start| start.ended.is_some_and(|(ended, how)| how != End::Goodbye && ended <= at))
    }

    /// A node cannot have waited for the lease of anybody yet, at a time, in its start then. An
    /// answer that is heard as it begins may be of the start before; so may one to what was asked
    /// before that, for a parted network may have held it for any time.
    pub(super) fn is_hasty(&self, node: &str, asked: u64, at: u64) -> bool {
        let starts = self.starts(node);
        let last = starts.iter().rposition(|start| start.began <= at);
        last.and_then(|last| starts.get(last).map(|start| (last, start))).is_some_and(
            |(former, last)| {
                let on_its_way = if former > 0 { ANSWER_ON_ITS_WAY_MS } else { 0 };
                (former == 0 || asked >= last.began)
                    && (last.began + on_its_way..last.began + last.lease).contains(&at)
            },
        )
    }

    /// Whether a start ended before a time that may have forgotten ids.
    pub(super) fn forgot_before(&self, node: &str, at: u64) -> bool {
        let ended = |start: &Start| start.ended.is_some_and(|(ended, _)| ended <= at);
        self.starts(node).iter().any(|start| start.forgets_ids && ended(start))
    }

    /// Whether a start ended by closing its journal.
    pub(super) fn closed(&self, node: &str, start: &str) -> bool {
        let known = self.starts(node).iter().find(|known| known.start == start);
        known.is_some_and(|known| matches!(known.ended, Some((_, End::Goodbye))))
    }

    /// Whether what a subscriber was known to have acknowledged at a time must have been stored
    /// when a later start began: the start that heard it closed its journal, or lived on for long
    /// enough.
    pub(super) fn stored(&self, node: &str, start: &str, confirmed: u64) -> bool {
        let ended = self.starts(node).iter().find(|known| known.start == start);
        match ended.and_then(|known| known.ended) {
            None | Some((_, End::Goodbye)) => true,
            Some((ended, _)) => confirmed + STORED_AFTER_MS <= ended,
        }
    }
}

/// How long an answer may be on its way from a node to who asked, who stands beside it.
const ANSWER_ON_ITS_WAY_MS: u64 = 100;

/// How long a node may take to store the cursor of a durable name: it does so in the next turn but
/// one, and a simulated disk may take 2 s for each.
const STORED_AFTER_MS: u64 = 4500;
