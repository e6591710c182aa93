//! The status as one JSON object: names as in the protocol, positions as `3:17`.

use std::time::Duration;

use evermesh_event::{Offset, Sequence};
use evermesh_proto::v1;
use serde_json::{Value, json};

/// The whole status.
pub(super) fn object(status: &v1::GetStatusResponse) -> Value {
    json!({
        "node": status.node,
        "version": status.version,
        "process": status.process,
        "started": status.started.as_ref().and_then(time),
        "journal": status.journal.as_ref().map(journal),
        "members": status.members.iter().map(member).collect::<Vec<_>>(),
        "subscriptions": status.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        "connections": status.connections.as_ref().map(|connections| json!({
            "shared_accepted": connections.shared_accepted,
            "local_accepted": connections.local_accepted,
            "open": connections.open,
            "dialled": connections.dialled,
            "refused": connections.refused,
        })),
        "certificate_ends": status.certificate_ends.as_ref().and_then(time),
    })
}

fn journal(journal: &v1::JournalStatus) -> Value {
    let frontier = journal.frontier.iter().map(|position| {
        json!({
            "origin": position.origin.as_ref().map(origin),
            "sequence": sequence(position.sequence),
        })
    });
    json!({
        "origin": journal.origin.as_ref().map(origin),
        "epoch": journal.epoch,
        "head": offset(journal.head),
        "durable": offset(journal.durable),
        "own_head": sequence(journal.own_head),
        "own_durable": sequence(journal.own_durable),
        "disk_bytes": journal.disk_bytes,
        "syncs": journal.syncs,
        "events_published": journal.events_published,
        "events_received": journal.events_received,
        "window_ids": journal.window_ids,
        "window_age_max_seconds": journal.window_age_max.as_ref().and_then(seconds),
        "frontier": frontier.collect::<Vec<_>>(),
        "in_memory": journal.in_memory,
    })
}

fn member(member: &v1::MemberStatus) -> Value {
    json!({
        "node": member.node,
        "address": member.address,
        "pulling": member.pulling,
        "feeding": member.feeding,
        "suspended": member.suspended,
        "left": member.left,
        "last_ping_seconds": member.last_ping.as_ref().and_then(seconds),
        "stored": sequence(member.stored),
        "trouble": member.trouble,
        "in_memory": member.in_memory,
    })
}

fn subscription(subscription: &v1::SubscriptionStatus) -> Value {
    json!({
        "identity": subscription.identity,
        "sites": subscription.sites,
        "delivered": offset(subscription.delivered),
        "acknowledged": offset(subscription.acknowledged),
        "unacknowledged": subscription.unacknowledged,
    })
}

fn origin(origin: &v1::Origin) -> Value {
    json!({ "node": origin.node, "journal": hex(&origin.journal) })
}

/// Bytes as people compare them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offset(value: u64) -> String {
    Offset::from_u64(value).to_string()
}

fn sequence(value: u64) -> String {
    Sequence::from_u64(value).to_string()
}

fn seconds(duration: &prost_types::Duration) -> Option<f64> {
    Duration::try_from(*duration).ok().map(|duration| duration.as_secs_f64())
}

fn time(time: &prost_types::Timestamp) -> Option<String> {
    let time = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
    Some(time.to_string())
}
