//! Small letters for pictures: three by five pixels, lower case drawn as capitals.

use image::{Rgb, RgbImage};

/// Pixels from one letter to the next.
pub(super) const ADVANCE: u32 = 4;
/// Pixels.
pub(super) const HEIGHT: u32 = 5;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_/";
/// One digit a row from top to bottom, its three bits from left to right.
const GLYPHS: [u16; 39] = [
    0o25755, 0o65656, 0o34443, 0o65556, 0o74647, 0o74644, 0o34553, 0o55755, 0o72227, 0o11152, 0o55655, 0o44447,
    0o57755, 0o65555, 0o25552, 0o65644, 0o25563, 0o65655, 0o34216, 0o72222, 0o55557, 0o55552, 0o55775, 0o55255,
    0o55222, 0o71247, 0o75557, 0o26227, 0o61247, 0o61216, 0o55711, 0o74616, 0o34757, 0o71122, 0o75757, 0o75716,
    0o00700, 0o00007, 0o11244,
];

/// Writes `text` with its upper left corner at `(left, top)`; what lies outside of the picture is left out.
pub(super) fn write(picture: &mut RgbImage, text: &str, (left, top): (u32, u32)) {
    for (column, letter) in (0..).zip(text.to_lowercase().chars()) {
        let glyph = LETTERS.find(letter).and_then(|index| GLYPHS.get(index)).copied().unwrap_or_default();
        for bit in (0..15).filter(|bit| glyph >> (14 - bit) & 1 == 1) {
            let (x, y) = (left + column * ADVANCE + bit % 3, top + bit / 3);
            if let Some(pixel) = picture.get_pixel_mut_checked(x, y) {
                *pixel = Rgb([20, 20, 20]);
            }
        }
    }
}
