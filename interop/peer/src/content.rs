//! What the frames hold: bytes that follow from the group, the frame's index and its size, so that a reader can
//! check every one of them without having been told.

use bytes::{BufMut, Bytes, BytesMut};

const HEADER: usize = 16;
const PERIOD: usize = 251;

/// The frame at `index` in group `group`, of `size` bytes.
pub fn frame(group: u64, index: u64, size: usize) -> Bytes {
    let seed = seed(group, index);
    let mut out = BytesMut::with_capacity(size);
    if size >= HEADER {
        out.put_u64(group);
        out.put_u64(index);
    }
    let ramp: [u8; PERIOD] = std::array::from_fn(|at| ((at + seed) % PERIOD) as u8);
    while out.len() < size {
        let part = PERIOD.min(size - out.len());
        out.put_slice(&ramp[..part]);
    }
    out.freeze()
}

/// Whether a frame is what it should be.
pub fn is_right(group: u64, index: u64, data: &[u8]) -> bool {
    frame(group, index, data.len()) == data
}

fn seed(group: u64, index: u64) -> usize {
    ((group % 1_000_003) * 31 + (index % 1_000_003) * 7) as usize % PERIOD
}
