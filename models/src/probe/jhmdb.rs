//! JHMDB, in its own folders: `Rename_Images/<action>/<video>`, `joint_positions/<action>/<video>/joint_positions.mat`,
//! `splits/<action>_test_split1.txt`.

use std::path::Path;

use foresee_runtime::{PICTURE_ENDINGS, Skipped};

use super::files::{VideoSource, below, files_in, folders_in, read_list, wrong};
use crate::error::ModelsError;

/// What a split file has after the videos that are tested on.
const TEST_MARK: &str = "2";

/// The test videos of the first split.
///
/// # Errors
/// [`ModelsError`] naming the file or folder that is missing.
pub fn jhmdb(root: &Path) -> Result<Vec<VideoSource>, ModelsError> {
    let (mut videos, mut beside) = (Vec::new(), Skipped::default());
    for folder in folders_in(&root.join("Rename_Images"), &mut beside)? {
        let action = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in read_list(&root.join(format!("splits/{action}_test_split1.txt")))? {
            let mut words = line.split_whitespace();
            let (Some(file), Some(mark)) = (words.next(), words.next()) else { continue };
            if mark != TEST_MARK {
                continue;
            }
            let name = format!("{action}/{}", file.trim_end_matches(".avi"));
            let mut skipped = std::mem::take(&mut beside);
            let images = files_in(&below(&root.join("Rename_Images"), &name)?, PICTURE_ENDINGS, &mut skipped)?;
            let joints = Some(below(&root.join("joint_positions"), &name)?.join("joint_positions.mat"));
            videos.push(VideoSource { name, images, joints, skipped, ..VideoSource::default() });
        }
    }
    if videos.is_empty() {
        return Err(wrong(root, "has no test video in its first split".to_string()));
    }
    Ok(videos)
}

#[cfg(test)]
mod tests {
    use super::super::mat::tests::mat_file;
    use super::*;

    #[test]
    fn a_tiny_data_set_in_its_own_folders_is_read() {
        let root = tempfile::tempdir().unwrap();
        let [images, joints, splits] =
            ["Rename_Images/wave/one", "joint_positions/wave/one", "splits"].map(|part| root.path().join(part));
        for folder in [&images, &joints, &splits] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(splits.join("wave_test_split1.txt"), "none.avi 1\none.avi 2\n").unwrap();
        for frame in 1..=2 {
            image::RgbImage::new(10, 8).save(images.join(format!("0000{frame}.png"))).unwrap();
        }
        // Two joints in two frames; the second leaves the image.
        let places = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 11.0, 7.0];
        std::fs::write(joints.join("joint_positions.mat"), mat_file("pos_img", &[2, 2, 2], &places)).unwrap();
        let videos = jhmdb(root.path()).unwrap();
        assert_eq!((videos.len(), videos[0].name.as_str()), (1, "wave/one"));
        let labels = videos[0].load().unwrap().key_points;
        assert_eq!(labels.points.places, [[[0.0, 1.0], [4.0, 5.0]], [[2.0, 3.0], [10.0, 6.0]]]);
        assert_eq!(labels.visible, [[true, true], [true, false]]);
        std::fs::write(joints.join("joint_positions.mat"), mat_file("pos_img", &[2, 2, 1], &places[..4])).unwrap();
        assert!(videos[0].load().unwrap_err().to_string().contains("1 frames; there are 2 images"));
    }
}
