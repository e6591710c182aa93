//! The answer to a subscription's ping: what remains of this node's leases, for who acknowledged
//! what each of them rests on (P9).

use std::time::Duration;

use evermesh_event::{Offset, Planted};
use evermesh_journal::{Acknowledged, Heard};
use evermesh_proto::v1;

use super::progress::Progress;
use crate::service::Local;

/// What may be passed on now. `acknowledged`: everything through there is. Each lease that is
/// granted makes the subscription count for fences for as long, also if its stream ends before.
pub(crate) fn freshness(
    local: &Local,
    progress: &Progress,
    acknowledged: Offset,
    ping: v1::SubscribePing,
) -> v1::Freshness {
    let (journal, lease) = (&local.parts.journal, local.parts.lease);
    let now = local.parts.clock.boot();
    let heard = journal.leases().snapshot();
    let through = progress.mark().through();
    // This node itself: it is there, and the application heard all that it had.
    let own = if progress.heard_replaced(journal.origin()) { lease } else { Duration::ZERO };
    let mut leases = vec![(local.parts.node.to_string(), own)];
    let left = journal.left_members();
    for member in journal.cursors().snapshot() {
        let settled = left.get(member.label.as_str());
        if settled.is_some_and(|settled| settled.is_some_and(|at| at <= acknowledged)) {
            // Nothing comes from there any more, and what came is acknowledged.
            continue;
        }
        let heard = heard.get(&member.label);
        let done = |heard: &Heard| Acknowledged {
            of_member: through.get(&heard.echo.origin),
            here: acknowledged,
        };
        let mut remains = heard.map_or(Duration::ZERO, |heard| heard.remains(done(heard), now));
        if let (Some(heard), true) = (heard, journal.planted().is(Planted::LeaseUnacknowledged)) {
            remains = heard.until.saturating_sub(now);
        }
        if journal.planted().is(Planted::LeaseInFull) && !remains.is_zero() {
            remains = lease;
        }
        let away = heard.is_some_and(|heard| {
            let stored = journal.durable_through(&heard.echo.origin);
            heard.spares(done(heard), stored)
        });
        if away {
            // It ended in order, and everything that it ever said was applied.
            remains = lease;
        }
        if heard.is_some_and(|heard| !progress.heard_replaced(&heard.echo.origin)) {
            remains = Duration::ZERO;
        }
        leases.push((member.label, remains));
    }
    let current = progress.is_current();
    let grant = |(node, remains): (String, Duration)| {
        let remains = if current { remains } else { Duration::ZERO };
        if remains > Duration::ZERO {
            progress.mark().leased(now + remains + local.margin());
        }
        v1::MemberLease { node, remains: remains.try_into().ok() }
    };
    v1::Freshness { ping_number: ping.number, leases: leases.into_iter().map(grant).collect() }
}
