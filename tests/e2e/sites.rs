//! Several sites on one node: who is allowed to hears, on this node and on others; nobody else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use evermesh_client::{
    Address, Client, Credentials, Error, Item, Options, Outcome, Publisher, Subscriber, entries,
};
use evermesh_proto::v1;
use evermesh_proto::v1::Assurance;
use tonic::Code;

use crate::mesh::{Mesh, succeed};
use crate::node::Node;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes on which each application may use its own sites only.
fn mesh() -> Mesh {
    let mut mesh = Mesh::new(2);
    let path = |name: &str| mesh.path(name).to_str().unwrap().to_owned();
    let mut rules = String::new();
    for (app, sites) in [("intranet", "\"intranet\""), ("portal", "\"shop\", \"intranet\"")] {
        succeed(&["ca", "issue", "--dir", &path("ca"), "--app", app, "--out", &path("")]);
        rules.push_str(&format!(
            "[[allow]]\nwho = \"spiffe://mesh.internal/app/{app}\"\nsites = [{sites}]\n\
             acts = [\"publish\", \"subscribe\"]\n"
        ));
    }
    for node in &mesh.nodes {
        let mut config = OpenOptions::new().append(true).open(node.config()).unwrap();
        config.write_all(rules.as_bytes()).unwrap();
    }
    mesh.nodes.iter_mut().for_each(Node::start);
    (0..2).for_each(|node| mesh.linked(node));
    mesh
}

/// A worker of an application, through the shared port of a node.
fn client(mesh: &Mesh, node: usize, app: &str) -> Client {
    let address: Address = mesh.shared(node).parse().unwrap();
    let file = |kind: &str| Some(mesh.path(&format!("{app}.{kind}")));
    let credentials =
        Credentials { ca: Some(mesh.path("ca.pem")), cert: file("pem"), key: file("key") };
    Client::connect(&address, &credentials).unwrap()
}

async fn hearing(client: Client, sites: &[&str]) -> Subscriber {
    let sites = sites.iter().map(ToString::to_string).collect();
    let subscriber = Subscriber::open(client, Options { sites, ..Options::default() });
    let mut subscriber = subscriber.await.unwrap();
    while !matches!(subscriber.next().await.unwrap(), Item::CaughtUp { .. }) {}
    subscriber
}

/// The keys of the next so many events.
async fn keys(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let item = tokio::time::timeout(PATIENCE, subscriber.next()).await.unwrap();
        if let Item::Delivery { delivery, through } = item.unwrap() {
            keys.extend(entries(&delivery, through).map(|(_, entry)| entry.event.unwrap().key));
            subscriber.acknowledge(through);
        }
    }
    keys.sort();
    keys
}

/// Publishes one event of each site under this key; the reasons of what was refused.
async fn publish(client: &Client, sites: &[&str], key: &str) -> Vec<Option<String>> {
    let event = |site: &&str| v1::Event {
        site: (*site).to_owned(),
        r#type: "t".into(),
        key: format!("{site}:{key}"),
        ..Default::default()
    };
    let events = sites.iter().map(event).collect();
    let publisher = Publisher::new(client.clone());
    let published = publisher.publish(events, Assurance::Stored, PATIENCE).await.unwrap();
    let reason = |outcome| match outcome {
        Outcome::Taken(_) => None,
        Outcome::Refused(refused) => Some(refused.reason),
    };
    published.outcomes.into_iter().map(reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_who_is_allowed_hears_on_every_node_and_nobody_else_does() {
    let mesh = mesh();
    // Two workers of one site on one node, one of another site there, one of both, one elsewhere.
    let intranet = client(&mesh, 0, "intranet");
    let mut first = hearing(intranet.clone(), &["intranet"]).await;
    let mut second = hearing(client(&mesh, 0, "intranet"), &[]).await;
    let mut shop = hearing(client(&mesh, 0, "shop"), &["shop"]).await;
    let portal = client(&mesh, 0, "portal");
    let mut both = hearing(portal.clone(), &[]).await;
    let there = client(&mesh, 1, "portal");
    let mut elsewhere = hearing(there.clone(), &["shop", "intranet"]).await;

    assert_eq!(publish(&intranet, &["intranet"], "a").await, [None]);
    assert_eq!(publish(&portal, &["shop", "intranet"], "b").await, [None, None]);
    assert_eq!(publish(&there, &["shop", "intranet"], "c").await, [None, None]);
    // What one may not publish is refused by itself, and takes nothing else with it.
    let denied = Some("NOT_ALLOWED".to_owned());
    let mixed = publish(&intranet, &["shop", "intranet", "blog"], "d").await;
    assert_eq!(mixed, [denied.clone(), None, denied.clone()]);
    assert_eq!(publish(&portal, &["blog"], "e").await, [denied]);
    assert_eq!(publish(&there, &["shop", "intranet"], "end").await, [None, None]);

    let of_intranet = ["intranet:a", "intranet:b", "intranet:c", "intranet:d", "intranet:end"];
    let of_shop = ["shop:b", "shop:c", "shop:end"];
    assert_eq!(keys(&mut first, 5).await, of_intranet);
    assert_eq!(keys(&mut second, 5).await, of_intranet, "every site that it may");
    assert_eq!(keys(&mut shop, 3).await, of_shop);
    let all: Vec<_> = of_intranet.into_iter().chain(of_shop).collect();
    assert_eq!(keys(&mut both, 8).await, all);
    assert_eq!(keys(&mut elsewhere, 8).await, all);

    for sites in [&["shop"][..], &["intranet", "shop"]] {
        let sites = sites.iter().map(ToString::to_string).collect();
        let options = Options { sites, ..Options::default() };
        let error = Subscriber::open(intranet.clone(), options).await.unwrap_err();
        let Error::Refused(refusal) = &error else { panic!("{error}") };
        assert_eq!((refusal.code, error.reason()), (Code::PermissionDenied, Some("NOT_ALLOWED")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_site_that_stands_still_holds_up_no_other() {
    let mesh = mesh();
    // It hears and never acknowledges.
    let portal = client(&mesh, 1, "portal");
    let _stuck = hearing(client(&mesh, 1, "intranet"), &["intranet"]).await;
    let mut shop = hearing(client(&mesh, 1, "shop"), &["shop"]).await;
    assert_eq!(publish(&portal, &["intranet"], "stuck").await, [None]);
    let publisher = Publisher::new(client(&mesh, 0, "portal"));
    for (site, waits, assured) in [
        ("shop", PATIENCE, Assurance::Applied),
        ("intranet", Duration::from_millis(200), Assurance::Replicated),
    ] {
        let event = v1::Event { site: site.into(), r#type: "t".into(), ..Default::default() };
        let publishing = publisher.publish(vec![event], Assurance::Applied, waits);
        let hearing = async {
            if site == "shop" {
                keys(&mut shop, 1).await;
            }
        };
        let (published, ()) = tokio::join!(publishing, hearing);
        assert_eq!(published.unwrap().assured, assured, "{site}");
    }
}
