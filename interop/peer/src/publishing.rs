//! What this peer offers: broadcasts, tracks, groups, frames.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use moq_net::origin::{self, Route};
use moq_net::{Hop, Timescale, Timestamp, broadcast, group, time, track};
use serde::Deserialize;
use serde_json::json;

use crate::content;
use crate::failure::{Failure, Outcome, error_of};

/// A track to make.
#[derive(Deserialize)]
pub struct TrackSpec {
    name: String,
    #[serde(default)]
    priority: u8,
    /// Seconds that a group is kept after a newer one.
    #[serde(default = "an_hour")]
    keep: f64,
    /// Units per second of the timestamps.
    #[serde(default = "milliseconds")]
    timescale: u64,
}

fn an_hour() -> f64 {
    3600.0
}

fn milliseconds() -> u64 {
    1000
}

/// Groups to write, all alike.
#[derive(Deserialize)]
pub struct Lines {
    groups: u64,
    /// The first group's number; without it, the next.
    first: Option<u64>,
    /// The sizes of the frames of each group.
    sizes: Vec<usize>,
    /// Seconds between groups.
    #[serde(default)]
    interval: f64,
    /// Leave the groups unfinished; a group that is open already is written on.
    #[serde(default)]
    open: bool,
    /// The first frame's timestamp, in the track's units; each frame's is one more. Without it, the time now.
    timestamp: Option<u64>,
}

struct Track {
    producer: track::Producer,
    open: HashMap<u64, (group::Producer, u64)>,
}

struct Broadcast {
    producer: broadcast::Producer,
    tracks: HashMap<String, Track>,
}

pub struct Publishing {
    origin: origin::Producer,
    broadcasts: Mutex<HashMap<String, Broadcast>>,
}

/// An empty origin that works by itself.
pub fn new_origin() -> origin::Producer {
    let mut config = origin::Config::new(Hop::random());
    // Nothing is to be lost that the subscriber did not give up itself.
    config.default_max_age = Duration::from_secs(3600);
    let (producer, driver) = origin::Producer::new(config);
    tokio::spawn(time::run(driver));
    producer
}

impl Publishing {
    pub fn new() -> Self {
        Self { origin: new_origin(), broadcasts: Mutex::default() }
    }

    pub fn origin(&self) -> &origin::Producer {
        &self.origin
    }

    /// Offers a broadcast; one of the same name ends first.
    pub fn publish(&self, name: &str, tracks: Vec<TrackSpec>) -> Outcome {
        let mut broadcasts = self.broadcasts.lock().unwrap();
        if let Some(old) = broadcasts.remove(name) {
            old.producer.close();
        }
        let producer = self.origin.create_broadcast(name)?;
        let mut broadcast = Broadcast { producer, tracks: HashMap::new() };
        for track in tracks {
            broadcast.add(track)?;
        }
        broadcast.producer.announce(Route::default())?;
        broadcasts.insert(name.to_owned(), broadcast);
        Ok(json!({}))
    }

    /// Takes the offer back; the broadcast itself goes on.
    pub fn unpublish(&self, name: &str) -> Outcome {
        self.with(name, |broadcast| {
            broadcast.producer.unannounce();
            Ok(json!({}))
        })
    }

    pub fn add_track(&self, broadcast: &str, track: TrackSpec) -> Outcome {
        self.with(broadcast, |broadcast| broadcast.add(track).map(|()| json!({})))
    }

    pub fn track(&self, broadcast: &str, name: &str) -> Result<track::Producer, Failure> {
        self.with(broadcast, |broadcast| Ok(broadcast.track(name)?.producer.clone()))
    }

    /// Writes groups, and says which they were.
    pub async fn write(&self, broadcast: &str, track: &str, lines: Lines) -> Outcome {
        let mut sequences = Vec::new();
        let mut stamp = lines.timestamp;
        for number in 0..lines.groups {
            if number > 0 && lines.interval > 0.0 {
                tokio::time::sleep(Duration::from_secs_f64(lines.interval)).await;
            }
            let wanted = lines.first.map(|first| first + number);
            let sequence =
                self.with(broadcast, |broadcast| broadcast.track(track)?.write(wanted, &lines, &mut stamp))?;
            sequences.push(sequence);
        }
        Ok(json!({"sequences": sequences}))
    }

    /// Writes datagrams.
    pub fn datagrams(&self, broadcast: &str, track: &str, sizes: &[usize], timestamp: u64) -> Outcome {
        self.with(broadcast, |broadcast| {
            let producer = &mut broadcast.track(track)?.producer;
            let mut sequences = Vec::new();
            for (size, at) in sizes.iter().zip(timestamp..) {
                let sequence = producer.latest().map_or(0, |latest| latest + 1);
                let stamp = Timestamp::from_scale(at, 1000).map_err(Failure::usage)?;
                sequences.push(producer.append_datagram(stamp, content::frame(sequence, 0, *size))?);
            }
            Ok(json!({"sequences": sequences}))
        })
    }

    /// Ends a broadcast, a track or a group well.
    pub fn finish(&self, broadcast: &str, track: Option<&str>, group: Option<u64>) -> Outcome {
        self.with(broadcast, |broadcast| {
            match (track, group) {
                (Some(track), Some(group)) => broadcast.track(track)?.take(group)?.finish()?,
                (Some(track), None) => broadcast.track(track)?.producer.finish()?,
                (None, _) => {
                    for track in broadcast.tracks.values() {
                        // One that has ended before stays as it is.
                        let _ = track.producer.finish();
                    }
                    broadcast.producer.close();
                }
            }
            Ok(json!({}))
        })
    }

    /// Ends a broadcast, a track or a group with a code.
    pub fn abort(&self, broadcast: &str, track: Option<&str>, group: Option<u64>, code: u32) -> Outcome {
        self.with(broadcast, |broadcast| {
            match (track, group) {
                (Some(track), Some(group)) => broadcast.track(track)?.take(group)?.abort(error_of(code))?,
                (Some(track), None) => broadcast.track(track)?.abort(code)?,
                (None, _) => {
                    for track in broadcast.tracks.values_mut() {
                        track.abort(code)?;
                    }
                    broadcast.producer.close();
                }
            }
            Ok(json!({}))
        })
    }

    /// Waits until somebody reads a track.
    pub async fn used(&self, broadcast: &str, track: &str) -> Outcome {
        let track = self.track(broadcast, track)?;
        track.used().await?;
        Ok(json!({}))
    }

    /// Waits until nobody does.
    pub async fn unused(&self, broadcast: &str, track: &str) -> Outcome {
        let track = self.track(broadcast, track)?;
        track.unused().await?;
        Ok(json!({}))
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Broadcast) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut broadcasts = self.broadcasts.lock().unwrap();
        act(broadcasts.get_mut(name).ok_or_else(|| Failure::usage(format!("no broadcast {name}")))?)
    }
}

impl Broadcast {
    fn add(&mut self, spec: TrackSpec) -> Result<(), Failure> {
        let info = track::Info::default()
            .with_priority(spec.priority)
            .with_max_age(Duration::from_secs_f64(spec.keep))
            .with_timescale(Timescale::new(spec.timescale).map_err(Failure::usage)?);
        let producer = self.producer.create_track(spec.name.as_str(), info)?;
        self.tracks.insert(spec.name, Track { producer, open: HashMap::new() });
        Ok(())
    }

    fn track(&mut self, name: &str) -> Result<&mut Track, Failure> {
        self.tracks.get_mut(name).ok_or_else(|| Failure::usage(format!("no track {name}")))
    }
}

impl Track {
    /// Writes one group, or goes on with one that is open.
    fn write(&mut self, wanted: Option<u64>, lines: &Lines, stamp: &mut Option<u64>) -> Result<u64, Failure> {
        let (mut group, mut index) = match wanted.and_then(|sequence| self.open.remove(&sequence)) {
            Some(open) => open,
            None => match wanted {
                Some(sequence) => (self.producer.create_group(group::Info { sequence })?, 0),
                None => (self.producer.append_group()?, 0),
            },
        };
        let sequence = group.sequence;
        for size in &lines.sizes {
            let at = match stamp {
                Some(at) => {
                    let now = Timestamp::new(*at, group.timescale()).map_err(Failure::usage)?;
                    *at += 1;
                    now
                }
                None => Timestamp::now(),
            };
            group.write_frame(at, content::frame(sequence, index, *size))?;
            index += 1;
        }
        if lines.open {
            self.open.insert(sequence, (group, index));
        } else {
            group.finish()?;
        }
        Ok(sequence)
    }

    fn take(&mut self, group: u64) -> Result<group::Producer, Failure> {
        let open = self.open.remove(&group);
        open.map(|(group, _)| group).ok_or_else(|| Failure::usage(format!("group {group} is not open")))
    }

    fn abort(&mut self, code: u32) -> Result<(), Failure> {
        for (_, (group, _)) in self.open.drain() {
            group.abort(error_of(code))?;
        }
        self.producer.clone().abort(error_of(code))?;
        Ok(())
    }
}
