//! Sums over pairs of rows in `f32`, sixteen lanes at a time.
//!
//! A row's sum is made in two sets of sixteen lanes with fused multiplication and addition, in an order
//! that depends on its length alone: every processor gives the same bits, and so builds the same graph.

/// Numbers in one step of a row; rows are padded to a multiple of it with zeros.
pub(super) const LANES: usize = 16;

/// Sixteen numbers that are added and multiplied lane by lane.
pub(super) trait Sixteen: Copy {
    const ZERO: Self;
    fn load(values: &[f32; LANES]) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    /// `self · factor + sum`, rounded once.
    fn times_plus(self, factor: Self, sum: Self) -> Self;
    fn lanes(self) -> [f32; LANES];
}

impl Sixteen for [f32; LANES] {
    const ZERO: Self = [0.0; LANES];
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        *values
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        std::array::from_fn(|lane| self[lane].mul_add(factor[lane], sum[lane]))
    }
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        self
    }
}

/// Asks for the cache line of a value that is soon read.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of an address that a reference points to reads nothing and cannot fail.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Padded rows, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(super) fn row(self, row: u32) -> &'a [f32] {
        &self.values[row as usize * self.stride..][..self.stride]
    }

    #[inline(always)]
    fn chunks(self, row: u32) -> &'a [[f32; LANES]] {
        self.row(row).as_chunks().0
    }

    /// Asks for a row's first lines; the rest is asked for while the rows before it are summed.
    #[inline(always)]
    pub(super) fn prefetch(self, row: u32) {
        self.chunks(row).iter().take(4).for_each(prefetch);
    }
}

/// Σ (x − y)², or Σ x·y if `DOT`, of `query` and the rows `ids`. `G` rows at a time share the loads of the
/// query, while those after them are fetched.
#[inline(always)]
pub(super) fn sums<V: Sixteen, const DOT: bool, const G: usize>(
    query: &[f32],
    rows: Rows<'_>,
    ids: &[u32],
    out: &mut [f32],
) {
    let query = query.as_chunks().0;
    let (groups, rest) = ids.as_chunks::<G>();
    let (out_groups, out_rest) = out.as_chunks_mut::<G>();
    for (group, out) in groups
        .iter()
        .zip(out_groups)
        .enumerate()
        .map(|(i, (_, o))| (i, o))
    {
        let next = ids.get((group + 1) * G..).unwrap_or_default();
        let next: [u32; G] =
            std::array::from_fn(|i| next.get(i).copied().unwrap_or(groups[group][i]));
        let current = groups[group].map(|id| rows.chunks(id));
        let fetched = next.map(|id| rows.chunks(id));
        *out = group_sums::<V, DOT, true, G>(query, current, fetched);
    }
    for (&id, out) in rest.iter().zip(out_rest) {
        let row = [rows.chunks(id)];
        [*out] = group_sums::<V, DOT, false, 1>(query, row, row);
    }
}

#[inline(always)]
fn group_sums<V: Sixteen, const DOT: bool, const FETCH: bool, const G: usize>(
    query: &[[f32; LANES]],
    rows: [&[[f32; LANES]]; G],
    next: [&[[f32; LANES]]; G],
) -> [f32; G] {
    let length = query.len();
    let rows = rows.map(|row| &row[..length]);
    let next = next.map(|row| &row[..length]);
    let mut sums = [[V::ZERO; 2]; G];
    let term = |x: V, row: &[f32; LANES], sum: V| {
        let y = V::load(row);
        if DOT {
            x.times_plus(y, sum)
        } else {
            let difference = x.minus(y);
            difference.times_plus(difference, sum)
        }
    };
    let pairs = length / 2;
    for pair in 0..pairs {
        let (first, second) = (2 * pair, 2 * pair + 1);
        let x = [V::load(&query[first]), V::load(&query[second])];
        for g in 0..G {
            if FETCH {
                prefetch(&next[g][first]);
                prefetch(&next[g][second]);
            }
            sums[g][0] = term(x[0], &rows[g][first], sums[g][0]);
            sums[g][1] = term(x[1], &rows[g][second], sums[g][1]);
        }
    }
    if length % 2 == 1 {
        let x = V::load(&query[length - 1]);
        for g in 0..G {
            sums[g][0] = term(x, &rows[g][length - 1], sums[g][0]);
        }
    }
    sums.map(|[even, odd]| fold(even.plus(odd).lanes()))
}

/// Halves onto halves.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// How rows are summed on this processor.
pub(super) type Sums = fn(&[f32], Rows<'_>, &[u32], &mut [f32]);

/// [`sums`] compiled for the widest lanes that the processor has.
pub(super) fn widest<const DOT: bool>() -> Sums {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return super::x86::avx512::<DOT>;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return super::x86::avx2::<DOT>;
        }
    }
    sums::<[f32; LANES], DOT, 1>
}
