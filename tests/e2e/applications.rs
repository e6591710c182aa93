//! What applications ask for beyond publish and subscribe: APPLIED and fences, durable names,
//! rejects, publishing streams, caught up, freshness.

use std::time::Duration;

use evermesh_client::{Address, Client, Credentials};
use evermesh_proto::v1;
use evermesh_proto::v1::publish_stream_request::Message as Hand;
use evermesh_proto::v1::publish_stream_response::Message as Answer;
use evermesh_proto::v1::subscribe_open::From;
use evermesh_proto::v1::subscribe_request::Message as Say;
use evermesh_proto::v1::subscribe_response::Message as Heard;
use evermesh_proto::v1::{Assurance, MemberStanding, MissedCause};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::mesh::Mesh;
use crate::refusals::reason;
use crate::subscriptions::{Stream, keys, publish, subscribe};

fn site(name: &str) -> v1::SubscribeOpen {
    v1::SubscribeOpen { sites: vec![name.into()], ..Default::default() }
}

fn durable(name: &str) -> v1::SubscribeOpen {
    v1::SubscribeOpen { from: Some(From::DurableName(name.into())), ..site("shop") }
}

async fn say(stream: &Stream, message: Say) {
    stream.0.send(v1::SubscribeRequest { message: Some(message) }).await.unwrap();
}

async fn acknowledge(stream: &Stream, through_offset: u64) {
    say(stream, Say::Acknowledge(v1::Acknowledge { through_offset })).await;
}

/// The next message that is wanted; others are passed over.
async fn next<T>(stream: &mut Stream, wanted: impl Fn(Heard) -> Option<T>) -> T {
    loop {
        let heard = stream.1.message().await.unwrap().expect("the stream ended");
        if let Some(wanted) = heard.message.and_then(&wanted) {
            return wanted;
        }
    }
}

async fn caught_up(stream: &mut Stream) -> v1::CaughtUp {
    next(stream, |heard| match heard {
        Heard::CaughtUp(caught_up) => Some(caught_up),
        _ => None,
    })
    .await
}

async fn missed(stream: &mut Stream) -> (MissedCause, v1::MissedNotice) {
    next(stream, |heard| match heard {
        Heard::Missed(notice) => Some((notice.missed.as_ref().unwrap().cause(), notice)),
        _ => None,
    })
    .await
}

async fn delivery(stream: &mut Stream) -> v1::Delivery {
    next(stream, |heard| match heard {
        Heard::Delivery(delivery) => Some(delivery),
        _ => None,
    })
    .await
}

async fn freshness(stream: &mut Stream, number: u64) -> Vec<(String, Duration)> {
    say(stream, Say::Ping(v1::SubscribePing { number })).await;
    let fresh = next(stream, |heard| match heard {
        Heard::Freshness(freshness) => Some(freshness),
        _ => None,
    })
    .await;
    assert_eq!(fresh.ping_number, number);
    let remains = |lease: v1::MemberLease| {
        (lease.node, Duration::try_from(lease.remains.unwrap_or_default()).unwrap())
    };
    fresh.leases.into_iter().map(remains).collect()
}

/// Publishes one event of a site and waits for APPLIED, but no longer than this.
async fn applied(client: &Client, site: &str, wait_ms: i32) -> v1::PublishResponse {
    let event = v1::Event { site: site.into(), r#type: "t".into(), ..Default::default() };
    let wait = prost_types::Duration { seconds: 0, nanos: wait_ms * 1_000_000 };
    let request = v1::PublishRequest {
        events: vec![event],
        until: Assurance::Applied.into(),
        wait_for: Some(wait).filter(|_| wait_ms > 0),
        ..Default::default()
    };
    client.events().publish(request).await.unwrap().into_inner()
}

fn standings(members: &[v1::MemberState]) -> Vec<(&str, MemberStanding)> {
    members.iter().map(|member| (member.node.as_str(), member.standing())).collect()
}

fn token(response: &v1::PublishResponse) -> Option<v1::FenceToken> {
    match response.results[0].outcome.clone().unwrap() {
        v1::publish_result::Outcome::Taken(taken) => taken.fence_token,
        v1::publish_result::Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn p4_applied_waits_for_every_subscription_of_the_site_and_for_no_other() {
    let mesh = Mesh::started(2);
    let (here, there) = (mesh.client(0), mesh.client(1));
    let mut shop = subscribe(&there, site("shop")).await;
    let mut stuck = subscribe(&there, site("intranet")).await;
    caught_up(&mut shop).await;
    caught_up(&mut stuck).await;
    publish(&here, "intranet", "", &["never acknowledged"]).await;
    keys(&mut stuck, 1).await;

    let pending = applied(&here, "shop", 300).await;
    assert_eq!(pending.assured(), Assurance::Replicated, "{pending:?}");
    let waits = [("web-2", MemberStanding::Pending), ("web-1", MemberStanding::Applied)];
    assert_eq!(standings(&pending.members), waits);
    let at = |response: &v1::PublishResponse, this_node_only| v1::FenceRequest {
        fence_token: token(response),
        wait_for: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        this_node_only,
    };
    let fence = here.events().fence(at(&pending, false)).await.unwrap().into_inner();
    assert!(!fence.done);
    assert!(!there.events().fence(at(&pending, true)).await.unwrap().into_inner().done);

    // Acknowledged: whoever waits hears it, there and here.
    let reads = there.clone();
    let ask = v1::FenceRequest { wait_for: None, ..at(&pending, true) };
    let read = tokio::spawn(async move { reads.events().fence(ask).await.unwrap().into_inner() });
    let offset = keys(&mut shop, 1).await[0].0;
    acknowledge(&shop, offset).await;
    assert!(read.await.unwrap().done, "the read fence");
    let ask = v1::FenceRequest { wait_for: None, ..at(&pending, false) };
    let fence = here.events().fence(ask).await.unwrap().into_inner();
    assert!(fence.done && fence.members.iter().all(|member| member.took.is_some()), "{fence:?}");

    // Nobody else hears `blog`; and `intranet` still waits, by itself.
    assert_eq!(applied(&here, "blog", 0).await.assured(), Assurance::Applied);
    assert_eq!(applied(&here, "intranet", 200).await.assured(), Assurance::Replicated);
    drop(stuck);
    assert_eq!(applied(&here, "intranet", 0).await.assured(), Assurance::Applied);

    let elsewhere = there.events().fence(at(&pending, false)).await.unwrap_err();
    assert_eq!(
        (elsewhere.code(), reason(&elsewhere)),
        (Code::FailedPrecondition, "FENCE_ELSEWHERE")
    );
    let mut ahead = at(&pending, false);
    ahead.fence_token.as_mut().unwrap().sequence += 1000;
    assert_eq!(reason(&here.events().fence(ahead).await.unwrap_err()), "FENCE_AHEAD");
}

#[tokio::test]
async fn p3_a_durable_name_keeps_its_place_over_a_kill_and_is_taken_over() {
    let mut mesh = Mesh::started(1);
    let client = mesh.client(0);
    let mut first = subscribe(&client, durable("varnish")).await;
    let (cause, notice) = missed(&mut first).await;
    assert_eq!(
        (cause, &*notice.missed.unwrap().sites),
        (MissedCause::UnknownName, &["shop".to_owned()][..])
    );
    // Until that is acknowledged it is told again.
    drop(first);
    let mut first = subscribe(&client, durable("varnish")).await;
    let (_, notice) = missed(&mut first).await;
    acknowledge(&first, notice.offset).await;
    publish(&client, "shop", "", &["a", "b", "c"]).await;
    let heard = keys(&mut first, 3).await;
    acknowledge(&first, heard[1].0).await;
    let mut admin = client.admin();
    let mut place = 0;
    while place != heard[1].0 {
        let names = admin.list_names(v1::ListNamesRequest {}).await.unwrap().into_inner().names;
        place = names[0].acknowledged;
    }
    assert_eq!(applied(&client, "shop", 500).await.assured(), Assurance::Replicated);
    // A place is stored with a group of events: with the one before this one at the latest.
    publish(&client, "blog", "", &["x"]).await;

    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[0].start();
    // Nobody is connected under the name, and it still is waited for.
    let client = mesh.client(0);
    assert_eq!(applied(&client, "shop", 500).await.assured(), Assurance::Replicated);
    let mut older = subscribe(&client, durable("varnish")).await;
    let again = delivery(&mut older).await;
    assert_eq!(again.entries().next().unwrap().unwrap().event.unwrap().key, "c");

    // A newer stream: the older hears who took over, and ends well.
    let mut newer = subscribe(&client, durable("varnish")).await;
    let by = next(&mut older, |heard| match heard {
        Heard::TakenOver(taken_over) => Some(taken_over.by),
        Heard::Missed(notice) => panic!("{notice:?}"),
        _ => None,
    });
    assert!(by.await.starts_with("local:"));
    assert!(older.1.message().await.unwrap().is_none());
    let heard = keys(&mut newer, 3).await;
    assert_eq!(heard[0].1, "c");
    acknowledge(&newer, heard[2].0).await;
    assert_eq!(applied(&client, "blog", 0).await.assured(), Assurance::Applied);

    let shared: Address = mesh.shared(0).parse().unwrap();
    let path = |name: &str| Some(mesh.path(name));
    let credentials =
        Credentials { ca: path("ca.pem"), cert: path("shop.pem"), key: path("shop.key") };
    let stranger = Client::connect(&shared, &credentials).unwrap();
    let mut refused = subscribe(&stranger, durable("varnish")).await;
    let refused = refused.1.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "NAME_HELD"));
    let mut bad = subscribe(&client, durable("")).await;
    assert_eq!(reason(&bad.1.message().await.unwrap_err()), "NAME_INVALID");
}

#[tokio::test]
async fn p3_what_is_rejected_comes_again_and_is_set_aside_in_the_end() {
    let mut mesh = Mesh::started(1);
    let client = mesh.client(0);
    let mut stream = subscribe(&client, durable("varnish")).await;
    let (_, notice) = missed(&mut stream).await;
    acknowledge(&stream, notice.offset).await;
    publish(&client, "shop", "", &["good", "bad", "after"]).await;
    let bad = keys(&mut stream, 3).await[1].0;
    let reject = || Say::Reject(v1::Reject { offset: bad, reason: "503".into() });
    for attempt in 2..=5 {
        say(&stream, reject()).await;
        let again = delivery(&mut stream).await;
        assert_eq!((again.attempt, again.first_offset), (attempt, bad));
        let keys: Vec<_> = again.entries().map(|e| e.unwrap().event.unwrap().key).collect();
        assert_eq!(keys, ["bad", "after"]);
    }
    // An acknowledgement of what lies behind it crossed the last reject: it changes nothing.
    say(&stream, reject()).await;
    let (cause, notice) = missed(&mut stream).await;
    assert_eq!((cause, notice.offset), (MissedCause::DeadLetter, bad));
    let scope = notice.missed.unwrap();
    assert_eq!((scope.from, &*scope.sites), (scope.through, &["shop".to_owned()][..]));
    let after = delivery(&mut stream).await;
    assert_eq!(after.entries().next().unwrap().unwrap().event.unwrap().key, "after");

    // Not acknowledged yet: another stream, of another start, is told the same.
    let mut admin = client.admin();
    let all = v1::ListLettersRequest::default();
    let letters = admin.list_letters(all.clone()).await.unwrap().into_inner().letters;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].attempts, letters[0].reason.as_str()), (5, "503"));
    assert_eq!(letters[0].entry.as_ref().unwrap().event.as_ref().unwrap().key, "bad");
    mesh.nodes[0].end(Signal::TERM);
    mesh.nodes[0].start();
    let client = mesh.client(0);
    let mut stream = subscribe(&client, durable("varnish")).await;
    assert_eq!(delivery(&mut stream).await.entries().count(), 1, "good");
    let (cause, notice) = missed(&mut stream).await;
    assert_eq!((cause, notice.offset), (MissedCause::DeadLetter, bad));
    let after = delivery(&mut stream).await;
    acknowledge(&stream, after.first_offset).await;

    let mut admin = client.admin();
    assert_eq!(admin.list_letters(all.clone()).await.unwrap().into_inner().letters, letters);
    let numbers = vec![letters[0].number, 99];
    let replayed = admin.replay_letters(v1::ReplayLettersRequest { numbers }).await.unwrap();
    let replayed = replayed.into_inner();
    assert_eq!((replayed.replayed, &*replayed.unknown_numbers), (1, &[99][..]));
    let anew = delivery(&mut stream).await;
    let event = anew.entries().next().unwrap().unwrap().event.unwrap();
    assert_eq!(event.key, "bad");
    assert!(event.attributes.contains_key("evermesh.replay_of"), "{event:?}");
    assert!(admin.list_letters(all).await.unwrap().into_inner().letters.is_empty());

    let names = admin.list_names(v1::ListNamesRequest {}).await.unwrap().into_inner().names;
    assert_eq!((names[0].name.as_str(), names[0].connected), ("varnish", true));
    let forget = || v1::ForgetNameRequest { name: "varnish".into() };
    assert_eq!(reason(&admin.forget_name(forget()).await.unwrap_err()), "NAME_IN_USE");
    drop(stream);
    while admin.forget_name(forget()).await.is_err_and(|e| reason(&e) == "NAME_IN_USE") {}
    assert_eq!(reason(&admin.forget_name(forget()).await.unwrap_err()), "NAME_UNKNOWN");
    let unknown = Say::Reject(v1::Reject { offset: 1, reason: String::new() });
    let mut live = subscribe(&client, site("shop")).await;
    caught_up(&mut live).await;
    say(&live, unknown).await;
    assert_eq!(reason(&live.1.message().await.unwrap_err()), "REJECT_UNKNOWN");
}

struct Producing {
    hand: mpsc::Sender<v1::PublishStreamRequest>,
    answers: tonic::Streaming<v1::PublishStreamResponse>,
    highest: u64,
}

impl Producing {
    async fn open(client: &Client) -> Self {
        let (hand, said) = mpsc::channel(64);
        let open = v1::PublishStreamOpen { producer: "import".into(), ..Default::default() };
        hand.send(v1::PublishStreamRequest { message: Some(Hand::Open(open)) }).await.unwrap();
        let answers = client.events().publish_stream(ReceiverStream::new(said)).await.unwrap();
        let mut answers = answers.into_inner();
        let opened = answers.message().await.unwrap().unwrap().message.unwrap();
        let Answer::Opened(opened) = opened else { panic!("{opened:?}") };
        Self { hand, answers, highest: opened.highest_counter }
    }

    /// Events of these counters, one message each.
    async fn hand_in(&self, counters: std::ops::RangeInclusive<u64>) {
        for first_counter in counters {
            let key = format!("n{first_counter}");
            let site = if first_counter == 7 { "" } else { "shop" };
            let event =
                v1::Event { site: site.into(), r#type: "t".into(), key, ..Default::default() };
            let events = v1::PublishStreamEvents { first_counter, events: vec![event] };
            let request = v1::PublishStreamRequest { message: Some(Hand::Events(events)) };
            // A node that was killed takes no more.
            let _ = self.hand.send(request).await;
        }
    }

    /// Answers until everything through a counter is assured; the refused counters.
    async fn assured(&mut self, through: u64) -> Vec<u64> {
        let mut refused = Vec::new();
        loop {
            match self.answers.message().await.unwrap().unwrap().message.unwrap() {
                Answer::Refused(no) => {
                    assert_eq!(no.refused.unwrap().reason, "SITE_MISSING");
                    refused.push(no.counter);
                }
                Answer::Assured(yes) if yes.through_counter >= through => return refused,
                Answer::Assured(_) => {}
                Answer::Opened(opened) => panic!("{opened:?}"),
            }
        }
    }
}

#[tokio::test]
async fn p5_a_publishing_stream_goes_on_where_its_producer_was_after_a_kill() {
    let mut mesh = Mesh::started(1);
    let client = mesh.client(0);
    let mut producing = Producing::open(&client).await;
    assert_eq!(producing.highest, 0);
    producing.hand_in(1..=10).await;
    assert_eq!(producing.assured(10).await, [7]);
    // Handed in, and the node is gone before anything is said of them.
    producing.hand_in(11..=40).await;
    mesh.nodes[0].end(Signal::KILL);
    mesh.nodes[0].start();
    let client = mesh.client(0);
    let mut again = Producing::open(&client).await;
    assert!((10..=40).contains(&again.highest), "{}", again.highest);
    // It forgot how far it was, and begins well before that.
    again.hand_in(5..=60).await;
    assert_eq!(again.assured(60).await, [7]);
    let open = v1::SubscribeOpen { from: crate::subscriptions::beginning(), ..site("shop") };
    let mut stream = subscribe(&client, open).await;
    let heard: Vec<_> = keys(&mut stream, 59).await.into_iter().map(|(_, key)| key).collect();
    let all: Vec<_> = (1..=60).filter(|n| *n != 7).map(|n| format!("n{n}")).collect();
    assert_eq!(heard, all);

    drop(again.hand);
    assert!(again.answers.message().await.unwrap().is_none(), "it ends once all is assured");
    let producing = Producing::open(&client).await;
    producing.hand_in(0..=0).await;
    let mut answers = producing.answers;
    assert_eq!(reason(&answers.message().await.unwrap_err()), "COUNTER_INVALID");
}

#[tokio::test]
async fn caught_up_and_freshness_name_members_that_are_heard_and_those_that_are_not() {
    let mesh = Mesh::started(2);
    let client = mesh.client(0);
    publish(&mesh.client(1), "shop", "", &["a"]).await;
    let mut stream = subscribe(&client, site("shop")).await;
    // It is current once it acknowledged what was here when it opened.
    let caught = caught_up(&mut stream).await;
    assert_eq!((&*caught.members, caught.absent_members.len()), (&["web-2".to_owned()][..], 0));
    acknowledge(&stream, caught.offset).await;
    let mut number = 0;
    let mut fresh = async |stream: &mut Stream, wanted: bool| loop {
        number += 1;
        let leases = freshness(stream, number).await;
        let names: Vec<_> = leases.iter().map(|(node, _)| node.as_str()).collect();
        assert_eq!(names, ["web-1", "web-2"]);
        assert!(leases[0].1 > Duration::ZERO, "this node is there");
        if (leases[1].1 > Duration::ZERO) == wanted {
            return;
        }
    };
    fresh(&mut stream, true).await;

    // Paused: its lease runs out here, by this node's clock; whoever opens now is told so.
    mesh.nodes[1].signal(Signal::STOP);
    fresh(&mut stream, false).await;
    let mut late = subscribe(&client, site("shop")).await;
    let caught = caught_up(&mut late).await;
    assert_eq!((caught.members.len(), &*caught.absent_members), (0, &["web-2".to_owned()][..]));
    mesh.nodes[1].signal(Signal::CONT);
    // It comes back once what the member says is its head is acknowledged here.
    fresh(&mut stream, true).await;
}
