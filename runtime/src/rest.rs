//! How long a robot takes to come to rest: what whoever starts and ends the loop needs to know before there is one.

use std::time::Duration;

use foresee_firmware_config::DeviceProfile;

use crate::safety::SharedFilter;

/// How long a run gives the joints of this profile to come to rest, as [`SharedFilter::stop_patience`]; to end it earlier is to leave
/// them moving.
pub fn stop_patience(profile: &DeviceProfile) -> Duration {
    SharedFilter::of(profile).stop_patience()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_way_home_is_waited_for() {
        let text = "inherit = \"desktop-sim\"\n[safety]\naction = \"return_home\"\n[[joints]]\nname = \"a\"\n\
                    command = \"position_radians\"\nminimum = -3.0\nmaximum = 3.0\nmax_rate_per_second = 0.3\nhome = 0.0\n";
        let profile = foresee_firmware_config::parse("mine", text).unwrap();
        assert!(stop_patience(&profile) > Duration::from_secs(10), "{:?}", stop_patience(&profile));
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        assert!(stop_patience(&profile) < Duration::from_secs(2), "{:?}", stop_patience(&profile));
    }
}
