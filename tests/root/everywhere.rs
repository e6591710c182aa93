//! A publisher and a subscriber beside every node of a mesh, and what all of them published.

use evermesh_event::verdict::Published;

use crate::history::{Publisher, Subscriber};
use crate::mesh::Mesh;

/// What the ids of a publisher's events begin with, by its node.
const PREFIXES: [&str; 3] = ["a", "b", "c"];

/// Starts one of each at every node.
pub(crate) fn start(mesh: &Mesh) -> (Vec<Publisher>, Vec<Subscriber>) {
    let publisher = |node: usize| {
        let file = mesh.path(&format!("published-{node}.jsonl"));
        Publisher::start_as(PREFIXES[node], &mesh.nodes[node].at(), file)
    };
    let subscriber = |node: usize| {
        let file = mesh.path(&format!("heard-{node}.jsonl"));
        Subscriber::start(&mesh.nodes[node].at(), file)
    };
    let nodes = 0..mesh.nodes.len();
    let publishers = nodes.clone().map(publisher).collect();
    (publishers, nodes.map(subscriber).collect())
}

/// What all of them published so far.
pub(crate) fn published(publishers: &[Publisher]) -> Published {
    let mut all = Published::default();
    publishers.iter().for_each(|publisher| all.extend(&publisher.published()));
    all
}
