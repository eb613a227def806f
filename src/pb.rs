//! The generated code of `proto/groups/v1`, and its descriptor set. No logic.
#![expect(
    clippy::doc_markdown,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the protos"
)]

tonic::include_proto!("groups.v1");

/// Every message and service with its comments: what reflection serves and tests walk through.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
