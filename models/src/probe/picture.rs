//! Propagated labels for people: a row a prediction, a column a frame, classes in colours over the frame.

use std::path::Path;

use foresee_runtime::{Frame, write_atomically};
use image::{ImageFormat, Rgb, RgbImage};

use super::{ClassMask, LabelledVideo};
use crate::error::ModelsError;
use crate::scores::KeyPoints;

/// Columns of the picture.
const NUM_COLUMNS: usize = 8;
/// Pixels around each tile.
const MARGIN: u32 = 2;
/// Colours of the classes from 1 on, used again after the last.
const COLOURS: [[u8; 3]; 8] = [
    [230, 60, 50],
    [50, 160, 70],
    [60, 100, 220],
    [240, 180, 30],
    [150, 70, 190],
    [30, 180, 190],
    [230, 110, 180],
    [130, 90, 50],
];

/// Writes a PNG with a row for the video's own labels and one for each prediction, in order: masks over the frames, key points as
/// crosses.
///
/// # Errors
/// [`ModelsError`] when the video is empty or the file cannot be written.
pub fn save_propagation(
    video: &LabelledVideo,
    predictions: &[(Vec<ClassMask>, KeyPoints)],
    path: &Path,
) -> Result<(), ModelsError> {
    let Some(first) = video.frames.first() else {
        return Err(ModelsError::Training(format!("video {}: has no frame to draw", video.name)));
    };
    let columns = columns(video.frames.len());
    let extent = |count: usize, size: u32| count as u32 * (size + MARGIN) + MARGIN;
    let (width, height) = (extent(columns.len(), first.width), extent(predictions.len() + 1, first.height));
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let truth = (video.masks.clone(), video.key_points.points.clone());
    for (row, (masks, points)) in std::iter::once(&truth).chain(predictions).enumerate() {
        for (column, &frame_idx) in columns.iter().enumerate() {
            let Some(frame) = video.frames.get(frame_idx) else { continue };
            let corner = [extent(column, first.width), extent(row, first.height)];
            draw_frame(&mut picture, (frame, masks.get(frame_idx)), corner);
            for (joint_idx, places) in points.places.iter().enumerate() {
                if let Some(place) = places.get(frame_idx) {
                    draw_cross(&mut picture, (corner, [first.width, first.height]), (*place, joint_idx));
                }
            }
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = picture.write_to(&mut bytes, ImageFormat::Png);
    written.map_err(|error| ModelsError::Training(format!("{}: {error}", path.display())))?;
    Ok(write_atomically(path, bytes.get_ref())?)
}

/// The frames that are shown: the first, the last, and what lies evenly between.
fn columns(num_frames: usize) -> Vec<usize> {
    let num_columns = NUM_COLUMNS.min(num_frames);
    (0..num_columns).map(|column| column * (num_frames - 1) / (num_columns - 1).max(1)).collect()
}

fn draw_frame(picture: &mut RgbImage, (frame, mask): (&Frame, Option<&ClassMask>), [left, top]: [u32; 2]) {
    let size = [frame.height as usize, frame.width as usize];
    let mask = mask.map(|mask| mask.resized(size));
    for (pixel_idx, pixel) in frame.data.as_chunks::<3>().0.iter().enumerate() {
        let class = mask.as_ref().and_then(|mask| mask.classes.get(pixel_idx)).copied().unwrap_or(0);
        let place = [pixel_idx % size[1], pixel_idx / size[1]].map(|place| place as u32);
        let colour = match (class, COLOURS.get((usize::from(class) + COLOURS.len() - 1) % COLOURS.len())) {
            (1.., Some(colour)) => [0, 1, 2].map(|channel: usize| {
                let values =
                    [pixel.get(channel), colour.get(channel)].map(|value| u16::from(value.copied().unwrap_or(0)));
                ((values[0] * 2 + values[1] * 3) / 5) as u8
            }),
            _ => *pixel,
        };
        if let Some(slot) = picture.get_pixel_mut_checked(left + place[0], top + place[1]) {
            *slot = Rgb(colour);
        }
    }
}

fn draw_cross(
    picture: &mut RgbImage,
    ([left, top], [width, height]): ([u32; 2], [u32; 2]),
    ([x, y], joint_idx): ([f64; 2], usize),
) {
    let colour = COLOURS.get(joint_idx % COLOURS.len()).copied().unwrap_or([255; 3]);
    for (step, [across, down]) in (-2..=2).flat_map(|step| [(step, [1, 0]), (step, [0, 1])]) {
        let place = [x.round() as i64 + step * across, y.round() as i64 + step * down];
        let is_inside = (0..i64::from(width)).contains(&place[0]) && (0..i64::from(height)).contains(&place[1]);
        if is_inside && let Some(slot) = picture.get_pixel_mut_checked(left + place[0] as u32, top + place[1] as u32) {
            *slot = Rgb(colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_frame_are_shown_of_any_video() {
        assert_eq!((columns(1), columns(2), columns(3)), (vec![0], vec![0, 1], vec![0, 1, 2]));
        assert_eq!((columns(8), columns(22)), ((0..8).collect(), (0..8).map(|column| 3 * column).collect()));
    }
}
