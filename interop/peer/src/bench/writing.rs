//! The publisher's part.

use std::time::Duration;

use bytes::Bytes;
use moq_net::frame::{Buffer, Frame};
use moq_net::{Timestamp, group, track};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::acknowledged::Acknowledged;
use super::clock;
use super::content::Content;
use super::stamped::Stamps;
use crate::failure::{Failure, Outcome};

/// Frames that are written, or read, at once.
pub const BATCH: usize = 32;

/// Groups as fast as the slowest reader reads them.
#[derive(Deserialize)]
pub struct Flood {
    seconds: f64,
    frames: usize,
    size: usize,
    /// Groups that the writer may be ahead.
    window: u64,
}

/// Writes groups for some seconds. The answer has the time before the first one, and the processor time until then.
pub async fn flood(track: track::Producer, mut acknowledged: Acknowledged, work: Flood) -> Outcome {
    let content = Content::new(work.size, work.frames)?;
    let processor = clock::processor();
    let start = clock::now();
    let end = start + (work.seconds * 1e9) as u64;
    let mut groups = 0_u64;
    while clock::now() < end {
        let mut group = track.append_group()?;
        let frames = content.group(group.sequence);
        write_group(&mut group, frames)?;
        group.finish()?;
        groups += 1;
        acknowledged.reach(groups.saturating_sub(work.window)).await?;
    }
    Ok(json!({"start": start, "groups": groups, "processor": processor}))
}

fn write_group(group: &mut group::Producer, frames: &[Bytes]) -> Result<(), Failure> {
    let timestamp = Timestamp::now();
    if let [frame] = frames {
        return Ok(group.write_frame(timestamp, frame.clone())?);
    }
    let mut buffer = Buffer::<BATCH>::new();
    for frames in frames.chunks(BATCH) {
        for payload in frames {
            // There is room: it is as large as the chunks.
            let _ = buffer.push(Frame { timestamp, payload: payload.clone() });
        }
        group.write_frames(&mut buffer)?;
    }
    Ok(())
}

/// Frames at a steady pace that say when they were written.
#[derive(Deserialize)]
pub struct Pace {
    rate: f64,
    seconds: f64,
    /// How many to a group.
    frames: u64,
    /// The size of each group's first frame, and that of the others.
    first: usize,
    size: usize,
}

/// Seconds, and the part of the time that the work takes, by which a write may be late.
const LATE_BY: f64 = 0.25;
const LATE_SHARE: f64 = 0.25;

/// Writes frames at a pace. What is late is made up for, up to a limit.
pub async fn paced(track: track::Producer, pace: Pace) -> Outcome {
    let stamps = Stamps::new();
    let patience = Duration::from_secs_f64(LATE_BY + LATE_SHARE * pace.seconds);
    let count = (pace.rate * pace.seconds).round() as u64;
    let start = Instant::now();
    let mut open: Option<group::Producer> = None;
    for index in 0..count {
        let due = start + Duration::from_secs_f64(index as f64 / pace.rate);
        if Instant::now() > due + patience {
            return Err(Failure::usage(format!("{} frames a second are more than it can write", pace.rate)));
        }
        sleep_until(due).await;
        let begins = index % pace.frames == 0;
        let mut group = match open.take() {
            Some(group) if !begins => group,
            _ => track.append_group()?,
        };
        let size = if begins { pace.first } else { pace.size };
        group.write_frame(Timestamp::now(), stamps.frame(index, size))?;
        if (index + 1) % pace.frames == 0 || index + 1 == count {
            group.finish()?;
        } else {
            open = Some(group);
        }
    }
    Ok(json!({"frames": count}))
}
