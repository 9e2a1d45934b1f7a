//! Sums over pairs of a query and a row of codes, in whole numbers: exact, so every processor gives the same bits.

use super::lanes::prefetch;

/// Codes in one step of a row; rows are padded to a multiple of it with zeros. Half a cache line: rows of an odd number
/// of steps begin in the middle of one, and reach over no more of them for it.
pub(super) const STEP: usize = 32;

/// Padded rows of codes, one after the other.
#[derive(Clone, Copy)]
pub(super) struct CodeRows<'a> {
    pub(super) codes: &'a [u8],
    pub(super) stride: usize,
}

impl<'a> CodeRows<'a> {
    #[inline(always)]
    pub(super) fn steps(self, row: u32) -> &'a [[u8; STEP]] {
        let codes = &self.codes[row as usize * self.stride..][..self.stride];
        codes.as_chunks().0
    }

    /// Asks for a row's first lines; the rest is asked for while the rows before it are summed.
    #[inline(always)]
    pub(super) fn prefetch(self, row: u32) {
        let lines = self.steps(row).iter().step_by(2);
        lines.take(4).for_each(prefetch);
    }
}

/// Σ (q − c)², a step at a time. No sum overflows: see [`super::codes::reach`].
pub(super) trait Squares: Copy {
    const ZERO: Self;
    /// Adds the squares of one step.
    fn plus(self, query: &[i16; STEP], codes: &[u8; STEP]) -> Self;
    fn sum(self) -> i32;
}

impl Squares for i32 {
    const ZERO: Self = 0;
    #[inline(always)]
    fn plus(self, query: &[i16; STEP], codes: &[u8; STEP]) -> Self {
        let squares = query.iter().zip(codes).map(|(&query, &code)| {
            let difference = i32::from(query) - i32::from(code);
            difference.wrapping_mul(difference)
        });
        // Only what a damaged file has in the place of padding wraps.
        squares.fold(self, i32::wrapping_add)
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        self
    }
}

/// Σ (q − c)² of `query` and the rows `ids`. `G` rows at a time share the loads of the query, while those after them
/// are fetched.
#[inline(always)]
pub(super) fn code_sums<V: Squares, const G: usize>(
    query: &[i16],
    rows: CodeRows<'_>,
    ids: &[u32],
    out: &mut [f32],
) {
    let query = query.as_chunks().0;
    let (groups, rest) = ids.as_chunks::<G>();
    let (out_groups, out_rest) = out.as_chunks_mut::<G>();
    for (number, (group, out)) in groups.iter().zip(out_groups).enumerate() {
        let next = ids.get((number + 1) * G..).unwrap_or_default();
        let next: [u32; G] = std::array::from_fn(|i| next.get(i).copied().unwrap_or(group[i]));
        let current = group.map(|id| rows.steps(id));
        let fetched = next.map(|id| rows.steps(id));
        *out = group_sums::<V, true, G>(query, current, fetched);
    }
    for (&id, out) in rest.iter().zip(out_rest) {
        let row = [rows.steps(id)];
        [*out] = group_sums::<V, false, 1>(query, row, row);
    }
}

#[inline(always)]
fn group_sums<V: Squares, const FETCH: bool, const G: usize>(
    query: &[[i16; STEP]],
    rows: [&[[u8; STEP]]; G],
    next: [&[[u8; STEP]]; G],
) -> [f32; G] {
    let length = query.len();
    let rows = rows.map(|row| &row[..length]);
    let next = next.map(|row| &row[..length]);
    let mut sums = [V::ZERO; G];
    for (step, query) in query.iter().enumerate() {
        for g in 0..G {
            if FETCH && step % 2 == 0 {
                prefetch(&next[g][step]);
            }
            sums[g] = sums[g].plus(query, &rows[g][step]);
        }
    }
    // Rounded to the nearest of 24 bits, which keeps the order.
    sums.map(|sum| sum.sum() as f32)
}

/// How rows of codes are summed on this processor.
pub(super) type CodeSums = fn(&[i16], CodeRows<'_>, &[u32], &mut [f32]);

/// [`code_sums`] compiled for the widest lanes that the processor has.
pub(super) fn widest() -> CodeSums {
    #[cfg(target_arch = "x86_64")]
    {
        use super::x86_codes::{avx2, avx512_vnni, has_avx512_vnni};
        if has_avx512_vnni() {
            return avx512_vnni;
        }
        if is_x86_feature_detected!("avx2") {
            return avx2;
        }
    }
    code_sums::<i32, 1>
}
