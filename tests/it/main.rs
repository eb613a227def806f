//! Everything that the service promises, seen from outside: over a socket, against a real database.
#![expect(
    clippy::expect_used,
    reason = "a test that can't go on panics, and says what it expected"
)]

mod abuse;
mod access;
mod alike;
mod auth;
mod backup;
mod cached;
mod callers;
mod certificates;
mod changes;
mod clocks;
mod clusters;
mod compression;
mod contract;
mod crash;
mod descriptors;
mod engines;
mod feed;
mod file;
mod fresh;
mod fuzz;
mod group;
mod harness;
mod healthcheck;
mod house;
mod input;
mod instances;
mod jwt;
mod large;
mod limits;
mod logs;
mod member;
mod memory;
mod metrics;
mod model;
mod once;
mod otlp;
mod outage;
mod pages;
mod print;
mod process;
mod protocol;
mod races;
mod role;
mod round_trips;
mod schema;
mod security;
mod settings;
mod sizes;
mod slow_reads;
mod spans;
mod staleness;
mod statements;
mod stopped;
mod text;
mod textkeys;
mod tls;
mod tour;
mod upgrade;
mod user;
