//! The sequence number of the CMS: 32 bits with a sign, which wrap.

/// The number as one that does not wrap: of all that have these 32 bits, the nearest to the last
/// one. Numbers of one raiser that lie less than two thousand million apart keep their order over
/// any number of wraps; who sees the first one begins with `widen(0, first)`.
#[must_use]
pub const fn widen(last: u64, number: i32) -> u64 {
    // How far it is, forwards or backwards, in 32 bits.
    let away = number.wrapping_sub(last as u32 as i32);
    match last.checked_add_signed(away as i64) {
        Some(near) => near,
        // Below 0, or above all: once around the other way.
        None if away < 0 => last.wrapping_add_signed(away as i64 + (1 << 32)),
        None => last.wrapping_add_signed(away as i64 - (1 << 32)),
    }
}
