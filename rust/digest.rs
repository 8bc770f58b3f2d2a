//! The book digest of wire.md section 3: a sum over cells, so that it is kept up cell by cell.

use crate::levels::Side;

/// FNV-1a 32 bit over the leg's name, computed once per leg.
#[must_use]
pub fn salt(leg: &str) -> u32 {
    leg.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// MurmurHash3's 32-bit finaliser: every input bit reaches every output bit.
fn finalise(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
    h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
    h ^ (h >> 16)
}

/// Hash of one cell in YES coordinates, price and size in millionths; 0 for a cell that shows nothing.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the recipe is modulo 2^32 over non-negative numbers"
)]
pub fn cell(salt: u32, side: Side, price: i64, size: i64) -> u32 {
    if size == 0 {
        return 0;
    }
    let seed = (2 * price) as u32;
    let seed = seed.wrapping_add(side as u32).wrapping_add(0x9E37_79B9).wrapping_add(salt);
    let low = finalise(seed) ^ (size as u64 as u32);
    finalise(finalise(low) ^ ((size as u64 >> 32) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors printed in wire.md section 3 must come out.
    #[test]
    fn vectors() {
        assert_eq!(salt("kalshi"), 2_320_148_655);
        assert_eq!(salt("polymarket"), 3_782_428_595);
        assert_eq!(salt("kalshi-2"), 3_622_892_796);
        assert_eq!(cell(salt("kalshi"), Side::Bid, 520_000, 500_000_000), 2_847_660_764);
        assert_eq!(cell(salt("kalshi-2"), Side::Bid, 520_000, 500_000_000), 1_198_482_198);
        assert_eq!(cell(salt("polymarket"), Side::Ask, 999_900, 5_000_000_250_000), 2_001_326_314);
    }
}
