//! Files of data sets, read where their data set has them: masks of DAVIS, joints of JHMDB.

use std::path::Path;

use foresee_models::{LabelledVideo, ModelsError, VideoSource, davis_2017, jhmdb};

/// A picture that every frame is.
const PICTURE: &str = "tests/fixtures/masks/indexed.png";

/// The bytes as both masks of a video.
pub(super) fn mask(bytes: &[u8], folder: &Path) -> bool {
    let folder = folder.join("davis");
    let images = frames(&folder.join("JPEGImages/480p/bear"));
    let masks = folder.join("Annotations/480p/bear");
    let written = images
        && lay(&masks.join("00001.png"), bytes)
        && lay(&masks.join("00002.png"), bytes)
        && lay(&folder.join("ImageSets/2017/val.txt"), b"bear\n");
    written && loads(davis_2017(&folder)).is_some_and(|video| video.masks.len() == 2)
}

pub(super) fn mask_seeds() -> Vec<Vec<u8>> {
    super::files(&["tests/fixtures/masks/indexed.png", "tests/fixtures/masks/grey_2bit.png"])
}

/// The bytes as the joints of a video.
pub(super) fn mat(bytes: &[u8], folder: &Path) -> bool {
    let folder = folder.join("jhmdb");
    let written = frames(&folder.join("Rename_Images/wave/one"))
        && lay(&folder.join("joint_positions/wave/one/joint_positions.mat"), bytes)
        && lay(&folder.join("splits/wave_test_split1.txt"), b"one.avi 2\n");
    written && loads(jhmdb(&folder)).is_some_and(|video| !video.key_points.points.places.is_empty())
}

/// One joint in two frames, plain and compressed.
pub(super) fn mat_seeds() -> Vec<Vec<u8>> {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let shape: Vec<u8> = [2_i32, 1, 2].iter().flat_map(|size| size.to_le_bytes()).collect();
    let values: Vec<u8> = [1.0_f64, 2.0, 3.0, 2.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let parts =
        [element(6, &[6, 0, 0, 0, 0, 0, 0, 0]), element(5, &shape), element(1, b"pos_img"), element(9, &values)];
    let matrix = element(14, &parts.concat());
    let packed = stored(&matrix);
    let compressed = [&15_u32.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat();
    let header = [&[b' '; 124][..], &[0x00, 0x01], b"IM"].concat();
    [matrix, compressed].map(|array| [&header[..], &array].concat()).to_vec()
}

/// A zlib stream that holds the bytes as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len() as u16;
    let [low, high] = bytes.iter().fold([1_u32, 0], |[low, high], byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        [low, (high + low) % 65_521]
    });
    let head = [&[0x78, 0x01, 0x01][..], &size.to_le_bytes(), &(!size).to_le_bytes()].concat();
    [&head[..], bytes, &(high << 16 | low).to_be_bytes()].concat()
}

/// Two frames in a folder.
fn frames(folder: &Path) -> bool {
    let picture = std::fs::read(crate::root().join(PICTURE)).unwrap_or_default();
    ["00001.png", "00002.png"].iter().all(|name| lay(&folder.join(name), &picture))
}

fn lay(file: &Path, bytes: &[u8]) -> bool {
    let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(file, bytes)).is_ok()
}

fn loads(videos: Result<Vec<VideoSource>, ModelsError>) -> Option<LabelledVideo> {
    videos.ok()?.first()?.load().ok()
}
