//! A query as a walk compares it with the rows of an index: with the rows themselves, or with their codes.

use super::Hnsw;
use super::code_sums::{self, CodeRows, CodeSums};
use super::codes::Codes;
use super::search::prepare;
use super::space::{Query, Space};

/// How far rows are from a query, as a walk needs to know: the smaller, the nearer.
pub(super) enum Near<'a> {
    Floats(Space<'a>, Query<'a>),
    Codes(CodeRows<'a>, CodeSums, &'a [i16]),
}

impl<'a> Near<'a> {
    /// For one of the rows.
    #[inline(always)]
    pub(super) fn own(space: &Space<'a>, row: u32) -> Self {
        Self::Floats(*space, space.own(row))
    }

    #[inline(always)]
    pub(super) fn distances(&self, ids: &[u32], out: &mut [f32]) {
        match self {
            Self::Floats(space, query) => space.distances(*query, ids, out),
            Self::Codes(rows, sums, query) => sums(query, *rows, ids, out),
        }
    }

    pub(super) fn distance(&self, id: u32) -> f32 {
        let mut distance = [0.0];
        self.distances(&[id], &mut distance);
        distance[0]
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: u32) {
        match self {
            Self::Floats(space, _) => space.rows.prefetch(id),
            Self::Codes(rows, ..) => rows.prefetch(id),
        }
    }
}

/// What one query after another is made ready in for [`Near`].
pub(super) struct Prepared<'a> {
    index: &'a Hnsw,
    codes: Option<(&'a Codes, CodeSums)>,
    /// In which the query does not overflow.
    space: Space<'a>,
    padded: Vec<f32>,
    factor: f32,
    places: Vec<i16>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(index: &'a Hnsw) -> Self {
        let codes = index.codes.as_ref();
        Self {
            index,
            codes: codes.map(|codes| (codes, code_sums::widest())),
            space: index.space(),
            padded: Vec::new(),
            factor: 0.0,
            places: Vec::new(),
        }
    }

    /// Takes another query.
    pub(super) fn set(&mut self, query: &[f32]) {
        if let Some((codes, _)) = self.codes {
            return codes.place_query(self.index.metric, query, &mut self.places);
        }
        let (space, prepared) = prepare(self.index.space(), query, &mut self.padded);
        self.factor = prepared.factor;
        self.space = space;
    }

    #[inline(always)]
    pub(super) fn near(&self) -> Near<'_> {
        if let Some((codes, sums)) = self.codes {
            return Near::Codes(codes.rows(), sums, &self.places);
        }
        let query = Query {
            values: &self.padded,
            factor: self.factor,
            is_own: false,
        };
        Near::Floats(self.space, query)
    }
}
