//! Opens a subscription: what it hears, where it begins, and whether it may.

use std::time::Duration;

use evermesh_event::{Arrival, Filter, Offset, Planted, ResumeToken, Sequence, limits};
use evermesh_identity::{Act, Identity, Sites};
use evermesh_journal::{Missed, Name, NameError, Resume};
use evermesh_proto::v1;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message;
use evermesh_telemetry::Refusal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::deliver::{Answers, Deliver};
use crate::errors::{check_word, denied, draining, field, invalid};
use crate::opening;
use crate::service::Local;
use crate::subscriptions::{SUBSCRIPTIONS_MAX, SubscriptionView};

/// Where a subscription begins.
pub(crate) struct Begin {
    pub(crate) after: Offset,
    /// What the application is told first.
    pub(crate) missed: Option<Missed>,
    /// Where its place is kept.
    pub(crate) name: Option<(String, Name)>,
}

/// Answers with a stream at once, and delivers once `open` came.
pub(crate) fn subscribe(
    local: &Local,
    who: &Identity,
    arrival: Option<Arrival>,
    said: Streaming<v1::SubscribeRequest>,
) -> Result<ReceiverStream<Result<v1::SubscribeResponse, Status>>, Refusal> {
    opening::aside(local, who, move |local, who, answers| async move {
        run(&local, &who, arrival, said, &answers).await
    })
}

async fn run(
    local: &Local,
    who: &Identity,
    arrival: Option<Arrival>,
    mut said: Streaming<v1::SubscribeRequest>,
    answers: &Answers,
) -> Result<(), Refusal> {
    let open = opening::first(&mut said, |said| match said.message {
        Some(Message::Open(open)) => Some(open),
        _ => None,
    });
    let Some(open) = open.await? else { return Ok(()) };
    let filter = filter(local, who, &open)?;
    let max_unacknowledged = match open.max_unacknowledged {
        0 => limits::UNACKNOWLEDGED_DEFAULT,
        max @ 1..=limits::UNACKNOWLEDGED_MAX => max,
        max => {
            let message = format!("is {max}, the limit is {}", limits::UNACKNOWLEDGED_MAX);
            return Err(invalid("max_unacknowledged", "UNACKNOWLEDGED_TOO_MANY", &message));
        }
    };
    let begin = begin(local, who, &filter, open.from)?;
    let view = SubscriptionView {
        identity: who.text().clone(),
        sites: filter.sites().to_vec(),
        delivered: begin.after,
        acknowledged: begin.after,
        unacknowledged: 0,
        durable_name: begin.name.as_ref().map(|(key, _)| key.clone()).unwrap_or_default(),
    };
    let place = local.subscriptions.open(view, arrival).ok_or_else(|| {
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

fn begin(
    local: &Local,
    who: &Identity,
    filter: &Filter,
    from: Option<From>,
) -> Result<Begin, Refusal> {
    let journal = &local.parts.journal;
    let at = |after| Begin { after, missed: None, name: None };
    let token = match from {
        None | Some(From::Live(_)) => return Ok(at(journal.head())),
        Some(From::Beginning(_)) => return Ok(at(Offset::ZERO)),
        Some(From::DurableName(key)) => return named(local, who, filter, key),
        Some(From::ResumeToken(token)) => token,
    };
    let token = ResumeToken::from_proto(&token)
        .map_err(|error| invalid("resume_token", "TOKEN_INVALID", &error.to_string()))?;
    // Nothing was ever cut from this journal, so a place that is known is a place that is held.
    if let Resume::After(after) = journal.resume(&token) {
        let planted = journal.planted().is(Planted::MissedOnReconnect);
        let missed = planted.then(|| everything(filter, v1::MissedCause::UnknownToken));
        return Ok(Begin { after, missed, name: None });
    }
    let after = journal.durable().borrow().offset;
    let missed = Some(everything(filter, v1::MissedCause::UnknownToken));
    Ok(Begin { after, missed, name: None })
}

/// Where the name is; one that nobody knows begins at the durable end, with missed.
fn named(local: &Local, who: &Identity, filter: &Filter, key: String) -> Result<Begin, Refusal> {
    check_word("durable_name", "NAME_INVALID", &key)?;
    let journal = &local.parts.journal;
    let name = journal.open_name(&key, who.text(), filter.sites()).map_err(|error| {
        let detail = error.to_string();
        match error {
            NameError::Held(_) => {
                let message = format!("the durable name `{key}` belongs to another identity");
                Refusal::new(Code::PermissionDenied, "NAME_HELD", message).because(detail)
            }
            NameError::TooMany => Refusal::new(Code::ResourceExhausted, "TOO_MANY_NAMES", detail),
        }
    })?;
    let unknown = || everything(filter, v1::MissedCause::UnknownName);
    let missed = name.untold.then(unknown);
    Ok(Begin { after: name.acknowledged, missed, name: Some((key, name)) })
}

/// All that this subscription hears may have been missed.
fn everything(filter: &Filter, cause: v1::MissedCause) -> Missed {
    let sites = filter.sites().to_vec();
    Missed { origin: None, from: Sequence::ZERO, through: Sequence::ZERO, sites, cause }
}
