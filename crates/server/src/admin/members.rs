//! Members that go, for operators: this node by itself, another that is gone.

use std::time::Duration;

use evermesh_event::NodeName;
use evermesh_peer::{NotForgotten, Peers};
use evermesh_proto::v1;
use evermesh_telemetry::Refusal;
use tonic::{Code, Status};

use super::Admin;

const WITHIN_DEFAULT: Duration = Duration::from_secs(30);
/// Longer, and whoever asked has gone home.
const WITHIN_MAX: Duration = Duration::from_secs(60 * 60);

impl Admin {
    /// Waits until others hold what this node published, and lets it end for good.
    pub(super) async fn leave(
        &self,
        request: v1::LeaveRequest,
    ) -> Result<v1::LeaveResponse, Status> {
        let within = match request.within {
            None => WITHIN_DEFAULT,
            Some(within) => Duration::try_from(within)
                .ok()
                .filter(|within| *within <= WITHIN_MAX)
                .ok_or_else(|| {
                    let message = "within: must be a duration of at most 1 h";
                    self.refuse(Refusal::new(Code::InvalidArgument, "WITHIN_INVALID", message))
                })?,
        };
        let peers = self.peers()?;
        let held = tokio::time::timeout(within, peers.held_by_all()).await;
        let held = held.unwrap_or_else(|_| peers.held());
        if !held.is_enough() && !request.force {
            let lacking = [held.pending.as_slice(), held.lacks.as_slice()].concat().join(", ");
            let message = format!(
                "{lacking} did not take everything that this node published within {within:?}; \
                 wait longer, start or forget them, or leave by force: what nobody took is lost, \
                 and told as missed"
            );
            let refusal = Refusal::new(Code::FailedPrecondition, "LEAVE_PENDING", message);
            return Err(self.refuse(refusal));
        }
        self.journal.leave().await.map_err(|error| {
            let message = "this node's disk failed; it cannot leave in order";
            let refusal = Refusal::new(Code::Unavailable, "JOURNAL_FAILED", message);
            self.refuse(refusal.because(error))
        })?;
        tracing::info!(holds = ?held.holds, lacks = ?held.lacks, "leaves the mesh for good");
        self.leaves.cancel();
        let lacks = [held.pending, held.lacks].concat();
        Ok(v1::LeaveResponse { holds: held.holds, lacks })
    }

    /// Forgets a member that is gone.
    pub(super) fn forget_member(&self, node: &str) -> Result<(), Status> {
        let unknown = || {
            let known: Vec<_> =
                self.journal.members().into_iter().map(|(name, _)| name.to_string()).collect();
            let message = format!(
                "nobody knows a member `{node}` here; known are: {}. An address that is configured \
                 and where nobody was ever found is removed from [mesh] peers instead",
                known.join(", ")
            );
            Refusal::new(Code::NotFound, "MEMBER_UNKNOWN", message)
        };
        let precondition =
            |reason, message: String| Refusal::new(Code::FailedPrecondition, reason, message);
        let name = NodeName::new(node).map_err(|_| self.refuse(unknown()))?;
        self.peers()?.forget(&name).map_err(|why| {
            self.refuse(match why {
                NotForgotten::Unknown => unknown(),
                NotForgotten::Itself => {
                    let message = format!("{name} is this node; use `evermesh leave`");
                    Refusal::new(Code::InvalidArgument, "SAME_NODE", message)
                }
                NotForgotten::There => {
                    let message = format!(
                        "{name} is there, and would come back at once; stop it first, or let it \
                         leave by itself: `evermesh leave` there"
                    );
                    precondition("MEMBER_THERE", message)
                }
                NotForgotten::Left => {
                    precondition("MEMBER_LEFT", format!("{name} left already, or was forgotten"))
                }
            })
        })
    }

    fn peers(&self) -> Result<&Peers, Status> {
        self.peers.as_ref().ok_or_else(|| {
            let message = "this node has no [tls] and is in no mesh; stop it instead";
            self.refuse(Refusal::new(Code::FailedPrecondition, "NO_MESH", message))
        })
    }
}
