//! What the fault `SwapTwo`, which tests plant, does to a delivery: its first two entries change
//! places.

use evermesh_proto::Delivery;

/// The same with the first two entries swapped.
pub(crate) fn swap_two(delivery: Delivery) -> Delivery {
    let mut entries: Vec<_> = delivery.encoded_entries().flatten().collect();
    if entries.len() < 2 {
        return delivery;
    }
    entries.swap(0, 1);
    let mut swapped = Delivery::default();
    swapped.origin = delivery.origin;
    swapped.first_offset = delivery.first_offset;
    swapped.offsets = delivery.offsets;
    swapped.attempt = delivery.attempt;
    for entry in entries {
        let mut run = vec![Delivery::ENTRY_TAG];
        let mut rest = entry.len();
        // The length, seven bits at a time.
        while rest > 0x7F {
            run.push(u8::try_from(rest & 0x7F).unwrap_or_default() | 0x80);
            rest >>= 7;
        }
        run.push(u8::try_from(rest).unwrap_or_default());
        run.extend_from_slice(&entry);
        swapped.splice(run.into());
    }
    swapped
}
