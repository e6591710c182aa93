//! Who counts for `REPLICATED`: a pure judgement over what is known of each member.

use evermesh_proto::v1::MemberStanding;

use crate::position::Sequence;

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name; its address where its name was never heard.
    pub label: String,
    /// Through which of this node's sequences it said to hold everything on its disk.
    pub stored: Sequence,
    /// Whether it counts.
    pub presence: Presence,
}

/// Whether a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It pinged within its lease, or was not heard yet in this start: it counts.
    Expected,
    /// It did not ping for longer than its lease: it knows by its own clock that it may be stale.
    Suspended,
    /// It left, or was forgotten.
    Left,
}

/// A judgement, with who was counted and who was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Every member that counts, or enough of them, holds it.
    pub done: bool,
    /// Each member's standing.
    pub members: Vec<(String, MemberStanding)>,
}

/// Is everything through `needed` on the disks of all members that count? `replicas`: how many
/// suffice; 0: all.
#[must_use]
pub fn replicated(needed: Sequence, members: &[Replica], replicas: u32) -> Judgement {
    let members: Vec<_> = members
        .iter()
        .map(|member| {
            let standing = match member.presence {
                _ if member.stored >= needed => MemberStanding::Stored,
                Presence::Expected => MemberStanding::Pending,
                Presence::Suspended => MemberStanding::Suspended,
                Presence::Left => MemberStanding::Left,
            };
            (member.label.clone(), standing)
        })
        .collect();
    let count = |wanted| members.iter().filter(|(_, standing)| *standing == wanted).count();
    let done = if replicas == 0 {
        count(MemberStanding::Pending) == 0
    } else {
        u32::try_from(count(MemberStanding::Stored)).is_ok_and(|stored| stored >= replicas)
    };
    Judgement { done, members }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(label: &str, stored: u64, presence: Presence) -> Replica {
        Replica { label: label.into(), stored: Sequence::from_u64(stored), presence }
    }

    #[test]
    fn a_suspended_member_is_named_and_not_waited_for() {
        let needed = Sequence::from_u64(5);
        let members = [member("b", 5, Presence::Expected), member("c", 4, Presence::Suspended)];
        let judgement = replicated(needed, &members, 0);
        assert!(judgement.done);
        let standings: Vec<_> = judgement.members.into_iter().map(|(_, s)| s).collect();
        assert_eq!(standings, [MemberStanding::Stored, MemberStanding::Suspended]);
        assert!(!replicated(needed, &members, 2).done, "two were asked for");
        assert!(replicated(needed, &members, 1).done);
    }

    #[test]
    fn an_expected_member_is_waited_for() {
        let members = [member("b", 4, Presence::Expected)];
        assert!(!replicated(Sequence::from_u64(5), &members, 0).done);
        assert!(replicated(Sequence::from_u64(4), &members, 0).done);
        assert!(replicated(Sequence::from_u64(4), &[], 0).done, "a node alone");
    }
}
