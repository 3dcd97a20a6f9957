use std::sync::OnceLock;

use bytes::Bytes;

/// A prime, so that two places a round number of MiB apart differ: swapped or doubled parts are noticed.
const PERIOD: usize = 1_048_573;

/// At most `most` bytes of the endless padding from `offset` on.
pub(super) fn read(offset: u64, most: usize) -> Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    let block = BLOCK.get_or_init(|| Bytes::from(noise()));
    let at = (offset % PERIOD as u64) as usize;
    block.slice(at..PERIOD.min(at + most))
}

/// Noise that nothing on the way can compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(PERIOD + 8);
    while bytes.len() < PERIOD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(PERIOD);
    bytes
}
