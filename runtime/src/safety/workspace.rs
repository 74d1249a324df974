//! Where the links are: forward kinematics from the joint axes of the profile, and whether a motion stays in the box.

use foresee_firmware_config::{JointProfile, WorkspaceProfile};
use nalgebra::{Isometry3, Point3, Translation3, Unit, UnitQuaternion, Vector3};

/// A chain of revolute joints and the box that its joints' origins and its tool point may not leave.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    links: Vec<Link>,
    tool: Point3<f64>,
    minimum: Vector3<f64>,
    maximum: Vector3<f64>,
}

#[derive(Clone, Debug)]
struct Link {
    /// The joint's frame in the frame of the joint before it.
    origin: Isometry3<f64>,
    axis: Unit<Vector3<f64>>,
    /// No point beyond this joint is further from its axis than this, whatever the angles; metres.
    reach: f64,
}

/// How far the points of a pose reach beyond the box or its margin: from there nothing may go further out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    minimum: Vector3<f64>,
    maximum: Vector3<f64>,
    /// Whether any point is outside the box.
    pub(super) is_outside: bool,
}

impl Workspace {
    /// `None` when a joint has no axis.
    pub(super) fn new(workspace: &WorkspaceProfile, joints: &[JointProfile]) -> Option<Self> {
        let tool = Vector3::from(workspace.tool_metres);
        let mut links = Vec::with_capacity(joints.len());
        for joint in joints {
            let link = joint.link?;
            let [roll, pitch, yaw] = link.origin_radians;
            let origin = Isometry3::from_parts(
                Translation3::from(Vector3::from(link.origin_metres)),
                UnitQuaternion::from_euler_angles(roll, pitch, yaw),
            );
            links.push(Link { origin, axis: Unit::new_normalize(Vector3::from(link.axis)), reach: 0.0 });
        }
        let mut reach = tool.norm();
        for link in links.iter_mut().rev() {
            link.reach = reach;
            reach += link.origin.translation.vector.norm();
        }
        let (minimum, maximum) = (workspace.minimum_metres.into(), workspace.maximum_metres.into());
        Some(Self { links, tool: Point3::from(tool), minimum, maximum })
    }

    /// Metres that any point can travel at most while every joint turns by at most its `radians`.
    pub(super) fn travel(&self, radians: impl Iterator<Item = f64>) -> f64 {
        self.links.iter().zip(radians).map(|(link, radians)| link.reach * radians.abs()).sum()
    }

    /// Whether every joint's origin and the tool are in the box, at least `margin` metres from its sides, or no further out than
    /// `room`, at these angles in radians.
    pub(super) fn contains(&self, angles: impl Iterator<Item = f64>, margin: f64, room: Option<&Room>) -> bool {
        let (mut low, mut high) = (self.minimum.add_scalar(margin), self.maximum.add_scalar(-margin));
        if let Some(room) = room {
            (low, high) = (low.inf(&room.minimum), high.sup(&room.maximum));
        }
        let mut is_inside = true;
        self.for_each_point(angles, |point| {
            is_inside &= point.iter().zip(low.iter().zip(&high)).all(|(at, (low, high))| at >= low && at <= high);
        });
        is_inside
    }

    /// The smallest room along the axes that holds every point at these angles.
    pub(super) fn reached(&self, angles: impl Iterator<Item = f64>) -> Room {
        let (mut minimum, mut maximum) = (Vector3::repeat(f64::INFINITY), Vector3::repeat(f64::NEG_INFINITY));
        self.for_each_point(angles, |point| (minimum, maximum) = (minimum.inf(point), maximum.sup(point)));
        let is_below = minimum.iter().zip(&self.minimum).any(|(at, low)| at < low);
        let is_above = maximum.iter().zip(&self.maximum).any(|(at, high)| at > high);
        Room { minimum, maximum, is_outside: is_below || is_above }
    }

    fn for_each_point(&self, angles: impl Iterator<Item = f64>, mut see: impl FnMut(&Vector3<f64>)) {
        let mut base_from_link = Isometry3::identity();
        for (link, angle) in self.links.iter().zip(angles) {
            base_from_link *= link.origin;
            // The first origin does not move, and stands where the robot was bolted down.
            if link.origin.translation.vector != base_from_link.translation.vector {
                see(&base_from_link.translation.vector);
            }
            base_from_link *= UnitQuaternion::from_axis_angle(&link.axis, angle);
        }
        see(&(base_from_link * self.tool).coords);
    }

    /// The tool point in the frame of the base, metres.
    #[cfg(test)]
    pub(super) fn tool(&self, angles: &[f64]) -> Point3<f64> {
        let turn = |base: Isometry3<f64>, (link, angle): (&Link, &f64)| {
            base * link.origin * UnitQuaternion::from_axis_angle(&link.axis, *angle)
        };
        self.links.iter().zip(angles).fold(Isometry3::identity(), turn) * self.tool
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{FRAC_PI_2, PI};

    /// Two links of 0.5 m and 0.3 m that turn about z, on a post of 0.2 m.
    fn arm() -> Workspace {
        let text = "inherit = \"desktop-cpu\"\nrobot = \"arm\"\n[camera]\nname = \"c\"\nwidth = 8\nheight = 8\nencoding = \"rgb8\"\n\
            [safety.workspace]\nminimum_metres = [-0.1, -0.9, 0.0]\nmaximum_metres = [0.9, 0.9, 0.4]\ntool_metres = [0.3, 0.0, 0.0]\n";
        let joint = |name: &str, x: f64, z: f64| {
            format!(
                "[[joints]]\nname = \"{name}\"\ncommand = \"position_radians\"\nminimum = -3.2\nmaximum = 3.2\nmax_rate_per_second = 1.0\n\
                 axis = [0.0, 0.0, 1.0]\norigin_metres = [{x}, 0.0, {z}]\n"
            )
        };
        let text = format!("{text}{}{}", joint("shoulder", 0.0, 0.2), joint("elbow", 0.5, 0.0));
        let profile = foresee_firmware_config::parse("arm", &text).unwrap();
        Workspace::new(&profile.safety.workspace.unwrap(), &profile.joints).unwrap()
    }

    #[test]
    fn the_tool_is_where_a_ruler_finds_it() {
        let arm = arm();
        for (angles, at) in [
            ([0.0, 0.0], [0.8, 0.0, 0.2]),
            ([FRAC_PI_2, 0.0], [0.0, 0.8, 0.2]),
            ([0.0, FRAC_PI_2], [0.5, 0.3, 0.2]),
            ([FRAC_PI_2, -FRAC_PI_2], [0.3, 0.5, 0.2]),
            ([0.0, PI], [0.2, 0.0, 0.2]),
        ] {
            let tool = arm.tool(&angles);
            assert!((tool - Point3::from(at)).norm() < 1e-12, "{angles:?}: {tool}");
        }
        assert!(arm.contains([0.0, 0.0].into_iter(), 0.0, None) && !arm.contains([PI, 0.0].into_iter(), 0.0, None));
        assert!(!arm.contains([0.0, 0.0].into_iter(), 0.11, None), "the margin counts");
        let turned: f64 = arm.travel([0.1, 0.2].into_iter());
        assert!((turned - (0.1 * 0.8 + 0.2 * 0.3)).abs() < 1e-12, "{turned}");
    }
}
