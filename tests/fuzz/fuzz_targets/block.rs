//! A block from anywhere: never a panic, and what is taken is whole.
#![no_main]

use evermesh_event::{Block, Frontier};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Block::measure(bytes);
    // With its own checksum put right, the fuzzer reaches what lies behind it.
    let mut bytes = bytes.to_vec();
    if let Some((preamble, rest)) = bytes.split_at_mut_checked(16) {
        preamble[12..].copy_from_slice(&crc32c(rest).to_le_bytes());
    }
    if let Ok(block) = Block::decode(bytes.into()) {
        let entries = block.entries().inspect(|entry| {
            let _ = (entry.decode(), entry.glance());
        });
        assert_eq!(entries.count(), block.count() as usize);
        let _ = Frontier::default().judge(&block);
    }
});

/// CRC-32C, bit by bit: slow, and independent of the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}
