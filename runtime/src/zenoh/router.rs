//! A router in this process, for tests and for whoever has no `zenohd`.

use ::zenoh::Wait;
use serde_json::json;

use super::link::transport;
use crate::error::RuntimeError;

/// Passes everything on between the clients that connect to it; dropped, it is gone, as a router that was killed.
#[derive(Debug)]
pub struct ZenohRouter(#[expect(dead_code, reason = "it routes until it is dropped")] ::zenoh::Session);

impl ZenohRouter {
    /// A router that listens on this endpoint, such as `tcp/127.0.0.1:7447`, and scouts for nobody.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`] when the endpoint is not one, or cannot be listened on.
    pub fn start(endpoint: &str) -> Result<Self, RuntimeError> {
        let config = json!({
            "mode": "router",
            "listen": { "endpoints": [endpoint] },
            "scouting": { "multicast": { "enabled": false }, "gossip": { "enabled": false } },
        });
        let config = ::zenoh::Config::from_json5(&config.to_string()).map_err(transport)?;
        ::zenoh::open(config).wait().map(Self).map_err(transport)
    }
}
