//! The cache of the Rust client's example, in two processes' worth of nodes: no stale value after
//! APPLIED or a read fence, nothing kept after missed, nothing trusted while a node stands still.

#[path = "../../crates/client/examples/cache/cache.rs"]
mod example;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use evermesh_client::{Client, Invalidation, invalidate};
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use rustix::process::Signal;

use self::example::Cache;
use crate::mesh::{Mesh, status};
use crate::node::until;

/// What the values are read from: a database that both nodes' workers share.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<String, String>>>);

impl Database {
    fn write(&self, key: &str, value: usize) {
        self.0.lock().unwrap().insert(key.to_owned(), value.to_string());
    }

    async fn read(&self, cache: &Cache, key: &str) -> String {
        let load = || async { self.0.lock().unwrap().get(key).cloned().unwrap_or_default() };
        cache.get(key, load).await
    }
}

async fn publish(client: &Client, key: &str, until: Assurance) -> v1::FenceToken {
    let drops = Invalidation { keys: vec![key.to_owned()], ..Default::default() };
    let events = vec![invalidate("shop", &drops)];
    let request = v1::PublishRequest { events, until: until.into(), ..Default::default() };
    let answer = client.events().publish(request).await.unwrap().into_inner();
    assert_eq!(answer.assured(), until, "{answer:?}");
    match answer.results[0].outcome.clone().unwrap() {
        v1::publish_result::Outcome::Taken(taken) => taken.fence_token.unwrap(),
        v1::publish_result::Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}

/// Waits until a cache is fresh, or is not; it says so by itself.
async fn fresh(cache: &Cache, wanted: bool) {
    while cache.is_fresh() != wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_a_cache_shows_no_stale_value() {
    let mut mesh = Mesh::started(2);
    let (here, there) = (mesh.client(0), mesh.client(1));
    let database = Database::default();
    let (near, _follows) = Cache::follow(here.clone(), "shop");
    let (far, _follows) = Cache::follow(there.clone(), "shop");
    near.ready().await;
    far.ready().await;
    fresh(&near, true).await;
    fresh(&far, true).await;

    database.write("product:1", 0);
    database.write("other", 0);
    for round in 1..=50 {
        for cache in [&near, &far] {
            database.read(cache, "product:1").await;
            database.read(cache, "other").await;
        }
        database.write("product:1", round);
        if round % 2 == 0 {
            publish(&here, "product:1", Assurance::Applied).await;
        } else {
            // The editor gets a token; whoever serves the next request asks its own node.
            let token = publish(&here, "product:1", Assurance::Stored).await;
            for node in [&here, &there] {
                let request = v1::FenceRequest {
                    fence_token: Some(token.clone()),
                    this_node_only: true,
                    ..Default::default()
                };
                assert!(node.events().fence(request).await.unwrap().into_inner().done);
            }
        }
        for cache in [&near, &far] {
            assert_eq!(database.read(cache, "product:1").await, round.to_string());
        }
    }
    assert_eq!((near.len(), far.len()), (2, 2), "they do keep what did not change");
    assert_eq!((near.bypassed(), far.bypassed()), (0, 0));

    // A paused node: its own workers, and those of the other one, know by their own clocks.
    mesh.nodes[1].signal(Signal::STOP);
    fresh(&far, false).await;
    fresh(&near, false).await;
    database.write("product:1", 99);
    assert_eq!(database.read(&far, "product:1").await, "99", "read past the cache");
    assert!(far.bypassed() > 0);
    mesh.nodes[1].signal(Signal::CONT);
    fresh(&far, true).await;
    fresh(&near, true).await;

    // The node comes back with another disk: the place is unknown, and nothing is kept.
    publish(&here, "product:1", Assurance::Applied).await;
    database.read(&far, "product:1").await;
    assert!(far.len() > 0);
    mesh.nodes[1].end(Signal::KILL);
    std::fs::remove_dir_all(mesh.path("web-2.data")).unwrap();
    mesh.nodes[1].start();
    while far.len() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_an_ordinary_restart_makes_nobody_bypass_a_cache() {
    let mut mesh = Mesh::new(2);
    // Long against what a busy machine keeps a process waiting.
    mesh.nodes.iter_mut().for_each(|node| node.set("EVERMESH_MESH__LEASE", "4s"));
    mesh.start();
    let (cache, _follows) = Cache::follow(mesh.client(0), "shop");
    cache.ready().await;
    fresh(&cache, true).await;
    let (cache, ends) = (cache.clone(), Arc::new(AtomicBool::new(false)));
    let seen = {
        let ends = Arc::clone(&ends);
        std::thread::spawn(move || {
            let mut stale = 0_u64;
            while !ends.load(Ordering::Relaxed) {
                stale += u64::from(!cache.is_fresh());
                std::thread::yield_now();
            }
            stale
        })
    };
    // Orderly, and for longer than its lease.
    assert_eq!(mesh.nodes[1].end(Signal::TERM).code(), Some(0));
    let suspended = || {
        let status = status(&mesh.nodes[0]);
        status["members"][0]["suspended"] == true
    };
    until("it is suspended", suspended);
    mesh.nodes[1].start();
    mesh.linked(1);
    // The first fence after the restart is as sound as ever.
    publish(&mesh.client(1), "product:1", Assurance::Applied).await;
    ends.store(true, Ordering::Relaxed);
    assert_eq!(seen.join().unwrap(), 0, "fresh all the time");
}
