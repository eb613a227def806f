//! How long calls take, by RPC and code: `rpc.server.call.duration` of OpenTelemetry's RPC conventions.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::{family::Family, gauge::Gauge, histogram::Histogram};

/// Upper bounds in seconds: those that OpenTelemetry advises, and lower ones.
const BUCKETS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];
/// How many codes gRPC has.
const CODES: usize = 17;

type Labels = [(&'static str, String); 2];

/// The calls of a process.
#[derive(Clone, Debug)]
pub struct Calls {
    pub(super) durations: Family<Labels, Histogram>,
    pub(super) in_flight: Gauge,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
        }
    }
}

impl Calls {
    /// Those of one RPC.
    pub(crate) fn of(&self, rpc: &str) -> Rpc {
        Rpc(Arc::new(Durations {
            rpc: rpc.to_owned(),
            calls: self.clone(),
            by_code: Default::default(),
        }))
    }
}

/// The calls of one RPC.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(Arc<Durations>);

#[derive(Debug)]
struct Durations {
    rpc: String,
    calls: Calls,
    /// Found once: a look-up by text for each call would cost more than what it counts.
    by_code: [OnceLock<Histogram>; CODES],
}

impl Rpc {
    /// Its name, as `package.Service/Method`.
    pub(crate) fn name(&self) -> &str {
        &self.0.rpc
    }

    pub(crate) fn begin(&self) {
        self.0.calls.in_flight.inc();
    }

    /// Ends a call with a code, which has a number and a name.
    pub(crate) fn end(&self, (number, name): (usize, &'static str), seconds: f64) {
        let Durations {
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
