//! One member, as one node tells another.

use bytes::Bytes;
use evermesh_event::{JournalId, NodeName, Sequence};
use evermesh_proto::v1;

/// Ended journals that are told of one member: a receiver that was away for more of them hears of
/// the older ones that they may be missed.
pub(super) const ENDED_MAX: usize = 4;
/// Journals under which nodes of one name are said to be there: one, and those of who bears the
/// same name by mistake.
const PRESENT_MAX: usize = 4;
/// The longest address that is kept: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 512;

/// What is told of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Where it is dialled; empty: not known.
    pub address: String,
    /// How often it came back after it had left.
    pub incarnation: u64,
    /// Nobody waits for it.
    pub left: bool,
    /// Who says this did not hear it for long.
    pub away: bool,
    /// Its journals that ended for good, the newest last, and what each numbered last.
    pub ended: Vec<(JournalId, Sequence)>,
    /// Under which who says this was linked with it last; and others under which a node was there
    /// at the same time, of which something may be missed.
    pub present: Vec<JournalId>,
}

impl Listed {
    /// For the wire.
    #[must_use]
    pub fn to_proto(&self, name: &NodeName) -> v1::ListedMember {
        let end = |(journal, head): &(JournalId, Sequence)| v1::JournalEnd {
            journal: Bytes::copy_from_slice(journal.as_bytes()),
            head: head.as_u64(),
        };
        v1::ListedMember {
            node: name.to_string(),
            address: self.address.clone(),
            incarnation: self.incarnation,
            left: self.left,
            away: self.away,
            ended: self.ended.iter().map(end).collect(),
            present: self.present.iter().map(|of| Bytes::copy_from_slice(of.as_bytes())).collect(),
        }
    }

    /// From the wire; `None`: it names nobody. What else cannot be read is left out.
    #[must_use]
    pub fn from_proto(listed: &v1::ListedMember) -> Option<(NodeName, Self)> {
        let name = NodeName::new(&listed.node).ok()?;
        let fits = listed.address.len() <= ADDRESS_BYTES_MAX;
        let end = |end: &v1::JournalEnd| {
            Some((JournalId::from_slice(&end.journal).ok()?, Sequence::from_u64(end.head)))
        };
        let present = listed.present.iter().filter_map(|of| JournalId::from_slice(of).ok());
        let listed = Self {
            address: if fits { listed.address.clone() } else { String::new() },
            incarnation: listed.incarnation,
            left: listed.left,
            away: listed.away,
            ended: listed.ended.iter().filter_map(end).take(ENDED_MAX).collect(),
            present: present.take(PRESENT_MAX).collect(),
        };
        Some((name, listed))
    }
}
