//! What must not get in: certificates of somebody else, and requests that are none.

use std::fs;
use std::path::Path;

use evermesh_client::{Address, Client, Credentials};
use evermesh_identity::ca;
use evermesh_proto::v1;
use evermesh_proto::v1::mesh_service_client::MeshServiceClient;
use tonic::Code;

use crate::mesh::{Mesh, days_ago, status, succeed};
use crate::node::{evermesh, failure, until};

fn client(mesh: &Mesh, node: usize, name: &str) -> Client {
    let credentials = Credentials {
        cert: Some(mesh.path(&format!("{name}.pem"))),
        key: Some(mesh.path(&format!("{name}.key"))),
        ca: Some(mesh.path("ca.pem")),
    };
    let address: Address = mesh.shared(node).parse().unwrap();
    Client::connect(&address, &credentials).unwrap()
}

pub(crate) fn reason(status: &tonic::Status) -> &str {
    status.metadata().get("evermesh-reason").map_or("", |reason| reason.to_str().unwrap())
}

#[tokio::test]
async fn p10_an_application_never_replicates_and_a_member_is_only_itself() {
    let mesh = Mesh::started(2);
    let hello = |node: &str| {
        let hello = v1::Hello { node: node.into(), version: 1, ..Default::default() };
        let message = Some(v1::pull_request::Message::Hello(hello));
        tokio_stream::iter([v1::PullRequest { message }])
    };
    // An application's certificate that says it is a node.
    let posing = client(&mesh, 0, "shop");
    let mut service = MeshServiceClient::new(posing.channel());
    let refused = service.pull(hello("web-2")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "NOT_A_MEMBER"));
    assert!(!refused.message().contains("spiffe"), "it tells no more: {}", refused.message());
    until("the operator reads why", || mesh.nodes[0].log().contains("NOT_A_MEMBER"));
    // The same certificate publishes, which a rule allows.
    let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
    let request = v1::PublishRequest { events: vec![event], ..Default::default() };
    posing.events().publish(request).await.unwrap();
    // A member that says it is another member.
    let other = client(&mesh, 0, "web-2");
    let mut service = MeshServiceClient::new(other.channel());
    let mut answers = service.pull(hello("web-9")).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "NAME_MISMATCH"));
}

#[tokio::test]
async fn p10_foreign_and_expired_certificates_do_not_get_in() {
    let mesh = Mesh::started(2);
    let refused = || status(&mesh.nodes[0])["connections"]["refused"].as_u64().unwrap();
    let before = refused();
    // Of another authority, under a name that a rule allows.
    let foreign = mesh.path("foreign");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let out = mesh.path("foreign-out");
    fs::create_dir(&out).unwrap();
    succeed(&["ca", "init", "--dir", &text(&foreign), "--trust-domain", "mesh.internal"]);
    succeed(&["ca", "issue", "--dir", &text(&foreign), "--app", "shop", "--out", &text(&out)]);
    // Of the right authority, and expired the day before yesterday.
    let expired = mesh.path("expired-out");
    let leaf = ca::Leaf {
        subject: ca::Subject::App("shop".into()),
        dns: vec![],
        ip: vec![],
        out_dir: expired.clone(),
        days: 1,
    };
    fs::create_dir(&expired).unwrap();
    ca::issue(&mesh.path("ca"), &leaf, days_ago(3)).unwrap();
    let tried = [out, expired];
    for (n, directory) in tried.iter().enumerate() {
        let (cert, key) = (text(&directory.join("shop.pem")), text(&directory.join("shop.key")));
        let at = mesh.shared(0);
        let command = ["status", "--at", &at, "--cert", &cert, "--key-file", &key, "--ca"];
        let (code, said) = failure(evermesh().args(command).arg(mesh.path("ca.pem")));
        assert_eq!(code, 77, "{said}");
        until("it is counted", || refused() > before + n as u64);
    }
    // One line in a while: a flood of bad certificates does not flood the log.
    until("the operator reads why", || {
        let log = mesh.nodes[0].log();
        log.contains("UnknownIssuer") || log.contains("BadSignature")
    });
}

#[tokio::test]
async fn requests_that_are_none_are_named_and_cost_no_connection() {
    let mesh = Mesh::started(1);
    let client = mesh.client(0);
    let publish = |request: v1::PublishRequest| {
        let mut events = client.events().max_encoding_message_size(16 * 1024 * 1024);
        async move { events.publish(request).await }
    };
    let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
    let of = |events: Vec<v1::Event>| v1::PublishRequest { events, ..Default::default() };

    let empty = publish(of(vec![])).await.unwrap_err();
    assert_eq!((empty.code(), reason(&empty)), (Code::InvalidArgument, "EVENTS_MISSING"));
    let many = publish(of(vec![event.clone(); 4097])).await.unwrap_err();
    assert_eq!((many.code(), reason(&many)), (Code::InvalidArgument, "TOO_MANY_EVENTS"));
    let long = v1::PublishRequest {
        wait_for: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
        ..of(vec![event.clone()])
    };
    let long = publish(long).await.unwrap_err();
    assert_eq!((long.code(), reason(&long)), (Code::InvalidArgument, "WAIT_INVALID"));
    let large = v1::Event { data: vec![0; 2 * 1024 * 1024].into(), ..event.clone() };
    let large = publish(of(vec![large])).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "{large:?}");

    let over = v1::Event { data: vec![0; 300 * 1024].into(), ..event.clone() };
    let mixed = publish(of(vec![event.clone(), over])).await.unwrap().into_inner();
    let outcomes: Vec<_> = mixed.results.into_iter().map(|r| r.outcome.unwrap()).collect();
    assert!(matches!(&outcomes[0], v1::publish_result::Outcome::Taken(_)), "{outcomes:?}");
    let v1::publish_result::Outcome::Refused(refused) = &outcomes[1] else { panic!() };
    assert_eq!(
        (refused.field.as_str(), refused.reason.as_str()),
        ("events[1].data", "EVENT_TOO_LARGE")
    );
    assert!(refused.message.contains("262144"), "{}", refused.message);
    let bad = v1::Event { site: String::new(), ..event.clone() };
    let all = v1::PublishRequest { all_or_nothing: true, ..of(vec![event.clone(), bad]) };
    let all = publish(all).await.unwrap().into_inner();
    let reasons = all.results.into_iter().filter_map(|r| match r.outcome? {
        v1::publish_result::Outcome::Refused(refused) => Some(refused.reason),
        v1::publish_result::Outcome::Taken(_) => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["ALL_OR_NOTHING", "SITE_MISSING"]);

    let ahead = v1::subscribe_request::Message::Acknowledge(v1::Acknowledge { through_offset: 9 });
    let first = tokio_stream::iter([v1::SubscribeRequest { message: Some(ahead) }]);
    let mut stream = client.events().subscribe(first).await.unwrap().into_inner();
    let refused = stream.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, "OPEN_EXPECTED"));

    // All of that was one connection, and it still works.
    publish(of(vec![event])).await.unwrap();
    assert_eq!(client.connections_opened(), 1);
}
