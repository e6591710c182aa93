//! The node's answer to a publisher, checked: one outcome for each event, in order.

use evermesh_event::FenceToken;
use evermesh_proto::v1;

use crate::{Address, Error};

/// What became of the events of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// One for each event, in its order.
    pub outcomes: Vec<Outcome>,
    /// What is assured of every event that was taken.
    pub assured: v1::Assurance,
    /// For REPLICATED: each member, and how it was counted.
    pub members: Vec<v1::MemberState>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was taken.
    Taken(Taken),
    /// It was refused; the others do not suffer from it.
    Refused(v1::Refused),
}

/// An event that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its id.
    pub id: String,
    /// Names it to a fence; says who numbered it and with which sequence.
    pub fence_token: FenceToken,
    /// The node had taken this id before, perhaps in an earlier try of the same call; there is one
    /// event.
    pub duplicate: bool,
}

/// Checks an answer to so many events.
pub(super) fn read(
    address: &Address,
    answer: v1::PublishResponse,
    count: usize,
) -> Result<Published, Error> {
    let unexpected = |what: String| Error::Unexpected { address: address.clone(), what };
    if answer.results.len() != count {
        let what = format!("{} results for {count} events", answer.results.len());
        return Err(unexpected(what));
    }
    let assured = answer.assured();
    let outcome = |result: v1::PublishResult| match result.outcome {
        Some(v1::publish_result::Outcome::Taken(taken)) => {
            let token = taken.fence_token.unwrap_or_default();
            let fence_token =
                FenceToken::from_proto(&token).map_err(|error| unexpected(error.to_string()))?;
            Ok(Outcome::Taken(Taken { id: taken.id, fence_token, duplicate: taken.duplicate }))
        }
        Some(v1::publish_result::Outcome::Refused(refused)) => Ok(Outcome::Refused(refused)),
        None => Err(unexpected("a result without an outcome".to_owned())),
    };
    let outcomes = answer.results.into_iter().map(outcome).collect::<Result<_, _>>()?;
    Ok(Published { outcomes, assured, members: answer.members })
}
