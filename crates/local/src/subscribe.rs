//! Opens a subscription: what it hears, where it begins, and whether it may.

use std::time::Duration;

use evermesh_event::{Filter, Offset, ResumeToken, limits};
use evermesh_identity::{Act, Identity, Sites};
use evermesh_journal::{Missed, Resume};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message;
use evermesh_telemetry::Refusal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::deliver::Deliver;
use crate::errors::{denied, draining, field, invalid, not_yet};
use crate::service::Local;
use crate::subscriptions::{SUBSCRIPTIONS_MAX, SubscriptionView};

/// How long the first message may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Messages between the loop and the connection: one is sent while the next is made.
const ANSWERS_MAX: usize = 2;

/// Where a subscription begins.
pub(crate) struct Begin {
    pub(crate) after: Offset,
    /// What the application is told first.
    pub(crate) missed: Option<Missed>,
}

/// Answers with a stream at once; a task of its own waits for `open` and then delivers.
pub(crate) fn subscribe(
    local: &Local,
    who: &Identity,
    said: Streaming<v1::SubscribeRequest>,
) -> Result<ReceiverStream<Result<v1::SubscribeResponse, Status>>, Refusal> {
    if local.drain.is_cancelled() {
        return Err(draining());
    }
    let (answers, stream) = mpsc::channel(ANSWERS_MAX);
    let (local, who) = (local.clone(), who.clone());
    tokio::spawn(async move {
        if let Err(end) = run(&local, &who, said, &answers).await {
            let status = local.refusals.refuse(who.text(), end);
            // A reader that does not read is not waited for: its connection ends by itself.
            let _ = answers.send_timeout(Err(status), Duration::from_secs(1)).await;
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn run(
    local: &Local,
    who: &Identity,
    mut said: Streaming<v1::SubscribeRequest>,
    answers: &mpsc::Sender<Result<v1::SubscribeResponse, Status>>,
) -> Result<(), Refusal> {
    let first = tokio::time::timeout(OPEN_DEADLINE, said.message()).await;
    let open = match first {
        Ok(Ok(Some(v1::SubscribeRequest { message: Some(Message::Open(open)) }))) => open,
        // It went away before it said anything.
        Ok(Ok(None) | Err(_)) => return Ok(()),
        Ok(Ok(Some(_))) | Err(_) => {
            let message = "the first message must be `open`, within 10 s";
            return Err(Refusal::new(Code::InvalidArgument, "OPEN_EXPECTED", message));
        }
    };
    let filter = filter(local, who, &open)?;
    let max_unacknowledged = match open.max_unacknowledged {
        0 => limits::UNACKNOWLEDGED_DEFAULT,
        max @ 1..=limits::UNACKNOWLEDGED_MAX => max,
        max => {
            let message = format!("is {max}, the limit is {}", limits::UNACKNOWLEDGED_MAX);
            return Err(invalid("max_unacknowledged", "UNACKNOWLEDGED_TOO_MANY", &message));
        }
    };
    let begin = begin(local, &filter, open.from)?;
    let view = SubscriptionView {
        identity: who.text().clone(),
        sites: filter.sites().to_vec(),
        delivered: begin.after,
        acknowledged: begin.after,
        unacknowledged: 0,
    };
    let place = local.subscriptions.open(view).ok_or_else(|| {
        let message = format!("this node serves {SUBSCRIPTIONS_MAX} subscriptions at most");
        Refusal::new(Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS", message)
            .retry_after(Duration::from_secs(1))
    })?;
    let deliver = Deliver::new(local, who, filter, max_unacknowledged, begin, place);
    deliver.run(said, answers).await
}

/// What is heard: the sites that were named, if all are allowed, or all that are.
fn filter(local: &Local, who: &Identity, open: &v1::SubscribeOpen) -> Result<Filter, Refusal> {
    let rules = &local.parts.rules;
    for site in &open.sites {
        rules.permits(who, Act::Subscribe, Some(site)).map_err(|error| denied(&error))?;
    }
    let sites = match rules.permitted_sites(who, Act::Subscribe) {
        _ if !open.sites.is_empty() => Some(open.sites.clone()),
        Sites::All => None,
        Sites::Only(sites) => Some(sites.into_iter().collect()),
        Sites::None => {
            let permitted = rules.permits(who, Act::Subscribe, None);
            return Err(permitted.err().map_or_else(draining, |error| denied(&error)));
        }
    };
    Filter::new(sites, open.types.clone(), open.exclude_sources.clone()).map_err(|r| field(&r))
}

fn begin(local: &Local, filter: &Filter, from: Option<From>) -> Result<Begin, Refusal> {
    let journal = &local.parts.journal;
    let token = match from {
        None | Some(From::Live(_)) => return Ok(Begin { after: journal.head(), missed: None }),
        Some(From::Beginning(_)) => return Ok(Begin { after: Offset::ZERO, missed: None }),
        Some(From::DurableName(_)) => {
            let instead = "keep the resume token of what was applied, and open with that";
            return Err(not_yet("a durable name", instead));
        }
        Some(From::ResumeToken(token)) => token,
    };
    let token = ResumeToken::from_proto(&token)
        .map_err(|error| invalid("resume_token", "TOKEN_INVALID", &error.to_string()))?;
    // Nothing was ever cut from this journal, so a place that is known is a place that is held.
    if let Resume::After(after) = journal.resume(&token) {
        return Ok(Begin { after, missed: None });
    }
    let after = journal.durable().borrow().offset;
    let missed = Missed {
        origin: None,
        from: evermesh_event::Sequence::ZERO,
        through: evermesh_event::Sequence::ZERO,
        sites: filter.sites().to_vec(),
        cause: v1::MissedCause::UnknownToken,
    };
    Ok(Begin { after, missed: Some(missed) })
}
