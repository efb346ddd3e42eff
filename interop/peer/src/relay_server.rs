//! A relay server of iroh, for peers that have no direct path to each other.

use std::net::SocketAddr;
use std::sync::Mutex;

use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use serde_json::json;

use crate::failure::{Failure, Outcome};

#[derive(Default)]
pub struct RelayServer(Mutex<Option<Server>>);

impl RelayServer {
    /// Serves, without TLS, until the process ends.
    pub async fn serve(&self, address: &str) -> Outcome {
        let address: SocketAddr = address.parse().map_err(|error| Failure::usage(format!("{address}: {error}")))?;
        let mut config = ServerConfig::default();
        config.relay = Some(RelayConfig::new(address));
        let server = Server::spawn(config).await.map_err(Failure::connection)?;
        let url = server.http_addr().map(|address| format!("http://{address}"));
        *self.0.lock().unwrap() = Some(server);
        Ok(json!({"url": url}))
    }
}
