//! What the standard variables ask for: whether spans are exported, where to, and which traces.
//!
//! Always holds: what evermesh does not offer is said, and costs the traces, never the node. A
//! platform often sets these variables for a whole cluster, so they are no reason not to start.

use opentelemetry::TraceId;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::{
    OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT, Sampler, SamplingDecision,
    ShouldSample as _,
};

use crate::Environment;

/// The most spans that may wait, whatever OTEL_BSP_MAX_QUEUE_SIZE says: the queue is allocated at
/// once, about half a kilobyte for each, and a node has to stay below 48 MiB altogether.
const SPANS_WAITING_MAX: usize = 16_384;

/// Whether spans are exported.
#[derive(Debug)]
pub(crate) enum Plan {
    /// They are not. `because` is set where somebody asked for something that is not offered.
    Off {
        /// For the log.
        because: Option<String>,
    },
    /// They are.
    On(Settings),
}

/// How spans are exported.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The collector: `http://HOST:PORT`.
    pub(crate) endpoint: String,
    /// Which variable named it.
    pub(crate) variable: &'static str,
    /// The service name, if one is set.
    pub(crate) service: Option<String>,
    /// Which traces are recorded.
    pub(crate) sampling: Sampling,
    /// How many spans may wait for the exporter.
    pub(crate) waiting_max: usize,
    /// What was not understood, for the log.
    pub(crate) warnings: Vec<String>,
}

/// Decides, once for each event, whether its trace is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    /// Asked for a trace that begins here.
    root: Sampler,
    /// A decision that came with the event stands; `root` is not asked.
    follows_parent: bool,
}

impl Sampling {
    /// Whether to record this trace; `parent` is the decision that came with the event.
    pub(crate) fn decide(&self, trace: [u8; 16], parent: Option<bool>) -> bool {
        if self.follows_parent
            && let Some(parent) = parent
        {
            return parent;
        }
        let trace = TraceId::from_bytes(trace);
        let asked = self.root.should_sample(None, trace, "", &SpanKind::Producer, &[], &[]);
        asked.decision == SamplingDecision::RecordAndSample
    }
}

/// Reads the variables.
pub(crate) fn plan(environment: Environment<'_>) -> Plan {
    let variable = |name: &str| {
        environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| variable(name).map(|value| (value, name)))
    };
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Plan::Off { because: None };
    }
    if let Some(exporters) = variable("OTEL_TRACES_EXPORTER") {
        let mut exporters_asked = exporters.split(',').map(str::trim);
        if exporters == "none" {
            return Plan::Off { because: None };
        }
        if !exporters_asked.any(|exporter| exporter == "otlp") {
            let because =
                format!("OTEL_TRACES_EXPORTER={exporters}: evermesh exports by otlp, or none");
            return Plan::Off { because: Some(because) };
        }
    }
    let Some((endpoint, endpoint_variable)) =
        first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
    else {
        return Plan::Off { because: None };
    };
    let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
    if let Some((protocol, name)) = protocol.filter(|(protocol, _)| protocol != "grpc") {
        let because = format!(
            "{name}={protocol}: evermesh speaks grpc to a collector; set it to grpc, and \
             {endpoint_variable} to the collector's gRPC port"
        );
        return Plan::Off { because: Some(because) };
    }
    let mut warnings = Vec::new();
    let sampler = (variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG"));
    Plan::On(Settings {
        endpoint,
        variable: endpoint_variable,
        service: variable("OTEL_SERVICE_NAME"),
        sampling: sampling(sampler.0.as_deref(), sampler.1.as_deref(), &mut warnings),
        waiting_max: waiting_max(variable(OTEL_BSP_MAX_QUEUE_SIZE).as_deref(), &mut warnings),
        warnings,
    })
}

/// Reads the sampler. One that is not known is the default, as the specification asks.
fn sampling(name: Option<&str>, arg: Option<&str>, warnings: &mut Vec<String>) -> Sampling {
    let name = name.unwrap_or("parentbased_always_on");
    let (follows_parent, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name),
    };
    let root = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio(arg, warnings)),
        _ => {
            warnings.push(format!(
                "OTEL_TRACES_SAMPLER={name}: parentbased_always_on is used; known are always_on, \
                 always_off, traceidratio, and these with parentbased_ before them"
            ));
            return Sampling { root: Sampler::AlwaysOn, follows_parent: true };
        }
    };
    Sampling { root, follows_parent }
}

/// Reads the share of traces that is recorded.
fn ratio(arg: Option<&str>, warnings: &mut Vec<String>) -> f64 {
    let Some(arg) = arg else { return 1.0 };
    match arg.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
        _ => {
            warnings.push(format!("OTEL_TRACES_SAMPLER_ARG={arg}: 1 is used; say 0 to 1"));
            1.0
        }
    }
}

/// Reads how many spans may wait.
fn waiting_max(value: Option<&str>, warnings: &mut Vec<String>) -> usize {
    let Some(value) = value else { return OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT };
    match value.parse() {
        Ok(count @ 1..=SPANS_WAITING_MAX) => count,
        Ok(0) | Err(_) => {
            let used = OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT;
            warnings.push(format!("{OTEL_BSP_MAX_QUEUE_SIZE}={value}: {used} is used"));
            used
        }
        Ok(_) => {
            warnings.push(format!(
                "{OTEL_BSP_MAX_QUEUE_SIZE}={value}: {SPANS_WAITING_MAX}, the most, is used"
            ));
            SPANS_WAITING_MAX
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    fn planned(variables: &[(&str, &str)]) -> Plan {
        plan(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn on(variables: &[(&str, &str)]) -> Settings {
        match planned(variables) {
            Plan::On(settings) => settings,
            Plan::Off { because } => panic!("off: {because:?}"),
        }
    }

    fn off(variables: &[(&str, &str)]) -> Option<String> {
        match planned(variables) {
            Plan::On(settings) => panic!("on: {settings:?}"),
            Plan::Off { because } => because,
        }
    }

    #[test]
    fn without_an_endpoint_or_by_wish_it_is_off_in_silence() {
        assert_eq!(off(&[]), None);
        assert_eq!(off(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        assert_eq!(off(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(off(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), None);
        on(&[ENDPOINT, ("OTEL_SDK_DISABLED", "yes")]);
        on(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "console, otlp")]);
    }

    #[test]
    fn what_is_not_offered_is_said() {
        let because = off(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")]).unwrap();
        assert!(because.contains("zipkin"), "{because}");
        let because = off(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]).unwrap();
        assert!(because.contains("http/protobuf") && because.contains(ENDPOINT.0), "{because}");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        on(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), own]);
    }

    #[test]
    fn the_endpoint_for_traces_wins() {
        assert_eq!(on(&[ENDPOINT]).endpoint, ENDPOINT.1);
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
        let settings = on(&[ENDPOINT, own]);
        assert_eq!((settings.endpoint.as_str(), settings.variable), (own.1, own.0));
    }

    #[test]
    fn samplers_decide_as_their_names_say() {
        let decide = |name: &str, parent| {
            let sampler = ("OTEL_TRACES_SAMPLER", name);
            let settings = on(&[ENDPOINT, sampler, ("OTEL_TRACES_SAMPLER_ARG", "0")]);
            assert_eq!(settings.warnings, Vec::<String>::new());
            settings.sampling.decide([7; 16], parent)
        };
        for parent in [None, Some(false), Some(true)] {
            assert!(decide("always_on", parent));
            assert!(!decide("always_off", parent));
            assert!(!decide("traceidratio", parent));
            assert_eq!(decide("parentbased_always_on", parent), parent.unwrap_or(true));
            assert_eq!(decide("parentbased_always_off", parent), parent.unwrap_or(false));
            assert_eq!(decide("parentbased_traceidratio", parent), parent.unwrap_or(false));
        }
    }

    #[test]
    fn a_ratio_is_kept_about_and_the_same_trace_decides_alike() {
        let ratio = ("OTEL_TRACES_SAMPLER_ARG", "0.25");
        let settings = on(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ratio]);
        let trace = |number: u64| {
            let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            mixed.to_be_bytes()
        };
        let taken = (1..=4000).filter(|n| settings.sampling.decide(trace(*n), None)).count();
        assert!((800..1200).contains(&taken), "{taken}");
        assert!((1..100).all(|n| {
            settings.sampling.decide(trace(n), None) == settings.sampling.decide(trace(n), None)
        }));
    }

    #[test]
    fn what_is_not_understood_is_said_and_replaced() {
        let settings = on(&[
            ENDPOINT,
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            (OTEL_BSP_MAX_QUEUE_SIZE, "many"),
        ]);
        assert_eq!(settings.warnings.len(), 2);
        assert!(settings.sampling.decide([7; 16], None));
        assert_eq!(settings.waiting_max, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT);
        let settings = on(&[
            ENDPOINT,
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            (OTEL_BSP_MAX_QUEUE_SIZE, "1000000"),
        ]);
        assert_eq!(settings.warnings.len(), 2);
        assert!(settings.warnings[0].contains("OTEL_TRACES_SAMPLER_ARG"));
        assert_eq!(settings.waiting_max, SPANS_WAITING_MAX);
        assert_eq!(on(&[ENDPOINT, (OTEL_BSP_MAX_QUEUE_SIZE, "9")]).waiting_max, 9);
    }
}
