//! Members that are gone: who is forgotten because nobody hears it, when one that left counts no
//! more, and when what nobody has of it is told as missed.
//!
//! A member that left is waited for as long as somebody there may trust its cache. What it
//! published and its last word shows to be lacking here may still come from another member, and is
//! waited for a moment.

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
    for departed in shared.parts.journal.departed() {
        settle(shared, &departed).await;
        let name = &departed.node;
        let cursors = shared.parts.journal.cursors();
        if departed.since > REMEMBERED.max(shared.parts.forget_after * NAMED_TIMES) {
            shared.parts.journal.drop_departed(name);
            cursors.forget(name.as_str());
        } else if departed.since > shared.parts.forget_after * NAMED_TIMES {
            cursors.forget(name.as_str());
        } else if counts_no_more(shared, name, now) {
            cursors.presence(name.as_str(), Presence::Left);
        }
    }
}

/// Whoever trusts its cache there knows by now that it cannot.
fn counts_no_more(shared: &Shared, name: &NodeName, now: Duration) -> bool {
    let lease = shared.parts.lease;
    let heard = shared.members.left_since(name).unwrap_or(now);
    let planted = shared.parts.journal.planted().is(Planted::WaitForDeparted);
    !planted && now.saturating_sub(heard) > lease + margin(lease)
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
    let waits = told_its_last && since < shared.parts.lease * GRACE_LEASES;
    if waits && journal.may_lack_of(&departed.node) {
        return;
    }
    if let Err(error) = journal.depart(&departed.node).await {
        tracing::warn!(
            member = %departed.node, %error,
            "cannot store what may be missed of it; tries again"
        );
    }
}
