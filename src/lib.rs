//! Groups, roles and users over gRPC: who may do what.
//!
//! A call flows one way through the modules, in two hops:
//!
//! ```text
//! pb::UpdateGroupRequest ─TryFrom→ domain::UpdateGroup ─store::write→ store::group::Group ─From→ pb::Group
//!        grpc/group                                      store/group/write                grpc/group
//! ```
//!
//! `tonic` and [`pb`] are known to [`grpc`] and [`server`] only, queries to [`store`] only, and
//! [`domain`] knows none of them. `ARCHITECTURE.md` tells why.

pub mod auth;
pub mod codec;
pub mod config;
pub mod domain;
pub mod entity;
pub mod error;
pub mod feed;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod grpc;
pub mod listen;
pub mod metrics;
pub mod pb;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod tls;
