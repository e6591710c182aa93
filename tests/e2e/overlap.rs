//! An application that is restarted while it runs: the old worker drains while the new one already
//! serves. Neither loses an event, and a durable name changes hands without a gap.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermesh_client::{
    Begin, Client, Error, Item, Options, Outcome, Publisher, Subscriber, entries,
};
use evermesh_event::Sequence;
use evermesh_event::verdict::{Fate, History, Published, Verdict};
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::mesh::Mesh;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one worker heard: for the checker, and for waiting.
#[derive(Default)]
struct Heard {
    history: History,
    keys: Vec<String>,
    caught_up: bool,
}

/// One worker: hears its site until it is stopped, and raises events under a source of its own.
struct Worker {
    source: String,
    publisher: Publisher,
    heard: watch::Receiver<()>,
    shared: Arc<Mutex<Heard>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

fn options(source: &str) -> Options {
    // Its own source, and only that: host and application are the same for both workers.
    let exclude_sources = vec![source.to_owned()];
    Options { sites: vec!["shop".into()], exclude_sources, ..Options::default() }
}

impl Worker {
    async fn start(client: Client, source: &str, from: Begin) -> Self {
        let options = Options { from, ..options(source) };
        let subscriber = Subscriber::open(client.clone(), options).await.unwrap();
        let shared: Arc<Mutex<Heard>> = Arc::default();
        let (hears, heard) = watch::channel(());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(hear(subscriber, Arc::clone(&shared), hears, stopped));
        let publisher = Publisher::new(client);
        Self { source: source.into(), publisher, heard, shared, stop, ended }
    }

    /// Waits for something of what it heard.
    async fn until(&mut self, wanted: impl Fn(&Heard) -> bool) {
        let shared = Arc::clone(&self.shared);
        let done = self.heard.wait_for(|()| wanted(&shared.lock().unwrap()));
        tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap();
    }

    async fn until_key(&mut self, key: &str) {
        self.until(|heard| heard.keys.iter().any(|heard| heard == key)).await;
    }

    /// Raises events; their ids.
    async fn raise(&self, keys: &[String]) -> Vec<String> {
        raise(&self.publisher, &self.source, keys, Assurance::Stored).await
    }

    /// Ends its subscription as a worker does that shuts down.
    async fn finish(self) -> Heard {
        // It may have been taken over before.
        let _ = self.stop.send(());
        match self.ended.await.unwrap() {
            Ok(()) | Err(Error::TakenOver { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        std::mem::take(&mut *self.shared.lock().unwrap())
    }
}

async fn hear(
    mut subscriber: Subscriber,
    shared: Arc<Mutex<Heard>>,
    hears: watch::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), Error> {
    loop {
        let item = tokio::select! {
            item = subscriber.next() => item?,
            _ = &mut stopped => break,
        };
        let through = {
            let mut heard = shared.lock().unwrap();
            match item {
                Item::Opened { .. } => {
                    heard.history.opened();
                    None
                }
                Item::Delivery { delivery, through } => {
                    let node = delivery.origin.as_ref().unwrap().node.clone();
                    for (_, entry) in entries(&delivery, through) {
                        let event = entry.event.unwrap();
                        let sequence = Sequence::from_u64(entry.sequence);
                        heard.history.heard(&node, sequence, &event.id);
                        heard.keys.push(event.key);
                    }
                    Some(through)
                }
                Item::Missed { missed, through } => {
                    // A name that is new here begins so.
                    if missed.cause() != v1::MissedCause::UnknownName {
                        heard.history.missed();
                    }
                    Some(through)
                }
                Item::CaughtUp { through, .. } => {
                    heard.caught_up = true;
                    Some(through)
                }
                Item::Freshness(_) | Item::TakenOver(_) | Item::Interrupted(_) => None,
            }
        };
        if let Some(through) = through {
            subscriber.acknowledge(through);
        }
        hears.send_replace(());
    }
    assert!(subscriber.close().await, "the node took the last acknowledgement");
    Ok(())
}

async fn raise(
    publisher: &Publisher,
    source: &str,
    keys: &[String],
    until: Assurance,
) -> Vec<String> {
    let event = |key: &String| v1::Event {
        site: "shop".into(),
        r#type: "t".into(),
        key: key.clone(),
        source: source.into(),
        ..Default::default()
    };
    let events = keys.iter().map(event).collect();
    let published = publisher.publish(events, until, PATIENCE).await.unwrap();
    assert_eq!(published.assured, until);
    let id = |outcome| match outcome {
        Outcome::Taken(taken) => taken.id,
        Outcome::Refused(refused) => panic!("{refused:?}"),
    };
    published.outcomes.into_iter().map(id).collect()
}

fn numbered(what: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{what}-{number}")).collect()
}

/// That a worker heard these, in their order and once, and nothing else.
fn check(heard: &Heard, ids: &[&[String]]) {
    let mut published = Published::default();
    ids.concat().iter().for_each(|id| published.note(id, Fate::Assured));
    let verdict = Verdict::of(&published, &heard.history);
    assert!(verdict.is_clean() && verdict.duplicated == 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p2_two_workers_overlap_and_neither_loses_an_event() {
    let mesh = Mesh::started(2);
    let editor = Publisher::new(mesh.client(1));
    let edit = async |numbers| {
        raise(&editor, "editor", &numbered("edit", numbers), Assurance::Stored).await
    };
    let mut old = Worker::start(mesh.client(0), "worker-1", Begin::Live).await;
    old.until(|heard| heard.caught_up).await;
    let alone = edit(0..50).await;
    old.until_key("edit-49").await;

    // A long request begins at the old worker; then it is recycled, and drains: it hears on.
    let (reply, request) = oneshot::channel::<()>();
    let request = tokio::spawn(request);
    let mut new = Worker::start(mesh.client(0), "worker-2", Begin::Live).await;
    new.until(|heard| heard.caught_up).await;
    // From here on the new one serves, and both hear everything.
    let both = edit(50..150).await;
    let from_old = old.raise(&numbered("old", 0..20)).await;
    let from_new = new.raise(&numbered("new", 0..20)).await;
    let last = edit(150..200).await;
    for worker in [&mut old, &mut new] {
        worker.until_key("edit-199").await;
    }
    new.until_key("old-19").await;
    old.until_key("new-19").await;
    // APPLIED waits for both of them.
    let keys = ["applied".to_owned()];
    let applied = raise(&editor, "editor", &keys, Assurance::Applied).await;
    for worker in [&old, &new] {
        assert!(worker.shared.lock().unwrap().keys.contains(&keys[0]));
    }

    // The request is answered, and the old one is gone; nobody waits for it.
    assert!(!request.is_finished(), "all of that was while it drained");
    reply.send(()).unwrap();
    request.await.unwrap().unwrap();
    let old = old.finish().await;
    let after = edit(200..250).await;
    raise(&editor, "editor", &["end".to_owned()], Assurance::Applied).await;
    new.until_key("edit-249").await;
    let mut new = new.finish().await;

    check(&old, &[&alone, &both, &from_new, &last, &applied]);
    let end = new.keys.pop().unwrap();
    assert_eq!(end, "end");
    let heard: Vec<_> = new.keys.iter().filter(|key| key.starts_with("edit-")).cloned().collect();
    assert_eq!(heard, numbered("edit", 50..250));
    let others: Vec<_> = new.keys.iter().filter(|key| key.starts_with("old-")).cloned().collect();
    assert_eq!(others, numbered("old", 0..20), "the host and the application are the same");
    assert!(!new.keys.iter().any(|key| key.starts_with("new-")), "its own are left out");
    assert!(new.history.events() == both.len() + from_old.len() + last.len() + 2 + after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_a_durable_name_changes_hands_without_a_gap() {
    const HANDS: usize = 5;
    const EACH: usize = 200;
    let mesh = Mesh::started(2);
    let editor = Publisher::new(mesh.client(1));
    let name = || Begin::Name("varnish".into());
    let mut holder = Worker::start(mesh.client(0), "worker-0", name()).await;
    holder.until(|heard| heard.caught_up).await;

    let (mut published, mut all) = (Published::default(), Vec::new());
    for hand in 1..=HANDS {
        // Published while the name changes hands.
        let keys = numbered("edit", (hand - 1) * EACH..hand * EACH);
        let editing = async {
            let mut ids = Vec::new();
            for some in keys.chunks(10) {
                ids.extend(raise(&editor, "editor", some, Assurance::Stored).await);
            }
            ids
        };
        let source = format!("worker-{hand}");
        let (edited, newer) = tokio::join!(editing, Worker::start(mesh.client(0), &source, name()));
        edited.iter().for_each(|id| published.note(id, Fate::Assured));
        let older = std::mem::replace(&mut holder, newer);
        // It hears that it was taken over, by itself.
        let ended = tokio::time::timeout(PATIENCE, older.ended).await.unwrap().unwrap();
        assert!(matches!(ended, Err(Error::TakenOver { .. })), "{ended:?}");
        all.push(std::mem::take(&mut *older.shared.lock().unwrap()));
    }
    holder.until_key(&format!("edit-{}", HANDS * EACH - 1)).await;
    all.push(holder.finish().await);

    // Each in order; the next begins at or before where the one before ended; together, all.
    let mut next = 0;
    for heard in &all {
        let numbers: Vec<usize> = heard.keys.iter().map(|key| key[5..].parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, other| one + 1 == *other), "{numbers:?}");
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
            assert!(*first <= next, "{first} after {next} events");
            next = next.max(last + 1);
        }
        let verdict = Verdict::of(&published, &heard.history);
        assert_eq!((verdict.reordered, verdict.phantom, verdict.missed), (0, 0, 0));
    }
    assert_eq!((next, published.assured()), (HANDS * EACH, HANDS * EACH));
}
