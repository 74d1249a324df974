//! Vector registers of f32 behind one small trait. Every kind computes the same bits: each lane is an IEEE fused multiply-add.

/// Some f32 side by side.
pub(super) trait Lanes: Copy {
    /// How many.
    const COUNT: usize;
    /// The same everywhere.
    fn splat(value: f32) -> Self;
    /// Bytes as numbers; at least `COUNT` of them.
    fn from_bytes(bytes: &[u8]) -> Self;
    /// At least `COUNT` values.
    fn load(values: &[f32]) -> Self;
    /// Into at least `COUNT` values.
    fn store(self, values: &mut [f32]);
    /// `self * by + add`, rounded once.
    fn mul_add(self, by: Self, add: Self) -> Self;
    /// Rows become columns of a square of `COUNT`: `from[row * from_stride + column]` -> `to[column * to_stride + row]`.
    fn transpose(from: Tile<&[f32]>, to: Tile<&mut [f32]>);
}

/// A square of values somewhere in a buffer; row `r` begins at `r * stride`.
pub(super) struct Tile<T> {
    pub(super) values: T,
    pub(super) stride: usize,
}

/// What any machine has; compilers make NEON or SSE of it.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Lanes for Portable {
    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.first_chunk::<8>().map_or([0.0; 8], |bytes| bytes.map(f32::from)))
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        Self(values.first_chunk::<8>().copied().unwrap_or_default())
    }

    #[inline(always)]
    fn store(self, values: &mut [f32]) {
        if let Some(values) = values.first_chunk_mut::<8>() {
            *values = self.0;
        }
    }

    #[inline(always)]
    fn mul_add(self, by: Self, add: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(by.0[lane], add.0[lane])))
    }

    #[inline(always)]
    fn transpose(from: Tile<&[f32]>, to: Tile<&mut [f32]>) {
        for column in 0..8 {
            for row in 0..8 {
                to.values[column * to.stride + row] = from.values[row * from.stride + column];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use self::x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(
        unsafe_code,
        reason = "vector instructions; used only where `Instructions::detect` found them, on checked slices"
    )]

    use std::arch::x86_64::*;

    use super::{Lanes, Tile};

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    impl Lanes for Avx2 {
        const COUNT: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn from_bytes(bytes: &[u8]) -> Self {
            let bytes = bytes.first_chunk::<8>().map_or(0, |bytes| i64::from_le_bytes(*bytes));
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes))) })
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            let values = values.first_chunk::<8>().unwrap_or(&[0.0; 8]);
            // SAFETY: eight values.
            Self(unsafe { _mm256_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32]) {
            if let Some(values) = values.first_chunk_mut::<8>() {
                // SAFETY: eight values.
                unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self.0) }
            }
        }

        #[inline(always)]
        fn mul_add(self, by: Self, add: Self) -> Self {
            // SAFETY: FMA was detected.
            Self(unsafe { _mm256_fmadd_ps(self.0, by.0, add.0) })
        }

        #[inline(always)]
        fn transpose(from: Tile<&[f32]>, to: Tile<&mut [f32]>) {
            assert!(from.values.len() >= 7 * from.stride + 8 && to.values.len() >= 7 * to.stride + 8, "a tile of 8");
            // SAFETY: both slices hold eight rows of eight.
            unsafe { transpose_8(from.values.as_ptr(), from.stride, to.values.as_mut_ptr(), to.stride) }
        }
    }

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        const COUNT: usize = 16;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: AVX-512 was detected.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn from_bytes(bytes: &[u8]) -> Self {
            let bytes = bytes.first_chunk::<16>().unwrap_or(&[0; 16]);
            // SAFETY: sixteen bytes; AVX-512 was detected.
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))) })
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            let values = values.first_chunk::<16>().unwrap_or(&[0.0; 16]);
            // SAFETY: sixteen values.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32]) {
            if let Some(values) = values.first_chunk_mut::<16>() {
                // SAFETY: sixteen values.
                unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
            }
        }

        #[inline(always)]
        fn mul_add(self, by: Self, add: Self) -> Self {
            // SAFETY: AVX-512 was detected.
            Self(unsafe { _mm512_fmadd_ps(self.0, by.0, add.0) })
        }

        #[inline(always)]
        fn transpose(from: Tile<&[f32]>, to: Tile<&mut [f32]>) {
            let (from_stride, to_stride) = (from.stride, to.stride);
            assert!(
                from.values.len() >= 15 * from_stride + 16 && to.values.len() >= 15 * to_stride + 16,
                "a tile of 16"
            );
            let (from, to) = (from.values.as_ptr(), to.values.as_mut_ptr());
            for (row, column) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                // SAFETY: both slices hold sixteen rows of sixteen.
                unsafe {
                    transpose_8(
                        from.add(row * from_stride + column),
                        from_stride,
                        to.add(column * to_stride + row),
                        to_stride,
                    );
                }
            }
        }
    }

    /// # Safety
    /// AVX is there; eight rows of eight can be read and written.
    #[inline(always)]
    unsafe fn transpose_8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the contract.
        unsafe {
            // Halves of rows r and r + 4 side by side, so that all that is left stays within 128 bits.
            let pair = |row: usize, half: usize| {
                let low = _mm_loadu_ps(from.add(row * from_stride + 4 * half));
                let high = _mm_loadu_ps(from.add((row + 4) * from_stride + 4 * half));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            for half in 0..2 {
                let [a, b, c, d] = [pair(0, half), pair(1, half), pair(2, half), pair(3, half)];
                let [ab_low, ab_high] = [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)];
                let [cd_low, cd_high] = [_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)];
                let columns = [
                    _mm256_shuffle_ps::<0x44>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0xee>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                ];
                for (column, values) in columns.into_iter().enumerate() {
                    _mm256_storeu_ps(to.add((4 * half + column) * to_stride), values);
                }
            }
        }
    }
}
