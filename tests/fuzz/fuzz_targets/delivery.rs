//! A delivery from anywhere: never a panic, and what was read is written back to the same.
#![no_main]

use evermesh_proto::Delivery;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(delivery) = Delivery::decode(bytes) {
        let _ = delivery.entries().count();
        let encoded = delivery.encode_to_vec();
        assert_eq!(encoded.len(), delivery.encoded_len());
        assert_eq!(Delivery::decode(encoded.as_slice()).unwrap(), delivery);
    }
    let mut spliced = Delivery::default();
    spliced.splice(bytes.to_vec().into());
    let _ = spliced.entries().count();
});
