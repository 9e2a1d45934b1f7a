//! Which row of the table each row of an index is.

use std::io::{self, Write};
use std::ops::Range;

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;

/// Numbers of rows, counted through all files of the table, growing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Positions {
    /// Every row of the table, of which there are so many.
    All(u64),
    /// Those with a vector.
    Some {
        /// One for each row of the index.
        rows: Vec<u64>,
        /// Rows of the table.
        of: u64,
    },
}

impl Positions {
    /// Reads a section as [`Positions::write`] wrote it. `None` for bytes that are not growing numbers of so
    /// many rows of such a table.
    pub(crate) fn read(section: Option<&[u8]>, rows: u64, of: u64) -> Option<Self> {
        let Some(section) = section else {
            return (rows == of).then_some(Self::All(of));
        };
        let (words, rest) = section.as_chunks::<8>();
        if !rest.is_empty() || words.len() as u64 != rows {
            return None;
        }
        let found: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let is_growing = found.windows(2).all(|pair| pair[0] < pair[1]);
        (is_growing && found.last().is_none_or(|last| *last < of))
            .then_some(Self::Some { rows: found, of })
    }

    pub(crate) fn write(rows: &[u64], out: &mut dyn Write) -> io::Result<()> {
        rows.iter()
            .try_for_each(|row| out.write_all(&row.to_le_bytes()))
    }

    /// The number of an index row in the table.
    pub(crate) fn table_row(&self, row: u32) -> Option<u64> {
        match self {
            Self::All(rows) => Some(u64::from(row)).filter(|row| row < rows),
            Self::Some { rows, .. } => rows.get(row as usize).copied(),
        }
    }

    /// Which rows of a part of the table are in the index.
    pub(crate) fn with_vector(&self, part: Range<u64>) -> BooleanBuffer {
        let length = usize::try_from(part.end - part.start).unwrap_or(0);
        let Self::Some { rows, .. } = self else {
            return BooleanBuffer::new_set(length);
        };
        let mut are_in = BooleanBufferBuilder::new(length);
        are_in.append_n(length, false);
        let first = rows.partition_point(|row| *row < part.start);
        let within = rows[first..].iter().take_while(|row| **row < part.end);
        for row in within {
            are_in.set_bit((row - part.start) as usize, true);
        }
        are_in.finish()
    }

    /// The rows of the table that have no vector, in order.
    pub(crate) fn without_vector(&self) -> Box<dyn Iterator<Item = u64> + Send + '_> {
        match self {
            Self::All(_) => Box::new(std::iter::empty()),
            Self::Some { rows, of } => {
                let mut next = rows.iter().copied().peekable();
                let missing = (0..*of).filter(move |row| next.next_if_eq(row).is_none());
                Box::new(missing)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_vector_are_the_others() {
        let mut bytes = Vec::new();
        Positions::write(&[0, 2, 3], &mut bytes).unwrap();
        let positions = Positions::read(Some(&bytes), 3, 6).unwrap();
        assert_eq!(positions.table_row(1), Some(2));
        assert_eq!(positions.table_row(3), None);
        assert_eq!(positions.without_vector().collect::<Vec<_>>(), [1, 4, 5]);
        let with_vector = |part| positions.with_vector(part).iter().collect::<Vec<_>>();
        assert_eq!(with_vector(1..4), [false, true, true]);
        assert_eq!(with_vector(4..6), [false, false]);
        assert_eq!(Positions::read(Some(&bytes), 3, 3), None);
        assert_eq!(Positions::read(Some(&bytes[1..]), 3, 6), None);
        Positions::write(&[1], &mut bytes).unwrap();
        assert_eq!(Positions::read(Some(&bytes), 4, 6), None);
        let all = Positions::read(None, 3, 3).unwrap();
        assert_eq!((all.table_row(2), all.table_row(3)), (Some(2), None));
        assert_eq!(all.without_vector().count(), 0);
        assert_eq!(all.with_vector(1..3).count_set_bits(), 2);
        assert_eq!(Positions::read(None, 2, 3), None);
    }
}
