//! DAVIS 2017, in its own folders: `JPEGImages/480p/<video>`, `Annotations/480p/<video>`, `ImageSets/2017/val.txt`.

use std::path::Path;

use foresee_runtime::{PICTURE_ENDINGS, Skipped};

use super::files::{VideoSource, below, files_in, read_list, wrong};
use crate::error::ModelsError;

/// The validation videos; each object of a first mask is followed.
///
/// # Errors
/// [`ModelsError`] naming the file or folder that is missing, or the video whose masks are not as many as its images.
pub fn davis_2017(root: &Path) -> Result<Vec<VideoSource>, ModelsError> {
    let mut videos = Vec::new();
    for name in read_list(&root.join("ImageSets/2017/val.txt"))? {
        let mut skipped = Skipped::default();
        let images = files_in(&below(&root.join("JPEGImages/480p"), &name)?, PICTURE_ENDINGS, &mut skipped)?;
        let folder = below(&root.join("Annotations/480p"), &name)?;
        let masks = files_in(&folder, &["png"], &mut skipped)?;
        if masks.len() != images.len() {
            return Err(wrong(&folder, format!("holds {} masks for {} images", masks.len(), images.len())));
        }
        videos.push(VideoSource { name, images, masks, skipped, ..VideoSource::default() });
    }
    Ok(videos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An indexed PNG as DAVIS has them.
    fn write_mask(path: &Path, [width, height]: [u32; 2], classes: &[u8]) {
        let file = std::fs::File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, width, height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(vec![0, 0, 0, 128, 0, 0, 0, 128, 0]);
        encoder.write_header().unwrap().write_image_data(classes).unwrap();
    }

    #[test]
    fn a_tiny_data_set_in_its_own_folders_is_read() {
        let root = tempfile::tempdir().unwrap();
        let [images, masks, lists] =
            ["JPEGImages/480p/bear", "Annotations/480p/bear", "ImageSets/2017"].map(|part| root.path().join(part));
        for folder in [&images, &masks, &lists] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(lists.join("val.txt"), "bear\n\n").unwrap();
        for frame_idx in 0..3 {
            let image = image::RgbImage::from_pixel(8, 4, image::Rgb([frame_idx * 40, 0, 0]));
            image.save(images.join(format!("0000{frame_idx}.jpg"))).unwrap();
            let mut classes = [0; 32];
            classes[usize::from(frame_idx)] = 2;
            write_mask(&masks.join(format!("0000{frame_idx}.png")), [8, 4], &classes);
        }
        let videos = davis_2017(root.path()).unwrap();
        let video = videos[0].load().unwrap();
        assert_eq!((video.frames.len(), video.masks.len(), video.num_classes), (3, 3, 3));
        assert_eq!((video.masks[1].classes[1], video.masks[1].width), (2, 8));
        assert!((75..85).contains(&video.frames[2].data[0]));
        std::fs::remove_file(masks.join("00002.png")).unwrap();
        assert!(davis_2017(root.path()).unwrap_err().to_string().contains("2 masks for 3 images"));
        std::fs::write(lists.join("val.txt"), "../bear").unwrap();
        assert!(davis_2017(root.path()).unwrap_err().to_string().contains("../bear"));
    }

    #[test]
    fn a_mask_that_is_no_mask_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("colour.png");
        image::RgbImage::new(4, 4).save(&path).unwrap();
        let error = super::super::files::read_mask(&path).unwrap_err().to_string();
        assert!(error.contains("colour.png") && error.contains("Rgb"), "{error}");
        std::fs::write(&path, b"not a picture").unwrap();
        assert!(super::super::files::read_mask(&path).is_err() && super::super::files::read_frame(&path).is_err());
    }
}
