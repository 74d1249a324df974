//! MuJoCo's own plugins: cable and solid elasticity, PID actuators, sensors, signed distance fields.

use std::path::Path;
use std::sync::Once;

use mujoco_rs::prelude::load_all_plugin_libraries;

/// Loads MuJoCo's own plugins from the folder of native parts (`target/native`), once in a process, as `import mujoco` does in
/// Python. Without the folder nothing is loaded, and a model that needs a plugin is refused by name.
pub fn load_plugins(native: &Path) {
    static ONCE: Once = Once::new();
    let folder = native.join("mujoco/plugin");
    // MuJoCo reports a folder that is not there on the terminal.
    if folder.is_dir() {
        // An error means a path that is no text: the plugins are then missing, which a model's error names.
        ONCE.call_once(|| drop(load_all_plugin_libraries(&folder, None)));
    }
}

/// What a compiler's message lacks when it is about a plugin.
pub(super) fn with_advice(problem: String) -> String {
    if !problem.contains("plugin") {
        return problem;
    }
    format!(
        "{problem}; MuJoCo's own plugins (mujoco.elasticity.*, mujoco.pid, mujoco.sensor.*, mujoco.sdf.*) come from target/native/mujoco/plugin, which ./launch/setup unpacks; others are not supported"
    )
}
