//! A cache in a process that evermesh keeps true: what people copy.
//!
//! Always: a value that was read before a change is not kept after it; nothing is kept before the
//! subscription has caught up; and where this process cannot know whether it heard everything, it
//! reads past the cache.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evermesh_client::{
    Client, Error, Freshness, Handler, Invalidation, Options, invalidated, listen,
};
use evermesh_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Values by key. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    /// Everything from before the subscription was heard, and how long it can be trusted.
    follows: watch::Sender<Option<Freshness>>,
}

#[derive(Debug, Default)]
struct Kept {
    values: HashMap<String, String>,
    /// Counts changes. A value that was read while it moved may be the old one.
    changes: u64,
    /// How often a value was read past the cache because it could not be trusted.
    bypassed: u64,
}

impl Cache {
    /// An empty cache that follows a site. Ends when the task does, which ends when the node
    /// refuses; whoever holds the handle decides what then.
    #[must_use]
    pub(crate) fn follow(client: Client, site: &str) -> (Self, JoinHandle<Result<(), Error>>) {
        let (follows, _) = watch::channel(None);
        let cache = Self(Arc::new(Shared { kept: Mutex::default(), follows }));
        let options = Options { sites: vec![site.to_owned()], ..Options::default() };
        let mut follower = Follower { cache: cache.clone(), freshness: None };
        let task = tokio::spawn(async move {
            listen(client, options, &mut follower, std::future::pending()).await
        });
        (cache, task)
    }

    /// Returns once everything from before was heard: now a worker may start to serve.
    pub(crate) async fn ready(&self) {
        let mut follows = self.0.follows.subscribe();
        // The sender lives as long as the cache.
        let _ = follows.wait_for(Option::is_some).await;
    }

    /// The value of a key: kept, or loaded.
    pub(crate) async fn get<F: Future<Output = String>>(
        &self,
        key: &str,
        load: impl FnOnce() -> F,
    ) -> String {
        if !self.is_fresh() {
            self.kept().bypassed += 1;
            return load().await;
        }
        let changes = {
            let kept = self.kept();
            if let Some(value) = kept.values.get(key) {
                return value.clone();
            }
            kept.changes
        };
        let value = load().await;
        let mut kept = self.kept();
        // Something changed while this was loading, perhaps this: then it is not kept.
        if kept.changes == changes {
            kept.values.insert(key.to_owned(), value.clone());
        }
        value
    }

    /// Whether what is kept can be trusted now.
    #[must_use]
    pub(crate) fn is_fresh(&self) -> bool {
        self.0.follows.borrow().as_ref().is_some_and(Freshness::is_fresh)
    }

    /// How many values are kept.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.kept().values.len()
    }

    /// How often a value was read past the cache.
    #[must_use]
    pub(crate) fn bypassed(&self) -> u64 {
        self.kept().bypassed
    }

    fn drop_all(&self) {
        let mut kept = self.kept();
        kept.changes += 1;
        kept.values.clear();
    }

    fn drop_what(&self, drops: &Invalidation) {
        if drops.all || !drops.tags.is_empty() {
            // This cache keeps no tags: all that could carry one goes.
            return self.drop_all();
        }
        let mut kept = self.kept();
        kept.changes += 1;
        for key in &drops.keys {
            kept.values.remove(key);
        }
        for prefix in &drops.prefixes {
            kept.values.retain(|key, _| !key.starts_with(prefix.as_str()));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what changed.
struct Follower {
    cache: Cache,
    freshness: Option<Freshness>,
}

impl Handler for Follower {
    async fn event(&mut self, entry: v1::Entry) -> Result<(), String> {
        match entry.event.as_ref().and_then(invalidated) {
            Some(drops) => self.cache.drop_what(&drops),
            // An event of another type, or one that this version cannot read.
            None => self.cache.drop_all(),
        }
        Ok(())
    }

    async fn missed(&mut self, _missed: v1::Missed) {
        self.cache.drop_all();
    }

    async fn caught_up(&mut self, _caught_up: v1::CaughtUp) {
        self.cache.0.follows.send_replace(self.freshness.clone());
    }

    fn opened(&mut self, freshness: &Freshness) {
        self.freshness = Some(freshness.clone());
    }
}
