//! Who counts for `REPLICATED` and `APPLIED`: a pure judgement over what is known of each member.

use evermesh_proto::v1::MemberStanding;

use crate::position::Sequence;

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name; its address where its name was never heard.
    pub label: String,
    /// Through which of this node's sequences it said to hold everything on its disk; in its
    /// memory, if it keeps none.
    pub stored: Sequence,
    /// It keeps no disk: it never counts as stored.
    pub in_memory: bool,
    /// The sites whose subscriptions there have not acknowledged all of that, and through where
    /// they have. The empty site: every one.
    pub lagging: Vec<(String, Sequence)>,
    /// Whether it counts.
    pub presence: Presence,
}

impl Replica {
    /// Through which of this node's sequences every subscription of a site there has acknowledged.
    #[must_use]
    pub fn applied(&self, site: &str) -> Sequence {
        let concerns = |lag: &&(String, Sequence)| lag.0.is_empty() || lag.0 == site;
        let lag = self.lagging.iter().filter(concerns).map(|(_, through)| *through).min();
        lag.map_or(self.stored, |through| through.min(self.stored))
    }
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
/// suffice; 0: all. A member without a disk is named, neither counted nor waited for.
#[must_use]
pub fn replicated(needed: Sequence, members: &[Replica], replicas: u32) -> Judgement {
    let of = |member: &Replica| {
        let there = member.stored >= needed && !member.in_memory;
        let standing = match standing(member, there, MemberStanding::Stored) {
            MemberStanding::Pending if member.in_memory => MemberStanding::InMemory,
            standing => standing,
        };
        (member.label.clone(), standing)
    };
    let members: Vec<_> = members.iter().map(of).collect();
    let count = |wanted| members.iter().filter(|(_, standing)| *standing == wanted).count();
    let done = if replicas == 0 {
        count(MemberStanding::Pending) == 0
    } else {
        u32::try_from(count(MemberStanding::Stored)).is_ok_and(|stored| stored >= replicas)
    };
    Judgement { done, members }
}

/// Did every subscription of each site acknowledge everything through its sequence, on all members
/// that count? `needed`: site and sequence.
#[must_use]
pub fn applied(needed: &[(&str, Sequence)], members: &[Replica]) -> Judgement {
    let of = |member: &Replica| {
        let there = needed.iter().all(|(site, sequence)| member.applied(site) >= *sequence);
        (member.label.clone(), standing(member, there, MemberStanding::Applied))
    };
    let members: Vec<_> = members.iter().map(of).collect();
    let done = members.iter().all(|(_, standing)| *standing != MemberStanding::Pending);
    Judgement { done, members }
}

/// A member that has what is asked for is counted whatever else is known of it.
const fn standing(member: &Replica, there: bool, named: MemberStanding) -> MemberStanding {
    match member.presence {
        _ if there => named,
        Presence::Expected => MemberStanding::Pending,
        Presence::Suspended => MemberStanding::Suspended,
        Presence::Left => MemberStanding::Left,
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn member(label: &str, stored: u64, presence: Presence) -> Replica {
        let (stored, lagging) = (Sequence::from_u64(stored), Vec::new());
        Replica { label: label.into(), stored, in_memory: false, lagging, presence }
    }

    #[test]
    fn p4_a_member_without_a_disk_applies_and_never_counts_as_stored() {
        let needed = Sequence::from_u64(5);
        let mut memory = member("m", 5, Presence::Expected);
        memory.in_memory = true;
        let disk = member("b", 5, Presence::Expected);
        let members = [disk, memory.clone()];
        let judgement = replicated(needed, &members, 0);
        assert!(judgement.done, "it is not waited for");
        assert_eq!(judgement.members[1], ("m".to_owned(), MemberStanding::InMemory));
        assert!(replicated(needed, &members, 1).done);
        assert!(!replicated(needed, &members, 2).done, "nor counted");
        assert!(applied(&[("shop", needed)], &members).done);
        memory.lagging = vec![("shop".to_owned(), Sequence::from_u64(4))];
        assert!(!applied(&[("shop", needed)], &[memory.clone()]).done, "it is waited for there");
        memory.presence = Presence::Suspended;
        let judgement = replicated(needed, &[memory], 0);
        assert_eq!(judgement.members[0].1, MemberStanding::Suspended);
    }

    #[test]
    fn a_site_that_lags_holds_back_no_other() {
        let at = Sequence::from_u64;
        let mut lags = member("b", 9, Presence::Expected);
        lags.lagging = vec![("intranet".to_owned(), at(4))];
        assert_eq!((lags.applied("intranet"), lags.applied("shop")), (at(4), at(9)));
        assert!(applied(&[("shop", at(9))], &[lags.clone()]).done);
        let judgement = applied(&[("shop", at(9)), ("intranet", at(5))], &[lags.clone()]);
        assert_eq!(judgement.members, [("b".to_owned(), MemberStanding::Pending)]);
        lags.lagging.push((String::new(), at(2)));
        assert_eq!(lags.applied("shop"), at(2), "a subscription to every site holds back all");
        lags.presence = Presence::Suspended;
        let judgement = applied(&[("shop", at(9))], &[lags]);
        assert_eq!(judgement.members, [("b".to_owned(), MemberStanding::Suspended)]);
        assert!(judgement.done, "it knows by its own clock that it may be stale");
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
