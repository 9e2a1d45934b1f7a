//! Which queries are computed together.

use std::ops::Range;

/// Queries of a tile at most. So many rows of scores by [`KEYS`] stay in the second-level cache with their
/// keys and values, and the matrix kernel's copies of those are spread over many queries.
const QUERIES: usize = 256;

/// A tile grows beyond this only where four in five of its scores are visible.
const FEW: usize = 128;

/// Keys whose scores are held at a time.
pub(crate) const KEYS: usize = 512;

/// Scores that a tile may compute in vain: below so many a matrix product is cheaper than its overhead.
const SPARE: usize = 32 * 32;

/// Queries and the smallest range of keys that holds every key that any of them sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) queries: Range<usize>,
    pub(crate) keys: Range<usize>,
}

/// What query `i` sees of `keys` keys; an empty range is 0..0.
pub(crate) fn clipped(visible: Range<usize>, keys: usize) -> Range<usize> {
    let end = visible.end.min(keys);
    if visible.start < end {
        visible.start..end
    } else {
        0..0
    }
}

/// Cuts the queries into tiles. The scores of a tile are at most three times those that are visible, and
/// [`SPARE`]: the cost is in proportion to the ranges' widths, however they lie.
pub(crate) fn tiles(
    queries: usize,
    keys: usize,
    visible: &(impl Fn(usize) -> Range<usize> + ?Sized),
) -> Vec<Tile> {
    let mut tiles = Vec::with_capacity(queries.div_ceil(QUERIES));
    let mut tile = Tile {
        queries: 0..0,
        keys: 0..0,
    };
    let mut seen = 0;
    for query in 0..queries {
        let own = clipped(visible(query), keys);
        let (count, union) = (query + 1 - tile.queries.start, union(&tile.keys, &own));
        let (scores, visible) = (count * union.len(), seen + own.len());
        let worth = scores <= 3 * visible + SPARE && (count <= FEW || 4 * scores <= 5 * visible);
        if count > QUERIES || !worth {
            tile.queries.end = query;
            tiles.extend((!tile.queries.is_empty()).then(|| tile.clone()));
            seen = own.len();
            tile = Tile {
                queries: query..query,
                keys: own,
            };
        } else {
            seen += own.len();
            tile.keys = union;
        }
    }
    tile.queries.end = queries;
    tiles.extend((!tile.queries.is_empty()).then_some(tile));
    tiles
}

/// The smallest range that holds both.
pub(crate) fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_costs_its_width() {
        let keys = 100_000;
        for width in [1, 16, 64, 300, 2_000] {
            let scores: usize = tiles(keys, keys, &|i: usize| i.saturating_sub(width - 1)..i + 1)
                .iter()
                .map(|tile| tile.queries.len() * tile.keys.len())
                .sum();
            assert!(scores <= keys * (3 * width + 64), "{width}: {scores}");
        }
    }

    proptest! {
        #[test]
        fn tiles_hold_every_query_and_what_it_sees(
            ranges in prop::collection::vec((0..1_000usize, 0..1_000usize), 0..700),
        ) {
            let keys = 900;
            let visible = |i: usize| ranges[i].0..ranges[i].1;
            let tiles = tiles(ranges.len(), keys, &visible);
            let mut next = 0;
            for tile in &tiles {
                prop_assert_eq!(tile.queries.start, next);
                prop_assert!(!tile.queries.is_empty() && tile.queries.len() <= QUERIES);
                next = tile.queries.end;
                let mut seen = 0;
                for query in tile.queries.clone() {
                    let own = clipped(visible(query), keys);
                    seen += own.len();
                    prop_assert!(own.is_empty() || (tile.keys.start <= own.start && own.end <= tile.keys.end));
                }
                prop_assert!(tile.queries.len() * tile.keys.len() <= 3 * seen + SPARE);
            }
            prop_assert_eq!(next, ranges.len());
        }
    }
}
