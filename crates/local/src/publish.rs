//! Step 1 of the way of one event: checks and authorises each event, hands them to the journal, and
//! answers once they are as sure as asked for.
//!
//! One refused event concerns no other. Whoever asks and goes away changes nothing: what was handed
//! to the journal stays there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use evermesh_event::{Fill, Sequence, limits, validate};
use evermesh_identity::{Act, Identity, Sites};
use evermesh_journal::{Appended, Intake, Numbered};
use evermesh_proto::v1;
use evermesh_proto::v1::publish_result::Outcome;
use evermesh_telemetry::{Refusal, Span, Station};
use tokio::time::Instant;

use crate::assure::Goal;
use crate::errors::{
    denied, draining, field, invalid, not_appended, nothing_stored, outcome_unknown,
};
use crate::service::Local;
use crate::traced::Traced;

/// How long an answer waits if the request does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// And at most.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request that was checked: what was refused has its place in `results` already.
pub(crate) struct Checked {
    pub(crate) events: Vec<Intake>,
    /// One for each event of the request; `None`: the journal decides.
    pub(crate) results: Vec<Option<v1::Refused>>,
    pub(crate) traced: Vec<Traced>,
}

/// Publishes the events of one request.
pub(crate) async fn publish(
    local: &Local,
    who: &Identity,
    request: v1::PublishRequest,
) -> Result<v1::PublishResponse, Refusal> {
    let begin = local.parts.clock.wall();
    if local.drain.is_cancelled() {
        return Err(draining());
    }
    let until = until(local, request.until())?;
    let deadline = Instant::now() + wait_for(request.wait_for.as_ref())?;
    let replicas = request.replicas;
    let all_or_nothing = request.all_or_nothing;
    let checked = check(local, who, request.events)?;
    let refused = checked.results.iter().any(Option::is_some);
    if checked.events.is_empty() || (all_or_nothing && refused) {
        return Ok(nothing_taken(checked.results));
    }
    let journal = &local.parts.journal;
    let appended = journal.append(who.text(), &checked.events).await.map_err(not_appended)?;
    let goal =
        Goal { until, through: appended.own_through, sites: checked.sites(&appended), replicas };
    let (assured, members) = goal.reach(local, deadline).await?;
    trace(local, who, begin, &checked.traced, &appended.taken);
    let results = results(local, checked, &appended);
    Ok(v1::PublishResponse { results, assured: assured.into(), members })
}

/// Publishes an event once more under a new id. Whoever operates this node may, at every site.
pub(crate) async fn anew(
    local: &Local,
    who: &Identity,
    mut event: v1::Event,
) -> Result<(), Refusal> {
    event.id.clear();
    let fill = Ids::draw(local, std::slice::from_ref(&event)).fill(&event);
    let event = validate(event, fill).map_err(|refusal| field(&refusal))?;
    let (intake, _) = Traced::intake(&local.parts.spans, event, 0);
    let appended = local.parts.journal.append(who.text(), [intake]).await.map_err(not_appended)?;
    // Where there is no disk, the letter itself was in memory.
    let in_memory = local.parts.journal.is_memory();
    let until = if in_memory { v1::Assurance::Accepted } else { v1::Assurance::Stored };
    let goal = Goal { until, through: appended.own_through, sites: BTreeMap::new(), replicas: 0 };
    let (assured, _) = goal.reach(local, Instant::now() + WAIT_DEFAULT).await?;
    if assured < until {
        return Err(outcome_unknown());
    }
    Ok(())
}

impl Checked {
    /// The newest event of each site.
    pub(crate) fn sites(&self, appended: &Appended) -> BTreeMap<String, Sequence> {
        let mut sites = BTreeMap::<String, Sequence>::new();
        for (intake, numbered) in self.events.iter().zip(&appended.taken) {
            let site = intake.event.event().site.as_str();
            if let Some(newest) = sites.get_mut(site) {
                *newest = numbered.sequence.max(*newest);
            } else {
                sites.insert(site.to_owned(), numbered.sequence);
            }
        }
        sites
    }
}

/// What is waited for; `STORED` if the request does not say.
///
/// # Errors
/// If this node keeps no disk and can never say so: rather than to answer with less, it refuses.
pub(crate) fn until(local: &Local, until: v1::Assurance) -> Result<v1::Assurance, Refusal> {
    let until = match until {
        v1::Assurance::Unspecified => v1::Assurance::Stored,
        until => until,
    };
    let needs_disk = matches!(until, v1::Assurance::Stored | v1::Assurance::Replicated);
    if needs_disk && local.parts.journal.is_memory() {
        return Err(nothing_stored(until));
    }
    Ok(until)
}

pub(crate) fn wait_for(wait: Option<&prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(wait) = wait else { return Ok(WAIT_DEFAULT) };
    let checked = Duration::try_from(*wait).ok().filter(|wait| *wait <= WAIT_MAX);
    checked.ok_or_else(|| {
        let message = format!("is {} s; it must be between 0 and 60 s", wait.seconds);
        invalid("wait_for", "WAIT_INVALID", &message)
    })
}

/// Checks every event, and whether this identity may publish to its site.
pub(crate) fn check(
    local: &Local,
    who: &Identity,
    events: Vec<v1::Event>,
) -> Result<Checked, Refusal> {
    let count = events.len();
    if count == 0 {
        return Err(invalid("events", "EVENTS_MISSING", "is empty; hand in at least one event"));
    }
    if count > limits::PUBLISH_EVENTS_MAX {
        let max = limits::PUBLISH_EVENTS_MAX;
        let message = format!("has {count} entries, the limit is {max}; use several requests");
        return Err(invalid("events", "TOO_MANY_EVENTS", &message));
    }
    let parts = &local.parts;
    let sites = parts.rules.permitted_sites(who, Act::Publish);
    if matches!(sites, Sites::None) {
        let site = events.first().map(|event| event.site.as_str());
        let permitted = parts.rules.permits(who, Act::Publish, site);
        return Err(permitted.err().map_or_else(draining, |error| denied(&error)));
    }
    let mut ids = Ids::draw(local, &events);
    let mut checked = Checked {
        events: Vec::with_capacity(count),
        results: Vec::with_capacity(count),
        traced: Vec::new(),
    };
    for (place, event) in events.into_iter().enumerate() {
        let fill = ids.fill(&event);
        let result = match validate(event, fill) {
            Ok(valid) if sites.contains(&valid.event().site) => {
                let (intake, traced) = Traced::intake(&parts.spans, valid, checked.events.len());
                checked.events.push(intake);
                checked.traced.extend(traced);
                None
            }
            Ok(valid) => {
                let site = &valid.event().site;
                let message = format!("not allowed to publish to site `{site}`");
                Some(refused(place, "site", "NOT_ALLOWED", message))
            }
            Err(refusal) => Some(refused(place, refusal.field, refusal.reason, refusal.message)),
        };
        checked.results.push(result);
    }
    Ok(checked)
}

/// Ids for the events of one request that bring none, and the time for those without.
struct Ids {
    now: SystemTime,
    milliseconds: u64,
    /// Ten bytes for each id: one call to the system for all of them.
    random: Vec<u8>,
}

impl Ids {
    /// What an id has besides its time.
    const RANDOM_BYTES: usize = 10;

    fn draw(local: &Local, events: &[v1::Event]) -> Self {
        let now = local.parts.clock.wall();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let missing = events.iter().filter(|event| event.id.is_empty()).count();
        let mut random = vec![0; missing * Self::RANDOM_BYTES];
        local.parts.random.fill(&mut random);
        Self { now, milliseconds: u64::try_from(since.as_millis()).unwrap_or_default(), random }
    }

    /// What the next event gets. Of ids only those count that are taken by an event without one.
    fn fill(&mut self, event: &v1::Event) -> Fill {
        let id = match self.random.split_last_chunk::<{ Self::RANDOM_BYTES }>() {
            Some((rest, random)) if event.id.is_empty() => {
                let id = uuid::Builder::from_unix_timestamp_millis(self.milliseconds, random);
                let left = rest.len();
                self.random.truncate(left);
                id.into_uuid()
            }
            _ => uuid::Uuid::nil(),
        };
        Fill { id, now: self.now }
    }
}

fn refused(place: usize, field: &str, reason: &str, message: String) -> v1::Refused {
    let field = format!("events[{place}].{field}");
    v1::Refused { field, reason: reason.to_owned(), message, retry_after: None }
}

/// Nothing of the request was taken: each event says why, the good ones that another one was not.
fn nothing_taken(results: Vec<Option<v1::Refused>>) -> v1::PublishResponse {
    let fill = |(place, refused): (usize, Option<v1::Refused>)| {
        let refused = refused.unwrap_or_else(|| v1::Refused {
            field: format!("events[{place}]"),
            reason: "ALL_OR_NOTHING".into(),
            message: "another event of this request was refused".into(),
            retry_after: None,
        });
        v1::PublishResult { outcome: Some(Outcome::Refused(refused)) }
    };
    let results = results.into_iter().enumerate().map(fill).collect();
    let assured = v1::Assurance::Unspecified.into();
    v1::PublishResponse { results, assured, members: Vec::new() }
}

fn results(local: &Local, checked: Checked, appended: &Appended) -> Vec<v1::PublishResult> {
    let origin = local.parts.journal.origin().to_proto();
    let mut taken = checked.events.into_iter().zip(&appended.taken);
    let result = |refused: Option<v1::Refused>| {
        let outcome = match refused {
            Some(refused) => Some(Outcome::Refused(refused)),
            None => taken.next().map(|(intake, numbered)| {
                let v1::Event { id, site, .. } = intake.event.into_event();
                let (origin, sequence) = (Some(origin.clone()), numbered.sequence.as_u64());
                Outcome::Taken(v1::Taken {
                    id,
                    fence_token: Some(v1::FenceToken { origin, sequence, site }),
                    duplicate: numbered.duplicate,
                })
            }),
        };
        v1::PublishResult { outcome }
    };
    checked.results.into_iter().map(result).collect()
}

/// The span `evermesh.publish` of each sampled event: from the request until it was assured.
pub(crate) fn trace(
    local: &Local,
    who: &Identity,
    begin: SystemTime,
    traced: &[Traced],
    taken: &[Numbered],
) {
    if traced.is_empty() {
        return;
    }
    let end = local.parts.clock.wall();
    let node = local.parts.node.as_str();
    for traced in traced {
        let Some(numbered) = taken.get(traced.place).filter(|numbered| !numbered.duplicate) else {
            continue;
        };
        local.parts.spans.record(&Span {
            station: Station::Publish { parent: traced.parent },
            traceparent: &traced.traceparent,
            begin,
            end,
            site: &traced.site,
            event_type: &traced.event_type,
            event_id: &traced.id,
            origin: node,
            sequence: &format_args!("{node}/{}", numbered.sequence),
            peer: Some(who.text()),
            batch: None,
        });
    }
}
