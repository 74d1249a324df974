//! Frames of meshes as MuJoCo 3.3.0 compiles them. A mesh's frame is found from its moments of inertia, and later versions find another
//! in the last digits; what a task observes of it is what the original observed.

use crate::physics::{BodyId, Physics};

/// Where a mesh is on its body: `geom_pos` and `geom_quat` of a model that MuJoCo 3.3.0 compiled from the package's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeshFrame {
    /// The geom's body.
    pub(super) body: BodyId,
    /// In the body's frame, metres.
    pub(super) position: [f64; 3],
    /// In the body's frame, w first.
    pub(super) quaternion: [f64; 4],
}

impl MeshFrame {
    /// World position, metres: `mj_local2Global`, to the bit.
    pub(super) fn xpos(&self, physics: &Physics) -> [f64; 3] {
        let (rotation, origin) = (physics.xmat(self.body), physics.xpos(self.body));
        let [x, y, z] = self.position;
        let [a, b, c, d, e, f, g, h, i] = rotation;
        [a * x + b * y + c * z + origin[0], d * x + e * y + f * z + origin[1], g * x + h * y + i * z + origin[2]]
    }

    /// Rotation, row major: `mju_mulQuat` and `mju_quat2Mat`, to the bit.
    pub(super) fn xmat(&self, physics: &Physics) -> [f64; 9] {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (physics.xquat(self.body), self.quaternion);
        let q = [
            a0 * b0 - a1 * b1 - a2 * b2 - a3 * b3,
            a0 * b1 + a1 * b0 + a2 * b3 - a3 * b2,
            a0 * b2 - a1 * b3 + a2 * b0 + a3 * b1,
            a0 * b3 + a1 * b2 - a2 * b1 + a3 * b0,
        ];
        let product = |row: usize, column: usize| q[row] * q[column];
        let [q00, q11, q22, q33] = [product(0, 0), product(1, 1), product(2, 2), product(3, 3)];
        let [q01, q02, q03] = [product(0, 1), product(0, 2), product(0, 3)];
        let [q12, q13, q23] = [product(1, 2), product(1, 3), product(2, 3)];
        [
            q00 + q11 - q22 - q33,
            2.0 * (q12 - q03),
            2.0 * (q13 + q02),
            2.0 * (q12 + q03),
            q00 - q11 + q22 - q33,
            2.0 * (q23 - q01),
            2.0 * (q13 - q02),
            2.0 * (q23 + q01),
            q00 - q11 - q22 + q33,
        ]
    }
}
