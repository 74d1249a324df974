//! The C header for a motor controller that speaks zenoh-pico: keys, pace, and the limits that it should enforce once more.

use std::fmt::Write as _;

use super::RenderError;
use crate::control::SafeAction;
use crate::profile::{CommandKind, DeviceProfile};

/// A header for C99 without a dependency. Limits are `float`, rounded inwards, so that what the controller allows, the profile allows.
///
/// # Errors
/// [`RenderError`] when two joints have the same name in C.
pub fn zenoh_pico_header(profile: &DeviceProfile) -> Result<String, RenderError> {
    let guard = format!("FORESEE_{}_H", identifier(&profile.robot));
    let mut text = format!(
        "/* Made by `foresee config render zenoh-pico-header` from profile {}; make it again rather than edit it. */\n\
         #ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n",
        profile.name.replace("*/", "* /")
    );
    keys(profile, &mut text);
    pace(profile, &mut text);
    joints(profile, &mut text)?;
    text.push_str(&format!("\n#endif /* {guard} */\n"));
    Ok(text)
}

/// The keys of a robot, and what a controller does with them.
const KEYS: [(&str, &str); 8] = [
    ("joint_command", ""),
    ("joint_states", ""),
    ("camera/image", ""),
    ("stop", "an empty message: rest, and obey no command until the robot is enabled again"),
    ("clear_fault", "an empty message: ends a latched fault"),
    ("alive/robot", "liveliness token of the controller"),
    ("alive/loop", "liveliness token of the loop; gone: the safe action"),
    ("alive/obeys", "and /<number>: liveliness token of the controller, of the one loop that it obeys"),
];

fn keys(profile: &DeviceProfile, text: &mut String) {
    text.push_str("/* zenoh: the messages are ROS 2 messages in CDR. */\n");
    for (key, comment) in KEYS {
        let value = literal(&format!("foresee/{}/{key}", profile.robot));
        define(text, &format!("KEY_{}", identifier(key)), &value, comment);
    }
    // A controller connects to where the loop listens; where the loop connects, both do.
    for (idx, endpoint) in profile.zenoh.listen.iter().chain(&profile.zenoh.connect).enumerate() {
        define(text, &format!("ZENOH_CONNECT_{idx}"), &literal(endpoint), "");
    }
    text.push('\n');
}

fn pace(profile: &DeviceProfile, text: &mut String) {
    let micros = profile.pace.period().as_micros();
    define(text, "PERIOD_MICROS", &format!("{micros}u"), "from command to command");
    let millis = profile.watchdog.action_timeout_millis;
    let comment = "without a command for this long, for whatever reason: the safe action";
    define(text, "COMMAND_TIMEOUT_MILLIS", &format!("{millis}u"), comment);
    let action = match profile.safety.action {
        SafeAction::Hold => "HOLD",
        SafeAction::Damp => "DAMP",
        SafeAction::Stop => "STOP",
        SafeAction::ReturnHome => "RETURN_HOME",
    };
    text.push_str("typedef enum {\n");
    for (idx, name) in ["HOLD", "DAMP", "STOP", "RETURN_HOME"].iter().enumerate() {
        let _ = writeln!(text, "  FORESEE_ACTION_{name} = {idx},");
    }
    text.push_str("} foresee_action_t;\n");
    define(text, "SAFE_ACTION", &format!("FORESEE_ACTION_{action}"), "");
    text.push('\n');
}

fn joints(profile: &DeviceProfile, text: &mut String) -> Result<(), RenderError> {
    define(text, "NUM_JOINTS", &format!("{}u", profile.joints.len()), "");
    let mut names: Vec<String> = Vec::new();
    text.push_str("typedef enum {\n");
    for (idx, joint) in profile.joints.iter().enumerate() {
        let name = identifier(&joint.name);
        if names.contains(&name) {
            return Err(RenderError {
                profile: profile.name.clone(),
                key: format!("joints[{idx}].name"),
                rule: format!("{:?} and another joint are both {name} in C; rename one", joint.name),
            });
        }
        let _ = writeln!(text, "  FORESEE_JOINT_{name} = {idx},");
        names.push(name);
    }
    text.push_str("} foresee_joint_t;\n\n");
    text.push_str(TYPES);
    text.push_str("static const foresee_limits_t foresee_limits[FORESEE_NUM_JOINTS] = {\n");
    for joint in &profile.joints {
        let (kind, unit) = match joint.command {
            CommandKind::TorqueNormalised => ("TORQUE_NORMALISED", "1"),
            CommandKind::TorqueNewtonMetres => ("TORQUE_NEWTON_METRES", "N*m"),
            CommandKind::VelocityRadiansPerSecond => ("VELOCITY_RADIANS_PER_SECOND", "rad/s"),
            CommandKind::PositionRadians => ("POSITION_RADIANS", "rad"),
        };
        let limit = |value: Option<f64>| value.map_or_else(|| "0.0f".to_owned(), |value| float(below(value)));
        let _ = writeln!(
            text,
            "  {{ {}, FORESEE_{kind}, \"{unit}\", {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {} }},",
            literal(&joint.name),
            float(-below(-joint.minimum)),
            float(below(joint.maximum)),
            float(below(joint.max_rate_per_second)),
            limit(joint.max_acceleration_per_second_squared),
            limit(joint.max_jerk_per_second_cubed),
            float((joint.home.unwrap_or(0.0) as f32).max(-below(-joint.minimum)).min(below(joint.maximum))),
            float(joint.damping_per_radian_per_second as f32),
            joint.position.map_or_else(|| "0.0f".to_owned(), |position| float(-below(-position.minimum_radians))),
            limit(joint.position.map(|position| position.maximum_radians)),
            limit(joint.position.map(|position| position.braking_radians_per_second_squared)),
            u8::from(joint.continuous),
        );
    }
    text.push_str("};\n");
    Ok(())
}

const TYPES: &str = "\
typedef enum {
  FORESEE_TORQUE_NORMALISED = 0,           /* fraction of the full torque, -1 to 1 */
  FORESEE_TORQUE_NEWTON_METRES = 1,        /* N*m */
  FORESEE_VELOCITY_RADIANS_PER_SECOND = 2, /* rad/s */
  FORESEE_POSITION_RADIANS = 3,            /* rad */
} foresee_command_t;

typedef struct {
  const char *name;
  foresee_command_t command;
  const char *unit;                          /* of the command; the limits are in it and its derivatives in time */
  float minimum;                             /* a position measured outside is commanded back in at these rates, never in a step */
  float maximum;
  float max_rate_per_second;
  float max_acceleration_per_second_squared; /* 0: no limit */
  float max_jerk_per_second_cubed;           /* 0: no limit */
  float home;
  float damping_per_radian_per_second;       /* FORESEE_ACTION_DAMP: a torque of minus this times the measured velocity */
  float minimum_position_radians;            /* by the measured position, of velocities and torques */
  float maximum_position_radians;
  float braking_radians_per_second_squared;  /* what the joint certainly manages; 0: no position limits */
  uint8_t continuous;                        /* 1: a position that turns without end; minimum and maximum do not bound it */
} foresee_limits_t;

";

fn define(text: &mut String, name: &str, value: &str, comment: &str) {
    let comment = if comment.is_empty() { String::new() } else { format!(" /* {comment} */") };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "#define FORESEE_{name} {value}{comment}");
}

/// Upper case, with `_` for what C does not take.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// A C string, byte by byte where it is not plain text.
fn literal(text: &str) -> String {
    let mut written = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'?' => drop(write!(written, "\\{}", char::from(byte))),
            b' '..=b'~' => written.push(char::from(byte)),
            _ => drop(write!(written, "\\{byte:03o}")),
        }
    }
    written.push('"');
    written
}

/// The largest `float` that is not above `value`.
fn below(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

fn float(value: f32) -> String {
    // Rust writes the shortest text that reads back as the same float.
    format!("{value:?}f")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::load::parse;

    const PROFILE: &str = r#"
inherit = "desktop-cpu"
robot = "arm-1"
[zenoh]
listen = ["tcp/127.0.0.1:7447"]
connect = []
shared_memory = false
[pace]
kind = "fixed"
rate_hertz = 50.0
max_frame_age_millis = 80
[safety]
action = "return_home"
[[joints]]
name = "elbow \"left\"??/é"
command = "position_radians"
minimum = -2.1
maximum = 0.1
max_rate_per_second = 1e30
max_acceleration_per_second_squared = 7.7
home = 0.1
[[joints]]
name = "wrist"
command = "position_radians"
minimum = -1.0
maximum = 1.0
max_rate_per_second = 3.0
home = 0.0
[[joints]]
name = "roll"
command = "position_radians"
minimum = -3.1416
maximum = 3.1416
continuous = true
max_rate_per_second = 3.0
home = 0.0
"#;

    /// Joints whose position is only measured.
    const DAMPED: &str = r#"
inherit = "desktop-cpu"
robot = "arm-2"
[safety]
action = "damp"
[[joints]]
name = "wrist"
command = "torque_newton_metres"
minimum = -4.0
maximum = 4.0
max_rate_per_second = 40.0
damping_per_radian_per_second = 0.3
minimum_position_radians = -2.1
maximum_position_radians = 0.7
braking_radians_per_second_squared = 9.9
"#;

    const PROGRAM: &str = r#"
#include <stdio.h>
#include "robot.h"
int main(void) {
  printf("%s %s %u %u %u %d\n", FORESEE_KEY_JOINT_COMMAND, FORESEE_ZENOH_CONNECT_0, FORESEE_NUM_JOINTS, FORESEE_PERIOD_MICROS,
         FORESEE_COMMAND_TIMEOUT_MILLIS, FORESEE_SAFE_ACTION == FORESEE_ACTION_RETURN_HOME);
  for (unsigned i = 0; i < FORESEE_NUM_JOINTS; i++) {
    const foresee_limits_t *l = &foresee_limits[i];
    printf("%s|%s|%d|%.17g|%.17g|%.17g|%.17g|%.17g|%.17g\n", l->name, l->unit, (int)l->command, l->minimum, l->maximum,
           l->max_rate_per_second, l->max_acceleration_per_second_squared, l->max_jerk_per_second_cubed, l->home);
    printf("%.17g|%.17g|%.17g|%.17g|%u\n", l->damping_per_radian_per_second, l->minimum_position_radians,
           l->maximum_position_radians, l->braking_radians_per_second_squared, l->continuous);
  }
  puts(FORESEE_KEY_STOP " " FORESEE_KEY_CLEAR_FAULT " " FORESEE_KEY_ALIVE_OBEYS);
  return (int)FORESEE_NUM_JOINTS;
}
"#;

    /// What a program that includes the header says of it, line by line; `None` where the machine has no C compiler.
    fn asked(text: &str) -> Option<(DeviceProfile, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let profile = parse("arm", text).unwrap();
        let header = zenoh_pico_header(&profile).unwrap();
        std::fs::write(folder.path().join("robot.h"), &header).unwrap();
        std::fs::write(folder.path().join("main.c"), PROGRAM).unwrap();
        let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wno-double-promotion", "-Werror"];
        let compiler =
            Command::new("cc").args(flags).args(["main.c", "-o", "main"]).current_dir(folder.path()).output();
        let Ok(compiled) = compiler else {
            eprintln!("skipped: there is no C compiler `cc` here to hold the header against");
            return None;
        };
        assert!(compiled.status.success(), "{}\n{header}", String::from_utf8_lossy(&compiled.stderr));
        let output = Command::new(folder.path().join("main")).output().unwrap();
        assert_eq!(output.status.code(), Some(profile.joints.len() as i32));
        let said = String::from_utf8(output.stdout).unwrap();
        Some((profile, said.lines().map(str::to_owned).collect()))
    }

    fn numbers(line: &str) -> Vec<f64> {
        line.split('|').filter_map(|field| field.parse().ok()).collect()
    }

    /// Never beyond what the profile allows, and no further inside than a float resolves.
    fn inside(found: f64, limit: f64) -> bool {
        found <= limit && limit - found <= limit.abs() * 1.2e-7
    }

    #[test]
    fn a_controller_in_c_knows_the_limits() {
        let Some((profile, lines)) = asked(PROFILE) else { return };
        assert_eq!(lines[0], "foresee/arm-1/joint_command tcp/127.0.0.1:7447 3 20000 80 1");
        let keys = ["stop", "clear_fault", "alive/obeys"].map(|key| format!("foresee/arm-1/{key}"));
        assert_eq!(lines[lines.len() - 1], keys.join(" "));
        for (joint_lines, joint) in lines[1..].chunks(2).zip(&profile.joints) {
            let (line, position) = (&joint_lines[0], numbers(&joint_lines[1]));
            let fields: Vec<&str> = line.split('|').collect();
            assert_eq!((fields[0], fields[1], fields[2]), (joint.name.as_str(), "rad", "3"));
            let number = |idx: usize| fields[idx].parse::<f64>().unwrap();
            assert!(inside(-number(3), -joint.minimum) && inside(number(4), joint.maximum), "{line}");
            assert!(inside(number(5), joint.max_rate_per_second), "{line}");
            assert!(inside(number(6), joint.max_acceleration_per_second_squared.unwrap_or(0.0)), "{line}");
            assert!(number(8) <= number(4) && (number(8) - joint.home.unwrap_or(0.0)).abs() < 1e-7, "{line}");
            assert_eq!(position, [0.0, 0.0, 0.0, 0.0, f64::from(u8::from(joint.continuous))]);
        }
    }

    #[test]
    fn a_controller_in_c_can_damp_and_brake() {
        let Some((profile, lines)) = asked(DAMPED) else { return };
        let (joint, numbers) = (&profile.joints[0], numbers(&lines[2]));
        let position = joint.position.unwrap();
        assert!((numbers[0] - joint.damping_per_radian_per_second).abs() < 1e-7, "{numbers:?}");
        assert!(inside(-numbers[1], -position.minimum_radians) && inside(numbers[2], position.maximum_radians));
        assert!(inside(numbers[3], position.braking_radians_per_second_squared), "{numbers:?}");
    }

    #[test]
    fn names_that_are_one_in_c_are_refused() {
        let text = PROFILE.replace("elbow \\\"left\\\"??/é", "WRIST");
        let error = zenoh_pico_header(&parse("arm", &text).unwrap()).unwrap_err().to_string();
        assert!(error.contains("joints[1].name") && error.contains("rename"), "{error}");
    }
}
