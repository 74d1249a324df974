//! The zenoh configuration of a profile: what the loop's own session uses, and what a router or driver beside it can be started with.

use serde_json::{Value, json};

use crate::profile::ZenohProfile;

/// The configuration as JSON, which zenoh's own parser reads: endpoints as the profile has them, and no scouting.
pub fn zenoh_config(zenoh: &ZenohProfile) -> Value {
    json!({
        "mode": "peer",
        "listen": { "endpoints": zenoh.listen },
        "connect": {
            "endpoints": zenoh.connect,
            // An endpoint need not be there yet: it is tried until it is.
            "timeout_ms": -1,
            "exit_on_failure": false,
            "retry": { "period_init_ms": 20, "period_max_ms": 200, "period_increase_factor": 2.0 },
        },
        "scouting": { "multicast": { "enabled": false }, "gossip": { "enabled": false } },
        "transport": { "shared_memory": { "enabled": zenoh.shared_memory } },
    })
}
