//! What other programs are told of zenoh, against zenoh's own parser.

use foresee_firmware_config::load;

/// What `foresee config render zenoh` writes is read back by zenoh's own parser, for every shipped profile.
#[test]
fn a_rendered_configuration_is_one_of_zenoh() {
    for (name, _) in foresee_firmware_config::BUILT_IN_PROFILES {
        let profile = load(name).unwrap();
        let written = foresee_firmware_config::zenoh_config(&profile.zenoh);
        let text = format!("// a comment\n{written:#}\n");
        let config = ::zenoh::Config::from_json5(&text).unwrap();
        for (key, path) in [
            ("mode", "/mode"),
            ("listen/endpoints", "/listen/endpoints"),
            ("connect/endpoints", "/connect/endpoints"),
            ("connect/retry", "/connect/retry"),
            ("scouting/multicast/enabled", "/scouting/multicast/enabled"),
            ("scouting/gossip/enabled", "/scouting/gossip/enabled"),
            ("transport/shared_memory/enabled", "/transport/shared_memory/enabled"),
        ] {
            let read: serde_json::Value = serde_json::from_str(&config.get_json(key).unwrap()).unwrap();
            assert_eq!(Some(&read), written.pointer(path), "{name}: {key}");
        }
        assert!(::zenoh::Config::from_json5(&text.replace("endpoints", "endpoint")).is_err(), "a wrong key is refused");
    }
}
