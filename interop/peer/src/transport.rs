//! The transport that moq-net gets: the WebTransport crate's, except that it does not close a connection that the
//! peer has closed already. That would change nothing for the peer, but overwrite the code and reason it gave.

use bytes::Bytes;
use iroh::endpoint::Connection;
use web_transport_iroh::generic::Stats;
use web_transport_iroh::{RecvStream, SendStream, Session, SessionError, generic};

#[derive(Clone)]
pub struct Transport(Session);

impl Transport {
    pub fn new(connection: Connection) -> Self {
        Self(Session::raw(connection))
    }
}

impl generic::Session for Transport {
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Error = SessionError;

    async fn accept_uni(&self) -> Result<RecvStream, SessionError> {
        self.0.accept_uni().await
    }

    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), SessionError> {
        self.0.accept_bi().await
    }

    async fn open_bi(&self) -> Result<(SendStream, RecvStream), SessionError> {
        self.0.open_bi().await
    }

    async fn open_uni(&self) -> Result<SendStream, SessionError> {
        self.0.open_uni().await
    }

    fn send_datagram(&self, payload: Bytes) -> Result<(), SessionError> {
        self.0.send_datagram(payload)
    }

    async fn recv_datagram(&self) -> Result<Bytes, SessionError> {
        self.0.recv_datagram().await
    }

    fn max_datagram_size(&self) -> usize {
        self.0.max_datagram_size()
    }

    fn protocol(&self) -> Option<&str> {
        self.0.protocol()
    }

    fn close(&self, code: u32, reason: &str) {
        if self.0.close_reason().is_none() {
            self.0.close(code, reason.as_bytes());
        }
    }

    async fn closed(&self) -> SessionError {
        self.0.closed().await
    }

    fn stats(&self) -> impl Stats {
        generic::Session::stats(&self.0)
    }
}
