//! Members that are gone: who is forgotten because nobody hears it, when one that left counts no
//! more, and when what nobody has of it is told as missed; and so of one of two that bore a name.
//!
//! A member that left is waited for as long as somebody there may trust its cache. What it
//! published and its last word shows to be lacking here may still come from another member, and is
//! waited for a moment.

use std::collections::BTreeSet;
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{NodeName, Planted};
use evermesh_journal::{Departed, margin};

use crate::peers::Shared;

/// How many leases what is lacking of a member that left is waited for.
const GRACE_LEASES: u32 = 2;
/// A member that left is named to operators and fences for so many times what it takes to be
/// forgotten; as long its events are told of.
const NAMED_TIMES: u32 = 2;
/// And remembered for so long: it is known that it left, should somebody speak of it.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Looks once at everybody.
pub(crate) async fn look(shared: &Shared) {
    let now = shared.parts.clock.boot();
    for name in shared.members.unheard(now, shared.parts.forget_after) {
        tracing::warn!(
            member = %name,
            "was not heard by anybody for {:?}: it is forgotten; nobody waits for it any more",
            shared.parts.forget_after
        );
        shared.parts.journal.forget_member(&name);
    }
    shared.members.reconcile(now);
    let beside: BTreeSet<_> = shared.parts.journal.not_alone().into_iter().collect();
    for name in beside.into_iter().chain(shared.members.doubled()).collect::<BTreeSet<_>>() {
        let there = shared.members.there(&name, now);
        if there.is_empty() {
            // This node may be the one that is parted.
            continue;
        }
        if let Err(error) = shared.parts.journal.beside(&name, &there).await {
            tracing::warn!(
                member = %name, %error,
                "cannot store what may be missed of another that bore its name; tries again"
            );
        }
    }
    for departed in shared.parts.journal.departed() {
        settle(shared, &departed).await;
        let name = &departed.node;
        let cursors = shared.parts.journal.cursors();
        let trusted = is_trusted(shared, name, now);
        match regard(departed.since, shared.parts.forget_after, trusted) {
            Regard::Counts => {}
            Regard::Named => cursors.presence(name.as_str(), Presence::Left),
            Regard::Unnamed => cursors.forget(name.as_str()),
            Regard::Dropped => {
                shared.parts.journal.drop_departed(name);
                cursors.forget(name.as_str());
            }
        }
    }
}

/// How a member that left is regarded, the longer it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Regard {
    /// It is waited for as before.
    Counts,
    /// Fences name it, and nobody waits for it.
    Named,
    /// Nobody is told that there was one.
    Unnamed,
    /// Nor is it known, once nothing of it is held.
    Dropped,
}

fn regard(since: Duration, forget_after: Duration, trusted: bool) -> Regard {
    let named = forget_after * NAMED_TIMES;
    if since > REMEMBERED.max(named) {
        Regard::Dropped
    } else if since > named {
        Regard::Unnamed
    } else if trusted {
        Regard::Counts
    } else {
        Regard::Named
    }
}

/// Somebody there may trust its cache still, by a lease of this node.
fn is_trusted(shared: &Shared, name: &NodeName, now: Duration) -> bool {
    let lease = shared.parts.lease;
    let heard = shared.members.left_since(name).unwrap_or(now);
    let planted = shared.parts.journal.planted().is(Planted::WaitForDeparted);
    planted || now.saturating_sub(heard) <= lease + margin(lease)
}

/// What is lacking of it is waited for: it said its last word, so others may hold what there was.
fn is_awaited(told_its_last: bool, since: Duration, lease: Duration) -> bool {
    told_its_last && since < lease * GRACE_LEASES
}

async fn settle(shared: &Shared, departed: &Departed) {
    let journal = &shared.parts.journal;
    if departed.settled {
        return;
    }
    let known = journal.member(&departed.node);
    let told_its_last = known.is_some_and(|known| !known.ended.is_empty());
    // Since this start: before that nobody could be asked.
    let now = shared.parts.clock.boot();
    let since = now.saturating_sub(shared.members.left_since(&departed.node).unwrap_or(now));
    let awaited = is_awaited(told_its_last, since, shared.parts.lease);
    if awaited && journal.may_lack_of(&departed.node) {
        return;
    }
    if let Err(error) = journal.depart(&departed.node).await {
        tracing::warn!(
            member = %departed.node, %error,
            "cannot store what may be missed of it; tries again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_left_is_named_for_twice_what_it_takes_to_be_forgotten_and_known_for_30_days() {
        assert_eq!(regard(SECOND, DAY, true), Regard::Counts);
        assert_eq!(regard(SECOND, DAY, false), Regard::Named);
        assert_eq!(regard(DAY * 2, DAY, false), Regard::Named);
        assert_eq!(regard(DAY * 2 + SECOND, DAY, false), Regard::Unnamed);
        assert_eq!(regard(DAY * 30, DAY, false), Regard::Unnamed);
        assert_eq!(regard(DAY * 30 + SECOND, DAY, false), Regard::Dropped);
        // Where it takes long to be forgotten, it is not dropped while it is named.
        assert_eq!(regard(DAY * 31, DAY * 20, false), Regard::Named);
        assert_eq!(regard(DAY * 40 + SECOND, DAY * 20, false), Regard::Dropped);
    }

    #[test]
    fn it_only_goes_on() {
        for forget_after in [60 * SECOND, DAY, DAY * 20] {
            let regards = (0..2000).map(|hours| {
                let since = Duration::from_secs(hours * 60 * 60);
                regard(since, forget_after, since <= SECOND)
            });
            assert!(regards.is_sorted());
        }
    }

    #[test]
    fn what_is_lacking_is_awaited_for_a_moment_if_a_last_word_says_so() {
        assert!(is_awaited(true, SECOND * 2 - Duration::from_millis(1), SECOND));
        assert!(!is_awaited(true, SECOND * 2, SECOND));
        assert!(!is_awaited(false, Duration::ZERO, SECOND), "nobody knows what there was");
    }
}
