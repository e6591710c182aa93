//! Export to a real OTLP receiver: one trace over three nodes, the standard variables, and
//! collectors that refuse or never answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::net::TcpListener as BlockingListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use evermesh_event::world::Random;
use evermesh_telemetry::{Error, Intake, Options, Span, Station, Telemetry, init};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span as Exported;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How long a test waits for what must come; it is never waited out when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the application sent along.
const APPLICATION: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Hands on what it is sent, or refuses it.
struct Recorder {
    requests: Sender<ExportTraceServiceRequest>,
    refuses: bool,
}

#[tonic::async_trait]
impl TraceService for Recorder {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = self.requests.send(request.into_inner());
        sent.map_err(|_| Status::internal("the test is over"))?;
        if self.refuses {
            return Err(Status::invalid_argument("no spans today"));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on loopback, on a runtime of its own as in another process.
struct Collector {
    endpoint: String,
    requests: Receiver<ExportTraceServiceRequest>,
    _runtime: Runtime,
}

impl Collector {
    fn start(refuses: bool) -> Self {
        let runtime = Runtime::new().unwrap();
        let (sender, requests) = channel();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(Recorder { requests: sender, refuses });
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { endpoint, requests, _runtime: runtime }
    }

    /// Every span of the requests that came so far, with the attributes of its resource.
    fn spans(&self) -> Vec<(Vec<KeyValue>, Exported)> {
        let resources = self.requests.try_iter().flat_map(|request| request.resource_spans);
        let spans = resources.flat_map(|resource| {
            let attributes = resource.resource.unwrap().attributes;
            let scopes = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            scopes.map(move |span| (attributes.clone(), span))
        });
        spans.collect()
    }
}

/// Draws bytes that differ each time, in every node of the process.
#[derive(Debug)]
struct Counting;

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        bytes.iter_mut().rev().zip(next.iter().rev().cycle()).for_each(|(byte, id)| *byte = *id);
    }
}

fn started(node: &str, endpoint: &str, queue: Option<&str>) -> Result<Telemetry, Error> {
    let environment = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_BSP_MAX_QUEUE_SIZE" => queue.map(str::to_owned),
        _ => None,
    };
    init(&Options { node, logs: None, random: Arc::new(Counting), environment: &environment })
}

fn at(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + milliseconds)
}

fn span<'a>(station: Station, traceparent: &'a str, times: [u64; 2]) -> Span<'a> {
    Span {
        station,
        traceparent,
        begin: at(times[0]),
        end: at(times[1]),
        site: "shop",
        event_type: "cache.invalidate",
        event_id: "0190-a",
        origin: "web-1",
        sequence: &"web-1/3:17",
        peer: None,
        batch: None,
    }
}

fn publish(telemetry: &Telemetry, intake: &Intake<'_>) {
    let station = Station::Publish { parent: intake.parent };
    telemetry.spans().record(&span(station, &intake.traceparent, [0, 5]));
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Three nodes record the way of one event; returns what the collector got, by name of the span.
fn three_nodes(incoming: &str) -> (String, Vec<(Vec<KeyValue>, Exported)>) {
    let collector = Collector::start(false);
    let node = |name| started(name, &collector.endpoint, None).unwrap();
    let (first, second, third) = (node("web-1"), node("web-2"), node("web-3"));
    let intake = first.spans().intake(incoming);
    publish(&first, &intake);
    let stored = intake.traceparent.into_owned();
    let batch = "00-11111111111111111111111111111111-2222222222222222-01";
    second.spans().record(&Span {
        peer: Some("web-1"),
        batch: Some(batch),
        ..span(Station::Replicate, &stored, [3, 6])
    });
    third.spans().record(&span(Station::Deliver, &stored, [7, 9]));
    for telemetry in [first, second, third] {
        telemetry.shutdown(PATIENCE).unwrap();
    }
    let mut spans = collector.spans();
    spans.sort_by_key(|(_, span)| span.start_time_unix_nano);
    (stored, spans)
}

#[test]
fn the_way_of_one_event_over_three_nodes_is_one_trace() {
    let (stored, spans) = three_nodes(APPLICATION);
    let [(on_first, published), (on_second, replicated), (on_third, delivered)] =
        spans.try_into().expect("three spans");
    for span in [&published, &replicated, &delivered] {
        assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    assert_eq!(hex(&published.parent_span_id), "00f067aa0ba902b7", "the application's span");
    assert!(stored.contains(&hex(&published.span_id)), "{stored}");
    assert_eq!(replicated.parent_span_id, published.span_id);
    assert_eq!(delivered.parent_span_id, published.span_id);
    assert_ne!(replicated.span_id, delivered.span_id);

    let names = [&published, &replicated, &delivered].map(|span| span.name.as_str());
    assert_eq!(names, ["evermesh.publish", "evermesh.replicate", "evermesh.deliver"]);
    let kinds = [&published, &replicated, &delivered].map(Exported::kind);
    assert_eq!(kinds, [SpanKind::Producer, SpanKind::Internal, SpanKind::Consumer]);
    assert_eq!(published.end_time_unix_nano - published.start_time_unix_nano, 5_000_000);
    assert_eq!(published.start_time_unix_nano, 1_700_000_000_000_000_000);

    for (node, resource) in [("web-1", on_first), ("web-2", on_second), ("web-3", on_third)] {
        assert_eq!(text(&resource, "service.instance.id"), Some(node));
        assert_eq!(text(&resource, "service.name"), Some("evermesh"));
    }
    let attributes = |key| text(&replicated.attributes, key);
    assert_eq!(attributes("messaging.system"), Some("evermesh"));
    assert_eq!(attributes("messaging.destination.name"), Some("shop"));
    assert_eq!(attributes("messaging.operation.name"), Some("replicate"));
    assert_eq!(attributes("messaging.message.id"), Some("0190-a"));
    assert_eq!(attributes("evermesh.node"), Some("web-2"));
    assert_eq!(attributes("evermesh.origin"), Some("web-1"));
    assert_eq!(attributes("evermesh.sequence"), Some("web-1/3:17"));
    assert_eq!(attributes("evermesh.type"), Some("cache.invalidate"));
    assert_eq!(attributes("evermesh.peer"), Some("web-1"));
    assert_eq!(hex(&replicated.links[0].span_id), "2222222222222222");
    assert_eq!(published.links.len() + delivered.links.len(), 0);
}

#[test]
fn without_the_application_the_publish_span_is_the_root() {
    let (_, spans) = three_nodes("");
    assert_eq!(spans.len(), 3);
    assert!(spans[0].1.parent_span_id.is_empty(), "{:?}", spans[0].1);
    for (_, later) in &spans[1..] {
        assert_eq!(later.trace_id, spans[0].1.trace_id);
        assert_eq!(later.parent_span_id, spans[0].1.span_id);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn it_starts_records_and_ends_on_the_only_thread_of_a_runtime() {
    let collector = std::thread::spawn(|| Collector::start(false)).join().unwrap();
    let telemetry = started("web-1", &collector.endpoint, None).unwrap();
    publish(&telemetry, &telemetry.spans().intake(""));
    telemetry.shutdown(PATIENCE).unwrap();
    assert_eq!(collector.spans().len(), 1);
    // A runtime must not be dropped on the thread of another.
    std::thread::spawn(move || drop(collector)).join().unwrap();
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_named() {
    for endpoint in ["https://collector:4317", "not an address"] {
        let error = started("web-1", endpoint, None).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Endpoint { .. }), "{text}");
        assert!(text.contains(endpoint) && text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
    }
}

#[test]
fn what_is_not_sampled_is_not_exported() {
    let collector = Collector::start(false);
    let telemetry = started("web-1", &collector.endpoint, None).unwrap();
    let unsampled = APPLICATION.replace("-01", "-00");
    for traceparent in ["", "nonsense", &unsampled] {
        telemetry.spans().record(&span(Station::Deliver, traceparent, [0, 1]));
    }
    telemetry.spans().record(&span(Station::Deliver, APPLICATION, [2, 1]));
    telemetry.shutdown(PATIENCE).unwrap();
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].1.start_time_unix_nano, spans[0].1.end_time_unix_nano, "clock set back");
}

#[test]
fn a_collector_that_refuses_costs_only_the_spans() {
    let collector = Collector::start(true);
    let telemetry = started("web-1", &collector.endpoint, None).unwrap();
    let spans = telemetry.spans();
    for _ in 0..3 {
        spans.record(&span(Station::Deliver, APPLICATION, [0, 1]));
    }
    let _ = telemetry.shutdown(PATIENCE);
    assert_eq!(collector.spans().len(), 3, "it was asked");
    assert_eq!(spans.dropped(), 3);
}

#[test]
fn a_collector_that_never_answers_blocks_nobody() {
    // It listens and is never read from: a connection is made, and no call on it ever ends.
    let silent = BlockingListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let telemetry = started("web-1", &endpoint, Some("8")).unwrap();
    let spans = telemetry.spans();
    for _ in 0..1_000 {
        spans.record(&span(Station::Deliver, APPLICATION, [0, 1]));
    }
    // At most 8 are under way and 8 wait, twice over for the batch that is being filled.
    assert!(spans.dropped() >= 1_000 - 32, "{}", spans.dropped());
    let deadline = Duration::from_millis(10);
    let error = telemetry.shutdown(deadline).unwrap_err();
    assert!(matches!(error, Error::Unflushed { .. }), "{error}");
    drop(silent);
}

/// Set for the child process below: it records, and the parent looks at what came.
const CHILD: &str = "EVERMESH_TELEMETRY_TEST_CHILD";

#[test]
fn the_standard_variables_are_heard() {
    if std::env::var_os(CHILD).is_some() {
        let environment = |name: &str| std::env::var(name).ok();
        let random = Arc::new(Counting);
        let options = Options { node: "web-1", logs: None, random, environment: &environment };
        let telemetry = init(&options).unwrap();
        publish(&telemetry, &telemetry.spans().intake(""));
        telemetry.shutdown(PATIENCE).unwrap();
        return;
    }
    let collector = Collector::start(false);
    let recorded = |variables: &[(&str, &str)]| {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_standard_variables_are_heard"])
            .env(CHILD, "1")
            .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint)
            .envs(variables.iter().copied())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        collector.spans()
    };
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=test");
    let named = recorded(&[("OTEL_SERVICE_NAME", "mesh"), attributes]);
    assert_eq!(named.len(), 1);
    assert_eq!(text(&named[0].0, "service.name"), Some("mesh"));
    assert_eq!(text(&named[0].0, "deployment.environment"), Some("test"));
    assert_eq!(text(&named[0].0, "service.instance.id"), Some("web-1"));
    assert_eq!(text(&recorded(&[attributes])[0].0, "service.name"), Some("other"));
    assert_eq!(recorded(&[("OTEL_TRACES_SAMPLER", "always_off")]), []);
    assert_eq!(recorded(&[("OTEL_SDK_DISABLED", "true")]), []);
    assert_eq!(recorded(&[("OTEL_TRACES_EXPORTER", "none")]), []);
}
