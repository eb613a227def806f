//! Tests of the service's public behaviour: over a socket, against a real database.
#![expect(
    clippy::expect_used,
    reason = "a test that can't go on panics, and says what it expected"
)]

mod abuse;
mod access;
mod architecture;
mod auth;
mod backup;
mod cache_consistency;
mod caller_limits;
mod certificates;
mod change_replay;
mod changes;
mod clock_skew;
mod clusters;
mod completions;
mod compression;
mod contract;
mod crash;
mod descriptors;
mod fuzz;
mod group;
mod harness;
mod healthcheck;
mod idempotency;
mod instances;
mod invalid_requests;
mod jwt;
mod large_directory;
mod limits;
mod logs;
mod member;
mod memory;
mod metrics;
mod min_revision;
mod model;
mod name_keys;
mod otlp;
mod outage;
mod pages;
mod process;
mod protocol;
mod races;
mod response_sizes;
mod role;
mod round_trips;
mod schema;
mod security_claims;
mod settings;
mod slow_reads;
mod spans;
mod sqlite_file;
mod staleness;
mod statements;
mod suite_on_servers;
mod suspended_instance;
mod text;
mod textkeys;
mod tls;
mod tour;
mod upgrade;
mod user;
