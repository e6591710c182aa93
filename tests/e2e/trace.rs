//! The trace of one event on three nodes, read from a real OTLP receiver built on the official
//! proto packages.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use evermesh_proto::v1;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::history::Subscriber;
use crate::mesh::{Mesh, status};
use crate::node::{Node, until};

/// Keeps every span with the name of the node that sent it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let node = attributes.into_iter().find(|a| a.key == "service.instance.id");
            let node = node.and_then(|a| a.value).map(|value| format!("{:?}", value.value));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (node.clone().unwrap_or_default(), span));
            self.0.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_on_three_nodes_is_one_trace() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut mesh = Mesh::new(3);
    for node in &mut mesh.nodes {
        node.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        node.set("OTEL_BSP_SCHEDULE_DELAY", "50");
        node.start();
    }
    (0..3).for_each(|node| mesh.linked(node));
    let subscribers: Vec<_> = (0..3)
        .map(|n| Subscriber::start(&mesh.nodes[n].at(), mesh.path(&format!("heard-{n}.jsonl"))))
        .collect();

    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let event = |traceparent: String| v1::Event {
        site: "shop".into(),
        r#type: "cache.invalidate".into(),
        key: "product:42".into(),
        traceparent,
        ..Default::default()
    };
    let sampled = event(format!("00-{trace}-{parent}-01"));
    let unsampled = event("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".into());
    let events = vec![sampled, unsampled];
    let request = v1::PublishRequest { events, ..Default::default() };
    mesh.client(0).events().publish(request).await.unwrap();
    until("everybody heard both", || subscribers.iter().all(|s| s.history().events() == 2));
    // A delivery is over, and leaves its span, once it is acknowledged.
    until("everybody acknowledged both", || {
        mesh.nodes.iter().all(|node| status(node)["subscriptions"][0]["unacknowledged"] == 0)
    });
    drop(subscribers);
    // A node that ends hands over the spans that it still has.
    mesh.nodes.iter_mut().map(|node: &mut Node| node.end(Signal::TERM)).for_each(drop);

    let spans = collector.0.lock().unwrap().clone();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut names = BTreeMap::<_, usize>::new();
    for (_, span) in &spans {
        assert_eq!(hex(&span.trace_id), trace, "one trace, and the unsampled one left no span");
        *names.entry(span.name.as_str()).or_default() += 1;
    }
    let expected = [("evermesh.deliver", 3), ("evermesh.publish", 1), ("evermesh.replicate", 2)];
    assert_eq!(names, BTreeMap::from(expected));
    let publish = spans.iter().find(|(_, span)| span.name == "evermesh.publish").unwrap();
    assert_eq!(hex(&publish.1.parent_span_id), parent, "the application's span is its parent");
    let nodes: std::collections::BTreeSet<_> = spans.iter().map(|(node, _)| node).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    for (_, span) in spans.iter().filter(|(_, span)| span.name != "evermesh.publish") {
        assert_eq!(span.parent_span_id, publish.1.span_id, "{} is its child", span.name);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
}
