//! The wire of evermesh: types and services generated from `proto/`, and the descriptor set for
//! reflection.
//!
//! What a message means stands in the `.proto` files. Rules about them live one floor up, in
//! `evermesh-event`.

mod delivery;

pub use delivery::Delivery;

/// Package `evermesh.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    clippy::large_enum_variant,
    reason = "generated; its documentation is that of the .proto files"
)]
pub mod v1 {
    pub use crate::Delivery;

    tonic::include_proto!("evermesh.v1");
}

/// Every `.proto` file of this crate and what it imports, as an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/evermesh.bin"));
