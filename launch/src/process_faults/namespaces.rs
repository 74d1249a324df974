//! Two network namespaces with a cable between them, which can be pulled: a network cut as the kernel sees one.

use std::process::Command;

/// The robot's address on the cable.
pub(super) const ROBOT_ADDRESS: &str = "10.213.77.1";
const LOOP_ADDRESS: &str = "10.213.77.2";

/// Dropping it removes both namespaces, and the cable with them.
pub(super) struct Cable {
    /// Namespace of the robot.
    pub(super) robot: String,
    /// Namespace of the loop.
    pub(super) control: String,
}

impl Cable {
    /// Lays the cable. Nothing of the machine's own network is touched.
    ///
    /// # Errors
    /// Why it cannot be here: no root, no iproute2, a kernel without namespaces.
    pub(super) fn lay() -> Result<Self, String> {
        let process = std::process::id();
        let cable = Self { robot: format!("foresee-robot-{process}"), control: format!("foresee-loop-{process}") };
        let (robot, control) = (cable.robot.as_str(), cable.control.as_str());
        ip(&["netns", "add", robot])?;
        ip(&["netns", "add", control])?;
        ip(&["-n", robot, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", control])?;
        for (namespace, address) in [(robot, ROBOT_ADDRESS), (control, LOOP_ADDRESS)] {
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", "cable", "up"])?;
        }
        Ok(cable)
    }

    /// Pulls the cable out at the robot, or puts it back.
    ///
    /// # Errors
    /// What `ip` said.
    pub(super) fn set(&self, state: &str) -> Result<(), String> {
        ip(&["-n", &self.robot, "link", "set", "cable", state])
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.robot, &self.control] {
            // Left behind, it holds nothing but its name.
            drop(ip(&["netns", "delete", namespace]));
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments).output();
    let output = ran.map_err(|error| format!("ip cannot be run ({error}): iproute2 is needed"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}; root is needed", arguments.join(" "), said.trim().replace('\n', " "))),
    }
}
