//! A JPEG picture of noise, as large as a camera's: what measures a loop that decodes. Baseline, chroma for two pixels (ITU-T T.81).

/// Quantisation of every coefficient.
const QUANTISATION: u8 = 12;
/// Symbols of three bits each, in order: sizes of differences of the mean; of the other coefficients, end of block and size 3.
const MEAN_SIZES: [u8; 4] = [0, 1, 2, 3];
const OTHER_SIZES: [u8; 2] = [0x00, 0x03];
const SYMBOL_BITS: u32 = 3;
const MEAN_OF_SIZE_3: u32 = 3;
const END_OF_BLOCK: u32 = 0;
const OTHER_OF_SIZE_3: u32 = 1;
/// Coefficients beside the mean that a block has: about two bits a pixel.
const NUM_OTHERS: u32 = 12;

/// Writes a file of this size in pixels; another `seed` is another picture.
pub(super) fn write_jpeg((width, height): (u32, u32), seed: u32, file: &mut Vec<u8>) {
    file.clear();
    file.extend_from_slice(&[0xff, 0xd8]);
    segment(file, 0xdb, &[&[0], &[QUANTISATION; 64][..]].concat());
    let [high, low] = (height as u16).to_be_bytes();
    let [left, right] = (width as u16).to_be_bytes();
    segment(file, 0xc0, &[8, high, low, left, right, 3, 1, 0x21, 0, 2, 0x11, 0, 3, 0x11, 0]);
    for (class, symbols) in [(0x00, MEAN_SIZES.as_slice()), (0x10, OTHER_SIZES.as_slice())] {
        let mut num_of_length = [0; 16];
        num_of_length[SYMBOL_BITS as usize - 1] = symbols.len() as u8;
        segment(file, 0xc4, &[&[class], num_of_length.as_slice(), symbols].concat());
    }
    segment(file, 0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    let mut bits = Bits { file, waiting: 0, num_waiting: 0 };
    let mut means = [0_i32; 3];
    let mut state = seed.wrapping_mul(2) | 1;
    for _ in 0..width.div_ceil(16) * height.div_ceil(8) {
        for component in [0, 0, 1, 2] {
            if let Some(mean) = means.get_mut(component) {
                block(&mut bits, mean, &mut state);
            }
        }
    }
    bits.finish();
    file.extend_from_slice(&[0xff, 0xd9]);
}

/// Eight by eight values. The mean goes back and forth about grey.
fn block(bits: &mut Bits<'_>, mean: &mut i32, state: &mut u32) {
    let mut noise = |num_bits: u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *state >> (32 - num_bits)
    };
    let size = 4 + noise(2);
    bits.put(MEAN_OF_SIZE_3, SYMBOL_BITS);
    if *mean > 0 {
        *mean -= size as i32;
        bits.put(7 - size, 3);
    } else {
        *mean += size as i32;
        bits.put(size, 3);
    }
    for _ in 0..NUM_OTHERS {
        bits.put(OTHER_OF_SIZE_3, SYMBOL_BITS);
        bits.put(noise(3), 3);
    }
    bits.put(END_OF_BLOCK, SYMBOL_BITS);
}

fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    file.extend_from_slice(&[0xff, marker]);
    file.extend_from_slice(&(content.len() as u16 + 2).to_be_bytes());
    file.extend_from_slice(content);
}

struct Bits<'a> {
    file: &'a mut Vec<u8>,
    waiting: u32,
    num_waiting: u32,
}

impl Bits<'_> {
    fn put(&mut self, value: u32, num_bits: u32) {
        self.waiting = self.waiting << num_bits | value;
        self.num_waiting += num_bits;
        while self.num_waiting >= 8 {
            self.num_waiting -= 8;
            let byte = (self.waiting >> self.num_waiting) as u8;
            self.file.push(byte);
            // A marker begins with this byte; data says that it is none.
            if byte == 0xff {
                self.file.push(0);
            }
        }
    }

    /// Ones to the next byte.
    fn finish(&mut self) {
        self.put(0x7f, 7);
    }
}
