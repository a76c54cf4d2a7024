//! Seeded data in which no two places look alike.

/// `bytes` pseudo-random bytes; the same for the same seed (`SplitMix64`).
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        data.extend_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    data.truncate(bytes);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_repeatable_and_differs_by_seed_and_place() {
        let data = noise(1, 4096);
        assert_eq!(data, noise(1, 4096));
        assert_ne!(data, noise(2, 4096));
        assert_ne!(data[..256], data[256..512]);
        assert_eq!(noise(1, 5), data[..5]);
    }
}
