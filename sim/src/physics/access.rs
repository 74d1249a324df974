//! Access by name: an id is resolved once, then every read is an index. Arrays keep MuJoCo's names (`xpos`, `site_xpos`).

use mujoco_rs::wrappers::mj_model::{MjtJoint, MjtObjBase};

use super::Physics;
use crate::error::SimError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal $object:ident, $find:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub(crate) usize);

        impl Physics {
            #[doc = concat!("The ", $kind, " of this name.")]
            ///
            /// # Errors
            /// [`SimError::UnknownName`].
            pub fn $find(&self, name: &str) -> Result<$name, SimError> {
                // MuJoCo's names end at a zero byte, and the binding panics on one.
                let known = (!name.contains('\0')).then(|| self.model().name_to_id(MjtObjBase::$object, name));
                let found = known.flatten().map($name);
                found.ok_or_else(|| SimError::UnknownName { kind: $kind, name: name.to_string() })
            }
        }
    )* };
}

ids! {
    /// A body of one model.
    BodyId = "body" mjOBJ_BODY, body;
    /// A geom of one model.
    GeomId = "geom" mjOBJ_GEOM, geom;
    /// A site of one model.
    SiteId = "site" mjOBJ_SITE, site;
    /// An actuator of one model.
    ActuatorId = "actuator" mjOBJ_ACTUATOR, actuator;
    /// A sensor of one model.
    SensorId = "sensor" mjOBJ_SENSOR, sensor;
    /// A joint of one model.
    JointId = "joint" mjOBJ_JOINT, joint;
    /// A camera of one model.
    CameraId = "camera" mjOBJ_CAMERA, camera;
}

/// By id: no search, no allocation.
impl Physics {
    /// World position of a body's frame, metres.
    pub fn xpos(&self, body: BodyId) -> [f64; 3] {
        self.data().xpos()[body.0]
    }

    /// Rotation of a body's frame, row major (`xx xy xz yx yy yz zx zy zz`).
    pub fn xmat(&self, body: BodyId) -> [f64; 9] {
        self.data().xmat()[body.0]
    }

    /// Rotation of a body's frame as a quaternion, w first.
    pub fn xquat(&self, body: BodyId) -> [f64; 4] {
        self.data().xquat()[body.0]
    }

    /// World position of a geom's centre, metres.
    pub fn geom_xpos(&self, geom: GeomId) -> [f64; 3] {
        self.data().geom_xpos()[geom.0]
    }

    /// Rotation of a geom's frame, row major.
    pub fn geom_xmat(&self, geom: GeomId) -> [f64; 9] {
        self.data().geom_xmat()[geom.0]
    }

    /// World position of a site, metres.
    pub fn site_xpos(&self, site: SiteId) -> [f64; 3] {
        self.data().site_xpos()[site.0]
    }

    /// Rotation of a site's frame, row major.
    pub fn site_xmat(&self, site: SiteId) -> [f64; 9] {
        self.data().site_xmat()[site.0]
    }

    /// Values of a sensor.
    pub fn sensor_values(&self, sensor: SensorId) -> &[f64] {
        let address = self.model().sensor_adr()[sensor.0] as usize;
        let length = self.model().sensor_dim()[sensor.0] as usize;
        &self.data().sensordata()[address..address + length]
    }

    /// The first value of a sensor.
    pub fn sensor_value(&self, sensor: SensorId) -> f64 {
        self.data().sensordata()[self.model().sensor_adr()[sensor.0] as usize]
    }

    /// Where a joint's positions begin in `qpos`.
    pub fn qpos_address(&self, joint: JointId) -> usize {
        self.model().jnt_qposadr()[joint.0] as usize
    }

    /// Where a joint's velocities begin in `qvel`.
    pub fn dof_address(&self, joint: JointId) -> usize {
        self.model().jnt_dofadr()[joint.0] as usize
    }

    /// Positions of a joint: 1 value (hinge, slide), 4 (ball) or 7 (free).
    pub fn joint_qpos_values(&self, joint: JointId) -> &[f64] {
        let address = self.qpos_address(joint);
        &self.qpos()[address..address + self.num_joint_positions(joint)]
    }

    pub(crate) fn joint_qpos_mut(&mut self, joint: JointId) -> &mut [f64] {
        let address = self.qpos_address(joint);
        let length = self.num_joint_positions(joint);
        &mut self.data_mut().qpos_mut()[address..address + length]
    }

    fn num_joint_positions(&self, joint: JointId) -> usize {
        match self.model().jnt_type()[joint.0] {
            MjtJoint::mjJNT_FREE => 7,
            MjtJoint::mjJNT_BALL => 4,
            MjtJoint::mjJNT_SLIDE | MjtJoint::mjJNT_HINGE => 1,
        }
    }
}

/// By name, for scripted experts and tests.
impl Physics {
    /// World position of a geom's centre, metres.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn geom_position(&self, name: &str) -> Result<[f64; 3], SimError> {
        Ok(self.geom_xpos(self.geom(name)?))
    }

    /// Size of a geom in metres; what the three values mean depends on its type (sphere: radius first).
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn geom_size(&self, name: &str) -> Result<[f64; 3], SimError> {
        Ok(self.model().geom_size()[self.geom(name)?.0])
    }

    /// World position of a body's frame, metres.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn body_position(&self, name: &str) -> Result<[f64; 3], SimError> {
        Ok(self.xpos(self.body(name)?))
    }

    /// World position of a site, metres.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn site_position(&self, name: &str) -> Result<[f64; 3], SimError> {
        Ok(self.site_xpos(self.site(name)?))
    }

    /// Positions of a joint: 1 value (hinge, slide), 4 (ball) or 7 (free).
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn joint_qpos(&self, name: &str) -> Result<&[f64], SimError> {
        Ok(self.joint_qpos_values(self.joint(name)?))
    }

    /// The first velocity of a joint: the whole of it for hinge and slide.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn joint_qvel(&self, name: &str) -> Result<f64, SimError> {
        Ok(self.qvel()[self.dof_address(self.joint(name)?)])
    }

    /// Lower and upper limit of a joint, or `None` where it turns freely. Radians or metres.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn joint_range(&self, name: &str) -> Result<Option<[f64; 2]>, SimError> {
        let joint = self.joint(name)?;
        Ok(self.model().jnt_limited()[joint.0].then(|| self.model().jnt_range()[joint.0]))
    }

    /// Position of a joint's anchor, metres, and its axis, both in the world.
    ///
    /// # Errors
    /// [`SimError::UnknownName`].
    pub fn joint_anchor_and_axis(&self, name: &str) -> Result<([f64; 3], [f64; 3]), SimError> {
        let joint = self.joint(name)?;
        Ok((self.data().xanchor()[joint.0], self.data().xaxis()[joint.0]))
    }
}
