//! How often an address is dialled at which a node answers.

use std::time::Duration;

use crate::departed::step;
use crate::scripted::{Peer, Script};

#[tokio::test(start_paused = true)]
async fn who_takes_links_only_to_end_them_at_once_is_dialled_seldom() {
    let peer = Peer::start(Script { hangs_up: true, ..Script::default() });
    // The waits have grown to a second at most, of which each is a random part.
    step(Duration::from_secs(5)).await;
    let before = peer.hellos().len();
    step(Duration::from_secs(20)).await;
    let links = peer.hellos().len() - before;
    assert!((20..=80).contains(&links), "{links} links in 20 seconds");
}

#[tokio::test(start_paused = true)]
async fn who_was_linked_for_longer_than_any_wait_is_dialled_again_at_once() {
    let peer = Peer::start(Script { hangs_up: true, ..Script::default() });
    step(Duration::from_secs(5)).await;
    peer.rewrite(|script| script.hangs_up = false);
    let links = peer.hellos().len();
    peer.until(|peer| peer.hellos().len() > links && peer.status().pulling).await;
    for _ in 0..5 {
        step(Duration::from_secs(2)).await;
        let links = peer.hellos().len();
        peer.end_link();
        step(Duration::from_millis(100)).await;
        assert_eq!(peer.hellos().len(), links + 1);
    }
}
