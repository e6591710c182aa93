//! Durable names, for operators: who has one, how far it is, and forgetting it.

use std::collections::BTreeSet;

use evermesh_proto::v1;
use evermesh_telemetry::Refusal;
use tonic::{Code, Status};

use super::Admin;

impl Admin {
    /// Every durable name.
    pub(super) fn names(&self) -> Vec<v1::DurableName> {
        let connected = self.connected_names();
        let name = |(name, place): (String, evermesh_journal::Name)| v1::DurableName {
            connected: connected.contains(&name),
            name,
            identity: place.identity.to_string(),
            sites: place.sites,
            acknowledged: place.acknowledged.as_u64(),
        };
        self.journal.names().into_iter().map(name).collect()
    }

    /// Forgets a name that no stream uses.
    pub(super) fn forget(&self, name: &str) -> Result<(), Status> {
        if self.connected_names().contains(name) {
            let message = format!(
                "the durable name `{name}` is in use; end the application that subscribes under it \
                 first"
            );
            return Err(self.refuse(Refusal::new(
                Code::FailedPrecondition,
                "NAME_IN_USE",
                message,
            )));
        }
        if self.journal.forget_name(name) {
            return Ok(());
        }
        let message = format!("nobody knows the durable name `{name}` here");
        Err(self.refuse(Refusal::new(Code::NotFound, "NAME_UNKNOWN", message)))
    }

    fn connected_names(&self) -> BTreeSet<String> {
        let open = self.local.subscriptions().into_iter();
        open.map(|subscription| subscription.durable_name).filter(|n| !n.is_empty()).collect()
    }
}
