//! Measuring: frames that carry the time at which they were written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use moq_net::{Timestamp, track};
use serde_json::{Value, json};

use crate::failure::Outcome;

const STAMP: usize = 8;

/// Writes groups of frames, as fast as it may or one group each interval. moq-net never holds a writer back, so
/// every `ahead` bytes it waits until nobody reads the group any more.
pub async fn write(
    track: track::Producer,
    groups: u64,
    frames: u64,
    size: usize,
    interval: f64,
    ahead: u64,
) -> Outcome {
    let started = tokio::time::Instant::now();
    let mut written = 0;
    for number in 0..groups {
        if interval > 0.0 {
            tokio::time::sleep_until(started + Duration::from_secs_f64(interval * number as f64)).await;
        }
        let mut group = track.append_group()?;
        for _ in 0..frames {
            group.write_frame(Timestamp::now(), frame(size))?;
        }
        group.finish()?;
        written += size as u64 * frames;
        if written >= ahead {
            written = 0;
            group.unused().await?;
        }
    }
    Ok(json!({"seconds": started.elapsed().as_secs_f64()}))
}

fn frame(size: usize) -> bytes::Bytes {
    let mut out = BytesMut::with_capacity(size);
    if size >= STAMP {
        out.put_f64(now());
    }
    out.resize(size, b'.');
    out.freeze()
}

/// How old a frame is, in seconds, if it says when it was written.
pub fn age(frame: &[u8]) -> Option<f64> {
    Some(now() - f64::from_be_bytes(frame.get(..STAMP)?.try_into().ok()?))
}

/// The median and the 99th percentile.
pub fn summary(mut ages: Vec<f64>) -> Value {
    ages.sort_by(f64::total_cmp);
    let at = |part: f64| ages.get(((ages.len() as f64) * part) as usize).copied();
    json!({"median": at(0.5), "p99": at(0.99)})
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
