//! Both sides of the wire over zenoh: the loop's ([`ZenohSource`], [`ZenohActuator`]) and the robot's ([`ZenohRobot`]).
//!
//! | key | message | from |
//! |---|---|---|
//! | `foresee/<robot>/camera/image` | `sensor_msgs/msg/Image` | robot |
//! | `foresee/<robot>/joint_states` | `sensor_msgs/msg/JointState` | robot |
//! | `foresee/<robot>/episode` | `foresee_msgs/msg/Episode` | robot |
//! | `foresee/<robot>/joint_command` | `foresee_msgs/msg/JointCommand` | loop |
//! | `foresee/<robot>/expert_command` | `foresee_msgs/msg/JointCommand` | teleoperator; recorded only |
//! | `foresee/<robot>/stop`, `.../clear_fault` | empty | operator |
//! | `foresee/<robot>/alive/robot`, `.../alive/loop` | liveliness tokens | each |
//!
//! An image carries the observation's sequence (u64, little-endian) as attachment, of 8 bytes; the command that answers it, this and
//! the loop's number, of 16; an attachment of another length is another program's, and is passed over. A robot obeys one loop, and says which at `alive/obeys/<number>`. Sessions are peers on the endpoints that they
//! are given, or clients of a router there, and nowhere else: scouting and gossip are off.

mod actuator;
#[cfg(feature = "camera")]
mod camera_robot;
mod joints;
mod link;
#[cfg(feature = "log")]
mod live_log;
mod robot;
mod router;
mod sequence;
mod source;

pub use actuator::ZenohActuator;
#[cfg(feature = "camera")]
pub use camera_robot::CameraRobot;
pub use joints::show_joints;
pub use link::{Hearing, ZenohLink, free_loopback_endpoint};
#[cfg(feature = "log")]
pub use live_log::{LiveCounts, LiveLimits, LiveLog};
pub use robot::{CommandGate, CommandWait, ZenohRobot};
pub use router::ZenohRouter;
pub use source::ZenohSource;

#[cfg(test)]
mod rendered;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod tests;
