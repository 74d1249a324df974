//! The eight ways in which pixels can lie before they are upright: EXIF orientations 1 to 8, and the display matrices of videos.

use image::metadata::Orientation;

/// How stored pixels are brought upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upright {
    /// Columns become rows.
    is_transposed: bool,
    /// Stored columns run from right to left.
    is_mirrored: bool,
    /// Stored rows run from bottom to top.
    is_flipped: bool,
}

impl Upright {
    /// Of an EXIF block, with or without a header; as they are where it names no orientation.
    pub(crate) fn of_exif(exif: &[u8]) -> Self {
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        Orientation::from_exif_chunk(tiff).map_or(Self::default(), Self::of)
    }

    fn of(orientation: Orientation) -> Self {
        let new = |is_transposed, is_mirrored, is_flipped| Self { is_transposed, is_mirrored, is_flipped };
        match orientation {
            Orientation::NoTransforms => new(false, false, false),
            Orientation::FlipHorizontal => new(false, true, false),
            Orientation::Rotate180 => new(false, true, true),
            Orientation::FlipVertical => new(false, false, true),
            Orientation::Rotate90FlipH => new(true, false, false),
            Orientation::Rotate90 => new(true, false, true),
            Orientation::Rotate270FlipH => new(true, true, true),
            Orientation::Rotate270 => new(true, true, false),
        }
    }

    /// Of a video's display matrix as FFmpeg has it: nine numbers of 16.16 fixed point, of which the first two rows' first two turn.
    #[cfg(feature = "camera")]
    pub(crate) fn of_display_matrix(matrix: &[u8]) -> Self {
        let numbers = matrix.as_chunks::<4>().0;
        let at = |place: usize| numbers.get(place).map_or(0.0, |bytes| f64::from(i32::from_ne_bytes(*bytes)));
        // An upright place (x, y) is (a x + c y, b x + d y) of a stored one.
        let [a, b, c, d] = [at(0), at(1), at(3), at(4)];
        if a == 0.0 && b == 0.0 && c == 0.0 && d == 0.0 {
            return Self::default();
        }
        // The nearest quarter turn, as players do.
        match b.abs() > a.abs() || c.abs() > d.abs() {
            true => Self { is_transposed: true, is_mirrored: b < 0.0, is_flipped: c < 0.0 },
            false => Self { is_transposed: false, is_mirrored: a < 0.0, is_flipped: d < 0.0 },
        }
    }

    pub(crate) fn is_as_stored(self) -> bool {
        self == Self::default()
    }

    /// Width and height of the upright picture.
    pub(crate) fn size(self, [width, height]: [usize; 2]) -> [usize; 2] {
        if self.is_transposed { [height, width] } else { [width, height] }
    }

    /// Writes pixels of three bytes, stored as `size`, upright into `target`, which is as long.
    pub(crate) fn turn(self, stored: &[u8], size: [usize; 2], target: &mut [u8]) {
        let [width, height] = size;
        let [columns, _] = self.size(size);
        let (stored, target) = (stored.as_chunks::<3>().0, target.as_chunks_mut::<3>().0);
        for (row, target) in target.chunks_exact_mut(columns.max(1)).enumerate() {
            for (column, pixel) in target.iter_mut().enumerate() {
                let [x, y] = if self.is_transposed { [row, column] } else { [column, row] };
                let x = if self.is_mirrored { width.wrapping_sub(x + 1) } else { x };
                let y = if self.is_flipped { height.wrapping_sub(y + 1) } else { y };
                if let Some(source) = stored.get(y.wrapping_mul(width).wrapping_add(x)) {
                    *pixel = *source;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `image` turns a picture of 3 x 2 as this does, for every value.
    #[test]
    fn every_orientation_is_that_of_the_image_crate() {
        let stored: Vec<u8> = (0..18).collect();
        for value in 1..=8 {
            let orientation = Orientation::from_exif(value).unwrap();
            let image = image::RgbImage::from_raw(3, 2, stored.clone()).unwrap();
            let mut image = image::DynamicImage::ImageRgb8(image);
            image.apply_orientation(orientation);
            let upright = Upright::of(orientation);
            let mut turned = vec![0; 18];
            upright.turn(&stored, [3, 2], &mut turned);
            assert_eq!(upright.size([3, 2]), [image.width() as usize, image.height() as usize], "{value}");
            assert_eq!(turned, image.into_rgb8().into_raw(), "{value}");
        }
        assert!(Upright::of_exif(b"nothing").is_as_stored() && Upright::of_exif(b"").is_as_stored());
    }
}
