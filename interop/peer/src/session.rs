//! One session with a peer.

use std::time::Instant;

use iroh::endpoint::{Connection, ConnectionError};
use moq_net::{Client, Server, origin, time};
use moq_tokio::transport;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::announcements::Announcements;
use crate::failure::{Failure, Outcome};
use crate::publishing::new_origin;
use crate::raw::varint;
use crate::reading;
use crate::transport::Transport;

pub enum Side {
    Dialling,
    Accepting,
}

pub struct Session {
    connection: Connection,
    announcements: Announcements,
    origin: origin::Consumer,
    // What ended the connection first: closing it once more would be the last thing it remembers.
    ended: watch::Receiver<Option<Value>>,
    // The session ends when the last of its handles is dropped.
    _session: moq_net::Session,
}

impl Session {
    /// Starts the protocol. What the peer offers goes into an origin of its own, or, in a relay, to all the others.
    pub async fn start(
        side: Side,
        connection: Connection,
        offered: &origin::Producer,
        relay: bool,
    ) -> Result<Self, Failure> {
        let transport = transport::Session::new(Transport::new(connection.clone()));
        let received = if relay { offered.clone() } else { new_origin() };
        let origin = received.consume();
        let (session, driver) = match side {
            Side::Dialling => {
                let client = Client::new().with_publisher(offered).with_subscriber(received);
                client.connect_lite(Instant::now(), transport).await?
            }
            Side::Accepting => {
                let server = Server::new().with_publisher(offered).with_subscriber(received);
                server.accept_lite(Instant::now(), transport).await?
            }
        };
        tokio::spawn(time::run(driver));
        let announcements = Announcements::follow(&origin);
        let (told, ended) = watch::channel(None);
        let watched = connection.clone();
        tokio::spawn(async move { told.send_replace(Some(why(&watched.closed().await))) });
        Ok(Self { connection, announcements, origin, ended, _session: session })
    }

    /// What the peer offers.
    pub fn origin(&self) -> origin::Consumer {
        self.origin.clone()
    }

    pub fn close(&self, code: u32, reason: &str) {
        self.connection.close(varint(code.into()), reason.as_bytes());
    }

    /// Waits for the end and says why it came.
    pub async fn closed(&self) -> Value {
        let mut ended = self.ended.clone();
        let value = ended.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
        value.unwrap_or_default()
    }

    /// Waits until there have been so many announcements and retractions, and gives them all.
    pub async fn news(&self, count: usize) -> Value {
        self.announcements.wait(count).await
    }

    /// One past group, without a subscription.
    pub async fn fetch(&self, broadcast: &str, track: &str, group: u64) -> Outcome {
        let broadcast = self.origin.routed_broadcast(broadcast).await?;
        let group = broadcast.track(track)?.fetch_group(group, None).await?;
        Ok(reading::whole_group(group).await)
    }

    pub fn stats(&self) -> Value {
        let paths = self.connection.paths();
        let paths: Vec<_> = paths
            .iter()
            .map(|path| {
                json!({
                    "remote": format!("{:?}", path.remote_addr()),
                    "selected": path.is_selected(),
                    "relayed": path.is_relay(),
                    "rtt": path.rtt().as_secs_f64(),
                })
            })
            .collect();
        json!({"paths": paths})
    }
}

/// The end of a connection, as it is told.
pub fn why(error: &ConnectionError) -> Value {
    match error {
        ConnectionError::ApplicationClosed(close) => json!({
            "code": close.error_code.into_inner(),
            "reason": String::from_utf8_lossy(&close.reason),
            "local": false,
        }),
        ConnectionError::LocallyClosed => json!({"code": null, "reason": error.to_string(), "local": true}),
        other => json!({"code": null, "reason": other.to_string(), "local": false}),
    }
}
