//! Call durations by RPC and status code: `rpc.server.call.duration` of OpenTelemetry's RPC conventions.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::{family::Family, gauge::Gauge, histogram::Histogram};

/// Upper bounds in seconds: those that OpenTelemetry recommends, and lower ones.
const BUCKETS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];
/// Number of gRPC status codes.
const CODES: usize = 17;

type Labels = [(&'static str, String); 2];

/// The metrics of all calls.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    pub(super) durations: Family<Labels, Histogram>,
    pub(super) in_flight: Gauge,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
        }
    }
}

impl CallMetrics {
    /// The metrics of one RPC.
    pub(crate) fn for_rpc(&self, rpc: &str) -> RpcMetrics {
        RpcMetrics(Arc::new(RpcDurations {
            rpc: rpc.to_owned(),
            calls: self.clone(),
            by_code: Default::default(),
        }))
    }
}

/// The metrics of one RPC's calls.
#[derive(Clone, Debug)]
pub(crate) struct RpcMetrics(Arc<RpcDurations>);

#[derive(Debug)]
struct RpcDurations {
    rpc: String,
    calls: CallMetrics,
    /// The histogram of each code, cached because a look-up by labels for each call would cost more than the
    /// observation.
    by_code: [OnceLock<Histogram>; CODES],
}

impl RpcMetrics {
    /// The RPC's name, as `package.Service/Method`.
    pub(crate) fn name(&self) -> &str {
        &self.0.rpc
    }

    pub(crate) fn begin(&self) {
        self.0.calls.in_flight.inc();
    }

    /// Records the end of a call, with the number and name of its status code.
    pub(crate) fn end(&self, (number, name): (usize, &'static str), seconds: f64) {
        let RpcDurations {
            rpc,
            calls,
            by_code,
        } = &*self.0;
        calls.in_flight.dec();
        if let Some(histogram) = by_code.get(number) {
            let labels = || {
                [
                    ("rpc_method", rpc.clone()),
                    ("rpc_response_status_code", name.to_owned()),
                ]
            };
            let histogram =
                histogram.get_or_init(|| calls.durations.get_or_create_owned(&labels()));
            histogram.observe(seconds);
        }
    }
}
