//! A folder of images in classes: `train/<class>/*` and `val/<class>/*`, for k-NN and the linear probe.

use std::path::{Path, PathBuf};

use foresee_runtime::{Frame, PICTURE_ENDINGS, Skipped};

use super::files::{files_in, folders_in, read_frame, wrong};
use super::{ProbeEncoder, Samples};
use crate::error::ModelsError;

/// Images with their classes, read when their features are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledImages {
    /// Names, in order.
    pub classes: Vec<String>,
    /// What is known: image and class.
    pub train: Vec<(PathBuf, usize)>,
    /// What is asked.
    pub test: Vec<(PathBuf, usize)>,
    /// What lies beside the images and is no data.
    pub skipped: Skipped,
}

/// The images below `root`.
///
/// # Errors
/// [`ModelsError`] naming the folder that is missing or empty, or a class of `val` that `train` has not.
pub fn labelled_images(root: &Path) -> Result<LabelledImages, ModelsError> {
    let mut images = LabelledImages::default();
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for folder in folders_in(&root.join("train"), &mut images.skipped)? {
        let class = images.classes.len();
        let files = files_in(&folder, PICTURE_ENDINGS, &mut images.skipped)?;
        images.train.extend(files.into_iter().map(|path| (path, class)));
        images.classes.push(name(&folder));
    }
    for folder in folders_in(&root.join("val"), &mut images.skipped)? {
        let class = images.classes.iter().position(|class| *class == name(&folder));
        let class = class.ok_or_else(|| wrong(&folder, "is a class that train does not have".to_string()))?;
        let files = files_in(&folder, PICTURE_ENDINGS, &mut images.skipped)?;
        images.test.extend(files.into_iter().map(|path| (path, class)));
    }
    if images.classes.len() < 2 || images.test.is_empty() {
        return Err(wrong(root, "needs train/<class> and val/<class> of at least two classes".to_string()));
    }
    Ok(images)
}

impl LabelledImages {
    /// Features on a grid of patches with one-hot classes: the class token, the mean patch of an encoder without one, all patches of raw
    /// pixels.
    ///
    /// # Errors
    /// [`ModelsError`] naming the image that cannot be read.
    pub fn samples(
        &self,
        places: &[(PathBuf, usize)],
        (encoder, grid): (&ProbeEncoder, [usize; 2]),
    ) -> Result<Samples, ModelsError> {
        let mut samples = Samples { num_targets: self.classes.len(), ..Samples::default() };
        for part in places.chunks(32) {
            let frames = part.iter().map(|(path, _)| read_frame(path)).collect::<Result<Vec<Frame>, _>>()?;
            let features = encoder.features(&frames, grid)?;
            let values = if features.cls.is_empty() { features.tokens } else { features.cls };
            samples.dim = values.len() / frames.len().max(1);
            samples.features.extend(values);
            for (_, class) in part {
                samples.targets.extend((0..self.classes.len()).map(|at| if at == *class { 1.0 } else { 0.0 }));
            }
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{classify_by_nearest, classify_linearly};
    use crate::recipe::Recipe;

    #[test]
    fn colours_are_told_apart_by_raw_pixels() {
        let root = tempfile::tempdir().unwrap();
        for (part, count) in [("train", 6), ("val", 2)] {
            for (class, channel) in [("green", 1), ("red", 0)] {
                let folder = root.path().join(part).join(class);
                std::fs::create_dir_all(&folder).unwrap();
                for idx in 0..count {
                    let mut colour = [10 * idx, 5 * idx, 3];
                    colour[channel] = 200 - idx;
                    image::RgbImage::from_pixel(16, 16, image::Rgb(colour))
                        .save(folder.join(format!("{idx}.png")))
                        .unwrap();
                }
            }
        }
        let images = labelled_images(root.path()).unwrap();
        assert_eq!((images.classes.len(), images.train.len(), images.test.len()), (2, 12, 4));
        let encoder = ProbeEncoder::raw_pixels("pixels", &Recipe::load("mae-64").unwrap());
        let [train, test] =
            [&images.train, &images.test].map(|places| images.samples(places, (&encoder, [2, 2])).unwrap());
        assert!(classify_by_nearest(&train, &test) > 0.99 && classify_linearly(&train, &test).unwrap() > 0.99);
        for name in ["train/red/._0.png", "train/.ipynb_checkpoints/0.png", "val/@eaDir/0.png", "val/green/Thumbs.db"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "no data").unwrap();
        }
        let again = labelled_images(root.path()).unwrap();
        assert_eq!((&again.train, &again.test, &again.classes), (&images.train, &images.test, &images.classes));
        assert_eq!(again.skipped.leftovers.len(), 4, "{:?}", again.skipped);
        let empty = root.path().join("train/empty");
        std::fs::create_dir(&empty).unwrap();
        assert!(labelled_images(root.path()).unwrap_err().to_string().contains("train/empty"));
        std::fs::remove_dir(empty).unwrap();
        std::fs::create_dir(root.path().join("val/blue")).unwrap();
        assert!(labelled_images(root.path()).unwrap_err().to_string().contains("blue"));
    }
}
