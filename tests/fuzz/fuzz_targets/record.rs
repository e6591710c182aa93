//! A record from anywhere on the disk: never a panic, and what is taken is whole.
#![no_main]

use evermesh_journal::decode_record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let marker = bytes.first_chunk::<4>().map_or(1, |marker| u32::from_le_bytes(*marker));
    if let Ok(decoded) = decode_record(&bytes.to_vec().into(), marker) {
        assert!(decoded.length >= decoded.record.taken_body().len());
        assert!(decoded.record.end() >= decoded.record.offset);
        let _ = decoded.record.taken_entries().count();
    }
});
