//! The commands, and who carries each of them out.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use crate::bench::{self, Flood, Pace, ReadersSpec};
use crate::failure::Outcome;
use crate::peer::{Peer, Remote};
use crate::publishing::{Lines, TrackSpec};
use crate::raw::{Direction, Ending};
use crate::reading::{Amount, Wishes};

/// One line of input.
#[derive(Deserialize)]
pub struct Request {
    #[serde(flatten)]
    pub command: Command,
}

/// How to receive a session that a peer opens.
#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    #[default]
    Accept,
    Reject,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    // Endpoints and sessions.
    Bind {
        versions: Vec<String>,
        address: String,
        #[serde(default)]
        relay: bool,
        through: Option<String>,
    },
    ServeRelay {
        address: String,
    },
    Dial {
        #[serde(flatten)]
        remote: Remote,
    },
    Accept {
        #[serde(default)]
        how: Welcome,
    },
    Close {
        session: u64,
        code: u32,
        reason: String,
    },
    Closed {
        session: u64,
    },
    Stats {
        session: u64,
    },
    News {
        session: u64,
        count: usize,
    },
    // Publishing.
    Publish {
        broadcast: String,
        tracks: Vec<TrackSpec>,
    },
    Unpublish {
        broadcast: String,
    },
    AddTrack {
        broadcast: String,
        #[serde(flatten)]
        track: TrackSpec,
    },
    Write {
        broadcast: String,
        track: String,
        #[serde(flatten)]
        lines: Lines,
    },
    Datagrams {
        broadcast: String,
        track: String,
        sizes: Vec<usize>,
        timestamp: u64,
    },
    Finish {
        broadcast: String,
        track: Option<String>,
        group: Option<u64>,
    },
    Abort {
        broadcast: String,
        track: Option<String>,
        group: Option<u64>,
        code: u32,
    },
    Used {
        broadcast: String,
        track: String,
    },
    Unused {
        broadcast: String,
        track: String,
    },
    // Subscribing.
    Subscribe {
        session: u64,
        broadcast: String,
        track: String,
        #[serde(flatten)]
        wishes: Wishes,
    },
    Read {
        subscription: u64,
        #[serde(flatten)]
        amount: Amount,
    },
    ReadDatagrams {
        subscription: u64,
        count: usize,
    },
    Update {
        subscription: u64,
        #[serde(flatten)]
        wishes: Wishes,
    },
    Unsubscribe {
        subscription: u64,
    },
    Fetch {
        session: u64,
        broadcast: String,
        track: String,
        group: u64,
    },
    // Bytes of the caller's own making.
    RawDial {
        #[serde(flatten)]
        remote: Remote,
        version: String,
    },
    RawOpen {
        connection: u64,
        direction: Direction,
    },
    RawAccept {
        connection: u64,
        direction: Direction,
    },
    RawWrite {
        stream: u64,
        hex: String,
        #[serde(default = "once")]
        times: u32,
    },
    RawEnd {
        stream: u64,
        #[serde(flatten)]
        how: Ending,
    },
    RawRead {
        stream: u64,
        bytes: Option<usize>,
    },
    RawStopped {
        stream: u64,
    },
    RawDatagram {
        connection: u64,
        hex: String,
    },
    RawClose {
        connection: u64,
        code: u32,
        reason: String,
    },
    RawClosed {
        connection: u64,
    },
    // Measuring.
    Usage,
    BenchListen {
        readers: usize,
    },
    BenchFlood {
        acknowledged: u64,
        broadcast: String,
        track: String,
        #[serde(flatten)]
        work: Flood,
    },
    BenchPace {
        broadcast: String,
        track: String,
        #[serde(flatten)]
        pace: Pace,
    },
    BenchOpen(ReadersSpec),
    BenchWatch {
        readers: u64,
    },
    BenchArrived {
        readers: u64,
        expected: HashMap<String, u64>,
    },
    BenchFirstFrame(ReadersSpec),
}

fn once() -> u32 {
    1
}

/// Runs a command to its end.
pub async fn run(peer: &Arc<Peer>, command: Command) -> Outcome {
    match command {
        Command::Bind { versions, address, relay, through } => {
            peer.bind(versions, &address, relay, through.as_deref()).await
        }
        Command::ServeRelay { address } => peer.relay_server().serve(&address).await,
        Command::Dial { remote } => peer.dial(remote).await,
        Command::Accept { how } => peer.accept(how).await,
        Command::Close { session, code, reason } => {
            peer.session(session)?.close(code, &reason);
            Ok(json!({}))
        }
        Command::Closed { session } => Ok(peer.session(session)?.closed().await),
        Command::Stats { session } => Ok(peer.session(session)?.stats()),
        Command::News { session, count } => Ok(peer.session(session)?.news(count).await),
        Command::Publish { broadcast, tracks } => peer.publishing()?.publish(&broadcast, tracks),
        Command::Unpublish { broadcast } => peer.publishing()?.unpublish(&broadcast),
        Command::AddTrack { broadcast, track } => peer.publishing()?.add_track(&broadcast, track),
        Command::Write { broadcast, track, lines } => peer.publishing()?.write(&broadcast, &track, lines).await,
        Command::Datagrams { broadcast, track, sizes, timestamp } => {
            peer.publishing()?.datagrams(&broadcast, &track, &sizes, timestamp)
        }
        Command::Finish { broadcast, track, group } => peer.publishing()?.finish(&broadcast, track.as_deref(), group),
        Command::Abort { broadcast, track, group, code } => {
            peer.publishing()?.abort(&broadcast, track.as_deref(), group, code)
        }
        Command::Used { broadcast, track } => peer.publishing()?.used(&broadcast, &track).await,
        Command::Unused { broadcast, track } => peer.publishing()?.unused(&broadcast, &track).await,
        Command::Subscribe { session, broadcast, track, wishes } => peer.subscribe(session, broadcast, track, wishes),
        Command::Read { subscription, amount } => peer.subscription(subscription)?.read(amount).await,
        Command::ReadDatagrams { subscription, count } => peer.subscription(subscription)?.read_datagrams(count).await,
        Command::Update { subscription, wishes } => peer.subscription(subscription)?.update(wishes).await,
        Command::Unsubscribe { subscription } => peer.unsubscribe(subscription),
        Command::Fetch { session, broadcast, track, group } => {
            peer.session(session)?.fetch(&broadcast, &track, group).await
        }
        Command::RawDial { remote, version } => peer.raw_dial(remote, &version).await,
        Command::RawOpen { connection, direction } => peer.raw().open(connection, direction).await,
        Command::RawAccept { connection, direction } => peer.raw().accept(connection, direction).await,
        Command::RawWrite { stream, hex, times } => peer.raw().write(stream, &hex, times).await,
        Command::RawEnd { stream, how } => peer.raw().end(stream, how).await,
        Command::RawRead { stream, bytes } => peer.raw().read(stream, bytes).await,
        Command::RawStopped { stream } => peer.raw().stopped(stream).await,
        Command::RawDatagram { connection, hex } => peer.raw().datagram(connection, &hex),
        Command::RawClose { connection, code, reason } => peer.raw().close(connection, code, &reason),
        Command::RawClosed { connection } => peer.raw().closed(connection).await,
        Command::Usage => bench::usage(),
        Command::BenchListen { readers } => peer.benching().listen(readers).await,
        Command::BenchFlood { acknowledged, broadcast, track, work } => {
            let acknowledged = peer.benching().acknowledged(acknowledged)?;
            bench::flood(peer.publishing()?.track(&broadcast, &track)?, acknowledged, work).await
        }
        Command::BenchPace { broadcast, track, pace } => {
            bench::paced(peer.publishing()?.track(&broadcast, &track)?, pace).await
        }
        Command::BenchOpen(spec) => peer.benching().open(spec).await,
        Command::BenchWatch { readers } => peer.benching().readers(readers)?.watch().await,
        Command::BenchArrived { readers, expected } => peer.benching().readers(readers)?.arrived(&expected).await,
        Command::BenchFirstFrame(spec) => bench::first_frame(spec).await,
    }
}
