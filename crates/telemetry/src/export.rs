//! The way of a span out of the process: a bounded queue, a thread that batches, OTLP over gRPC.
//!
//! Last step, beside the way of the event. The SDK's batch processor collects on a thread of its
//! own; the gRPC client lives on a small runtime of its own, so that neither the node's workers nor
//! the order in which runtimes end matter to it.
//!
//! Always holds: sending never waits. At most `waiting_max` spans wait (OTEL_BSP_MAX_QUEUE_SIZE,
//! 2 048 unless set); one more is dropped before it is built, and counted. A collector that cannot
//! be reached is logged once when that begins and once when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _,
};
use tokio::runtime::{Builder, Runtime};

use crate::Error;
use crate::settings::Settings;

/// The exporter, running. Whoever started telemetry holds it.
#[derive(Debug)]
pub(crate) struct Export {
    /// Where the outlets send.
    processor: Arc<BatchSpanProcessor>,
    /// Where the gRPC client lives. Dropped last.
    _client: Client,
}

/// The near end of the queue; the spans of all stations go through it.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// The far end.
    processor: Arc<BatchSpanProcessor>,
    /// Shared with the reporting exporter.
    counts: Arc<Counts>,
    /// How many spans may wait.
    waiting_max: usize,
}

/// Counts that both ends of the queue keep.
#[derive(Debug, Default)]
struct Counts {
    /// Spans that were sent and not yet handed to the exporter.
    waiting: AtomicUsize,
    /// Spans that nobody will see.
    dropped: AtomicU64,
}

/// The runtime of the gRPC client.
#[derive(Debug)]
struct Client(Option<Runtime>);

/// The OTLP exporter, saying in the log when it stops and when it begins to get through.
#[derive(Debug)]
struct Reporting {
    exporter: OtlpExporter,
    counts: Arc<Counts>,
    failing: AtomicBool,
}

impl Export {
    /// Starts the threads. The collector need not be there yet.
    pub(crate) fn start(settings: &Settings, node: &str) -> Result<(Self, Outlet), Error> {
        let client = Client::start()?;
        let exporter = client.exporter(settings)?;
        let counts = Arc::new(Counts::default());
        let failing = AtomicBool::new(false);
        let reporting = Reporting { exporter, counts: Arc::clone(&counts), failing };
        let config = BatchConfigBuilder::default().with_max_queue_size(settings.waiting_max);
        let mut processor = BatchSpanProcessor::new(reporting, config.build());
        processor.set_resource(&resource(settings, node));
        let processor = Arc::new(processor);
        let outlet =
            Outlet { processor: Arc::clone(&processor), counts, waiting_max: settings.waiting_max };
        Ok((Self { processor, _client: client }, outlet))
    }

    /// Exports what waits, and ends.
    pub(crate) fn shutdown(self, deadline: Duration) -> Result<(), Error> {
        self.processor
            .shutdown_with_timeout(deadline)
            .map_err(|error| Error::Unflushed { deadline, reason: error.to_string() })
    }
}

impl Outlet {
    /// Sends a span, built only if there is room for it.
    pub(crate) fn send(&self, build: impl FnOnce() -> SpanData) {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.processor.on_end(build());
    }

    /// How many spans were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

impl Client {
    /// Starts the one thread that speaks to the collector.
    fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("evermesh-otlp")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Builds the exporter; its connection is made with the first batch.
    fn exporter(&self, settings: &Settings) -> Result<OtlpExporter, Error> {
        // A gRPC channel is bound to the runtime in whose context it is built.
        let _inside = self.0.as_ref().map(Runtime::enter);
        let endpoint = settings.endpoint.as_str();
        let built = OtlpExporter::builder().with_tonic().with_endpoint(endpoint).build();
        built.map_err(|error| Error::Endpoint {
            endpoint: endpoint.to_owned(),
            variable: settings.variable,
            reason: error.to_string(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Waiting for a runtime to end is forbidden on the threads of another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Reporting {
    /// Says in the log what changed.
    fn report(&self, result: &OTelSdkResult, spans: usize) {
        match result {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are taken by the collector again");
                }
            }
            Err(error) => {
                let spans = u64::try_from(spans).unwrap_or(u64::MAX);
                self.counts.dropped.fetch_add(spans, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "spans are dropped: the collector does not take them");
                }
            }
        }
    }
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        self.report(&result, spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Who records: what is known here, then what the operator's variables say, which wins.
fn resource(settings: &Settings, node: &str) -> Resource {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "evermesh"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &settings.service {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}
