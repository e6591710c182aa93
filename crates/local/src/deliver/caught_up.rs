//! When a subscription has caught up: each member echoed a ping that was sent after the stream had
//! opened, and everything through the heads that they named was delivered.
//!
//! A member that does not echo within 5 s is named as absent. So is one that fell silent before
//! what it had named arrived here.

use std::collections::BTreeMap;
use std::time::Duration;

use evermesh_event::{Offset, Origin, Sequence};
use evermesh_journal::{Heard, Journal};
use evermesh_proto::v1;

/// How long a member may take to echo.
pub(crate) const ECHO_DEADLINE: Duration = Duration::from_secs(5);

/// A stream that has not caught up yet.
#[derive(Debug)]
pub(crate) struct CatchingUp {
    /// When the stream opened, by the clock that pings are sent by.
    opened: Duration,
    /// What was in the journal then.
    here: Offset,
    /// What each member named.
    heads: BTreeMap<String, (Origin, Sequence)>,
    /// Everything that was named is in the journal through here.
    target: Option<Offset>,
}

impl CatchingUp {
    /// Asks every member for an echo.
    pub(crate) fn new(journal: &Journal, now: Duration, here: Offset) -> Self {
        journal.leases().ask();
        Self { opened: now, here, heads: BTreeMap::new(), target: None }
    }

    /// Members will be waited for until then.
    pub(crate) fn deadline(&self) -> Duration {
        self.opened + ECHO_DEADLINE
    }

    /// Whether it has caught up, with everything through `at` delivered.
    pub(crate) fn look(
        &mut self,
        journal: &Journal,
        now: Duration,
        at: Offset,
    ) -> Option<v1::CaughtUp> {
        if at < self.here {
            return None;
        }
        let heard = journal.leases().snapshot();
        let frontier = journal.frontier();
        let late = now >= self.deadline();
        let (mut members, mut absent_members) = (Vec::new(), Vec::new());
        let left = journal.left_members();
        for member in journal.cursors().snapshot() {
            if left.contains_key(&member.label) {
                continue;
            }
            let echo = heard.get(&member.label).filter(|heard| heard.echo.pinged >= self.opened);
            let head = echo.map(|Heard { echo, .. }| (echo.origin.clone(), echo.durable_head));
            if let Some(head) = head {
                self.heads.entry(member.label.clone()).or_insert(head);
            }
            let silent = heard.get(&member.label).is_none_or(|heard| heard.until <= now);
            match self.heads.get(&member.label) {
                Some((origin, head)) if frontier.get(origin) >= *head => {
                    members.push(member.label);
                }
                Some(_) | None if late && silent => absent_members.push(member.label),
                Some(_) | None => return None,
            }
        }
        let target = *self.target.get_or_insert_with(|| journal.head());
        (at >= target).then_some(v1::CaughtUp { offset: at.as_u64(), members, absent_members })
    }
}
