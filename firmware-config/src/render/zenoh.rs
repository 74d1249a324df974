//! The zenoh configuration of a profile: what the loop's own session uses, and what a router or driver beside it can be started with.

use serde_json::{Value, json};

use crate::profile::{ZenohMode, ZenohProfile};

/// A client waits this long for its router when it starts; later it waits for ever.
const CLIENT_PATIENCE_MILLIS: i64 = 10_000;

/// The configuration as JSON, which zenoh's own parser reads: endpoints as the profile has them, and no scouting.
pub fn zenoh_config(zenoh: &ZenohProfile) -> Value {
    let (mode, timeout_millis, is_fatal) = match zenoh.mode {
        // An endpoint need not be there yet: it is tried until it is.
        ZenohMode::Peer => ("peer", -1, false),
        ZenohMode::Client => ("client", CLIENT_PATIENCE_MILLIS, true),
    };
    json!({
        "mode": mode,
        "listen": { "endpoints": zenoh.listen },
        "connect": {
            "endpoints": zenoh.connect,
            "timeout_ms": timeout_millis,
            "exit_on_failure": is_fatal,
            "retry": { "period_init_ms": 20, "period_max_ms": 200, "period_increase_factor": 2.0 },
        },
        "scouting": { "multicast": { "enabled": false }, "gossip": { "enabled": false } },
        "transport": { "shared_memory": { "enabled": zenoh.shared_memory } },
    })
}
