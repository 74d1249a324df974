//! VIP (video instance parsing), in its own folders: `Images/<video>`, `Annotations/Category_ids/<video>`, `lists/val_videos.txt`.

use std::path::Path;

use foresee_runtime::{PICTURE_ENDINGS, Skipped};

use super::files::{VideoSource, below, files_in, read_list, wrong};
use crate::error::ModelsError;

/// Parts of people, ground included.
pub const VIP_CLASSES: u8 = 20;

/// The validation videos.
///
/// # Errors
/// [`ModelsError`] naming the file or folder that is missing, or the video whose masks are not as many as its images.
pub fn vip(root: &Path) -> Result<Vec<VideoSource>, ModelsError> {
    let mut videos = Vec::new();
    for name in read_list(&root.join("lists/val_videos.txt"))? {
        let mut skipped = Skipped::default();
        let images = files_in(&below(&root.join("Images"), &name)?, PICTURE_ENDINGS, &mut skipped)?;
        let folder = below(&root.join("Annotations/Category_ids"), &name)?;
        let masks = files_in(&folder, &["png"], &mut skipped)?;
        if masks.len() != images.len() {
            return Err(wrong(&folder, format!("holds {} masks for {} images", masks.len(), images.len())));
        }
        let num_classes = usize::from(VIP_CLASSES);
        videos.push(VideoSource { name, images, masks, num_classes, skipped, ..VideoSource::default() });
    }
    Ok(videos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_data_set_in_its_own_folders_is_read() {
        let root = tempfile::tempdir().unwrap();
        let [images, masks, lists] =
            ["Images/videos1", "Annotations/Category_ids/videos1", "lists"].map(|part| root.path().join(part));
        for folder in [&images, &masks, &lists] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(lists.join("val_videos.txt"), "videos1\n").unwrap();
        for frame in ["000000000001", "000000000026"] {
            image::RgbImage::new(6, 4).save(images.join(format!("{frame}.jpg"))).unwrap();
            let mask = image::GrayImage::from_pixel(6, 4, image::Luma([13]));
            mask.save(masks.join(format!("{frame}.png"))).unwrap();
        }
        let video = vip(root.path()).unwrap()[0].load().unwrap();
        assert_eq!((video.num_classes, video.masks[0].classes[5]), (20, 13));
        std::fs::remove_dir_all(&masks).unwrap();
        assert!(vip(root.path()).unwrap_err().to_string().contains("Category_ids"));
    }
}
