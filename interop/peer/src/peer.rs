//! The endpoint, and all that hangs on it: sessions, subscriptions, what is published.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use iroh::endpoint::{ConnectOptions, Connection, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl};
use serde::Deserialize;
use serde_json::json;

use crate::bench::Benching;
use crate::command::Welcome;
use crate::failure::{Failure, Outcome};
use crate::publishing::Publishing;
use crate::raw::{Raw, varint};
use crate::reading::{Subscription, Wishes};
use crate::relay_server::RelayServer;
use crate::session::{self, Session};

/// The code and the reason with which a session is turned away, as Rust's own iroh-moq does it.
const REJECTED: (u32, &[u8]) = (1, b"rejected");

/// Whom to dial, and where.
#[derive(Deserialize)]
pub struct Remote {
    peer: String,
    addresses: Vec<String>,
    // The relay server that it is at.
    through: Option<String>,
}

impl Remote {
    pub fn address(&self) -> Result<EndpointAddr, Failure> {
        let id: EndpointId = self.peer.parse().map_err(|error| Failure::usage(format!("peer: {error:?}")))?;
        let mut address = EndpointAddr::new(id);
        for each in &self.addresses {
            address = address.with_ip_addr(each.parse().map_err(|error| Failure::usage(format!("{each}: {error}")))?);
        }
        if let Some(url) = &self.through {
            address = address.with_relay_url(relay_url(url)?);
        }
        Ok(address)
    }
}

fn relay_url(url: &str) -> Result<RelayUrl, Failure> {
    url.parse().map_err(|error| Failure::usage(format!("{url}: {error}")))
}

/// A new endpoint, for these versions of the protocol, and at this relay server if there is one.
pub async fn endpoint(versions: &[impl AsRef<str>], address: &str, through: Option<&str>) -> Result<Endpoint, Failure> {
    let relays = match through {
        Some(url) => RelayMode::custom([relay_url(url)?]),
        None => RelayMode::Disabled,
    };
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(relays)
        .alpns(versions.iter().map(|version| version.as_ref().as_bytes().to_vec()).collect())
        .clear_ip_transports()
        .bind_addr(address)
        .map_err(Failure::connection)?
        .bind()
        .await
        .map_err(Failure::connection)?;
    if through.is_some() {
        endpoint.online().await;
    }
    Ok(endpoint)
}

/// What exists once the endpoint is bound.
struct Bound {
    endpoint: Endpoint,
    // What it dials with, the one wanted most first.
    versions: Vec<String>,
    publishing: Publishing,
    relay: bool,
}

#[derive(Default)]
pub struct Peer {
    bound: OnceLock<Bound>,
    numbers: AtomicU64,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    subscriptions: Mutex<HashMap<u64, Arc<Subscription>>>,
    raw: Raw,
    relay_server: RelayServer,
    benching: Benching,
}

impl Peer {
    /// Binds the endpoint. A relay offers to each session what it gets from the others.
    pub async fn bind(&self, versions: Vec<String>, address: &str, relay: bool, through: Option<&str>) -> Outcome {
        let endpoint = endpoint(&versions, address, through).await?;
        let reply = json!({
            "peer": endpoint.id().to_string(),
            "addresses": endpoint.bound_sockets().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "through": through,
        });
        let bound = Bound { endpoint, versions, publishing: Publishing::new(), relay };
        self.bound.set(bound).map_err(|_| Failure::usage("already bound"))?;
        Ok(reply)
    }

    /// Opens a session with a peer, in the first of our versions that it takes.
    pub async fn dial(&self, remote: Remote) -> Outcome {
        let Bound { endpoint, versions, .. } = self.bound()?;
        let mut versions = versions.iter().map(|version| version.as_bytes().to_vec());
        let first = versions.next().ok_or_else(|| Failure::usage("bound without versions"))?;
        let options = ConnectOptions::new().with_additional_alpns(versions.collect());
        let connecting =
            endpoint.connect_with_opts(remote.address()?, &first, options).await.map_err(Failure::connection)?;
        let connection = connecting.await.map_err(Failure::connection)?;
        self.start(session::Side::Dialling, connection).await
    }

    /// Receives the next session that a peer opens.
    pub async fn accept(&self, how: Welcome) -> Outcome {
        let connection = self.incoming().await?;
        if how == Welcome::Reject {
            connection.close(varint(REJECTED.0.into()), REJECTED.1);
            return Ok(json!({}));
        }
        self.start(session::Side::Accepting, connection).await
    }

    /// The next connection whose handshake succeeds: who asks for a version that is not offered comes back for another.
    async fn incoming(&self) -> Result<Connection, Failure> {
        let endpoint = &self.bound()?.endpoint;
        loop {
            let incoming = endpoint.accept().await.ok_or_else(|| Failure::usage("the endpoint is closed"))?;
            match incoming.await {
                Ok(connection) => return Ok(connection),
                Err(error) => tracing::info!(%error, "a handshake failed"),
            }
        }
    }

    async fn start(&self, side: session::Side, connection: Connection) -> Outcome {
        let bound = self.bound()?;
        let version = String::from_utf8_lossy(connection.alpn()).into_owned();
        let peer = connection.remote_id().to_string();
        let offered = bound.publishing.origin();
        let session = Session::start(side, connection, offered, bound.relay).await?;
        let number = self.number();
        self.sessions.lock().unwrap().insert(number, Arc::new(session));
        Ok(json!({"session": number, "version": version, "peer": peer}))
    }

    /// Opens a connection on which nothing happens but what the caller does.
    pub async fn raw_dial(&self, remote: Remote, version: &str) -> Outcome {
        let endpoint = &self.bound()?.endpoint;
        let connection = endpoint.connect(remote.address()?, version.as_bytes()).await.map_err(Failure::connection)?;
        Ok(json!({"connection": self.raw.add(connection)}))
    }

    /// Asks for a track; whether it is to be had shows when it is read.
    pub fn subscribe(&self, session: u64, broadcast: String, track: String, wishes: Wishes) -> Outcome {
        let origin = self.session(session)?.origin();
        let number = self.number();
        let subscription = Subscription::start(origin, broadcast, track, wishes);
        self.subscriptions.lock().unwrap().insert(number, Arc::new(subscription));
        Ok(json!({"subscription": number}))
    }

    /// Ends a subscription, unless it is being read.
    pub fn unsubscribe(&self, number: u64) -> Outcome {
        let gone = self.subscriptions.lock().unwrap().remove(&number);
        gone.map(|_| json!({})).ok_or_else(|| Failure::usage(format!("no subscription {number}")))
    }

    pub fn session(&self, number: u64) -> Result<Arc<Session>, Failure> {
        let sessions = self.sessions.lock().unwrap();
        sessions.get(&number).cloned().ok_or_else(|| Failure::usage(format!("no session {number}")))
    }

    pub fn subscription(&self, number: u64) -> Result<Arc<Subscription>, Failure> {
        let subscriptions = self.subscriptions.lock().unwrap();
        subscriptions.get(&number).cloned().ok_or_else(|| Failure::usage(format!("no subscription {number}")))
    }

    pub fn publishing(&self) -> Result<&Publishing, Failure> {
        Ok(&self.bound()?.publishing)
    }

    pub fn benching(&self) -> &Benching {
        &self.benching
    }

    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// Closes every session, so that the peers need not wait for a timeout.
    pub async fn shutdown(&self) {
        if let Some(bound) = self.bound.get() {
            bound.endpoint.close().await;
        }
    }

    pub fn relay_server(&self) -> &RelayServer {
        &self.relay_server
    }

    fn bound(&self) -> Result<&Bound, Failure> {
        self.bound.get().ok_or_else(|| Failure::usage("not bound yet"))
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}
