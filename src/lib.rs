//! Groups, roles and users over gRPC: who may do what.
//!
//! A call flows through the modules in one direction:
//!
//! ```text
//! pb::UpdateGroupRequest ─TryFrom→ domain::UpdateGroup ─store::write→ store::group::Group ─From→ pb::Group
//!        grpc/group                                      store/group/write                grpc/group
//! ```
//!
//! The messages of [`pb`] are used by [`grpc`] and [`server`] only, database queries by [`store`] only, and [`domain`]
//! depends on neither. `ARCHITECTURE.md` explains why.

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
