//! Hand-eye calibration against MuJoCo's truth: `foresee camera calibrate` on pictures of the camera on the simulated wrist.

use std::path::Path;

use foresee_firmware_config::load;
use foresee_sim::{Camera, CameraOptions, Checkerboard, Environment, Quality};
use foresee_tests::{foresee, root};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use serde_json::{Value, json};

const NUM_VIEWS: u64 = 15;
const SIZE: [u32; 2] = [640, 480];

fn pose(parts: &[f64]) -> Isometry3<f64> {
    let [x, y, z, qw, qx, qy, qz] = parts.try_into().unwrap();
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(qw, qx, qy, qz));
    Isometry3::from_parts(Translation3::new(x, y, z), rotation)
}

/// Pictures and `poses.json`; gives the focal lengths and the camera's true pose in the hand.
fn photograph(folder: &Path) -> ([f64; 2], Isometry3<f64>) {
    let mut environment = Environment::new("table/calibrate-wrist", &root().join("target/native")).unwrap();
    let options = CameraOptions { name: "wrist".to_owned(), width: SIZE[0], height: SIZE[1], quality: Quality::Fast };
    let mut camera = Camera::new(&environment, &options).unwrap();
    let (mut views, mut truth) = (Vec::new(), None);
    for seed in 0..NUM_VIEWS {
        environment.reset(seed).unwrap();
        let mut rgb = vec![0; camera.num_bytes()];
        camera.render(&mut environment, &mut rgb).unwrap();
        let name = format!("{seed}.ppm");
        let mut file = format!("P6\n{} {}\n255\n", SIZE[0], SIZE[1]).into_bytes();
        file.extend(&rgb);
        std::fs::write(folder.join(&name), file).unwrap();
        // Six joints, then position and orientation of the hand.
        let hand = pose(&environment.observation()[6..13]);
        let view = camera.view(&environment).unwrap();
        truth = Some((view.focal_pixels, hand.inverse() * view.world_from_camera));
        let rotation = hand.rotation;
        views.push(json!({
            "image": name,
            "base_from_gripper_metres": hand.translation.vector.as_slice(),
            "base_from_gripper_quaternion_wxyz": [rotation.w, rotation.i, rotation.j, rotation.k],
        }));
    }
    std::fs::write(folder.join("poses.json"), json!({ "views": views }).to_string()).unwrap();
    truth.unwrap()
}

#[test]
fn the_camera_on_the_wrist_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let (focal_pixels, truth) = photograph(&images);
    let camera = "inherit = \"desktop-cpu\"\n\n[mount] # by hand\nparent = \"tool0\"\n\
                  parent_from_camera_metres = [0, 0, 0]\nparent_from_camera_quaternion_wxyz = [1, 0, 0, 0]\n\n[camera]\nname = \"wrist\"\nwidth = 640\nheight = 480\nencoding = \"bgr8\"\n";
    std::fs::write(folder.path().join("arm.toml"), camera).unwrap();
    let Checkerboard { columns, rows, square_metres } = Checkerboard::SCENE;
    let calibrate = |poses: &str| {
        foresee(folder.path())
            .args(["camera", "calibrate", "images", "--board", &format!("{columns}x{rows}"), "--json"])
            .args(["--square-metres", &square_metres.to_string(), "--poses", poses, "--write", "arm.toml"])
            .output()
            .unwrap()
    };
    // The same poses with the quaternion as ROS has it: x y z w.
    let mut poses: Value = serde_json::from_slice(&std::fs::read(images.join("poses.json")).unwrap()).unwrap();
    for row in poses["views"].as_array_mut().unwrap() {
        row["base_from_gripper_quaternion_wxyz"].as_array_mut().unwrap().rotate_left(1);
    }
    std::fs::write(folder.path().join("xyzw.json"), poses.to_string()).unwrap();
    let output = calibrate("xyzw.json");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("read as x y z w") && message.contains("arm.toml is left as it was"), "{message}");
    assert_eq!(std::fs::read_to_string(folder.path().join("arm.toml")).unwrap(), camera);
    let output = calibrate("images/poses.json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["views"].as_array().unwrap().len() >= 10, "{found:#}");
    assert!(found["reprojection_error_pixels"].as_f64().unwrap() < 0.5, "{found:#}");
    let profile = load(&folder.path().join("arm.toml").display().to_string()).unwrap();
    let (lens, mount) = (profile.intrinsics.unwrap(), profile.mount.unwrap());
    for (found, truth) in [(lens.fx_pixels, focal_pixels[0]), (lens.fy_pixels, focal_pixels[1])] {
        assert!((found / truth - 1.0).abs() < 0.01, "focal length {found} where {truth} is true");
    }
    assert_eq!(mount.parent, "tool0");
    let [x, y, z] = mount.parent_from_camera_metres;
    let [qw, qx, qy, qz] = mount.parent_from_camera_quaternion_wxyz;
    let found = pose(&[x, y, z, qw, qx, qy, qz]);
    let moved = (found.translation.vector - truth.translation.vector).norm();
    let turned = found.rotation.angle_to(&truth.rotation);
    assert!(moved < 0.003 && turned < 0.01, "off by {moved} m and {turned} rad");
}

#[test]
fn a_calibration_that_cannot_be_names_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    for (arguments, expected) in [
        (vec!["images"], "holds no image"),
        (vec!["nowhere.avi"], "nowhere.avi: no such file"),
        (vec!["images", "--poses", "none.json"], "none.json"),
        (vec!["images", "--board", "8x6", "--poses", "none.json"], "none.json"),
        (vec!["/dev/video97"], "/dev/video97: there is no such device"),
    ] {
        let output = foresee(folder.path())
            .args(["camera", "calibrate", "--square-metres", "0.02"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("panicked"), "{said}");
    }
}
